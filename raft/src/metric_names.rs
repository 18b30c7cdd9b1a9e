//! The metrics of this crate.
//!
//! Owns: names, units and descriptions.
//! Must not know: who records them.

use metrics::{Unit, describe_histogram};

/// How long a sync of the write-ahead log took.
pub const SYNC_SECONDS: &str = "messenger_store_sync_seconds";
/// Tasks (appends, votes and the like, of all groups) that shared a batch of the log writer.
pub const BATCH_TASKS: &str = "messenger_store_batch_tasks";
/// Bytes of a batch of the log writer.
pub const BATCH_BYTES: &str = "messenger_store_batch_bytes";
/// Entries applied in one batch.
pub const APPLY_ENTRIES: &str = "messenger_store_apply_entries";
/// Time from reading a batch of entries to its rows being written.
pub const APPLY_SECONDS: &str = "messenger_store_apply_seconds";

/// Describes the metrics to the recorder; once per process.
pub fn describe() {
    describe_histogram!(SYNC_SECONDS, Unit::Seconds, "Time of a sync of the write-ahead log");
    describe_histogram!(BATCH_TASKS, Unit::Count, "Tasks of all groups in a batch of the log writer");
    describe_histogram!(BATCH_BYTES, Unit::Bytes, "Bytes of a batch of the log writer");
    describe_histogram!(APPLY_ENTRIES, Unit::Count, "Entries applied in one batch");
    describe_histogram!(APPLY_SECONDS, Unit::Seconds, "Time of applying a batch of entries");
}
