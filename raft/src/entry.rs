//! The byte form of a log entry, on disk and between nodes.
//!
//! Owns: the encoding of an entry's position and payload.
//! Must not know: where entries are kept or how they travel.
//! Invariants: what was encoded decodes to an equal entry; decoding never panics and copies no payload.

use crate::types::{PackBytes, TypeConfig};
use bytes::Bytes;
use messenger_proto::wire::{WireError, read_delimited, read_key, read_varint, skip, write_varint};
use openraft::type_config::alias::{EntryOf, LeaderIdOf, LogIdOf};
use openraft::vote::RaftLeaderId;
use openraft::{EntryPayload, Membership};
use prost::encoding::{WireType, encode_key, encode_varint, encoded_len_varint, key_len};

/// A log entry of any group.
pub type Entry = EntryOf<TypeConfig>;
/// A log position of any group.
pub type LogId = LogIdOf<TypeConfig>;

// Tags; never reused.
const TERM: u32 = 1;
const NODE: u32 = 2;
const INDEX: u32 = 3;
/// Present, even when empty, for application data.
const NORMAL: u32 = 4;
/// JSON, since its shape is the consensus library's.
const MEMBERSHIP: u32 = 5;

/// The position `(term, node, index)`.
#[must_use]
pub fn log_id(term: u64, node: u64, index: u64) -> LogId {
    LogId { leader_id: LeaderIdOf::<TypeConfig>::new(term, node), index }
}

/// Appends an entry's bytes to `buf`, without a length.
pub fn encode_entry(entry: &Entry, buf: &mut Vec<u8>) {
    write_varint(entry.log_id.leader_id.term, TERM, buf);
    write_varint(entry.log_id.leader_id.node_id, NODE, buf);
    write_varint(entry.log_id.index, INDEX, buf);
    match &entry.payload {
        EntryPayload::Blank => {}
        EntryPayload::Normal(pack) => write_bytes(NORMAL, &pack.0, buf),
        EntryPayload::Membership(membership) => write_bytes(MEMBERSHIP, &membership_json(membership), buf),
    }
}

/// How many bytes [`encode_entry`] appends for application data and blank entries, and at least for a membership.
#[must_use]
pub fn encoded_len(entry: &Entry) -> usize {
    let varint = |tag: u32, value: u64| if value == 0 { 0 } else { key_len(tag) + encoded_len_varint(value) };
    let position = varint(TERM, entry.log_id.leader_id.term)
        + varint(NODE, entry.log_id.leader_id.node_id)
        + varint(INDEX, entry.log_id.index);
    position
        + match &entry.payload {
            EntryPayload::Normal(pack) => key_len(NORMAL) + encoded_len_varint(pack.0.len() as u64) + pack.0.len(),
            EntryPayload::Blank | EntryPayload::Membership(_) => 0,
        }
}

/// Reads an entry that takes up all of `bytes`; its payload shares their memory.
///
/// # Errors
/// [`WireError`] when the bytes are not an entry.
pub fn decode_entry(mut bytes: Bytes) -> Result<Entry, WireError> {
    let (mut term, mut node, mut index) = (0, 0, 0);
    let mut payload = EntryPayload::Blank;
    while let Some((tag, wire_type)) = read_key(&mut bytes)? {
        match tag {
            TERM => term = read_varint(wire_type, &mut bytes)?,
            NODE => node = read_varint(wire_type, &mut bytes)?,
            INDEX => index = read_varint(wire_type, &mut bytes)?,
            NORMAL => payload = EntryPayload::Normal(PackBytes(read_delimited(wire_type, &mut bytes)?)),
            MEMBERSHIP => {
                let json = read_delimited(wire_type, &mut bytes)?;
                let membership = serde_json::from_slice(&json).map_err(|_| WireError::Invalid("membership"))?;
                payload = EntryPayload::Membership(membership);
            }
            _ => skip(tag, wire_type, &mut bytes)?,
        }
    }
    Ok(Entry { log_id: log_id(term, node, index), payload })
}

fn write_bytes(tag: u32, bytes: &[u8], buf: &mut Vec<u8>) {
    encode_key(tag, WireType::LengthDelimited, buf);
    encode_varint(bytes.len() as u64, buf);
    buf.extend_from_slice(bytes);
}

fn membership_json(membership: &Membership<u64, openraft::BasicNode>) -> Vec<u8> {
    serde_json::to_vec(membership).expect("sets and maps of integers and strings always serialise")
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use openraft::BasicNode;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn payloads() -> impl Strategy<Value = EntryPayload<PackBytes, u64, BasicNode>> {
        let normal = proptest::collection::vec(any::<u8>(), 0..300);
        let members = proptest::collection::btree_map(any::<u64>(), "[a-z:0-9]{0,20}", 1..6);
        prop_oneof![
            Just(EntryPayload::Blank),
            normal.prop_map(|bytes| EntryPayload::Normal(PackBytes(bytes.into()))),
            members.prop_map(|members| {
                let voters: BTreeSet<u64> = members.keys().copied().take(3).collect();
                let nodes: BTreeMap<u64, BasicNode> =
                    members.into_iter().map(|(id, addr)| (id, BasicNode::new(addr))).collect();
                EntryPayload::Membership(Membership::new(vec![voters], nodes).unwrap())
            }),
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
            if !matches!(entry.payload, EntryPayload::Membership(_)) {
                prop_assert_eq!(encoded_len(&entry), bytes.len());
            }
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
}
