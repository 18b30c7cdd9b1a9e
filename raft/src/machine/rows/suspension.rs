//! What of a user is suspended.
//!
//! Layout: `60 | slot BE16 | user NUL`.
//! Owns: the row's place; what it holds is said in [`SuspensionState`].
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::UserId;
use messenger_proto::moderation::SuspensionState;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct SuspensionKey {
    /// The user.
    pub user: UserId,
}

impl Key for SuspensionKey {
    const TAG: u8 = 0x60;
    type Row = SuspensionState;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.slotted_user()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{device, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use messenger_proto::ids::Millis;
    use messenger_proto::moderation::SuspendedDevice;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = SuspensionKey> {
        user().prop_map(|user| SuspensionKey { user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(since: Option<u64>, devices in prop::collection::vec((device(), any::<u64>()), 0..5)) {
            let device = |(device, since)| SuspendedDevice { device, since: Millis(since) };
            let devices = devices.into_iter().map(device).collect();
            row_round_trips(&SuspensionState { since: since.map(Millis), devices });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = SuspensionKey { user: UserId::new("alice").unwrap() };
        assert_eq!(key.encode(), [&[0x60, 0x16, 0xb0], b"alice\0".as_slice()].concat());
    }
}
