//! The byte form of the rows that a group has one of.
//!
//! Owns: votes, log positions, the applied row, memberships, identities.
//! Must not know: keys, the database.
//! Invariants: what was encoded decodes to an equal value; decoding never panics.

use super::error::StoreError;
use super::keys::Generation;
use super::{Identity, LogId, StoredMembership, Vote};
use crate::entry::log_id;
use messenger_proto::ids::{ClusterId, NodeId, StoreId};
use openraft::type_config::alias::LeaderIdOf;
use openraft::vote::RaftLeaderId;
use prost::encoding::{decode_varint, encode_varint};

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(format!("a {what} row can't be read"))
}

fn varint(bytes: &mut &[u8], what: &'static str) -> Result<u64, StoreError> {
    decode_varint(bytes).map_err(|_| corrupt(what))
}

fn ended(bytes: &[u8], what: &'static str) -> Result<(), StoreError> {
    if bytes.is_empty() { Ok(()) } else { Err(corrupt(what)) }
}

fn push_log_id(id: &LogId, buf: &mut Vec<u8>) {
    encode_varint(id.leader_id.term, buf);
    encode_varint(id.leader_id.node_id, buf);
    encode_varint(id.index, buf);
}

fn take_log_id(bytes: &mut &[u8], what: &'static str) -> Result<LogId, StoreError> {
    Ok(log_id(varint(bytes, what)?, varint(bytes, what)?, varint(bytes, what)?))
}

/// Term, node and index.
pub(crate) fn encode_log_id(id: &LogId) -> Vec<u8> {
    let mut buf = Vec::with_capacity(16);
    push_log_id(id, &mut buf);
    buf
}

/// Reads [`encode_log_id`].
pub(crate) fn decode_log_id(mut bytes: &[u8]) -> Result<LogId, StoreError> {
    let id = take_log_id(&mut bytes, "log position")?;
    ended(bytes, "log position").map(|()| id)
}

/// Term, node and whether a quorum granted it.
pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    let mut buf = Vec::with_capacity(16);
    encode_varint(vote.leader_id.term, &mut buf);
    encode_varint(vote.leader_id.node_id, &mut buf);
    buf.push(u8::from(vote.committed));
    buf
}

/// Reads [`encode_vote`].
pub(crate) fn decode_vote(mut bytes: &[u8]) -> Result<Vote, StoreError> {
    let (term, node) = (varint(&mut bytes, "vote")?, varint(&mut bytes, "vote")?);
    let committed = match bytes {
        [0] => false,
        [1] => true,
        _ => return Err(corrupt("vote")),
    };
    Ok(Vote { leader_id: LeaderIdOf::<crate::types::TypeConfig>::new(term, node), committed })
}

/// How far a group's machine is, and which rows are its.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AppliedRow {
    /// The last entry applied.
    pub(crate) log_id: Option<LogId>,
    /// The rows in force.
    pub(crate) generation: Generation,
    /// A hash chained over every row ever written.
    pub(crate) digest: u64,
}

impl Default for AppliedRow {
    fn default() -> Self {
        Self { log_id: None, generation: Generation::FIRST, digest: 0 }
    }
}

/// Generation, digest and, if there is one, the position.
pub(crate) fn encode_applied(row: &AppliedRow) -> Vec<u8> {
    let mut buf = Vec::with_capacity(32);
    buf.extend_from_slice(&row.generation.0.to_be_bytes());
    buf.extend_from_slice(&row.digest.to_be_bytes());
    if let Some(id) = &row.log_id {
        push_log_id(id, &mut buf);
    }
    buf
}

/// Reads [`encode_applied`].
pub(crate) fn decode_applied(bytes: &[u8]) -> Result<AppliedRow, StoreError> {
    let (generation, rest) = bytes.split_first_chunk::<4>().ok_or_else(|| corrupt("applied"))?;
    let (digest, mut rest) = rest.split_first_chunk::<8>().ok_or_else(|| corrupt("applied"))?;
    let log_id = if rest.is_empty() { None } else { Some(take_log_id(&mut rest, "applied")?) };
    ended(rest, "applied")?;
    Ok(AppliedRow {
        log_id,
        generation: Generation(u32::from_be_bytes(*generation)),
        digest: u64::from_be_bytes(*digest),
    })
}

/// JSON, since its shape is the consensus library's.
pub(crate) fn encode_membership(membership: &StoredMembership) -> Vec<u8> {
    serde_json::to_vec(membership).expect("sets and maps of integers and strings always serialise")
}

/// Reads [`encode_membership`].
pub(crate) fn decode_membership(bytes: &[u8]) -> Result<StoredMembership, StoreError> {
    serde_json::from_slice(bytes).map_err(|_| corrupt("membership"))
}

/// Cluster, node and store.
pub(crate) fn encode_identity(identity: &Identity) -> Vec<u8> {
    [&identity.cluster.0[..], &identity.node.0.to_be_bytes(), &identity.store.0].concat()
}

/// Reads [`encode_identity`].
pub(crate) fn decode_identity(bytes: &[u8]) -> Result<Identity, StoreError> {
    let read = || {
        let (cluster, rest) = bytes.split_first_chunk::<16>()?;
        let (node, store) = rest.split_first_chunk::<8>()?;
        Some(Identity {
            cluster: ClusterId(*cluster),
            node: NodeId(u64::from_be_bytes(*node)),
            store: StoreId(store.try_into().ok()?),
        })
    };
    read().ok_or_else(|| corrupt("identity"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use openraft::{BasicNode, Membership};
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    fn log_ids() -> impl Strategy<Value = LogId> {
        any::<(u64, u64, u64)>().prop_map(|(term, node, index)| log_id(term, node, index))
    }

    fn memberships() -> impl Strategy<Value = StoredMembership> {
        let members = proptest::collection::btree_map(any::<u64>(), "[a-z:0-9]{0,20}", 1..6);
        (proptest::option::of(log_ids()), members).prop_map(|(at, members)| {
            let voters: BTreeSet<u64> = members.keys().copied().take(3).collect();
            let nodes: BTreeMap<u64, BasicNode> =
                members.into_iter().map(|(id, addr)| (id, BasicNode::new(addr))).collect();
            StoredMembership::new(at, Membership::new(vec![voters], nodes).unwrap())
        })
    }

    proptest! {
        #[test]
        fn rows_survive_the_round_trip(
            id in log_ids(),
            vote in any::<(u64, u64, bool)>(),
            applied in (proptest::option::of(log_ids()), any::<u32>(), any::<u64>()),
            membership in memberships(),
            identity in any::<([u8; 16], u64, [u8; 16])>(),
        ) {
            prop_assert_eq!(decode_log_id(&encode_log_id(&id)).unwrap(), id);
            let vote = Vote { leader_id: LeaderIdOf::<crate::types::TypeConfig>::new(vote.0, vote.1), committed: vote.2 };
            prop_assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
            let applied = AppliedRow { log_id: applied.0, generation: Generation(applied.1), digest: applied.2 };
            prop_assert_eq!(decode_applied(&encode_applied(&applied)).unwrap(), applied);
            prop_assert_eq!(decode_membership(&encode_membership(&membership)).unwrap(), membership);
            let identity =
                Identity { cluster: ClusterId(identity.0), node: NodeId(identity.1), store: StoreId(identity.2) };
            prop_assert_eq!(decode_identity(&encode_identity(&identity)).unwrap(), identity);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = decode_log_id(&bytes);
            let _ = decode_vote(&bytes);
            let _ = decode_applied(&bytes);
            let _ = decode_membership(&bytes);
            let _ = decode_identity(&bytes);
        }
    }
}
