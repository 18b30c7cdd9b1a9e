//! The bounds of the placement rule, over the cluster sizes it is made for.

use super::*;
use proptest::prelude::*;
use std::collections::BTreeSet;

fn node(id: u64, zone: impl std::fmt::Display) -> NodeInfo {
    NodeInfo {
        id: NodeId(id),
        zone: format!("zone-{zone}"),
        client_addr: String::new(),
        peer_addr: String::new(),
        admin_addr: String::new(),
        state: NodeState::Active,
        store: None,
    }
}

/// Nodes 1..=count, dealt out over the zones.
fn cluster(count: u64, zones: u64) -> Vec<NodeInfo> {
    (1..=count).map(|id| node(id, id % zones)).collect()
}

fn loads(placement: &[ShardPlacement], of: impl Fn(&ShardPlacement) -> Vec<NodeId>) -> BTreeMap<NodeId, usize> {
    let mut loads = BTreeMap::new();
    for node in placement.iter().flat_map(of) {
        *loads.entry(node).or_default() += 1;
    }
    loads
}

fn replica_loads(placement: &[ShardPlacement]) -> BTreeMap<NodeId, usize> {
    loads(placement, |shard| shard.replicas.clone())
}

/// Replicas in `now` that were not in `before`.
fn moved(before: &[ShardPlacement], now: &[ShardPlacement]) -> usize {
    let gained = |(old, new): (&ShardPlacement, &ShardPlacement)| {
        new.replicas.iter().filter(|node| !old.replicas.contains(node)).count()
    };
    before.iter().zip(now).map(gained).sum()
}

/// What must move however it is done: all that is on nodes that are gone, and what is above the new bound.
fn floor(before: &[ShardPlacement], nodes: &[NodeInfo], shards: usize, replication: usize) -> usize {
    let cap = (shards * replication).div_ceil(nodes.len());
    let stays = |id: &NodeId| nodes.iter().any(|node| node.id == *id);
    replica_loads(before).iter().map(|(id, load)| if stays(id) { load.saturating_sub(cap) } else { *load }).sum()
}

fn check_bounds(placement: &[ShardPlacement], nodes: &[NodeInfo], shards: usize, replication: usize) {
    assert_eq!(placement.len(), shards);
    let known: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
    for (index, shard) in placement.iter().enumerate() {
        assert_eq!(shard.shard.0 as usize, index);
        let members: BTreeSet<NodeId> = shard.replicas.iter().copied().collect();
        assert_eq!((members.len(), shard.replicas.len()), (replication, replication), "{shard:?}");
        assert!(members.is_subset(&known), "{shard:?}");
    }
    let (replicas, leaders) = (replica_loads(placement), loads(placement, |shard| vec![shard.replicas[0]]));
    for id in known {
        let (load, bound) = (replicas.get(&id).copied().unwrap_or(0), (shards * replication).div_ceil(nodes.len()));
        assert!(load <= bound, "node {id} holds {load} replicas, above {bound}");
        let (load, bound) = (leaders.get(&id).copied().unwrap_or(0), shards.div_ceil(nodes.len()));
        assert!(load <= bound, "node {id} is preferred by {load} shards, above {bound}");
    }
}

fn collisions(placement: &[ShardPlacement], nodes: &[NodeInfo]) -> usize {
    let zone = |id: &NodeId| nodes.iter().find(|node| node.id == *id).map(|node| node.zone.clone()).unwrap();
    let of_shard =
        |shard: &ShardPlacement| shard.replicas.len() - shard.replicas.iter().map(zone).collect::<BTreeSet<_>>().len();
    placement.iter().map(of_shard).sum()
}

/// Collisions that no placement within the bounds avoids, for `replication` distinct zones per shard.
fn unavoidable(nodes: &[NodeInfo], shards: usize, replication: usize) -> usize {
    let cap = (shards * replication).div_ceil(nodes.len());
    let zones = loads_by_zone(nodes);
    let reach: usize = zones.values().map(|count| (count * cap).min(shards)).sum();
    (shards * replication).saturating_sub(reach)
}

fn loads_by_zone(nodes: &[NodeInfo]) -> BTreeMap<&str, usize> {
    let mut zones = BTreeMap::new();
    for node in nodes {
        *zones.entry(node.zone.as_str()).or_default() += 1;
    }
    zones
}

/// Places anew after a change of nodes, and checks the result against what it was.
fn check_change(before: &[ShardPlacement], nodes: &[NodeInfo], replication: u32, what: &str) -> Vec<ShardPlacement> {
    let shards = before.len();
    let now = place(nodes, shards as u32, replication, before).unwrap();
    check_bounds(&now, nodes, shards, replication as usize);
    let floor = floor(before, nodes, shards, replication as usize);
    let moved = moved(before, &now);
    assert!(moved <= floor + nodes.len(), "{what}: {moved} replicas moved, the floor is {floor}");
    now
}

