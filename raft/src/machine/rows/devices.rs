//! What a user's shard counts about the user's devices.
//!
//! Layout: `37 | slot BE16 | user NUL`.
//! Owns: how many devices there are and how many were deleted, so that their bounds are checked without a scan.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::UserId;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DevicesKey {
    /// The user.
    pub user: UserId,
}

impl Key for DevicesKey {
    const TAG: u8 = 0x37;
    type Row = DevicesRow;

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
    pub struct DevicesRow {
        /// Devices that have keys published.
        1 => devices: u32,
        /// Pasts that are kept of devices that have none.
        2 => deleted: u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::user;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = DevicesKey> {
        user().prop_map(|user| DevicesKey { user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(devices: u32, deleted: u32) {
            row_round_trips(&DevicesRow { devices, deleted });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = DevicesKey { user: UserId::new("alice").unwrap() };
        assert_eq!(key.encode(), [&[0x37, 0x16, 0xb0], b"alice\0".as_slice()].concat());
    }
}
