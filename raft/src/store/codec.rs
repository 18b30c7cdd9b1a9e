//! The byte form of the rows that a group has one of.
//!
//! Owns: votes, log positions, the applied row, memberships, identities.
//! Must not know: keys, the database.
//! Invariants: what was encoded decodes to an equal value; decoding never panics.

use super::error::StoreError;
use super::keys::Generation;
use super::{LogId, StoredMembership, Vote};
use crate::types::Identity;
use crate::wire::{LogIdWire, StoredMembershipWire, VoteWire};
use messenger_proto::ids::{ClusterId, NodeId, StoreId};
use messenger_proto::wire::Wire;
use messenger_proto::wire_struct;

wire_struct! {
    /// See [`AppliedRow`].
    struct AppliedWire { 1 => generation: u32, 2 => digest: u64, 3 => at: Option<LogIdWire> }
}

wire_struct! {
    /// See [`Identity`].
    struct IdentityWire { 1 => cluster: ClusterId, 2 => node: NodeId, 3 => store: StoreId }
}

fn corrupt(what: &'static str) -> StoreError {
    StoreError::Corrupt(format!("a {what} row can't be read"))
}

fn read<W: Wire>(bytes: &[u8], what: &'static str) -> Result<W, StoreError> {
    W::from_wire(bytes).map_err(|_| corrupt(what))
}

pub(crate) fn encode_log_id(id: &LogId) -> Vec<u8> {
    LogIdWire::from(*id).to_wire()
}

/// Reads [`encode_log_id`].
pub(crate) fn decode_log_id(bytes: &[u8]) -> Result<LogId, StoreError> {
    read::<LogIdWire>(bytes, "log position").map(Into::into)
}

pub(crate) fn encode_vote(vote: &Vote) -> Vec<u8> {
    VoteWire::from(vote).to_wire()
}

/// Reads [`encode_vote`].
pub(crate) fn decode_vote(bytes: &[u8]) -> Result<Vote, StoreError> {
    read::<VoteWire>(bytes, "vote").map(Into::into)
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

pub(crate) fn encode_applied(row: &AppliedRow) -> Vec<u8> {
    let at = row.log_id.map(Into::into);
    AppliedWire { generation: row.generation.0, digest: row.digest, at }.to_wire()
}

/// Reads [`encode_applied`].
pub(crate) fn decode_applied(bytes: &[u8]) -> Result<AppliedRow, StoreError> {
    let AppliedWire { generation, digest, at } = read(bytes, "applied")?;
    Ok(AppliedRow { log_id: at.map(Into::into), generation: Generation(generation), digest })
}

pub(crate) fn encode_membership(membership: &StoredMembership) -> Vec<u8> {
    StoredMembershipWire::from(membership).to_wire()
}

/// Reads [`encode_membership`].
pub(crate) fn decode_membership(bytes: &[u8]) -> Result<StoredMembership, StoreError> {
    let membership = read::<StoredMembershipWire>(bytes, "membership")?;
    membership.try_into().map_err(|_| corrupt("membership"))
}

pub(crate) fn encode_identity(identity: &Identity) -> Vec<u8> {
    let Identity { cluster, node, store } = *identity;
    IdentityWire { cluster, node, store }.to_wire()
}

/// Reads [`encode_identity`].
pub(crate) fn decode_identity(bytes: &[u8]) -> Result<Identity, StoreError> {
    let IdentityWire { cluster, node, store } = read(bytes, "identity")?;
    Ok(Identity { cluster, node, store })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::log_id;
    use crate::wire::tests::{log_ids, metas, votes};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_survive_the_round_trip(
            id in log_ids(),
            vote in votes(),
            applied in (proptest::option::of(log_ids()), any::<u32>(), any::<u64>()),
            meta in metas(),
            identity in any::<([u8; 16], u64, [u8; 16])>(),
        ) {
            prop_assert_eq!(decode_log_id(&encode_log_id(&id)).unwrap(), id);
            prop_assert_eq!(decode_vote(&encode_vote(&vote)).unwrap(), vote);
            let applied = AppliedRow { log_id: applied.0, generation: Generation(applied.1), digest: applied.2 };
            prop_assert_eq!(decode_applied(&encode_applied(&applied)).unwrap(), applied);
            let membership = meta.last_membership;
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

    #[test]
    fn the_forms_are_pinned() {
        let applied = AppliedRow { log_id: Some(log_id(2, 3, 4)), generation: Generation(5), digest: 6 };
        assert_eq!(encode_applied(&applied), [8, 5, 16, 6, 26, 8, 10, 6, 8, 2, 16, 3, 24, 4]);
        let identity = Identity { cluster: ClusterId([7; 16]), node: NodeId(3), store: StoreId([9; 16]) };
        let bytes: [&[u8]; 5] = [&[10, 16], &[7; 16], &[16, 3], &[26, 16], &[9; 16]];
        assert_eq!(encode_identity(&identity), bytes.concat());
    }
}
