//! What the gateway counts.
//!
//! Owns: the names, units and labels of its metrics.
//! Must not know: who reads them.

use axum::http::StatusCode;
use metrics::{Counter, Histogram, Unit, counter, describe_counter, describe_histogram, histogram};
use std::time::Duration;

/// Requests answered, by the hundreds of their status.
pub(super) const REQUESTS: &str = "messenger_http_requests_total";
/// Time from a request's head to its answer's, in seconds.
pub(super) const SECONDS: &str = "messenger_http_request_seconds";

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
        describe_counter!(REQUESTS, Unit::Count, "HTTP requests answered, by status class");
        describe_histogram!(SECONDS, Unit::Seconds, "Time from a request's head to its answer's");
        Self { classes: CLASSES.map(|class| counter!(REQUESTS, "status" => class)), seconds: histogram!(SECONDS) }
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
