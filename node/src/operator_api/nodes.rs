//! Nodes that come and go.
//!
//! Owns: what a node says that asks to be taken in, and what it is told; what changes of nodes are answered with.
//! Must not know: who may come, or when one may go.

use super::NodeStanding;
use serde::{Deserialize, Serialize};

/// The body of `POST /admin/nodes`.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct JoinRequest {
    /// 32 hexadecimal digits.
    pub cluster_id: String,
    /// The data directory's own id: 32 hexadecimal digits.
    pub store_id: String,
    /// What fails together with it.
    pub zone: String,
    /// For clients.
    pub client_addr: String,
    /// For other nodes.
    pub peer_addr: String,
    /// For operators.
    pub admin_addr: String,
}

/// What it is answered with.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinAnswer {
    /// The new node's id.
    pub node_id: u64,
    /// The nodes of the cluster, itself among them.
    pub nodes: Vec<JoinPeer>,
}

/// One node of the cluster.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct JoinPeer {
    /// Its id.
    pub id: u64,
    /// For other nodes.
    pub peer_addr: String,
    /// The data directory it runs on, if it has checked in.
    pub store_id: Option<String>,
}

/// How a node stands after an operator's change.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeChanged {
    /// The node.
    pub node_id: u64,
    /// What it is by the cluster's record.
    pub state: NodeStanding,
    /// Shards that have a replica on it by the record.
    pub shards: usize,
}
