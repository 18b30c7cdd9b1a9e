//! A one-time key in store.
//!
//! Layout: `34 | slot BE16 | user NUL | device NUL | kind u8 | number BE64`.
//! Owns: the order in which a device's keys of a kind are handed out.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyRange, KeyReader, KeyWriter};
use bytes::Bytes;
use messenger_proto::ids::{DeviceId, KeyId, UserId};
use messenger_proto::keys::KeyKind;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrekeyKey {
    /// The user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
    /// The kind.
    pub kind: KeyKind,
    /// The device's number of it.
    pub id: KeyId,
}

impl PrekeyKey {
    /// The keys of a device of one kind whose numbers are `from` or more.
    #[must_use]
    pub fn since(user: &UserId, device: &DeviceId, kind: KeyKind, from: KeyId) -> KeyRange {
        let mut all = KeyWriter::of::<Self>();
        all.slotted_user(user).device(device).byte(byte_of(kind));
        let to = all.range().to;
        KeyRange { from: all.number(from.0).range().from, to }
    }
}

fn byte_of(kind: KeyKind) -> u8 {
    match kind {
        KeyKind::OneTime => 1,
        KeyKind::PqOneTime => 2,
    }
}

fn kind_of(byte: u8) -> Option<KeyKind> {
    KeyKind::ALL.iter().copied().find(|kind| byte_of(*kind) == byte)
}

impl Key for PrekeyKey {
    const TAG: u8 = 0x34;
    type Row = PrekeyRow;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user).device(&self.device).byte(byte_of(self.kind)).number(self.id.0);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self {
            user: key.slotted_user()?,
            device: key.device()?,
            kind: key.byte().and_then(kind_of)?,
            id: key.number().map(KeyId)?,
        })
    }
}

messenger_proto::wire_struct! {
    /// The key's bytes.
    pub struct PrekeyRow { 1 => public_key: Bytes, 2 => signature: Option<Bytes> }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{device, number, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn kind() -> impl Strategy<Value = KeyKind> {
        prop_oneof![Just(KeyKind::OneTime), Just(KeyKind::PqOneTime)]
    }

    fn key() -> impl Strategy<Value = PrekeyKey> {
        (user(), device(), kind(), number()).prop_map(|(user, device, kind, id)| PrekeyKey {
            user,
            device,
            kind,
            id: KeyId(id),
        })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(public_key: Vec<u8>, signature: Option<Vec<u8>>) {
            row_round_trips(&PrekeyRow { public_key: public_key.into(), signature: signature.map(Bytes::from) });
        }

        #[test]
        fn a_range_holds_the_keys_of_a_kind_from_a_number_on(a in key(), b in key()) {
            let range = PrekeyKey::since(&b.user, &b.device, b.kind, b.id);
            let bytes = a.encode();
            let same = (&a.user, &a.device, a.kind) == (&b.user, &b.device, b.kind);
            prop_assert_eq!(range.from <= bytes && bytes < range.to, same && a.id >= b.id);
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let (user, device) = (UserId::new("alice").unwrap(), DeviceId::new("d").unwrap());
        let key = PrekeyKey { user, device, kind: KeyKind::PqOneTime, id: KeyId(5) };
        let bytes: [&[u8]; 4] = [&[0x34, 0x16, 0xb0], b"alice\0d\0", &[2], &5u64.to_be_bytes()];
        assert_eq!(key.encode(), bytes.concat());
    }
}
