//! Which replica of a shard should lead it, and how to get there.
//!
//! Owns: the choice of preferred leaders, and the next few transfers towards them.
//! Must not know: how leadership is handed over, or which nodes are up.
//! Invariants: a preferred leader is a replica; each node is preferred by at most ceil(mean) shards; as few preferences
//! change as possible.

use super::Scene;
use super::flow::{Cost, EdgeId, Flow};
use super::replicas::connect_sink;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::ShardPlacement;
use std::cmp::Reverse;
use std::collections::BTreeMap;

/// The preferred leader of each shard, as an index of a node.
///
/// There always is one within the bound: replicas are at most ceil(shards * replication / nodes) to a node, so any set
/// of shards finds nodes enough (Hall's condition).
pub(super) fn assign(scene: &Scene<'_>, replicas: &[Vec<usize>]) -> Option<Vec<usize>> {
    let (shards, nodes) = (replicas.len(), scene.nodes.len());
    let sink = shards + nodes;
    let mut flow = Flow::new(sink + 1);
    let mut edges: Vec<Vec<(usize, EdgeId)>> = Vec::with_capacity(shards);
    for (shard, members) in replicas.iter().enumerate() {
        let to_node = |(rank, &node): (i64, &usize)| {
            let moves = i64::from(!scene.led(shard, node));
            (node, flow.edge(shard, shards + node, 1, Cost { moves, rank, ..Cost::default() }))
        };
        edges.push((0..).zip(members).map(to_node).collect());
    }
    connect_sink(&mut flow, nodes, shards, |node| shards + node, sink);
    for shard in 0..shards {
        if !flow.push(shard, sink) {
            return None;
        }
    }
    let chosen = |edges: &Vec<(usize, EdgeId)>| edges.iter().find(|(_, edge)| flow.carried(*edge) > 0).map(|&(n, _)| n);
    edges.iter().map(chosen).collect()
}

/// A leadership transfer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LeaderMove {
    /// The shard.
    pub shard: ShardId,
    /// Who leads it.
    pub from: NodeId,
    /// Who should.
    pub to: NodeId,
}

/// At most `limit` transfers that bring leaders to where the placement prefers them, for shards whose leader is known.
///
/// The least loaded target and the most loaded source come first, so that nobody is taken above ceil(mean) while another
/// order is possible; where two full nodes wait for each other's shards, one of them leads one shard more for a while.
/// A caller that knows a node to be down leaves out the shards that prefer it.
#[must_use]
pub fn leader_moves(
    current: &BTreeMap<ShardId, NodeId>,
    placement: &[ShardPlacement],
    limit: usize,
) -> Vec<LeaderMove> {
    let mut load: BTreeMap<NodeId, usize> = BTreeMap::new();
    for &leader in current.values() {
        *load.entry(leader).or_default() += 1;
    }
    let wanted = |placement: &ShardPlacement| {
        let (&from, &to) = (current.get(&placement.shard)?, placement.replicas.first()?);
        (from != to).then_some(LeaderMove { shard: placement.shard, from, to })
    };
    let mut pending: Vec<LeaderMove> = placement.iter().filter_map(wanted).collect();
    let mut moves = Vec::new();
    while moves.len() < limit {
        let of = |node: NodeId, load: &BTreeMap<NodeId, usize>| load.get(&node).copied().unwrap_or(0);
        let urgency = |m: &LeaderMove| (of(m.to, &load), Reverse(of(m.from, &load)), m.shard);
        let next = pending.iter().enumerate().min_by_key(|(_, m)| urgency(m)).map(|(index, _)| index);
        let Some(next) = next.map(|index| pending.swap_remove(index)) else { break };
        *load.entry(next.to).or_default() += 1;
        *load.entry(next.from).or_default() -= 1;
        moves.push(next);
    }
    moves
}
