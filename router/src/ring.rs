//! The preference order of nodes for a shard.
//!
//! Owns: a consistent-hash ring with [`VIRTUAL_NODES`] points per node, and the walk around it.
//! Must not know: load, zones, what exists already; see [`crate::placement`].
//! Invariants: pure; the order depends on the node ids and the shard alone, not on the order of input or the platform,
//! and is pinned by a golden test; a node that joins or leaves does not change the order of the others.

use hashring::HashRing;
use messenger_proto::ids::{NodeId, ShardId};
use std::hash::{Hash, Hasher};

/// Points of each node on the ring: enough that shares of the circle differ little.
pub const VIRTUAL_NODES: u32 = 128;

/// One point of a node.
#[derive(Debug, Clone)]
struct VirtualNode {
    node: NodeId,
    index: u32,
}

/// Fixed-width big-endian bytes in one write: derived hashes of integers and slices follow the platform's byte order
/// and width.
impl Hash for VirtualNode {
    fn hash<H: Hasher>(&self, state: &mut H) {
        let mut bytes = [0; 12];
        bytes[..8].copy_from_slice(&self.node.0.to_be_bytes());
        bytes[8..].copy_from_slice(&self.index.to_be_bytes());
        state.write(&bytes);
    }
}

/// Where a shard stands on the ring. Of another width than a virtual node, so the two never hash alike.
struct ShardPoint(ShardId);

impl Hash for ShardPoint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write(&self.0.0.to_be_bytes());
    }
}

/// A ring of nodes.
#[derive(Debug, Clone)]
pub struct Ring {
    points: HashRing<VirtualNode>,
    nodes: usize,
}

impl Ring {
    /// A ring of these nodes; repeats count once.
    #[must_use]
    pub fn new(nodes: &[NodeId]) -> Self {
        let mut nodes = nodes.to_vec();
        // Points that hash alike stay in the order they were added, so that order is fixed here.
        nodes.sort_unstable();
        nodes.dedup();
        let mut points = HashRing::new();
        let of_node = |&node: &NodeId| (0..VIRTUAL_NODES).map(move |index| VirtualNode { node, index });
        points.batch_add(nodes.iter().flat_map(of_node).collect());
        Self { points, nodes: nodes.len() }
    }

    /// Every node once, the most preferred first.
    #[must_use]
    pub fn preference(&self, shard: ShardId) -> Vec<NodeId> {
        // Asking for more points than there are gives each exactly once; asking for all of them would repeat the first.
        let walk = self.points.get_with_replicas(&ShardPoint(shard), self.points.len() + 1).unwrap_or_default();
        let mut order = Vec::with_capacity(self.nodes);
        for point in walk {
            if !order.contains(&point.node) {
                order.push(point.node);
            }
            if order.len() == self.nodes {
                break;
            }
        }
        order
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn ids(range: std::ops::RangeInclusive<u64>) -> Vec<NodeId> {
        range.map(NodeId).collect()
    }

    #[test]
    fn the_order_is_pinned() {
        // Changing any of these moves replicas of every running cluster.
        let ring = Ring::new(&ids(1..=5));
        let order = |shard| ring.preference(ShardId(shard)).iter().map(|node| node.0).collect::<Vec<_>>();
        assert_eq!(order(0), [4, 5, 2, 3, 1]);
        assert_eq!(order(1), [2, 1, 5, 4, 3]);
        assert_eq!(order(63), [3, 4, 5, 1, 2]);
        assert_eq!(order(16_383), [2, 4, 5, 3, 1]);
    }

    #[test]
    fn shares_are_within_reach_of_the_mean() {
        let ring = Ring::new(&ids(1..=8));
        let mut firsts = [0_u32; 9];
        for shard in 0..4_096 {
            firsts[ring.preference(ShardId(shard))[0].0 as usize] += 1;
        }
        assert!(firsts[1..].iter().all(|&share| (300..=800).contains(&share)), "{firsts:?}");
    }

    #[test]
    fn an_empty_ring_prefers_nobody() {
        assert!(Ring::new(&[]).preference(ShardId(0)).is_empty());
    }

    proptest! {
        #[test]
        fn every_node_once_whatever_the_input_order(
            nodes in prop::collection::btree_set(1_u64..1_000, 1..20),
            shard in 0_u32..16_384,
            rotate in 0_usize..20,
        ) {
            let sorted: Vec<_> = nodes.iter().copied().map(NodeId).collect();
            let mut shuffled = sorted.clone();
            shuffled.rotate_left(rotate % sorted.len());
            shuffled.push(shuffled[0]);
            let order = Ring::new(&sorted).preference(ShardId(shard));
            prop_assert_eq!(&Ring::new(&shuffled).preference(ShardId(shard)), &order);
            let mut seen = order.clone();
            seen.sort_unstable();
            prop_assert_eq!(seen, sorted);
        }

        #[test]
        fn a_node_that_leaves_changes_nobody_elses_order(
            nodes in prop::collection::btree_set(1_u64..1_000, 2..12),
            shard in 0_u32..16_384,
        ) {
            let all: Vec<_> = nodes.iter().copied().map(NodeId).collect();
            let gone = all[all.len() / 2];
            let rest: Vec<_> = all.iter().copied().filter(|&node| node != gone).collect();
            let mut expected = Ring::new(&all).preference(ShardId(shard));
            expected.retain(|&node| node != gone);
            prop_assert_eq!(Ring::new(&rest).preference(ShardId(shard)), expected);
        }
    }
}
