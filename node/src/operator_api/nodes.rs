//! Nodes that come.
//!
//! Owns: what a node says that asks to be taken in, and what it is told.
//! Must not know: who may come.

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
