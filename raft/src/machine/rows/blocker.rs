//! Whom a member keeps away in a thread, or once did.
//!
//! Layout: `1e | thread | blocker NUL | blocked NUL`.
//! Owns: the pairs, found by who blocks, and since when the block is in force.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields; a pair has a row while it has a stretch
//! in [`super::block`].

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlockerKey {
    /// The thread.
    pub thread: ThreadId,
    /// Who keeps another one away.
    pub blocker: UserId,
    /// Whom.
    pub blocked: UserId,
}

impl Key for BlockerKey {
    const TAG: u8 = 0x1e;
    type Row = BlockerRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).user(&self.blocker).user(&self.blocked);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, blocker: key.user()?, blocked: key.user()? })
    }
}

messenger_proto::wire_struct! {
    /// The pair.
    pub struct BlockerRow {
        /// The first event of the stretch that is open; `None` when none is.
        1 => since: Option<Seq>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = BlockerKey> {
        (thread(), user(), user()).prop_map(|(thread, blocker, blocked)| BlockerKey { thread, blocker, blocked })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(since: Option<u64>) {
            row_round_trips(&BlockerRow { since: since.map(Seq) });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let user = |name| UserId::new(name).unwrap();
        let key = BlockerKey { thread: ThreadId([7; 16]), blocker: user("al"), blocked: user("b") };
        let bytes: [&[u8]; 4] = [&[0x1e], &[0x0a, 0x73], &[7; 16], b"al\0b\0"];
        assert_eq!(key.encode(), bytes.concat());
    }
}
