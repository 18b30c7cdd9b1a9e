//! The cluster's own record, kept by the meta group.
//!
//! Owns: nodes, placement, epoch, and the commands that change them.
//! Must not know: how a placement is computed (see the router) or carried out (see the raft crate).
//! Invariants: placement is intent, a group's own membership is truth; the epoch grows with every change.

use crate::ids::{ClusterId, NodeId, ShardId, StoreId};
use bytes::Bytes;

crate::wire_code! {
    /// Where a node is in its life.
    pub enum NodeState {
        1 => Active = "active",
        2 => Draining = "draining",
        3 => Removed = "removed",
    }
}

crate::wire_struct! {
    /// A node of the cluster.
    pub struct NodeInfo {
        1 => id: NodeId,
        2 => zone: String,
        /// `host:port` for clients.
        3 => client_addr: String,
        /// `host:port` for other nodes.
        4 => peer_addr: String,
        /// `host:port` for operators.
        5 => admin_addr: String,
        6 => state: NodeState,
        /// The data directory the node was registered with; `None` until it first checked in.
        7 => store: Option<StoreId>,
    }
}

crate::wire_struct! {
    /// Where a shard should live.
    pub struct ShardPlacement {
        1 => shard: ShardId,
        /// In preference order; the first is the preferred leader.
        2 => replicas: Vec<NodeId>,
        /// The members the group was, or is to be, initialized with.
        3 => first_members: Vec<NodeId>,
    }
}

crate::wire_struct! {
    /// Everything the meta group knows.
    pub struct ClusterState {
        1 => cluster: ClusterId,
        /// Grows by one with every change; 0 before the bootstrap.
        2 => epoch: u64,
        /// 32 bytes; see [`crate::thread_id::ClusterSecret`].
        3 => secret: Bytes,
        4 => nodes: Vec<NodeInfo>,
        /// One per shard, in order.
        5 => shards: Vec<ShardPlacement>,
        6 => replication: u32,
    }
}

crate::wire_enum! {
    /// A change to the cluster's record.
    pub enum MetaCommand {
        /// Makes the record; refused when it exists.
        1 => Bootstrap(ClusterState),
        /// A node names the data directory it runs on; refused when another one is registered under its id.
        2 => CheckIn(CheckIn),
        /// Replaces nodes and placement; refused unless `based_on` is the epoch in force.
        3 => Replace(ReplacePlacement),
    }
}

crate::wire_struct! {
    /// See [`MetaCommand::CheckIn`].
    pub struct CheckIn { 1 => node: NodeId, 2 => store: StoreId }
}

crate::wire_struct! {
    /// See [`MetaCommand::Replace`].
    pub struct ReplacePlacement { 1 => based_on: u64, 2 => nodes: Vec<NodeInfo>, 3 => shards: Vec<ShardPlacement> }
}
