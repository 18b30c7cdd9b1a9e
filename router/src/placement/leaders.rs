//! Which replica of a shard should lead it.
//!
//! Owns: the choice of preferred leaders.
//! Must not know: how leadership is handed over, or which nodes are up.
//! Invariants: a preferred leader is a replica; each node is preferred by at most ceil(mean) shards; as few preferences
//! change as possible.

use super::Scene;
use super::flow::{Cost, EdgeId, Flow};
use super::replicas::connect_sink;

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
