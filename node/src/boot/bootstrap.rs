//! The first record of a cluster.
//!
//! Owns: what the node with `cluster.bootstrap` proposes once the meta group leads.
//! Must not know: how it is replicated.
//! Invariants: proposing it again changes nothing: the meta group refuses a second record.

use crate::config::Config;
use messenger_proto::ids::ClusterId;
use messenger_proto::meta::ClusterState;
use messenger_router::placement::{self, PlacementError};

/// The record a cluster starts with; its secret is drawn here.
///
/// # Errors
/// [`PlacementError`] when the nodes can't hold the shards as asked.
pub fn first_record(config: &Config, cluster: ClusterId) -> Result<ClusterState, PlacementError> {
    let nodes = config.first_nodes();
    let mut shards = placement::place(&nodes, config.cluster.shards, config.cluster.replication, &[])?;
    for shard in &mut shards {
        shard.first_members.clone_from(&shard.replicas);
    }
    let secret: [u8; 32] = rand::random();
    Ok(ClusterState {
        cluster,
        epoch: 1,
        secret: secret.to_vec().into(),
        nodes,
        shards,
        replication: config.cluster.replication,
    })
}
