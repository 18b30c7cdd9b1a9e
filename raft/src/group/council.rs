//! Who decides over the cluster's record.
//!
//! Owns: which nodes are voters of the meta group.
//! Must not know: how they become so (see [`super::members`]).
//! Invariants: their number is odd and at most five; they stand in as many zones as there are; who decides already goes on
//! unless that costs a zone, or its node drains; nodes that can't be reached change nothing.

use messenger_proto::ids::NodeId;
use messenger_proto::meta::{ClusterState, NodeInfo, NodeState};
use std::collections::{BTreeMap, BTreeSet};

/// More voters would cost more than they make safe.
const VOTERS_MAX: usize = 5;

/// The voters of the meta group, and the nodes that only follow it, when `voters` decide now and `level` nodes hold about
/// what they hold. The latter are all that were not removed: every node lives by the record.
#[must_use]
pub fn choose(
    record: &ClusterState,
    voters: &BTreeSet<NodeId>,
    level: &BTreeSet<NodeId>,
) -> (BTreeSet<NodeId>, BTreeSet<NodeId>) {
    let present: Vec<&NodeInfo> = record.nodes.iter().filter(|node| node.state != NodeState::Removed).collect();
    let active = || present.iter().filter(|node| node.state == NodeState::Active);
    let fit: Vec<&NodeInfo> =
        active().copied().filter(|node| voters.contains(&node.id) || level.contains(&node.id)).collect();
    let size = odd(fit.len().min(VOTERS_MAX));
    let mut chosen = BTreeSet::new();
    let mut zones: BTreeMap<&str, usize> = BTreeMap::new();
    while chosen.len() < size {
        let left = fit.iter().filter(|node| !chosen.contains(&node.id));
        let best = left.min_by_key(|node| {
            let crowd = zones.get(node.zone.as_str()).copied().unwrap_or(0);
            (crowd, !voters.contains(&node.id), node.id)
        });
        let Some(best) = best else { break };
        *zones.entry(best.zone.as_str()).or_default() += 1;
        chosen.insert(best.id);
    }
    if chosen.is_empty() {
        // Whoever decides now must do until somebody else can.
        chosen.clone_from(voters);
    }
    let followers = present.iter().map(|node| node.id).filter(|node| !chosen.contains(node)).collect();
    (chosen, followers)
}

fn odd(count: usize) -> usize {
    count - usize::from(count > 0 && count.is_multiple_of(2))
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::ClusterId;
    use proptest::prelude::*;

    fn record(nodes: &[(u64, &str, NodeState)]) -> ClusterState {
        let node = |(id, zone, state): &(u64, &str, NodeState)| NodeInfo {
            id: NodeId(*id),
            zone: (*zone).into(),
            client_addr: String::new(),
            peer_addr: String::new(),
            admin_addr: String::new(),
            state: *state,
            store: None,
        };
        ClusterState {
            cluster: ClusterId([0; 16]),
            epoch: 1,
            secret: bytes::Bytes::new(),
            nodes: nodes.iter().map(node).collect(),
            shards: vec![],
            replication: 1,
            wished: 1,
            moves_paused: false,
        }
    }

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    const A: NodeState = NodeState::Active;

    #[test]
    fn deciding_is_spread_over_zones_and_stays_where_it_is() {
        let four = record(&[(1, "a", A), (2, "a", A), (3, "b", A), (4, "c", A)]);
        let (voters, followers) = choose(&four, &set(&[1, 2, 3]), &set(&[1, 2, 3]));
        assert_eq!((voters, followers), (set(&[1, 2, 3]), set(&[4])), "the fourth holds nothing yet");
        let (voters, followers) = choose(&four, &set(&[1, 2, 3]), &set(&[1, 2, 3, 4]));
        assert_eq!((voters.clone(), followers), (set(&[1, 3, 4]), set(&[2])));
        assert_eq!(choose(&four, &voters, &set(&[1, 2, 3, 4])).0, voters);
        let same_zone = record(&[(1, "", A), (2, "", A), (3, "", A), (4, "", A)]);
        assert_eq!(choose(&same_zone, &set(&[2, 3, 4]), &set(&[1, 2, 3, 4])).0, set(&[2, 3, 4]));
    }

    #[test]
    fn numbers_are_odd_and_end_at_five() {
        let all: Vec<(u64, &str, NodeState)> = (1..=7).map(|id| (id, "", A)).collect();
        let level = set(&[1, 2, 3, 4, 5, 6, 7]);
        for (nodes, voters) in [(1, 1), (2, 1), (3, 3), (4, 3), (5, 5), (7, 5)] {
            assert_eq!(choose(&record(&all[..nodes]), &set(&[1]), &level).0.len(), voters);
        }
    }

    #[test]
    fn who_drains_decides_no_more_but_follows_and_who_is_removed_does_neither() {
        let nodes =
            record(&[(1, "", NodeState::Draining), (2, "", A), (3, "", A), (4, "", A), (5, "", NodeState::Removed)]);
        let (voters, followers) = choose(&nodes, &set(&[1, 2, 3]), &set(&[1, 2, 3, 4, 5]));
        assert_eq!((voters, followers), (set(&[2, 3, 4]), set(&[1])));
        let last = record(&[(1, "", NodeState::Draining)]);
        assert_eq!(choose(&last, &set(&[1]), &set(&[1])).0, set(&[1]), "there is nobody else");
    }

    proptest! {
        #[test]
        fn any_cluster_has_a_council_and_keeps_it(
            nodes in proptest::collection::vec((0_usize..4, 0_usize..3), 1..12),
            voters in proptest::collection::btree_set(1_u64..12, 1..6),
            level in proptest::collection::btree_set(1_u64..12, 0..12),
        ) {
            let zones = ["a", "b", "c", "d"];
            let states = [A, NodeState::Draining, NodeState::Removed];
            let nodes: Vec<_> = (1..).zip(&nodes).map(|(id, (zone, state))| (id, zones[*zone], states[*state])).collect();
            let record = record(&nodes);
            let ids = |of: &BTreeSet<u64>| of.iter().copied().map(NodeId).collect::<BTreeSet<_>>();
            let (voters, level) = (ids(&voters), ids(&level));
            let (chosen, followers) = choose(&record, &voters, &level);
            prop_assert!(chosen == voters || (chosen.len() <= VOTERS_MAX && chosen.len() % 2 == 1));
            prop_assert!(chosen.is_disjoint(&followers));
            prop_assert_eq!(choose(&record, &chosen, &level).0, chosen);
        }
    }
}
