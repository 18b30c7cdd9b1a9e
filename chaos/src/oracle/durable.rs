//! An acknowledged message is stored exactly once, on every node, as it was acknowledged.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.

use crate::history::{Outcome, Record};
use std::collections::BTreeMap;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    for (thread, nodes) in &record.told {
        for (node, history) in nodes {
            let mut by_id: BTreeMap<&str, Vec<usize>> = BTreeMap::new();
            for (place, stored) in history.iter().enumerate() {
                by_id.entry(&stored.id).or_default().push(place);
            }
            for send in record.sends.iter().filter(|send| send.thread == *thread) {
                let Outcome::Accepted { id, seq } = &send.outcome else { continue };
                let places = by_id.get(id.as_str()).map_or(&[][..], Vec::as_slice);
                let [place] = places else {
                    broken.push(format!("{id} of {thread} is stored {} times on node {node}", places.len()));
                    continue;
                };
                let stored = &history[*place];
                if (stored.seq, &stored.origin, &stored.body) != (*seq, &send.origin, &send.body) {
                    broken.push(format!("{id} of {thread} is stored on node {node} as {stored:?}, sent as {send:?}"));
                }
            }
        }
    }
    let untold = record.sends.iter().filter(|send| !record.told.contains_key(&send.thread));
    broken.extend(untold.map(|send| format!("no node told the history of {}", send.thread)));
    broken
}