/// Every size, replication and shard count the rule is promised for, over so many zones.
fn join_and_leave(zones: u64) {
    for (shards, replication) in [16, 64, 128].into_iter().flat_map(|shards| [1, 3, 5].map(|r| (shards, r))) {
        for count in u64::from(replication).max(3)..=16 {
            let what = format!("{count} nodes, {shards} shards, R = {replication}, {zones} zones");
            let nodes = cluster(count, zones);
            let fresh = place(&nodes, shards, replication, &[]).unwrap();
            check_bounds(&fresh, &nodes, shards as usize, replication as usize);
            if zones >= u64::from(replication) {
                let fewest = unavoidable(&nodes, shards as usize, replication as usize);
                assert_eq!(collisions(&fresh, &nodes), fewest, "{what}: replicas share zones");
            }
            check_change(&fresh, &cluster(count + 1, zones), replication, &format!("{what}, join"));
            if count > u64::from(replication) {
                let gone = 1 + count / 2;
                let rest: Vec<_> = nodes.into_iter().filter(|node| node.id != NodeId(gone)).collect();
                check_change(&fresh, &rest, replication, &format!("{what}, leave"));
            }
        }
    }
}

#[test]
fn join_and_leave_in_one_zone() {
    join_and_leave(1);
}

#[test]
fn join_and_leave_in_two_zones() {
    join_and_leave(2);
}

#[test]
fn join_and_leave_in_three_zones() {
    join_and_leave(3);
}

#[test]
fn join_and_leave_in_four_zones() {
    join_and_leave(4);
}

/// Grows a cluster node by node and shrinks it again, each step from the last one's placement.
#[test]
fn a_cluster_grows_and_shrinks_step_by_step() {
    for (zones, shards) in [(1, 64), (3, 64), (4, 16)] {
        let mut nodes = cluster(3, zones);
        let mut placement = place(&nodes, shards, 3, &[]).unwrap();
        let first = placement.clone();
        for id in 4..=16 {
            nodes.push(node(id, id % zones));
            placement = check_change(&placement, &nodes, 3, &format!("{zones} zones, {id} joins"));
        }
        for id in (4..=16).map(|id| (id * 7) % 17).filter(|id| *id != 0).take(12) {
            nodes.retain(|node| node.id != NodeId(id));
            placement = check_change(&placement, &nodes, 3, &format!("{zones} zones, {id} leaves"));
        }
        assert!(placement.iter().zip(&first).all(|(now, then)| now.first_members == then.first_members));
    }
}

/// What one change could not mend within its moves, calling again does, and then nothing moves any more.
#[test]
fn repeated_placement_settles_with_zones_spread() {
    let nodes = cluster(7, 3);
    let before = place(&nodes, 128, 3, &[]).unwrap();
    let rest: Vec<_> = nodes.into_iter().filter(|node| node.id != NodeId(4)).collect();
    let mut placement = place(&rest, 128, 3, &before).unwrap();
    for _ in 0..8 {
        let next = place(&rest, 128, 3, &placement).unwrap();
        assert!(moved(&placement, &next) <= rest.len());
        placement = next;
    }
    assert_eq!(collisions(&placement, &rest), 0);
    assert_eq!(place(&rest, 128, 3, &placement).unwrap(), placement);
}

#[test]
fn a_small_cluster_is_pinned() {
    // Changing this moves replicas of running clusters.
    let placement = place(&cluster(4, 4), 8, 3, &[]).unwrap();
    let replicas: Vec<Vec<u64>> = placement.iter().map(|s| s.replicas.iter().map(|node| node.0).collect()).collect();
    let pinned = [[4, 2, 3], [2, 1, 4], [4, 3, 2], [2, 1, 3], [3, 4, 1], [3, 2, 1], [1, 4, 3], [1, 4, 2]];
    assert_eq!(replicas, pinned);
}

#[test]
fn contradictory_input_is_refused() {
    let nodes = cluster(3, 1);
    assert_eq!(place(&nodes, 8, 2, &[]), Err(PlacementError::EvenReplication(2)));
    assert_eq!(place(&nodes, 8, 0, &[]), Err(PlacementError::EvenReplication(0)));
    assert_eq!(place(&nodes, 8, 5, &[]), Err(PlacementError::TooFewNodes { active: 3, replication: 5 }));
    assert_eq!(place(&nodes, 0, 3, &[]), Err(PlacementError::ShardCount(0)));
    assert_eq!(place(&nodes, 16_385, 3, &[]), Err(PlacementError::ShardCount(16_385)));
    let twice = [nodes.clone(), nodes.clone()].concat();
    assert_eq!(place(&twice, 8, 3, &[]), Err(PlacementError::DuplicateNode(NodeId(1))));
    let placement = place(&nodes, 8, 3, &[]).unwrap();
    assert_eq!(place(&nodes, 7, 3, &placement), Err(PlacementError::PreviousShard(ShardId(7))));
    let mut repeated = placement.clone();
    repeated[1].shard = ShardId(0);
    assert_eq!(place(&nodes, 8, 3, &repeated), Err(PlacementError::PreviousShard(ShardId(0))));
}

