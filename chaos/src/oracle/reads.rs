//! A read, through any node, reflects every acknowledgement that came before it.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.

use crate::history::{Outcome, Record, Tick};
use std::collections::BTreeMap;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    // Per thread: acknowledgements by time, each with the highest event number acknowledged so far.
    let mut acknowledged: BTreeMap<&str, Vec<(Tick, u64)>> = BTreeMap::new();
    for send in &record.sends {
        if let Outcome::Accepted { seq, .. } = send.outcome {
            acknowledged.entry(&send.thread).or_default().push((send.ended, seq));
        }
    }
    for rows in acknowledged.values_mut() {
        rows.sort_unstable();
        let mut highest = 0;
        for (_, seq) in rows.iter_mut() {
            highest = highest.max(*seq);
            *seq = highest;
        }
    }
    let mut broken = Vec::new();
    for glance in &record.glances {
        let Some(rows) = acknowledged.get(glance.thread.as_str()) else { continue };
        let before = rows.partition_point(|(ended, _)| *ended < glance.began);
        let due = before.checked_sub(1).map_or(0, |last| rows[last].1);
        if glance.newest < due {
            let (thread, newest) = (&glance.thread, glance.newest);
            broken.push(format!("a read of {thread} ended at {newest} when {due} had been acknowledged"));
        }
    }
    broken
}
