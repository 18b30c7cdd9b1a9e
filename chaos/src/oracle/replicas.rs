//! Replicas of a shard that have applied the same entry have applied the same entries, and wrote the same rows.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask; what a digest is made of.

use crate::history::{Record, Replica};
use std::collections::BTreeMap;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let mut first: BTreeMap<(u64, u64), &Replica> = BTreeMap::new();
    let mut broken = Vec::new();
    for replica in &record.replicas {
        let Replica { shard, node, applied, digest } = replica;
        let other = first.entry((*shard, *applied)).or_insert(replica);
        if other.digest != *digest {
            broken.push(format!(
                "shard {shard} at entry {applied}: node {node} has {digest}, node {} has {}",
                other.node, other.digest
            ));
        }
    }
    broken
}

/// How many shards had two replicas or more at the same entry: as many were compared.
#[must_use]
pub fn compared(record: &Record) -> usize {
    let mut nodes: BTreeMap<(u64, u64), Vec<u16>> = BTreeMap::new();
    for replica in &record.replicas {
        nodes.entry((replica.shard, replica.applied)).or_default().push(replica.node);
    }
    let mut shards: Vec<u64> = Vec::new();
    for ((shard, _), nodes) in nodes {
        if nodes.iter().any(|node| *node != nodes[0]) && shards.last() != Some(&shard) {
            shards.push(shard);
        }
    }
    shards.len()
}
