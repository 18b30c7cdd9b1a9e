//! The first record of a cluster.
//!
//! Owns: what the node with `cluster.bootstrap` proposes once the meta group leads, and how a configuration differs from what
//! was.
//! Must not know: how it is replicated.
//! Invariants: proposing it again changes nothing: the meta group refuses a second record.

use crate::config::{ClusterConfig, Config};
use messenger_proto::ids::ClusterId;
use messenger_proto::meta::ClusterState;
use messenger_router::placement::{self, PlacementError};

/// The record a cluster starts with; its secret is drawn here.
///
/// # Errors
/// [`PlacementError`] when the nodes can't hold the shards as asked.
pub fn first_record(config: &Config, cluster: ClusterId) -> Result<ClusterState, PlacementError> {
    let (nodes, wished) = (config.first_nodes(), config.cluster.replication);
    // The rest of the wish comes true as nodes join.
    let possible = wished.min(u32::try_from(nodes.len()).unwrap_or(u32::MAX));
    let replication = possible - u32::from(possible > 0 && possible.is_multiple_of(2));
    let mut shards = placement::place(&nodes, config.cluster.shards, replication, &[])?;
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
        replication,
        wished,
        moves_paused: false,
    })
}

/// What of a configuration is otherwise in the cluster's record, in whose favour it is passed over.
pub fn differs(configured: &ClusterConfig, record: &ClusterState) -> Option<String> {
    let settings = [
        ("cluster.shards", configured.shards as usize, record.shards.len()),
        ("cluster.replication", configured.replication as usize, record.wished as usize),
    ];
    let other = settings.into_iter().filter(|(_, here, made)| here != made);
    let said: Vec<String> =
        other.map(|(name, here, made)| format!("{name} is {here} here, but {made} in the cluster")).collect();
    let why = "the cluster was made so, and what is configured here has no effect";
    (!said.is_empty()).then(|| format!("{}: {why}", said.join(", ")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use messenger_proto::ids::ShardId;
    use messenger_proto::meta::ShardPlacement;

    #[test]
    fn a_configuration_that_is_not_the_cluster_s_is_told() {
        let placed = |n| ShardPlacement {
            shard: ShardId(n),
            replicas: Vec::new(),
            first_members: Vec::new(),
            moved: false,
            held: false,
        };
        let record = ClusterState {
            cluster: ClusterId([1; 16]),
            epoch: 1,
            secret: Bytes::new(),
            nodes: Vec::new(),
            shards: (0..4).map(placed).collect(),
            replication: 1,
            wished: 3,
            moves_paused: false,
        };
        let configured = |shards, replication| ClusterConfig {
            id: "1".into(),
            bootstrap: false,
            shards,
            replication,
            replace_after_seconds: 600,
            nodes: Vec::new(),
        };
        assert_eq!(differs(&configured(4, 3), &record), None);
        let said = differs(&configured(16, 3), &record).unwrap();
        assert!(said.contains("cluster.shards is 16 here, but 4") && !said.contains("replication"), "{said}");
        let said = differs(&configured(16, 1), &record).unwrap();
        assert!(said.contains("cluster.replication is 1 here, but 3"), "{said}");
    }
}
