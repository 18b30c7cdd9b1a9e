//! When a member was kept away by another one, in a thread.
//!
//! Layout: `1d | thread | blocked NUL | blocker NUL | from BE64`.
//! Owns: the stretches of events in which a block was in force; whatever the one sent then failed for the other.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields; stretches of a pair do not meet, and only
//! the last may be open.

use super::key::{Key, KeyRange, KeyReader, KeyWriter};
use messenger_proto::ids::{Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockKey {
    /// The thread.
    pub thread: ThreadId,
    /// Who is kept away.
    pub blocked: UserId,
    /// By whom.
    pub blocker: UserId,
    /// From this event on.
    pub from: Seq,
}

impl Key for BlockKey {
    const TAG: u8 = 0x1d;
    type Row = BlockRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).user(&self.blocked).user(&self.blocker).seq(self.from);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, blocked: key.user()?, blocker: key.user()?, from: key.seq()? })
    }
}

messenger_proto::wire_struct! {
    /// Where it ended.
    pub struct BlockRow {
        /// The first event after it; `None` while it is in force.
        1 => to: Option<Seq>,
    }
}

/// Everyone who ever kept a member away.
#[must_use]
pub fn blocks_of(thread: ThreadId, blocked: &UserId) -> KeyRange {
    KeyWriter::of::<BlockKey>().thread(thread).user(blocked).range()
}

/// The stretches of one member kept away by another that begin up to an event.
#[must_use]
pub fn stretches(thread: ThreadId, blocked: &UserId, by: &UserId, up_to: Seq) -> KeyRange {
    KeyWriter::of::<BlockKey>().thread(thread).user(blocked).user(by).numbers(Seq(0), up_to)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{seq, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = BlockKey> {
        (thread(), user(), user(), seq()).prop_map(|(thread, blocked, blocker, from)| BlockKey {
            thread,
            blocked,
            blocker,
            from,
        })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn ranges_hold_a_member_s_and_a_pair_s(a in key(), b in key()) {
            let held = |range: KeyRange| (range.from..range.to).contains(&b.encode());
            let same = (a.thread, &a.blocked) == (b.thread, &b.blocked);
            prop_assert_eq!(held(blocks_of(a.thread, &a.blocked)), same);
            let pair = same && a.blocker == b.blocker && b.from <= a.from;
            prop_assert_eq!(held(stretches(a.thread, &a.blocked, &a.blocker, a.from)), pair);
        }

        #[test]
        fn rows_round_trip(to: Option<u64>) {
            row_round_trips(&BlockRow { to: to.map(Seq) });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let user = |name| UserId::new(name).unwrap();
        let key = BlockKey { thread: ThreadId([7; 16]), blocked: user("al"), blocker: user("b"), from: Seq(5) };
        let bytes: [&[u8]; 5] = [&[0x1d], &[0x0a, 0x73], &[7; 16], b"al\0b\0", &5u64.to_be_bytes()];
        assert_eq!(key.encode(), bytes.concat());
    }
}
