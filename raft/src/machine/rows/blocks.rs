//! Whom a user keeps away.
//!
//! Layout: `3a | slot BE16 | user NUL`.
//! Owns: the user's list.
//! Must not know: when the row is written or read; what follows from it.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::UserId;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct BlocksKey {
    /// The user.
    pub user: UserId,
}

impl Key for BlocksKey {
    const TAG: u8 = 0x3a;
    type Row = BlocksRow;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.slotted_user()? })
    }
}

messenger_proto::wire_struct! {
    /// The list.
    #[derive(Default)]
    pub struct BlocksRow {
        /// In order of name, at most [`messenger_proto::limits::USER_BLOCKS_MAX`].
        1 => users: Vec<UserId>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::user;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = BlocksKey> {
        user().prop_map(|user| BlocksKey { user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(users in proptest::collection::vec(user(), 0..4)) {
            row_round_trips(&BlocksRow { users });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = BlocksKey { user: UserId::new("alice").unwrap() };
        assert_eq!(key.encode(), [&[0x3a, 0x16, 0xb0], b"alice\0".as_slice()].concat());
    }
}
