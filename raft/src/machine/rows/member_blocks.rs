//! Whom a user keeps away, as its own shard told this one, which has threads of its.
//!
//! Layout: `1c | user NUL`.
//! Owns: the list, whether or not those on it are in any of the threads.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields; there is one row per user and shard, not
//! one per thread, so that a list is written once however many threads the user is in. It is not behind a slot: a part of
//! the shard would take all of them. A row stays when the user has left its last thread here, and is out of date from then
//! on: it counts only in a thread that was told of the user's stay.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::UserId;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberBlocksKey {
    /// The user.
    pub user: UserId,
}

impl Key for MemberBlocksKey {
    const TAG: u8 = 0x1c;
    type Row = MemberBlocksRow;

    fn write(&self, key: &mut KeyWriter) {
        key.user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.user()? })
    }
}

messenger_proto::wire_struct! {
    /// The list.
    #[derive(Default)]
    pub struct MemberBlocksRow {
        /// In order of name.
        1 => users: Vec<UserId>,
        /// Of the profile that it comes from.
        2 => version: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::user;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = MemberBlocksKey> {
        user().prop_map(|user| MemberBlocksKey { user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |_| 0);
        }

        #[test]
        fn rows_round_trip(users in proptest::collection::vec(user(), 0..4), version: u64) {
            row_round_trips(&MemberBlocksRow { users, version });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = MemberBlocksKey { user: UserId::new("al").unwrap() };
        assert_eq!(key.encode(), [&[0x1c], b"al\0".as_slice()].concat());
    }
}
