//! A device that published keys.
//!
//! Layout: `33 | slot BE16 | user NUL | device NUL`.
//! Owns: what the device says of itself, and how many one-time keys of each kind it has in store.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use bytes::Bytes;
use messenger_proto::ids::{DeviceId, KeyId, Millis, RegistrationId, UserId};
use messenger_proto::keys::Prekey;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DeviceKey {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

impl Key for DeviceKey {
    const TAG: u8 = 0x33;
    type Row = DeviceRow;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user).device(&self.device);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.slotted_user()?, device: key.device()? })
    }
}

messenger_proto::wire_struct! {
    /// The device.
    pub struct DeviceRow {
        1 => registration: RegistrationId,
        2 => identity_key: Bytes,
        3 => signed_prekey: Prekey,
        4 => last_resort: Option<Prekey>,
        5 => pq_last_resort: Option<Prekey>,
        /// Of the last publication.
        6 => updated_at: Millis,
        7 => one_time: Pool,
        8 => pq_one_time: Pool,
    }
}

messenger_proto::wire_struct! {
    /// One-time keys of one kind, under one registration.
    #[derive(Default)]
    pub struct Pool {
        /// Keys in store.
        1 => stored: u32,
        /// No key in store has a lower number; so that a scan for the lowest need not step over those handed out.
        2 => from: KeyId,
        /// Numbers that are never stored again, those of all keys handed out among them; in order, apart from each other.
        3 => spent: Vec<SpentRange>,
        /// There ever was a key.
        4 => used: bool,
    }
}

messenger_proto::wire_struct! {
    /// Numbers, both ends included.
    pub struct SpentRange { 1 => first: KeyId, 2 => last: KeyId }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{device, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = DeviceKey> {
        (user(), device()).prop_map(|(user, device)| DeviceKey { user, device })
    }

    pub(crate) fn prekey() -> impl Strategy<Value = Prekey> {
        let bytes = || proptest::collection::vec(any::<u8>(), 0..9);
        (any::<u64>(), bytes(), proptest::option::of(bytes())).prop_map(|(id, public_key, signature)| Prekey {
            id: KeyId(id),
            public_key: public_key.into(),
            signature: signature.map(Bytes::from),
        })
    }

    fn pool() -> impl Strategy<Value = Pool> {
        let range = any::<(u64, u64)>().prop_map(|(a, b)| SpentRange { first: KeyId(a), last: KeyId(b) });
        (any::<u32>(), any::<u64>(), proptest::collection::vec(range, 0..4), any::<bool>())
            .prop_map(|(stored, from, spent, used)| Pool { stored, from: KeyId(from), spent, used })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(
            registration: u64,
            signed_prekey in prekey(),
            last_resort in proptest::option::of(prekey()),
            pq_last_resort in proptest::option::of(prekey()),
            one_time in pool(),
            pq_one_time in pool(),
            at: u64,
        ) {
            row_round_trips(&DeviceRow {
                registration: RegistrationId(registration),
                identity_key: Bytes::from_static(b"identity"),
                signed_prekey,
                last_resort,
                pq_last_resort,
                updated_at: Millis(at),
                one_time,
                pq_one_time,
            });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = DeviceKey { user: UserId::new("alice").unwrap(), device: DeviceId::new("d").unwrap() };
        assert_eq!(key.encode(), [&[0x33, 0x16, 0xb0], b"alice\0d\0".as_slice()].concat());
    }
}
