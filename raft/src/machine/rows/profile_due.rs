//! A user of whom threads are yet to be told something.
//!
//! Layout: `29 | slot BE16 | user NUL`.
//! Owns: the queue between a user's shard and the shards of the user's threads.
//! Must not know: what they are told; that is read when they are told.
//! Invariants: the tag and the layout never change; the value only gains fields; there is one row per user, however
//! often the profile changed.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::UserId;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ProfileDueKey {
    /// The user.
    pub user: UserId,
}

impl Key for ProfileDueKey {
    const TAG: u8 = 0x29;
    type Row = ProfileDueRow;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.slotted_user()? })
    }
}

messenger_proto::wire_struct! {
    /// How far it is.
    pub struct ProfileDueRow {
        /// The version that threads are to have.
        1 => version: u64,
        /// The version that all of them have.
        2 => told: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::user;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = ProfileDueKey> {
        user().prop_map(|user| ProfileDueKey { user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(version: u64, told: u64) {
            row_round_trips(&ProfileDueRow { version, told });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = ProfileDueKey { user: UserId::new("alice").unwrap() };
        assert_eq!(key.encode(), [&[0x29, 0x16, 0xb0], b"alice\0".as_slice()].concat());
    }
}
