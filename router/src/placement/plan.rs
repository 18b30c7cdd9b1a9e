//! From the placement in force to the one there should be.
//!
//! Owns: the next change of the record on that way: which shards move now, and how many replicas a shard has.
//! Must not know: the meta group that keeps the record, or how a group carries a move out.
//! Invariants: pure and deterministic; a shard moves only after its group has become what the record says, so there is
//! one move per shard at a time, unless that leads to a node that goes itself; a shard whose group can't be asked does not
//! move; nothing begins to move to a node that does not answer, and what waits for one holds up nothing else; no more move
//! at once than the caps allow, of all and of each node; a move that was cancelled does not begin again by itself, unless a
//! node goes that the shard is on; nothing is remembered between two steps, and one that was taken twice changes nothing.

use super::{PlacementError, place};
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::{ClusterState, NodeState, ShardPlacement};
use std::collections::{BTreeMap, BTreeSet};

/// How many shards may be on the move.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Caps {
    /// Of all.
    pub total: usize,
    /// Of those that come to a node or leave it.
    pub per_node: usize,
}

/// What a shard's leader says of its group.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Observed {
    /// Those that decide.
    pub voters: BTreeSet<NodeId>,
    /// Those that only follow.
    pub learners: BTreeSet<NodeId>,
    /// The group is between two configurations.
    pub joint: bool,
}

/// A change of the record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Plan {
    /// Every shard.
    pub shards: Vec<ShardPlacement>,
    /// Replicas of each, from now on.
    pub replication: u32,
}

/// Replicas a shard can have: as many as are wished, as far as there are active nodes, and an odd number. 0 without nodes.
#[must_use]
pub fn replication(record: &ClusterState) -> u32 {
    let wished = if record.wished == 0 { record.replication } else { record.wished };
    let active = record.nodes.iter().filter(|node| node.state == NodeState::Active).count();
    let possible = wished.min(u32::try_from(active).unwrap_or(u32::MAX));
    possible - u32::from(possible > 0 && possible.is_multiple_of(2))
}

/// Where all shards should be in the end; `None` while there is no active node.
///
/// # Errors
/// [`PlacementError`] when the record contradicts itself.
pub fn target(record: &ClusterState) -> Result<Option<Plan>, PlacementError> {
    let replication = replication(record);
    if replication == 0 {
        return Ok(None);
    }
    let shards = u32::try_from(record.shards.len()).unwrap_or(u32::MAX);
    Ok(Some(Plan { shards: place(&record.nodes, shards, replication, &record.shards)?, replication }))
}

/// The next step from the record to `target`, while the `silent` nodes do not answer; `None` when there is none to take
/// now.
#[must_use]
pub fn next(
    record: &ClusterState,
    target: &Plan,
    observed: &BTreeMap<ShardId, Observed>,
    silent: &BTreeSet<NodeId>,
    caps: Caps,
) -> Option<Plan> {
    if record.moves_paused {
        return None;
    }
    let mut busy = Busy::of(record, observed, silent);
    let mut shards = record.shards.clone();
    for (shard, wanted) in shards.iter_mut().zip(&target.shards) {
        if shard.replicas == wanted.replicas {
            continue;
        }
        let touched = difference(&set(&shard.replicas), &set(&wanted.replicas));
        // Another preferred leader moves no data.
        if !touched.is_empty() {
            let seen = observed.get(&shard.shard);
            let moves_already = in_flight(shard, seen);
            let comes = wanted.replicas.iter().filter(|node| !shard.replicas.contains(node));
            if (moves_already && !is_stranded(record, shard, seen))
                || is_held(record, shard)
                || comes.into_iter().any(|node| silent.contains(node))
            {
                continue;
            }
            // One that is under way has its place among those that are.
            if !moves_already && !busy.takes(&touched, caps) {
                continue;
            }
            if !moves_already {
                busy.add(&touched);
            }
            shard.held = false;
        }
        shard.replicas.clone_from(&wanted.replicas);
    }
    let plan = Plan { shards, replication: target.replication };
    (plan.shards != record.shards || plan.replication != record.replication).then_some(plan)
}

/// Whether a shard stays where it is as its move was cancelled, and no node goes that it is on.
#[must_use]
pub fn is_held(record: &ClusterState, placed: &ShardPlacement) -> bool {
    placed.held && placed.replicas.iter().all(|id| !goes(record, *id))
}

