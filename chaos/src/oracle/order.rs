//! A send that was acknowledged before another began comes before it in the thread's order.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.
//! Invariants: exact and linear. Going up the order, the latest beginning so far is kept: a message acknowledged before
//! that instant stands behind one that began only after it.

use crate::history::{Origin, Outcome, Record, Send, Tick};
use std::collections::BTreeMap;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    let mut by_origin: BTreeMap<(&str, &Origin), &Send> = BTreeMap::new();
    for send in &record.sends {
        by_origin.insert((&send.thread, &send.origin), send);
    }
    for thread in record.told.keys() {
        let mut latest: Option<(Tick, &str)> = None;
        for stored in record.history(thread) {
            // One that nobody sent is another invariant's business.
            let Some(send) = by_origin.get(&(thread.as_str(), &stored.origin)) else { continue };
            if let (Some((began, other)), Outcome::Accepted { .. }) = (latest, &send.outcome)
                && send.ended < began
            {
                broken.push(format!("{} of {thread} was acknowledged before {other} began, yet follows it", stored.id));
            }
            if latest.is_none_or(|(began, _)| began < send.began) {
                latest = Some((send.began, &stored.id));
            }
        }
    }
    broken
}