#[test]
fn draining_and_removed_nodes_take_no_replicas() {
    let mut nodes = cluster(5, 1);
    let before = place(&nodes, 16, 3, &[]).unwrap();
    nodes[1].state = NodeState::Draining;
    nodes[3].state = NodeState::Removed;
    let after = place(&nodes, 16, 3, &before).unwrap();
    assert_eq!(replica_loads(&after).into_keys().collect::<Vec<_>>(), [NodeId(1), NodeId(3), NodeId(5)]);
}

#[test]
fn replication_can_be_raised_and_lowered() {
    let nodes = cluster(5, 5);
    let one = place(&nodes, 16, 1, &[]).unwrap();
    let three = place(&nodes, 16, 3, &one).unwrap();
    check_bounds(&three, &nodes, 16, 3);
    assert_eq!(moved(&one, &three), 32, "the first replicas stay");
    let back = place(&nodes, 16, 1, &three).unwrap();
    check_bounds(&back, &nodes, 16, 1);
    assert_eq!(moved(&three, &back), 0);
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    /// Any zones, any history of joins and leaves.
    #[test]
    fn any_history_keeps_the_bounds(
        zones in prop::collection::vec(0_u8..4, 3..10),
        changes in prop::collection::vec((any::<bool>(), 0_usize..16, 0_u8..4), 1..6),
        shards in prop::sample::select(vec![1_u32, 7, 16, 40]),
        replication in prop::sample::select(vec![1_u32, 3]),
    ) {
        let mut nodes: Vec<_> = zones.iter().zip(1..).map(|(zone, id)| node(id, zone)).collect();
        let mut placement = place(&nodes, shards, replication, &[]).unwrap();
        for (step, (join, at, zone)) in changes.into_iter().enumerate() {
            if join || nodes.len() == 3 {
                nodes.push(node(100 + step as u64, zone));
            } else {
                nodes.remove(at % nodes.len());
            }
            placement = check_change(&placement, &nodes, replication, "a change");
            let again = place(&nodes, shards, replication, &placement).unwrap();
            prop_assert!(moved(&placement, &again) <= nodes.len());
        }
    }

    /// After whatever came before, replicas end up in distinct zones as far as that can be at all, a few moves at a time.
    #[test]
    fn zones_are_spread_in_the_end_after_any_history(
        zones in prop::collection::vec(0_u8..4, 3..8),
        changes in prop::collection::vec((any::<bool>(), 0_usize..16, 0_u8..4), 1..5),
        shards in prop::sample::select(vec![1_u32, 7, 16]),
    ) {
        let mut nodes: Vec<_> = zones.iter().zip(1..).map(|(zone, id)| node(id, zone)).collect();
        let mut placement = place(&nodes, shards, 3, &[]).unwrap();
        for (step, (join, at, zone)) in changes.into_iter().enumerate() {
            if join || nodes.len() == 3 {
                nodes.push(node(100 + step as u64, zone));
            } else {
                nodes.remove(at % nodes.len());
            }
            placement = place(&nodes, shards, 3, &placement).unwrap();
        }
        let mut rounds = 0;
        loop {
            let next = place(&nodes, shards, 3, &placement).unwrap();
            prop_assert!(moved(&placement, &next) <= nodes.len());
            if next == placement {
                break;
            }
            placement = next;
            rounds += 1;
            prop_assert!(rounds <= 3 * shards as usize, "it does not settle");
        }
        prop_assert_eq!(collisions(&placement, &nodes), collisions(&place(&nodes, shards, 3, &[]).unwrap(), &nodes));
    }

    #[test]
    fn the_order_of_input_does_not_matter(
        count in 3_u64..9,
        rotate in 0_usize..9,
        shards in 1_u32..40,
    ) {
        let nodes = cluster(count, 3);
        let mut shuffled = nodes.clone();
        shuffled.rotate_left(rotate % nodes.len());
        shuffled.swap(0, 1);
        let placement = place(&nodes, shards, 3, &[]).unwrap();
        prop_assert_eq!(&place(&shuffled, shards, 3, &[]).unwrap(), &placement);
        let (rest, mut reversed) = (&nodes[..nodes.len() - 1], placement.clone());
        reversed.reverse();
        if rest.len() >= 3 {
            prop_assert_eq!(place(rest, shards, 3, &placement), place(rest, shards, 3, &reversed));
        }
    }
}