/// Whether all is where it should be but for moves that were cancelled.
#[must_use]
pub fn is_reached(record: &ClusterState, target: &Plan) -> bool {
    let there = |(placed, wanted): (&ShardPlacement, &ShardPlacement)| {
        placed.replicas == wanted.replicas
            || (is_held(record, placed) && set(&placed.replicas) != set(&wanted.replicas))
    };
    record.replication == target.replication && record.shards.iter().zip(&target.shards).all(there)
}

/// Whether a shard's group is not, or not known to be, what the record says.
#[must_use]
pub fn in_flight(placed: &ShardPlacement, observed: Option<&Observed>) -> bool {
    observed.is_none_or(|seen| seen.joint || !seen.learners.is_empty() || seen.voters != set(&placed.replicas))
}

/// How far a cluster is from where it should be.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Progress {
    /// Shards whose group is not, or not known to be, what the record says.
    pub in_flight: usize,
    /// Replicas that should be where none is yet.
    pub to_move: usize,
}

/// How far a cluster is from `target`.
#[must_use]
pub fn progress(record: &ClusterState, target: &Plan, observed: &BTreeMap<ShardId, Observed>) -> Progress {
    let missing = |(placed, wanted): (&ShardPlacement, &ShardPlacement)| {
        let there = observed.get(&placed.shard).map_or_else(|| set(&placed.replicas), |seen| seen.voters.clone());
        wanted.replicas.iter().filter(|node| !there.contains(node)).count()
    };
    Progress {
        in_flight: record.shards.iter().filter(|placed| in_flight(placed, observed.get(&placed.shard))).count(),
        to_move: record.shards.iter().zip(&target.shards).map(missing).sum(),
    }
}

/// The shards whose replicas stand in fewer zones than they could, as many as there are active nodes in distinct ones.
#[must_use]
pub fn not_spread(record: &ClusterState) -> Vec<ShardId> {
    let zone = |id: &NodeId| record.node(*id).map(|node| node.zone.as_str());
    let active = record.nodes.iter().filter(|node| node.state == NodeState::Active);
    let zones: BTreeSet<&str> = active.map(|node| node.zone.as_str()).collect();
    let crowded = |placed: &&ShardPlacement| {
        let stands: BTreeSet<&str> = placed.replicas.iter().filter_map(zone).collect();
        stands.len() < zones.len().min(placed.replicas.len())
    };
    record.shards.iter().filter(crowded).map(|placed| placed.shard).collect()
}

/// Whether a shard is on its way to a node that is to go itself, or went: it may never arrive.
fn is_stranded(record: &ClusterState, placed: &ShardPlacement, observed: Option<&Observed>) -> bool {
    let Some(seen) = observed.filter(|seen| !seen.joint) else { return false };
    placed.replicas.iter().any(|id| goes(record, *id) && !seen.voters.contains(id))
}

/// Whether a node takes no replicas any more.
fn goes(record: &ClusterState, id: NodeId) -> bool {
    record.node(id).is_none_or(|node| node.state != NodeState::Active)
}

fn set(nodes: &[NodeId]) -> BTreeSet<NodeId> {
    nodes.iter().copied().collect()
}

fn difference(one: &BTreeSet<NodeId>, other: &BTreeSet<NodeId>) -> BTreeSet<NodeId> {
    one.symmetric_difference(other).copied().collect()
}

/// Who is at work.
struct Busy {
    shards: usize,
    nodes: BTreeMap<NodeId, usize>,
}

impl Busy {
    fn of(record: &ClusterState, observed: &BTreeMap<ShardId, Observed>, silent: &BTreeSet<NodeId>) -> Self {
        let mut busy = Self { shards: 0, nodes: BTreeMap::new() };
        for placed in &record.shards {
            let seen = observed.get(&placed.shard);
            // It may wait for ever, and nothing is copied meanwhile.
            let waits = |seen: &Observed| {
                !seen.joint && placed.replicas.iter().any(|id| silent.contains(id) && !seen.voters.contains(id))
            };
            if in_flight(placed, seen) && !seen.is_some_and(waits) {
                let wanted = set(&placed.replicas);
                // Of one that can't be asked any replica may be on its way.
                busy.add(&seen.map_or_else(|| wanted.clone(), |seen| difference(&seen.voters, &wanted)));
            }
        }
        busy
    }

