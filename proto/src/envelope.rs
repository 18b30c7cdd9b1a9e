//! A message's content, device by device.
//!
//! Owns: what a sender encrypted for each device, and how that can differ from the devices there are.
//! Must not know: JSON, storage keys, who may read what.
//! Invariants: an envelope is for exactly one device; nothing here is ever shown to another.

use crate::ids::{DeviceId, RegistrationId, UserId};
use bytes::Bytes;

crate::wire_struct! {
    /// What one device is sent.
    pub struct Envelope {
        1 => user: UserId,
        2 => device: DeviceId,
        /// The registration that the sender encrypted for, if it says so.
        3 => registration: Option<RegistrationId>,
        4 => kind: Option<EnvelopeKind>,
        5 => ciphertext: Bytes,
    }
}

crate::wire_enum! {
    /// The sender's own name for the kind of ciphertext; opaque.
    #[derive(PartialOrd, Ord)]
    pub enum EnvelopeKind {
        1 => Number(KindNumber),
        2 => Name(KindName),
    }
}

crate::wire_struct! {
    /// Up to [`crate::limits::ENVELOPE_KIND_MAX`].
    #[derive(PartialOrd, Ord)]
    pub struct KindNumber { 1 => number: u32 }
}

crate::wire_struct! {
    /// Of 1 to [`crate::limits::ENVELOPE_KIND_NAME_MAX`] bytes.
    #[derive(PartialOrd, Ord)]
    pub struct KindName { 1 => name: String }
}

crate::wire_struct! {
    /// The envelopes of a message.
    pub struct Envelopes {
        /// At most one for a device.
        1 => list: Vec<Envelope>,
        /// They are taken even if they are not exactly for the devices there are.
        2 => allow_mismatch: bool,
    }
}

crate::wire_struct! {
    /// That each device has a ciphertext of its own, and what the viewer's is called.
    #[derive(Default)]
    pub struct Enveloped { 1 => kind: Option<EnvelopeKind> }
}

crate::wire_struct! {
    /// One device of a user.
    #[derive(PartialOrd, Ord)]
    pub struct DeviceName { 1 => user: UserId, 2 => device: DeviceId }
}

crate::wire_struct! {
    /// How envelopes differ from the devices of a thread's members; each in order of name.
    #[derive(Default)]
    pub struct DeviceMismatch {
        /// Devices without an envelope.
        1 => missing: Vec<DeviceName>,
        /// Envelopes for what is no device of a member, or for the one that sends.
        2 => extra: Vec<DeviceName>,
        /// Devices that have another registration by now.
        3 => stale: Vec<DeviceName>,
    }
}

impl Envelope {
    /// Whom it is for.
    #[must_use]
    pub fn name(&self) -> DeviceName {
        DeviceName { user: self.user.clone(), device: self.device.clone() }
    }
}

impl DeviceMismatch {
    /// Whether there is no difference.
    #[must_use]
    pub fn is_none(&self) -> bool {
        self.missing.is_empty() && self.extra.is_empty() && self.stale.is_empty()
    }
}

/// The envelope of a device, among some that are in order of user and device.
#[must_use]
pub fn of_device<'a>(envelopes: &'a [Envelope], user: &UserId, device: &DeviceId) -> Option<&'a Envelope> {
    let found = envelopes.binary_search_by(|envelope| (&envelope.user, &envelope.device).cmp(&(user, device)));
    found.ok().and_then(|at| envelopes.get(at))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;
    use proptest::prelude::*;

    fn envelope(kind: Option<EnvelopeKind>, registration: Option<u64>, ciphertext: &[u8]) -> Envelope {
        Envelope {
            user: UserId::new("bob").unwrap(),
            device: DeviceId::new("pc").unwrap(),
            registration: registration.map(RegistrationId),
            kind,
            ciphertext: Bytes::copy_from_slice(ciphertext),
        }
    }

    fn kind() -> impl Strategy<Value = Option<EnvelopeKind>> {
        prop_oneof![
            Just(None),
            any::<u32>().prop_map(|number| Some(EnvelopeKind::Number(KindNumber { number }))),
            ".{0,8}".prop_map(|name| Some(EnvelopeKind::Name(KindName { name }))),
        ]
    }

    proptest! {
        #[test]
        fn envelopes_round_trip(kind in kind(), registration: Option<u64>, ciphertext: Vec<u8>, allow_mismatch: bool) {
            let list = vec![envelope(kind, registration, &ciphertext), envelope(None, None, b"x")];
            let envelopes = Envelopes { list, allow_mismatch };
            prop_assert_eq!(Envelopes::from_wire(&envelopes.to_wire()).unwrap(), envelopes);
        }

        #[test]
        fn arbitrary_bytes_never_panic(bytes: Vec<u8>) {
            let _ = (Envelopes::from_wire(&bytes), DeviceMismatch::from_wire(&bytes), Enveloped::from_wire(&bytes));
        }
    }

    #[test]
    fn the_bytes_are_pinned() {
        let number = envelope(Some(EnvelopeKind::Number(KindNumber { number: 3 })), Some(7), b"hi");
        let bytes: [&[u8]; 5] =
            [b"\x0a\x03bob", b"\x12\x02pc", b"\x1a\x02\x08\x07", b"\x22\x06\x0a\x04\x0a\x02\x08\x03", b"\x2a\x02hi"];
        assert_eq!(number.to_wire(), bytes.concat());
        let name = envelope(Some(EnvelopeKind::Name(KindName { name: "k".into() })), None, b"");
        assert_eq!(name.to_wire(), b"\x0a\x03bob\x12\x02pc\x22\x07\x0a\x05\x12\x03\x0a\x01k");
        let missing = vec![name.name()];
        let mismatch = DeviceMismatch { missing, ..DeviceMismatch::default() };
        assert_eq!(mismatch.to_wire(), b"\x0a\x0b\x0a\x09\x0a\x03bob\x12\x02pc");
        assert_eq!(Enveloped { kind: name.kind }.to_wire(), b"\x0a\x07\x0a\x05\x12\x03\x0a\x01k");
        assert_eq!(Envelopes { list: Vec::new(), allow_mismatch: true }.to_wire(), b"\x10\x01");
    }

    #[test]
    fn no_envelopes_are_told_from_none_at_all() {
        for envelopes in [None, Some(Envelopes { list: Vec::new(), allow_mismatch: false })] {
            let edit = crate::command::EditMessage {
                id: crate::ids::MessageId(1),
                actor: UserId::new("al").unwrap(),
                ciphertext: Bytes::new(),
                envelopes,
                device: None,
            };
            assert_eq!(crate::command::EditMessage::from_wire(&edit.to_wire()).unwrap(), edit);
        }
    }
}
