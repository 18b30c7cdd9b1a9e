//! What the gateway counts.
//!
//! Owns: its handles to the recorder.
//! Must not know: who reads them.

use crate::metric_names as names;
use axum::http::StatusCode;
use metrics::{Counter, Histogram, counter, histogram};
use std::time::Duration;

const CLASSES: [&str; 5] = ["1xx", "2xx", "3xx", "4xx", "5xx"];

/// Handles taken once, so that counting a request looks nothing up.
pub(super) struct GatewayMetrics {
    classes: [Counter; 5],
    seconds: Histogram,
}

impl GatewayMetrics {
    /// Handles of the recorder that is installed now.
    #[must_use]
    pub(super) fn new() -> Self {
        let classes = CLASSES.map(|class| counter!(names::HTTP_REQUESTS, names::STATUS => class));
        Self { classes, seconds: histogram!(names::HTTP_REQUEST_SECONDS) }
    }

    /// Counts an answer.
    pub(super) fn answered(&self, status: StatusCode, took: Duration) {
        let class = usize::from(status.as_u16() / 100).saturating_sub(1);
        if let Some(counter) = self.classes.get(class) {
            counter.increment(1);
        }
        self.seconds.record(took);
    }
}

impl Default for GatewayMetrics {
    fn default() -> Self {
        Self::new()
    }
}
