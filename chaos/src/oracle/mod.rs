//! The judgement of a run: one file per invariant, each an exact check of the whole record, without search.
//!
//! Owns: the list of invariants and what a violation says.
//! Must not know: how the record came about; the same record is judged the same way every time.

pub mod blocks;
pub mod changes;
pub mod delivery;
pub mod durable;
pub mod envelopes;
pub mod events;
pub mod keys;
pub mod members;
pub mod order;
pub mod reactions;
pub mod reads;
pub mod receipts;
pub mod replicas;
pub mod sequence;
pub mod unknown;

use crate::history::Record;
use std::fmt;

/// A promise that was broken.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Violation {
    /// Which invariant.
    pub invariant: &'static str,
    /// Where, and how.
    pub what: String,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.invariant, self.what)
    }
}

/// A check of one invariant.
pub type Check = fn(&Record) -> Vec<String>;

/// Every invariant, by name.
pub const INVARIANTS: [(&str, Check); 15] = [
    ("an acknowledged message is stored exactly once, on every node", durable::check),
    ("seq has no gaps, and every node tells the same history", sequence::check),
    ("what ended before another began comes before it", order::check),
    ("what was not acknowledged is stored at most once, and nothing is stored that nobody sent", unknown::check),
    ("a read reflects every acknowledgement before it", reads::check),
    ("each device hears each thread in order, with nothing missing", delivery::check),
    ("replicas of a shard that applied the same entries are the same", replicas::check),
    ("a message says what its last acknowledged edit says, and nothing once deleted", changes::check),
    ("each device is told of every event in order, and they add up to what nodes tell", events::check),
    ("a reaction is there if it was acknowledged and not taken back, and once", reactions::check),
    ("a one-time key is handed out at most once, and none is said to be there or gone that is not", keys::check),
    ("receipts never go back, what is read was delivered, and acknowledged marks stay", receipts::check),
    ("what is sent while a block is in force is never shown to the blocker, all else is", blocks::check),
    ("a group is listed by those who are its members, and shows each what was sent during its stay", members::check),
    ("each device is shown its own envelopes, and none of a message that was refused", envelopes::check),
];

/// Judges a run by every invariant.
#[must_use]
pub fn judge(record: &Record) -> Vec<Violation> {
    let of = |(invariant, check): &(&'static str, Check)| {
        let invariant = *invariant;
        check(record).into_iter().map(move |what| Violation { invariant, what })
    };
    INVARIANTS.iter().flat_map(of).collect()
}
