//! The consensus library's values in our form, on disk and between nodes.
//!
//! Owns: the one message each for a vote, a log position, a membership and what a snapshot covers.
//! Must not know: where they are kept, or which calls carry them.
//! Invariants: tags are pinned by golden tests; what was encoded decodes to an equal value; a membership that the library
//! would not make is refused.

use crate::entry::log_id;
use crate::types::{LogId, Membership, SnapshotMeta, StoredMembership, TypeConfig, Vote};
use messenger_proto::ids::{LogIndex, NodeId, Term};
use messenger_proto::wire::WireError;
use messenger_proto::wire_struct;
use openraft::BasicNode;
use openraft::type_config::alias::LeaderIdOf;
use openraft::vote::{RaftLeaderId, RaftVote};
use prost::encoding::{encoded_len_varint, key_len};
use std::collections::{BTreeMap, BTreeSet};

wire_struct! {
    /// A vote.
    pub(crate) struct VoteWire { 1 => term: Term, 2 => node: NodeId, 3 => committed: bool }
}

wire_struct! {
    /// A log position.
    pub(crate) struct LogIdWire { 1 => term: Term, 2 => node: NodeId, 3 => index: LogIndex }
}

wire_struct! {
    /// Who belongs to a group: those that decide, in one configuration or in two at a time, and how each is reached.
    pub(crate) struct MembershipWire { 1 => configurations: Vec<VotersWire>, 2 => members: Vec<MemberWire> }
}

wire_struct! {
    /// The voters of one configuration.
    pub(crate) struct VotersWire { 1 => nodes: Vec<NodeId> }
}

wire_struct! {
    /// A voter or a learner.
    pub(crate) struct MemberWire { 1 => node: NodeId, 2 => address: String }
}

wire_struct! {
    /// A membership and where it stands in the log.
    pub(crate) struct StoredMembershipWire { 1 => at: Option<LogIdWire>, 2 => membership: MembershipWire }
}

wire_struct! {
    /// What a snapshot covers.
    pub(crate) struct SnapshotMetaWire { 1 => last: Option<LogIdWire>, 2 => membership: StoredMembershipWire }
}

impl LogIdWire {
    /// Bytes of its fields.
    pub(crate) fn encoded_len(&self) -> usize {
        let varint = |tag: u32, value: u64| if value == 0 { 0 } else { key_len(tag) + encoded_len_varint(value) };
        varint(1, self.term.0) + varint(2, self.node.0) + varint(3, self.index.0)
    }
}

impl From<&Vote> for VoteWire {
    fn from(vote: &Vote) -> Self {
        let (term, node) = (Term(vote.leader_id.term), NodeId(vote.leader_id.node_id));
        Self { term, node, committed: vote.committed }
    }
}

impl From<VoteWire> for Vote {
    fn from(wire: VoteWire) -> Self {
        Self::from_leader_id(LeaderIdOf::<TypeConfig>::new(wire.term.0, wire.node.0), wire.committed)
    }
}

impl From<LogId> for LogIdWire {
    fn from(id: LogId) -> Self {
        Self { term: Term(id.leader_id.term), node: NodeId(id.leader_id.node_id), index: LogIndex(id.index) }
    }
}

impl From<LogIdWire> for LogId {
    fn from(wire: LogIdWire) -> Self {
        log_id(wire.term.0, wire.node.0, wire.index.0)
    }
}

impl From<&Membership> for MembershipWire {
    fn from(membership: &Membership) -> Self {
        let voters = |voters: &BTreeSet<u64>| VotersWire { nodes: voters.iter().copied().map(NodeId).collect() };
        let member = |(id, node): (&u64, &BasicNode)| MemberWire { node: NodeId(*id), address: node.addr.clone() };
        Self {
            configurations: membership.get_joint_config().iter().map(voters).collect(),
            members: membership.nodes().map(member).collect(),
        }
    }
}

impl TryFrom<MembershipWire> for Membership {
    type Error = WireError;

    fn try_from(wire: MembershipWire) -> Result<Self, WireError> {
        let voters = |voters: VotersWire| voters.nodes.into_iter().map(|node| node.0).collect();
        let nodes: BTreeMap<u64, BasicNode> =
            wire.members.into_iter().map(|member| (member.node.0, BasicNode::new(member.address))).collect();
        let configurations: Vec<BTreeSet<u64>> = wire.configurations.into_iter().map(voters).collect();
        Self::new(configurations, nodes).map_err(|_| WireError::Invalid("membership"))
    }
}

impl From<&StoredMembership> for StoredMembershipWire {
    fn from(stored: &StoredMembership) -> Self {
        Self { at: stored.log_id().map(Into::into), membership: stored.membership().into() }
    }
}

impl TryFrom<StoredMembershipWire> for StoredMembership {
    type Error = WireError;

    fn try_from(wire: StoredMembershipWire) -> Result<Self, WireError> {
        Ok(Self::new(wire.at.map(Into::into), wire.membership.try_into()?))
    }
}

impl From<&SnapshotMeta> for SnapshotMetaWire {
    fn from(meta: &SnapshotMeta) -> Self {
        Self { last: meta.last_log_id.map(Into::into), membership: (&meta.last_membership).into() }
    }
}

