//! Which nodes hold a shard's replicas.
//!
//! Owns: the rule as a flow: shard → zone → node, where a second replica in a zone, a unit beyond a node's floor(mean),
//! a move and a place down the preference order each cost, in this order of weight.
//! Must not know: leaders.
//! Invariants: each shard gets `replication` distinct nodes, each node at most ceil(mean) replicas; no more moves than
//! must be and one per node. What spreading over zones would take beyond that is left to the next time.

use super::Scene;
use super::flow::{Cost, EdgeId, Flow};
use std::collections::BTreeSet;

/// The replicas of each shard, as indices of nodes in preference order; `None` when there are too few nodes.
pub(super) fn assign(scene: &Scene<'_>) -> Option<Vec<Vec<usize>>> {
    let shards = scene.previous.len();
    let budget = fewest_moves(scene) + scene.nodes.len();
    let all = solve(scene, shards)?;
    if moves(scene, &all) <= budget {
        return Some(all);
    }
    // Bisect for the number of shards whose collisions the budget suffices to mend.
    let (mut best, mut within, mut beyond) = (solve(scene, 0)?, 0, shards);
    while within + 1 < beyond {
        let middle = usize::midpoint(within, beyond);
        let attempt = solve(scene, middle)?;
        if moves(scene, &attempt) <= budget {
            (best, within) = (attempt, middle);
        } else {
            beyond = middle;
        }
    }
    Some(best)
}

/// What must move however it is done: replicas that are not there, and those above a node's bound.
fn fewest_moves(scene: &Scene<'_>) -> usize {
    let units = scene.previous.len() * scene.replication as usize;
    let bound = units.div_ceil(scene.nodes.len());
    let load = |node: usize| (0..scene.previous.len()).filter(|&shard| scene.held(shard, node)).count();
    let kept: usize = (0..scene.nodes.len()).map(|node| load(node).min(bound)).sum();
    units.saturating_sub(kept)
}

fn moves(scene: &Scene<'_>, replicas: &[Vec<usize>]) -> usize {
    let of_shard =
        |(shard, nodes): (usize, &Vec<usize>)| nodes.iter().filter(|&&node| !scene.held(shard, node)).count();
    replicas.iter().enumerate().map(of_shard).sum()
}

/// The cheapest assignment, in which collisions of the first `mended` shards outweigh moves, and those of the others
/// don't.
fn solve(scene: &Scene<'_>, mended: usize) -> Option<Vec<Vec<usize>>> {
    let names: BTreeSet<&str> = scene.nodes.iter().map(|node| node.zone.as_str()).collect();
    let names: Vec<&str> = names.into_iter().collect();
    let zone_of = |node: &&super::NodeInfo| names.binary_search(&node.zone.as_str()).ok();
    let zones: Vec<usize> = scene.nodes.iter().filter_map(zone_of).collect();
    let (shards, nodes) = (scene.previous.len(), scene.nodes.len());
    let zone_vertex = |shard: usize, zone: usize| shards + shard * names.len() + zone;
    let node_vertex = |node: usize| shards + shards * names.len() + node;
    let sink = node_vertex(nodes);

    let mut flow = Flow::new(sink + 1);
    let mut edges: Vec<Vec<(usize, EdgeId)>> = Vec::with_capacity(shards);
    for shard in 0..shards {
        for zone in 0..names.len() {
            for nth in 0..i64::from(scene.replication) {
                let collisions = Cost { collisions: nth, ..Cost::default() };
                let idle = Cost { idle_collisions: nth, ..Cost::default() };
                flow.edge(shard, zone_vertex(shard, zone), 1, if shard < mended { collisions } else { idle });
            }
        }
        let to_node = |(rank, &node): (i64, &usize)| {
            let held = scene.held(shard, node);
            // Of the replicas that exist, the preferred leader's is the last to go.
            let rank = if held { i64::from(!scene.led(shard, node)) } else { rank };
            let cost = Cost { moves: i64::from(!held), rank, ..Cost::default() };
            (node, flow.edge(zone_vertex(shard, zones[node]), node_vertex(node), 1, cost))
        };
        edges.push((0..).zip(&scene.preference[shard]).map(to_node).collect());
    }
    connect_sink(&mut flow, nodes, shards * scene.replication as usize, node_vertex, sink);
    for shard in 0..shards {
        for _ in 0..scene.replication {
            if !flow.push(shard, sink) {
                return None;
            }
        }
    }
    let chosen = |edges: Vec<(usize, EdgeId)>| {
        edges.into_iter().filter(|&(_, edge)| flow.carried(edge) > 0).map(|(node, _)| node).collect()
    };
    Some(edges.into_iter().map(chosen).collect())
}

/// Lets each node take floor(mean) units for nothing and one more, where the mean is no integer, at a price.
pub(super) fn connect_sink(flow: &mut Flow, nodes: usize, units: usize, vertex: impl Fn(usize) -> usize, sink: usize) {
    // At most 16384 shards times the replication.
    let (floor, ceil) = ((units / nodes) as u32, units.div_ceil(nodes) as u32);
    for node in 0..nodes {
        flow.edge(vertex(node), sink, floor, Cost::default());
        flow.edge(vertex(node), sink, ceil - floor, Cost { above_floor: 1, ..Cost::default() });
    }
}
