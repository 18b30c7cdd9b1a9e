//! The byte form of a log entry, on disk and between nodes.
//!
//! Owns: the encoding of an entry's position and payload.
//! Must not know: where entries are kept or how they travel.
//! Invariants: what was encoded decodes to an equal entry; decoding never panics and copies no payload.

pub use crate::types::LogId;

use crate::types::{PackBytes, TypeConfig};
use crate::wire::{LogIdWire, MembershipWire};
use bytes::Bytes;
use messenger_proto::wire::{Wire, WireError, read_delimited, read_key, skip};
use openraft::EntryPayload;
use openraft::type_config::alias::{EntryOf, LeaderIdOf};
use openraft::vote::RaftLeaderId;
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// A log entry of any group.
pub type Entry = EntryOf<TypeConfig>;

// Tags beside those of the position, which are 1 to 3; never reused.
/// Present, even when empty, for application data.
const NORMAL: u32 = 4;
/// A [`MembershipWire`].
const MEMBERSHIP: u32 = 6;

/// The position `(term, node, index)`.
#[must_use]
pub fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderIdOf::<TypeConfig>::new(term, node), index }
}

/// Appends an entry's bytes to `buf`, without a length: its position's fields, and its payload beside them.
pub fn encode_entry(entry: &Entry, buf: &mut Vec<u8>) {
    LogIdWire::from(entry.log_id).encode_to(buf);
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(pack) => write_bytes(NORMAL, &pack.0, buf),
        EntryPayload::Membership(membership) => {
            write_bytes(MEMBERSHIP, &MembershipWire::from(membership).to_wire(), buf);
        }
    }
}

/// How many bytes [`encode_entry`] appends.
#[must_use]
pub fn encoded_len(entry: &Entry) -> usize {
    let delimited = |tag: u32, len: usize| key_len(tag) + encoded_len_varint(len as u64) + len;
    LogIdWire::from(entry.log_id).encoded_len()
        + match &entry.payload {
            EntryPayload::Blank => 0,
            EntryPayload::Normal(pack) => delimited(NORMAL, pack.0.len()),
            // A few hundred bytes, once in a long while.
            EntryPayload::Membership(membership) => {
                delimited(MEMBERSHIP, MembershipWire::from(membership).to_wire().len())
            }
        }
}

/// Reads an entry that takes up all of `bytes`; its payload shares their memory.
///
/// # Errors
/// [`WireError`] when the bytes are not an entry.
pub fn decode_entry(mut bytes: Bytes) -> Result<Entry, WireError> {
    let log_id = LogIdWire::decode_from(bytes.clone())?.into();
    let mut payload = EntryPayload::Blank;
    while let Some((tag, wire_type)) = read_key(&mut bytes)? {
        match tag {
            NORMAL => payload = EntryPayload::Normal(PackBytes(read_delimited(wire_type, &mut bytes)?)),
            MEMBERSHIP => {
                let membership = MembershipWire::decode_from(read_delimited(wire_type, &mut bytes)?)?;
                payload = EntryPayload::Membership(membership.try_into()?);
            }
            _ => skip(tag, wire_type, &mut bytes)?,
        }
    }
    Ok(Entry { log_id, payload })
}

fn write_bytes(tag: u32, bytes: &[u8], buf: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, buf);
    encode_varint(bytes.len() as u64, buf);
    buf.extend_from_slice(bytes);
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use crate::wire::tests::memberships;
    use openraft::BasicNode;
    use proptest::prelude::*;

    fn payloads() -> impl Strategy<Value = EntryPayload<PackBytes, u64, BasicNode>> {
        let normal = proptest::collection::vec(any::<u8>(), 0..300);
        prop_oneof![
            Just(EntryPayload::Blank),
            normal.prop_map(|bytes| EntryPayload::Normal(PackBytes(bytes.into()))),
            memberships().prop_map(EntryPayload::Membership),
        ]
    }

    /// Any entry.
    pub(crate) fn entries() -> impl Strategy<Value = Entry> {
        (any::<u64>(), any::<u64>(), any::<u64>(), payloads())
            .prop_map(|(term, node, index, payload)| Entry { log_id: log_id(term, node, index), payload })
    }

    proptest! {
        #[test]
        fn an_entry_survives_the_round_trip(entry in entries()) {
            let mut bytes = Vec::new();
            encode_entry(&entry, &mut bytes);
            prop_assert_eq!(encoded_len(&entry), bytes.len());
            prop_assert_eq!(decode_entry(bytes.into()).unwrap(), entry);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = decode_entry(bytes.into());
        }

        #[test]
        fn a_cut_entry_never_panics(entry in entries(), cut in any::<proptest::sample::Index>()) {
            let mut bytes = Vec::new();
            encode_entry(&entry, &mut bytes);
            bytes.truncate(cut.index(bytes.len() + 1));
            let _ = decode_entry(bytes.into());
        }
    }

    #[test]
    fn empty_application_data_is_not_blank() {
        let entry = Entry { log_id: log_id(1, 2, 3), payload: EntryPayload::Normal(PackBytes(Bytes::new())) };
        let mut bytes = Vec::new();
        encode_entry(&entry, &mut bytes);
        assert_eq!(decode_entry(bytes.into()).unwrap(), entry);
    }

    #[test]
    fn the_form_is_pinned() {
        let bytes = |payload| {
            let mut bytes = Vec::new();
            encode_entry(&Entry { log_id: log_id(1, 2, 3), payload }, &mut bytes);
            bytes
        };
        let position = [8, 1, 16, 2, 24, 3];
        assert_eq!(bytes(EntryPayload::Blank), position);
        let normal = EntryPayload::Normal(PackBytes(Bytes::from_static(b"ab")));
        assert_eq!(bytes(normal), [&position[..], &[0x22, 2, b'a', b'b']].concat());
        let none = EntryPayload::Membership(crate::types::Membership::default());
        assert_eq!(bytes(none), [&position[..], &[0x32, 0]].concat());
    }
}
