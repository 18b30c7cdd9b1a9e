//! What is kept of a device's past.
//!
//! Layout: `36 | slot BE16 | user NUL | device NUL`.
//! Owns: since when the device's tokens count, and which registrations it gave up.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{DeviceId, Millis, RegistrationId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DevicePastKey {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

impl Key for DevicePastKey {
    const TAG: u8 = 0x36;
    type Row = DevicePastRow;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user).device(&self.device);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.slotted_user()?, device: key.device()? })
    }
}

messenger_proto::wire_struct! {
    /// The past.
    #[derive(Default)]
    pub struct DevicePastRow {
        /// When the device was last deleted: tokens issued up to then are worth nothing.
        1 => revoked_at: Option<Millis>,
        /// Registrations that it gave up, in that order.
        2 => registrations: Vec<RegistrationId>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{device, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = DevicePastKey> {
        (user(), device()).prop_map(|(user, device)| DevicePastKey { user, device })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(at: Option<u64>, registrations: Vec<u64>) {
            let registrations = registrations.into_iter().map(RegistrationId).collect();
            row_round_trips(&DevicePastRow { revoked_at: at.map(Millis), registrations });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = DevicePastKey { user: UserId::new("alice").unwrap(), device: DeviceId::new("d").unwrap() };
        assert_eq!(key.encode(), [&[0x36, 0x16, 0xb0], b"alice\0d\0".as_slice()].concat());
    }
}
