//! What is said of callers that are turned away.
//!
//! Owns: that each reason is logged once, however often it comes up.
//! Must not know: why somebody is turned away.
//! Invariants: what is remembered is bounded, and with it what strangers can have logged.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// Reasons that are remembered, not to be logged again; no more are logged than that.
const MAX: usize = 256;

/// Reasons of a node's refusals.
#[derive(Debug, Default)]
pub(crate) struct Refusals(Mutex<BTreeSet<String>>);

impl Refusals {
    /// Logs why a caller was turned away, and at which `door`, unless it was said before; whether it was logged.
    pub(crate) fn note(&self, door: &str, reason: &str) -> bool {
        // A set of texts: a panic cannot leave it half changed.
        let mut noted = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let news = noted.len() < MAX && noted.insert(format!("{door}: {reason}"));
        if news {
            tracing::warn!(door, reason, "a caller of the peer port is refused");
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_reason_is_said_once_and_not_without_end() {
        let refusals = Refusals::default();
        assert!(refusals.note("TLS", "expired") && !refusals.note("TLS", "expired"));
        assert!(refusals.note("hello", "expired"));
        let said = (0..1_000).filter(|number| refusals.note("TLS", &number.to_string())).count();
        assert_eq!(said, MAX - 2);
    }
}
