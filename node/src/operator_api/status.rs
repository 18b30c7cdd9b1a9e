//! How the cluster is.
//!
//! Owns: the JSON of `GET /v1/cluster/status`, which `cluster status --output json` prints.
//! Must not know: where it comes from, how it is shown to people.

use super::MovesRow;
use serde::{Deserialize, Serialize};

/// The cluster.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// In order of id.
    pub nodes: Vec<NodeRow>,
    /// The group that keeps the cluster's record.
    pub meta: MetaRow,
    /// What is to be moved.
    pub moves: MovesRow,
    /// In order of id.
    pub shards: Vec<ShardRow>,
}

/// The meta group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MetaRow {
    /// The node that leads it, by the highest term anyone knows.
    pub leader: Option<u64>,
    /// One per node that was not removed; of the learners none decides.
    pub replicas: Vec<ReplicaRow>,
}

/// A node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeRow {
    /// From 1.
    pub id: u64,
    /// What fails together with it.
    pub zone: String,
    /// For clients.
    pub client_addr: String,
    /// For other nodes.
    pub peer_addr: String,
    /// For operators.
    pub admin_addr: String,
    /// How it stands.
    pub state: NodeStanding,
    /// Its disk is almost full: it takes no commands, and leads only what nobody else can.
    pub short_of_disk: bool,
}

/// How a node stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum NodeStanding {
    /// It takes part.
    Active,
    /// It goes: for good by the record, or its process ends.
    Draining,
    /// It is gone for good.
    Removed,
    /// It was given up, and is one of the cluster again once it answers.
    Absent,
    /// It isn't ready yet.
    Starting,
    /// It doesn't answer.
    Unreachable,
    /// Something that a later version says.
    #[serde(other)]
    Unknown,
}

/// A shard.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShardRow {
    /// From 0.
    pub id: u32,
    /// First and last slot.
    pub slots: [u16; 2],
    /// The node that leads it, by the highest term anyone knows.
    pub leader: Option<u64>,
    /// In order of preference.
    pub replicas: Vec<ReplicaRow>,
}

/// A replica.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReplicaRow {
    /// Where.
    pub node: u64,
    /// What it is in its group.
    pub role: Role,
    /// Index of the last entry applied; null while the node doesn't answer.
    pub applied: Option<u64>,
    /// All that was applied up to there, chained: 16 hexadecimal digits. Replicas of a shard that have applied the same
    /// index and differ here have drifted apart. Null with `applied`.
    pub digest: Option<String>,
}

/// What a replica is in its group.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// It decides the order.
    Leader,
    /// It votes.
    Follower,
    /// It would lead.
    Candidate,
    /// It follows and does not vote.
    Learner,
    /// It takes no part, though its node answers.
    Stopped,
    /// Its node doesn't answer, or has no such replica.
    #[serde(other)]
    Unknown,
}

impl NodeStanding {
    /// The word for it in JSON.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Draining => "draining",
            Self::Removed => "removed",
            Self::Absent => "absent",
            Self::Starting => "starting",
            Self::Unreachable => "unreachable",
            Self::Unknown => "unknown",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    #[test]
    fn a_status_reads_back_as_it_was_written() {
        let replica = |node, role, applied| json!({"node": node, "role": role, "applied": applied, "digest": null});
        let status = json!({
            "nodes": [{"id": 1, "zone": "a", "client_addr": "h:1", "peer_addr": "h:2", "admin_addr": "h:3",
                "state": "starting", "short_of_disk": true}],
            "meta": {"leader": null, "replicas": [replica(1, "learner", Some(7))]},
            "moves": {"paused": true, "in_flight": 1, "to_move": 2, "shards": [], "not_spread": []},
            "shards": [{"id": 0, "slots": [0, 16_383], "leader": 1, "replicas": [replica(1, "unknown", None)]}],
        });
        let read: ClusterStatus = serde_json::from_value(status.clone()).unwrap();
        assert_eq!(serde_json::to_value(&read).unwrap(), status);
        assert_eq!((read.nodes[0].state, read.shards[0].replicas[0].role), (NodeStanding::Starting, Role::Unknown));
    }

    #[test]
    fn words_are_as_they_are_written_and_later_ones_harm_nothing() {
        use NodeStanding::{Absent, Active, Draining, Removed, Starting, Unknown, Unreachable};
        for state in [Active, Draining, Removed, Absent, Starting, Unreachable, Unknown] {
            assert_eq!(serde_json::to_value(state).unwrap(), Value::from(state.as_str()));
        }
        assert_eq!(serde_json::from_value::<NodeStanding>(json!("sleeping")).unwrap(), Unknown);
        assert_eq!(serde_json::from_value::<Role>(json!("witness")).unwrap(), Role::Unknown);
    }
}
