//! Another leader for a shard, by an operator's wish.
//!
//! Owns: the change of the record by which a replica becomes the preferred leader of its shard, and stays so.
//! Must not know: how leadership is handed over.
//! Invariants: pure and deterministic; no replica moves; the plan that is made of the new record keeps the wish, so that no
//! node prefers to lead more than its share.

use super::plan;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::{ClusterState, NodeState, ShardPlacement};

/// Shards that are tried in exchange.
const PARTNERS_MAX: usize = 16;

/// Why a shard can't be led by a node.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum PreferError {
    /// There is no such shard.
    #[error("there is no shard {0}")]
    NoShard(ShardId),
    /// The node has no replica of it.
    #[error("node {node} has no replica of shard {shard}; nodes {} do", some(replicas))]
    NoReplica {
        /// The shard.
        shard: ShardId,
        /// The node.
        node: NodeId,
        /// Those that have one.
        replicas: Vec<NodeId>,
    },
    /// The node is on its way out, or gone.
    #[error("node {0} is not active, so its replicas and leaders move away")]
    NotActive(NodeId),
    /// The node leads its share, and none of its shards can be led by the other one instead.
    #[error("node {0} leads its share already, and none of its shards has a replica to lead it instead")]
    Full(NodeId),
}

fn some(nodes: &[NodeId]) -> String {
    nodes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
}

/// Puts a replica of a shard first.
fn lead(placed: &mut ShardPlacement, node: NodeId) {
    placed.replicas.sort_by_key(|id| *id != node);
}

/// The shards of a record in which `node` is preferred to lead `shard`; for it, another shard of that node may be led by
/// who led this one.
///
/// # Errors
/// [`PreferError`].
pub fn prefer(record: &ClusterState, shard: ShardId, node: NodeId) -> Result<Vec<ShardPlacement>, PreferError> {
    let placed = record.shards.iter().find(|placed| placed.shard == shard).ok_or(PreferError::NoShard(shard))?;
    if !placed.replicas.contains(&node) {
        return Err(PreferError::NoReplica { shard, node, replicas: placed.replicas.clone() });
    }
    if record.node(node).is_none_or(|node| node.state != NodeState::Active) {
        return Err(PreferError::NotActive(node));
    }
    let Some(before) = placed.replicas.first().copied().filter(|first| *first != node) else {
        return Ok(record.shards.clone());
    };
    let swaps = record.shards.iter().filter(|other| {
        other.shard != shard && other.replicas.first() == Some(&node) && other.replicas.contains(&before)
    });
    let alone = std::iter::once(None);
    for partner in alone.chain(swaps.take(PARTNERS_MAX).map(|other| Some(other.shard))) {
        let mut shards = record.shards.clone();
        for listed in &mut shards {
            if listed.shard == shard {
                lead(listed, node);
            } else if Some(listed.shard) == partner {
                lead(listed, before);
            }
        }
        if keeps(&ClusterState { shards: shards.clone(), ..record.clone() }, shard, node) {
            return Ok(shards);
        }
    }
    Err(PreferError::Full(node))
}

/// Whether what is planned from a record on leaves a shard's leader as it is.
fn keeps(record: &ClusterState, shard: ShardId, node: NodeId) -> bool {
    let target = plan::target(record).ok().flatten();
    let planned = target.and_then(|target| target.shards.into_iter().find(|placed| placed.shard == shard));
    planned.is_none_or(|planned| planned.replicas.first() == Some(&node))
}

#[cfg(test)]
mod tests {
    use super::super::place;
    use super::*;
    use messenger_proto::ids::ClusterId;
    use messenger_proto::meta::NodeInfo;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn cluster(nodes: u64, shards: u32, replication: u32) -> ClusterState {
        let node = |id| NodeInfo {
            id: NodeId(id),
            zone: String::new(),
            client_addr: String::new(),
            peer_addr: String::new(),
            admin_addr: String::new(),
            state: NodeState::Active,
            store: None,
        };
        let nodes: Vec<NodeInfo> = (1..=nodes).map(node).collect();
        ClusterState {
            cluster: ClusterId([0; 16]),
            epoch: 1,
            secret: bytes::Bytes::new(),
            shards: place(&nodes, shards, replication, &[]).unwrap(),
            nodes,
            replication,
            wished: replication,
            moves_paused: false,
        }
    }

    fn set(placed: &ShardPlacement) -> BTreeSet<NodeId> {
        placed.replicas.iter().copied().collect()
    }

    #[test]
    fn what_can_not_be_is_refused_in_words() {
        let mut record = cluster(4, 8, 3);
        assert_eq!(prefer(&record, ShardId(9), NodeId(1)), Err(PreferError::NoShard(ShardId(9))));
        let strange = record.nodes.iter().map(|node| node.id).find(|id| !set(&record.shards[0]).contains(id)).unwrap();
        let error = prefer(&record, ShardId(0), strange).unwrap_err();
        assert!(error.to_string().contains("has no replica of shard 0; nodes "), "{error}");
        let second = record.shards[0].replicas[1];
        record.nodes.iter_mut().find(|node| node.id == second).unwrap().state = NodeState::Draining;
        assert_eq!(prefer(&record, ShardId(0), second), Err(PreferError::NotActive(second)));
        let alone = cluster(1, 2, 1);
        assert_eq!(prefer(&alone, ShardId(0), NodeId(1)), Ok(alone.shards.clone()));
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
        #[test]
        fn a_wish_is_kept_by_the_plan_and_moves_nothing(
            nodes in 3_u64..7, shards in 1_u32..24, shard in 0_usize..24, replica in 0_usize..3,
        ) {
            let record = cluster(nodes, shards, 3);
            let placed = &record.shards[shard % shards as usize];
            let (shard, node) = (placed.shard, placed.replicas[replica]);
            // With few shards there may be none to exchange.
            if let Ok(wished) = prefer(&record, shard, node) {
                prop_assert!(record.shards.iter().zip(&wished).all(|(old, new)| set(old) == set(new)));
                prop_assert_eq!(wished[shard.0 as usize].replicas[0], node);
                let after = ClusterState { shards: wished, ..record };
                let target = plan::target(&after).unwrap().unwrap();
                prop_assert_eq!(target.shards[shard.0 as usize].replicas[0], node);
                prop_assert!(after.shards.iter().zip(&target.shards).all(|(old, new)| set(old) == set(new)));
            }
        }
    }
}
