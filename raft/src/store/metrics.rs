//! The store's metrics.
//!
//! Owns: their names and units.
//! Must not know: who reads them.

use std::time::Duration;

/// Seconds a sync of the write-ahead log took.
pub const SYNC_SECONDS: &str = "messenger_store_sync_seconds";
/// Tasks (appends, votes and the like, of all groups) that shared a batch of the log writer.
pub const BATCH_TASKS: &str = "messenger_store_batch_tasks";
/// Bytes of a batch of the log writer.
pub const BATCH_BYTES: &str = "messenger_store_batch_bytes";
/// Entries applied in one batch.
pub const APPLY_ENTRIES: &str = "messenger_store_apply_entries";
/// Seconds from reading a batch of entries to its rows being written.
pub const APPLY_SECONDS: &str = "messenger_store_apply_seconds";

pub(super) fn synced(took: Duration) {
    metrics::histogram!(SYNC_SECONDS).record(took);
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn batch(tasks: usize, bytes: usize) {
    metrics::histogram!(BATCH_TASKS).record(tasks as f64);
    metrics::histogram!(BATCH_BYTES).record(bytes as f64);
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
pub(super) fn applied(entries: usize, took: Duration) {
    metrics::histogram!(APPLY_ENTRIES).record(entries as f64);
    metrics::histogram!(APPLY_SECONDS).record(took);
}
