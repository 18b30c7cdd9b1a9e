//! What a user's shard counts about the user.
//!
//! Layout: `31 | slot BE16 | user NUL`.
//! Owns: the size of the user's index and of its departures, so that their bounds are checked without a scan; the
//! version of what threads have to know of the user.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{Millis, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserKey {
    /// The user.
    pub user: UserId,
}

impl Key for UserKey {
    const TAG: u8 = 0x31;
    type Row = UserRow;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.slotted_user()? })
    }
}

messenger_proto::wire_struct! {
    /// The counts.
    #[derive(Default)]
    pub struct UserRow {
        /// Entries of the index that are no tombstones.
        1 => threads: u32,
        /// Departures that are kept.
        2 => departures: u32,
        /// No departure that is kept is older; so that a scan for the oldest need not step over those dropped before.
        3 => departures_from: Millis,
        /// The version of what threads have to know of the user, and the one in which its devices changed.
        4 => profile: u64,
        5 => devices_version: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::user;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = UserKey> {
        user().prop_map(|user| UserKey { user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(threads: u32, departures: u32, from: u64, profile: u64, devices_version: u64) {
            row_round_trips(&UserRow { threads, departures, departures_from: Millis(from), profile, devices_version });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = UserKey { user: UserId::new("alice").unwrap() };
        assert_eq!(key.encode(), [&[0x31, 0x16, 0xb0], b"alice\0".as_slice()].concat());
    }
}
