//! The store's metrics.
//!
//! Owns: what is recorded of a batch.
//! Must not know: who reads it.

use crate::metric_names::{APPLY_ENTRIES, APPLY_SECONDS, BATCH_BYTES, BATCH_TASKS, SYNC_SECONDS};
use std::time::Duration;

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