impl TryFrom<SnapshotMetaWire> for SnapshotMeta {
    type Error = WireError;

    fn try_from(wire: SnapshotMetaWire) -> Result<Self, WireError> {
        Ok(Self { last_log_id: wire.last.map(Into::into), last_membership: wire.membership.try_into()? })
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use messenger_proto::wire::Wire;
    use proptest::prelude::*;

    pub(crate) fn log_ids() -> impl Strategy<Value = LogId> {
        any::<(u64, u64, u64)>().prop_map(|(term, node, index)| log_id(term, node, index))
    }

    pub(crate) fn votes() -> impl Strategy<Value = Vote> {
        any::<(u64, u64, bool)>()
            .prop_map(|(term, node, committed)| VoteWire { term: Term(term), node: NodeId(node), committed }.into())
    }

    /// Of one configuration, of two, or of none.
    pub(crate) fn memberships() -> impl Strategy<Value = Membership> {
        let members = proptest::collection::btree_map(any::<u64>(), "[a-z:0-9]{0,20}", 1..6);
        (members, 0_usize..3).prop_map(|(members, configurations)| {
            let voters = |n: usize| members.keys().copied().skip(n.min(members.len() - 1)).take(3).collect();
            let configurations = (0..configurations).map(voters).collect();
            let nodes: BTreeMap<u64, BasicNode> =
                members.iter().map(|(id, address)| (*id, BasicNode::new(address))).collect();
            Membership::new(configurations, nodes).unwrap()
        })
    }

    pub(crate) fn metas() -> impl Strategy<Value = SnapshotMeta> {
        let at = || proptest::option::of(log_ids());
        (at(), at(), memberships()).prop_map(|(last_log_id, at, membership)| SnapshotMeta {
            last_log_id,
            last_membership: StoredMembership::new(at, membership),
        })
    }

    proptest! {
        #[test]
        fn values_survive_the_round_trip(id in log_ids(), vote in votes(), meta in metas()) {
            let wire = LogIdWire::from(id);
            prop_assert_eq!(wire.encoded_len(), wire.to_wire().len());
            prop_assert_eq!(LogId::from(LogIdWire::from_wire(&wire.to_wire()).unwrap()), id);
            let bytes = VoteWire::from(&vote).to_wire();
            prop_assert_eq!(Vote::from(VoteWire::from_wire(&bytes).unwrap()), vote);
            let bytes = SnapshotMetaWire::from(&meta).to_wire();
            prop_assert_eq!(SnapshotMeta::try_from(SnapshotMetaWire::from_wire(&bytes).unwrap()).unwrap(), meta);
        }

        #[test]
        fn random_bytes_never_panic(bytes in proptest::collection::vec(any::<u8>(), 0..100)) {
            let _ = SnapshotMetaWire::from_wire(&bytes).map(SnapshotMeta::try_from);
        }
    }

    #[test]
    fn the_forms_are_pinned() {
        let at = log_id(2, 3, 4);
        assert_eq!(LogIdWire::from(at).to_wire(), [8, 2, 16, 3, 24, 4]);
        assert!(LogIdWire::from(log_id(0, 0, 0)).to_wire().is_empty());
        let vote = Vote::new_committed(2, 3);
        assert_eq!(VoteWire::from(&vote).to_wire(), [8, 2, 16, 3, 24, 1]);
        let nodes = BTreeMap::from([(1, BasicNode::new("a")), (2, BasicNode::new("b"))]);
        let membership = Membership::new(vec![BTreeSet::from([1]), BTreeSet::from([1, 2])], nodes).unwrap();
        let voters = [&[10, 6, 10, 4, 10, 2, 8, 1][..], &[10, 10, 10, 8, 10, 2, 8, 1, 10, 2, 8, 2]].concat();
        let members = [18, 7, 10, 5, 8, 1, 18, 1, b'a', 18, 7, 10, 5, 8, 2, 18, 1, b'b'];
        let expected = [&voters[..], &members].concat();
        assert_eq!(MembershipWire::from(&membership).to_wire(), expected);
        let meta = SnapshotMeta { last_log_id: Some(at), last_membership: StoredMembership::new(Some(at), membership) };
        let position = [10, 8, 10, 6, 8, 2, 16, 3, 24, 4];
        let stored = [&position[..], &[18, expected.len() as u8], &expected].concat();
        let expected = [&position[..], &[18, stored.len() as u8], &stored].concat();
        assert_eq!(SnapshotMetaWire::from(&meta).to_wire(), expected);
    }

    #[test]
    fn a_membership_without_sense_is_refused() {
        let voters = |nodes: Vec<u64>| VotersWire { nodes: nodes.into_iter().map(NodeId).collect() };
        let member = MemberWire { node: NodeId(1), address: String::new() };
        for configuration in [voters(vec![]), voters(vec![1, 2])] {
            let wire = MembershipWire { configurations: vec![configuration], members: vec![member.clone()] };
            assert_eq!(Membership::try_from(wire), Err(WireError::Invalid("membership")));
        }
    }
}
