//! What was not acknowledged is stored at most once, what was refused not at all, and nothing that nobody sent.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.

use crate::history::{Origin, Outcome, Record, Send};
use std::collections::BTreeMap;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    let mut by_origin: BTreeMap<(&str, &Origin), &Send> = BTreeMap::new();
    for send in &record.sends {
        if by_origin.insert((&send.thread, &send.origin), send).is_some() {
            broken.push(format!("the run itself sent {:?} twice", send.origin));
        }
    }
    for thread in record.told.keys() {
        let mut times: BTreeMap<&Origin, u32> = BTreeMap::new();
        for stored in record.history(thread) {
            *times.entry(&stored.origin).or_default() += 1;
            match by_origin.get(&(thread.as_str(), &stored.origin)) {
                None => broken.push(format!("nobody sent {stored:?} of {thread}")),
                Some(send) if send.outcome == Outcome::Refused => {
                    broken.push(format!("{stored:?} of {thread} was refused, and is stored"));
                }
                Some(send) if send.body != stored.body => {
                    broken.push(format!("{stored:?} of {thread} was sent as {:?}", send.body));
                }
                Some(_) => {}
            }
        }
        let repeated = times.into_iter().filter(|(_, times)| *times > 1);
        broken.extend(repeated.map(|(origin, times)| format!("{origin:?} of {thread} is stored {times} times")));
    }
    broken
}