    fn takes(&self, nodes: &BTreeSet<NodeId>, caps: Caps) -> bool {
        let room = |node: &NodeId| self.nodes.get(node).copied().unwrap_or(0) < caps.per_node;
        self.shards < caps.total && nodes.iter().all(room)
    }

    fn add(&mut self, nodes: &BTreeSet<NodeId>) {
        self.shards += 1;
        for node in nodes {
            *self.nodes.entry(*node).or_default() += 1;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::ClusterId;
    use messenger_proto::meta::NodeInfo;
    use proptest::prelude::*;

    const CAPS: Caps = Caps { total: 4, per_node: 2 };

    fn node(id: u64, zone: u64, state: NodeState) -> NodeInfo {
        NodeInfo {
            id: NodeId(id),
            zone: format!("zone-{zone}"),
            client_addr: String::new(),
            peer_addr: String::new(),
            admin_addr: String::new(),
            state,
            store: None,
        }
    }

    /// A cluster as its bootstrap left it.
    fn cluster(nodes: u64, shards: u32, wished: u32) -> ClusterState {
        let mut record = ClusterState {
            cluster: ClusterId([0; 16]),
            epoch: 1,
            secret: bytes::Bytes::new(),
            nodes: (1..=nodes).map(|id| node(id, id % 3, NodeState::Active)).collect(),
            shards: vec![],
            replication: 1,
            wished,
            moves_paused: false,
        };
        record.replication = replication(&record);
        record.shards = place(&record.nodes, shards, record.replication, &[]).unwrap();
        record
    }

    /// A group that is what the record says.
    fn seen(placed: &ShardPlacement) -> Observed {
        Observed { voters: set(&placed.replicas), learners: BTreeSet::new(), joint: false }
    }

    fn settled(record: &ClusterState) -> BTreeMap<ShardId, Observed> {
        let of = |placed: &ShardPlacement| (placed.shard, seen(placed));
        record.shards.iter().map(of).collect()
    }

    fn apply(record: &mut ClusterState, plan: Plan) {
        (record.shards, record.replication) = (plan.shards, plan.replication);
    }

    fn step(record: &ClusterState, observed: &BTreeMap<ShardId, Observed>, caps: Caps) -> Option<Plan> {
        next(record, &target(record).unwrap()?, observed, &BTreeSet::new(), caps)
    }

    #[test]
    fn replicas_are_as_many_as_wished_and_possible_and_odd() {
        for (nodes, wished, expected) in [(1, 3, 1), (2, 3, 1), (3, 3, 3), (4, 5, 3), (5, 5, 5), (5, 1, 1), (4, 0, 1)] {
            let mut record = cluster(nodes, 1, wished);
            if wished == 0 {
                // A record from before there were wishes.
                record.replication = 1;
            }
            assert_eq!(replication(&record), expected, "{nodes} nodes, {wished} wished");
        }
        let mut drained = cluster(1, 1, 1);
        drained.nodes[0].state = NodeState::Draining;
        assert_eq!(target(&drained), Ok(None));
    }

    #[test]
    fn a_shard_that_is_on_its_way_or_silent_stays_as_it_is() {
        let mut record = cluster(1, 2, 3);
        record.nodes = (1..=3).map(|id| node(id, id, NodeState::Active)).collect();
        let mut observed = settled(&record);
        observed.remove(&ShardId(0));
        let whole = target(&record).unwrap().unwrap();
        assert_eq!(progress(&record, &whole, &observed), Progress { in_flight: 1, to_move: 4 });
        let plan = step(&record, &observed, Caps { total: 9, per_node: 9 }).unwrap();
        assert_eq!((plan.shards[0].replicas.len(), plan.shards[1].replicas.len(), plan.replication), (1, 3, 3));
        observed.insert(ShardId(0), Observed { joint: true, ..seen(&record.shards[0]) });
        assert_eq!(step(&record, &observed, Caps { total: 9, per_node: 9 }), Some(plan));
        assert_eq!(step(&record, &observed, Caps { total: 1, per_node: 9 }).unwrap().shards, record.shards);
    }

    #[test]
    fn nothing_begins_to_move_while_moves_are_paused() {
        let mut record = cluster(1, 2, 3);
        record.nodes = (1..=3).map(|id| node(id, id, NodeState::Active)).collect();
        record.moves_paused = true;
        assert_eq!(step(&record, &settled(&record), CAPS), None);
        record.moves_paused = false;
        assert!(step(&record, &settled(&record), CAPS).is_some());
    }

    #[test]
    fn a_shard_does_not_wait_for_a_node_that_goes() {
        let mut record = cluster(3, 1, 3);
        let observed = settled(&record);
        record.nodes.push(node(4, 4, NodeState::Active));
        record.nodes.push(node(5, 5, NodeState::Active));
        record.shards[0].replicas = vec![NodeId(1), NodeId(2), NodeId(4)];
        assert_eq!(target(&record).unwrap().unwrap().shards[0].replicas.len(), 3);
        let goes_on = |record: &ClusterState, observed: &BTreeMap<ShardId, Observed>| {
            let plan = step(record, observed, CAPS);
            plan.is_none_or(|plan| set(&plan.shards[0].replicas) == set(&record.shards[0].replicas))
        };
        assert!(goes_on(&record, &observed), "the fourth is on its way in");
        record.nodes[3].state = NodeState::Draining;
        let plan = step(&record, &observed, CAPS).unwrap();
        assert!(!plan.shards[0].replicas.contains(&NodeId(4)));
        let between = Observed { joint: true, ..observed[&ShardId(0)].clone() };
        assert!(goes_on(&record, &[(ShardId(0), between)].into()));
    }

    #[test]
    fn shards_that_share_a_zone_without_need_are_named() {
        let mut record = cluster(4, 1, 3);
        record.shards[0].replicas = vec![NodeId(1), NodeId(2), NodeId(3)];
        let stand = |record: &mut ClusterState, zones: [&str; 4]| {
            record.nodes.iter_mut().zip(zones).for_each(|(node, zone)| node.zone = zone.into());
            not_spread(record)
        };
        assert_eq!(stand(&mut record, ["a", "b", "c", "d"]), []);
        assert_eq!(stand(&mut record, ["a", "a", "b", "c"]), [ShardId(0)]);
        assert_eq!(stand(&mut record, ["a", "a", "b", "b"]), [], "there are two zones only");
        assert_eq!(stand(&mut record, ["a", "a", "a", "b"]), [ShardId(0)]);
        record.nodes[3].state = NodeState::Draining;
        assert_eq!(not_spread(&record), []);
    }

    #[test]
    fn a_node_that_does_not_answer_holds_up_nothing_else_and_is_given_nothing_more() {
        let mut record = cluster(1, 4, 1);
        record.nodes = (1..=3).map(|id| node(id, id, NodeState::Active)).collect();
        let one = Caps { total: 1, per_node: 1 };
        let whole = target(&record).unwrap().unwrap();
        let moved: Vec<NodeId> =
            whole.shards.iter().flat_map(|placed| &placed.replicas).filter(|id| **id != NodeId(1)).copied().collect();
        let dead = BTreeSet::from([moved[0]]);
        let step = |record: &ClusterState, silent| next(record, &whole, &settled(record), silent, one);
        assert!(step(&record, &dead).is_none_or(|plan| {
            !plan.shards.iter().any(|placed| placed.replicas.iter().any(|id| dead.contains(id)))
        }));
        // One was on its way there when it died: with room for one move only, others move all the same.
        let observed = settled(&record);
        let first = whole.shards.iter().position(|placed| placed.replicas.contains(&moved[0])).unwrap();
        record.shards[first].replicas = vec![moved[0]];
        assert_eq!(next(&record, &whole, &observed, &BTreeSet::new(), one), None);
        assert!(next(&record, &whole, &observed, &dead, one).is_some());
    }

    #[test]
    fn a_cancelled_move_begins_again_when_it_is_wished_or_a_node_goes() {
        let mut record = cluster(3, 1, 1);
        let there = record.shards[0].replicas[0];
        let elsewhere = record.nodes.iter().map(|node| node.id).find(|id| *id != there).unwrap();
        let mut wanted = target(&record).unwrap().unwrap();
        wanted.shards[0].replicas = vec![elsewhere];
        record.shards[0].held = true;
        let next = |record: &ClusterState| next(record, &wanted, &settled(record), &BTreeSet::new(), CAPS);
        assert!(next(&record).is_none() && is_reached(&record, &wanted));
        record.shards[0].held = false;
        assert!(next(&record).is_some() && !is_reached(&record, &wanted));
        record.shards[0].held = true;
        record.nodes.iter_mut().find(|node| node.id == there).unwrap().state = NodeState::Absent;
        assert!(next(&record).is_some() && !is_reached(&record, &wanted));
    }

    #[derive(Debug, Clone)]
    enum Happens {
        /// A node comes.
        Comes(u64),
        /// A node is told to go.
        Drains(usize),
        /// The nth group that is on its way becomes what the record says.
        Arrives(usize),
        /// The planner looks, with the nth shard silent.
        Looks(usize),
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            1 => (0_u64..3).prop_map(Happens::Comes),
            1 => (0_usize..9).prop_map(Happens::Drains),
            6 => (0_usize..64).prop_map(Happens::Arrives),
            6 => (0_usize..64).prop_map(Happens::Looks),
        ]
    }

    /// Looks, checks what a look must keep, and takes the step.
    fn look(record: &mut ClusterState, observed: &BTreeMap<ShardId, Observed>) -> bool {
        let Some(plan) = step(record, observed, CAPS) else { return false };
        for (old, new) in record.shards.iter().zip(&plan.shards) {
            let moves = set(&old.replicas) != set(&new.replicas);
            let seen = observed.get(&old.shard);
            assert!(!moves || !in_flight(old, seen) || is_stranded(record, old, seen), "two moves of {}", old.shard);
            assert!(new.replicas.len() >= old.replicas.len().min(plan.replication as usize));
            assert_eq!(old.first_members, new.first_members);
        }
        let before = Busy::of(record, observed, &BTreeSet::new());
        let begun =
            record.shards.iter().zip(&plan.shards).filter(|(old, new)| {
                set(&old.replicas) != set(&new.replicas) && !in_flight(old, observed.get(&old.shard))
            });
        let mut after = Busy { shards: before.shards, nodes: before.nodes.clone() };
        begun.for_each(|(old, new)| after.add(&difference(&set(&old.replicas), &set(&new.replicas))));
        assert!(after.shards <= CAPS.total.max(before.shards));
        for (node, count) in &after.nodes {
            assert!(*count <= CAPS.per_node.max(before.nodes.get(node).copied().unwrap_or(0)));
        }
        apply(record, plan);
        true
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        /// Whatever comes in between, no step breaks a bound, and once nothing comes any more all ends, where it should,
        /// after no more looks than there are shards to move.
        #[test]
        fn every_way_keeps_the_bounds_and_ends(
            nodes in 1_u64..6, shards in 1_u32..24, wished in 0_u32..3, events in prop::collection::vec(happens(), 0..60),
        ) {
            let mut record = cluster(nodes, shards, wished * 2 + 1);
            let mut observed = settled(&record);
            for event in events {
                match event {
                    Happens::Comes(zone) if record.nodes.len() < 9 => {
                        let id = record.nodes.len() as u64 + 1;
                        record.nodes.push(node(id, zone, NodeState::Active));
                    }
                    Happens::Comes(_) => {}
                    Happens::Drains(nth) => {
                        let active = record.nodes.iter().filter(|node| node.state == NodeState::Active).count();
                        let length = record.nodes.len();
                        if active > 1 {
                            record.nodes[nth % length].state = NodeState::Draining;
                        }
                    }
                    Happens::Arrives(nth) => {
                        let shard = &record.shards[nth % record.shards.len()];
                        observed.insert(shard.shard, seen(shard));
                    }
                    Happens::Looks(nth) => {
                        let mut heard = observed.clone();
                        heard.remove(&ShardId(nth as u32));
                        look(&mut record, &heard);
                    }
                }
            }
            let mut looks = 0;
            loop {
                observed = settled(&record);
                if !look(&mut record, &observed) {
                    break;
                }
                looks += 1;
                prop_assert!(looks <= 2 * shards as usize + 2, "it does not end");
            }
            let target = target(&record).unwrap().unwrap();
            prop_assert_eq!(&target.shards, &record.shards);
            prop_assert_eq!(target.replication, record.replication);
            let draining = |id: &NodeId| record.node(*id).is_none_or(|node| node.state != NodeState::Active);
            prop_assert!(!record.shards.iter().any(|placed| placed.replicas.iter().any(draining)));
            prop_assert_eq!(step(&record, &settled(&record), CAPS), None, "again changes nothing");
        }
    }
}
