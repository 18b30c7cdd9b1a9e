//! Which nodes a shard should live on, and who should lead it.
//!
//! Owns: the rule. Every active node holds at most ceil(mean) replicas and ceil(mean) preferred leaders; the replicas of
//! a shard stand in distinct zones as far as that bound allows; then as little as possible moves; then the ring's
//! preference decides.
//! Must not know: the meta group that keeps the result, or how replicas are moved.
//! Invariants: pure and deterministic, whatever the order of the input; a placement in force that meets the bounds is
//! given back unchanged.

mod flow;
mod leaders;
pub mod plan;
pub mod prefer;
mod replicas;

use crate::ring::Ring;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::{NodeInfo, NodeState, ShardPlacement};
use messenger_proto::slot::SLOT_COUNT;
use std::collections::BTreeMap;

/// Why there is no placement.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PlacementError {
    /// The number of replicas must be odd.
    #[error("replication {0} is not odd")]
    EvenReplication(u32),
    /// There are fewer active nodes than replicas to place.
    #[error("{active} active nodes cannot hold {replication} replicas of a shard")]
    TooFewNodes {
        /// Nodes that take replicas.
        active: usize,
        /// Replicas per shard.
        replication: u32,
    },
    /// The number of shards is outside `1..=16384`.
    #[error("{0} shards; there can be 1 to 16384")]
    ShardCount(u32),
    /// A node is listed twice.
    #[error("node {0} is listed twice")]
    DuplicateNode(NodeId),
    /// The previous placement names a shard twice, or one that does not exist.
    #[error("the previous placement of shard {0} does not fit")]
    PreviousShard(ShardId),
}

/// The nodes that take replicas, in order of id, and what was placed before.
struct Scene<'a> {
    nodes: Vec<&'a NodeInfo>,
    /// The ring's order for each shard, as indices into `nodes`.
    preference: Vec<Vec<usize>>,
    /// Where each shard was; empty for a new one.
    previous: Vec<Option<&'a ShardPlacement>>,
    replication: u32,
}

impl Scene<'_> {
    /// Whether a node held a replica before.
    fn held(&self, shard: usize, node: usize) -> bool {
        self.previous[shard].is_some_and(|placement| placement.replicas.contains(&self.nodes[node].id))
    }

    /// Whether a node was the preferred leader before.
    fn led(&self, shard: usize, node: usize) -> bool {
        self.previous[shard].is_some_and(|placement| placement.replicas.first() == Some(&self.nodes[node].id))
    }
}

/// Places `shards` shards with `replication` replicas each on the active nodes.
///
/// Keeps the first members of shards that exist; those of a new shard are its replicas.
///
/// # Errors
/// [`PlacementError`] when the numbers leave no placement, or the input contradicts itself.
pub fn place(
    nodes: &[NodeInfo],
    shards: u32,
    replication: u32,
    previous: &[ShardPlacement],
) -> Result<Vec<ShardPlacement>, PlacementError> {
    let scene = survey(nodes, shards, replication, previous)?;
    let too_few = PlacementError::TooFewNodes { active: scene.nodes.len(), replication };
    let replicas = replicas::assign(&scene).ok_or_else(|| too_few.clone())?;
    let leaders = leaders::assign(&scene, &replicas).ok_or(too_few)?;
    let placed = replicas.into_iter().zip(leaders).enumerate().map(|(index, (mut replicas, leader))| {
        replicas.sort_by_key(|&node| node != leader);
        let replicas: Vec<NodeId> = replicas.into_iter().map(|node| scene.nodes[node].id).collect();
        let first_members = scene.previous[index].map(|placement| placement.first_members.clone());
        let first_members = first_members.filter(|members| !members.is_empty()).unwrap_or_else(|| replicas.clone());
        // `shards` counts them in a u32.
        let moved = scene.previous[index].is_some_and(|placement| placement.moved);
        let held = scene.previous[index].is_some_and(|placement| placement.held);
        ShardPlacement { shard: ShardId(index as u32), replicas, first_members, moved, held }
    });
    Ok(placed.collect())
}

fn survey<'a>(
    nodes: &'a [NodeInfo],
    shards: u32,
    replication: u32,
    previous: &'a [ShardPlacement],
) -> Result<Scene<'a>, PlacementError> {
    if replication.is_multiple_of(2) {
        return Err(PlacementError::EvenReplication(replication));
    }
    if !(1..=u32::from(SLOT_COUNT)).contains(&shards) {
        return Err(PlacementError::ShardCount(shards));
    }
    let mut by_id = BTreeMap::new();
    for node in nodes {
        if by_id.insert(node.id, node).is_some() {
            return Err(PlacementError::DuplicateNode(node.id));
        }
    }
    let nodes: Vec<&NodeInfo> = by_id.into_values().filter(|node| node.state == NodeState::Active).collect();
    if nodes.len() < replication as usize {
        return Err(PlacementError::TooFewNodes { active: nodes.len(), replication });
    }
    let mut existing = vec![None; shards as usize];
    for placement in previous {
        match existing.get_mut(placement.shard.0 as usize) {
            Some(place @ None) => *place = Some(placement),
            _ => return Err(PlacementError::PreviousShard(placement.shard)),
        }
    }
    let ids: Vec<NodeId> = nodes.iter().map(|node| node.id).collect();
    let ring = Ring::new(&ids);
    let order = |shard| ring.preference(ShardId(shard)).iter().filter_map(|id| ids.binary_search(id).ok()).collect();
    let preference = (0..shards).map(order).collect();
    Ok(Scene { nodes, preference, previous: existing, replication })
}

#[cfg(test)]
mod tests;
