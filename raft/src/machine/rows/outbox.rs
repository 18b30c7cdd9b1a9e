//! A membership change that the user's shard is yet to hear of.
//!
//! Layout: `28 | thread | seq BE64 | user NUL`.
//! Owns: the queue between a thread's shard and its users' shards.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct OutboxRowKey {
    /// The thread.
    pub thread: ThreadId,
    /// The event that made the change.
    pub seq: Seq,
    /// Whose index changes.
    pub user: UserId,
}

impl Key for OutboxRowKey {
    const TAG: u8 = 0x28;
    type Row = OutboxRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).seq(self.seq).user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, seq: key.seq()?, user: key.user()? })
    }
}

messenger_proto::wire_struct! {
    /// What to tell.
    pub struct OutboxRow { 1 => present: bool }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{seq, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = OutboxRowKey> {
        (thread(), seq(), user()).prop_map(|(thread, seq, user)| OutboxRowKey { thread, seq, user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(present: bool) {
            row_round_trips(&OutboxRow { present });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = OutboxRowKey { thread: ThreadId([7; 16]), seq: Seq(5), user: UserId::new("al").unwrap() };
        let bytes: [&[u8]; 5] = [&[0x28], &[0x0a, 0x73], &[7; 16], &5u64.to_be_bytes(), b"al\0"];
        assert_eq!(key.encode(), bytes.concat());
    }
}
