//! Whom a member blocks, as its own shard told the thread.
//!
//! Layout: `1c | thread | user NUL`.
//! Owns: the list, whether or not those on it are in the thread.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields; only members in the thread now have one.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberBlocksKey {
    /// The thread.
    pub thread: ThreadId,
    /// The member.
    pub user: UserId,
}

impl Key for MemberBlocksKey {
    const TAG: u8 = 0x1c;
    type Row = MemberBlocksRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, user: key.user()? })
    }
}

messenger_proto::wire_struct! {
    /// The list.
    #[derive(Default)]
    pub struct MemberBlocksRow {
        /// In order of name.
        1 => users: Vec<UserId>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = MemberBlocksKey> {
        (thread(), user()).prop_map(|(thread, user)| MemberBlocksKey { thread, user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(users in proptest::collection::vec(user(), 0..4)) {
            row_round_trips(&MemberBlocksRow { users });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = MemberBlocksKey { thread: ThreadId([7; 16]), user: UserId::new("al").unwrap() };
        let bytes: [&[u8]; 4] = [&[0x1c], &[0x0a, 0x73], &[7; 16], b"al\0"];
        assert_eq!(key.encode(), bytes.concat());
    }
}
