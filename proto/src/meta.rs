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
        /// It was silent for so long that what it held is made anew elsewhere; active again once it answers.
        4 => Absent = "absent",
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
        /// It is, or was, meant to live elsewhere than on its first members: nobody initializes its group any more.
        90 => moved: bool,
        /// An operator cancelled its move: it does not begin to move again until one says so, or a node it is on goes.
        91 => held: bool,
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
        /// Replicas of each shard, as many as there can be now.
        6 => replication: u32,
        /// Replicas that each shard should have once there are nodes enough; 0 in a record from before there was a wish,
        /// and means [`ClusterState::replication`].
        90 => wished: u32,
        /// No shard begins to move; those that move arrive.
        91 => moves_paused: bool,
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
        /// A new node asks for an id; one that asked before, by its data directory, has the id it was given then.
        90 => Join(JoinNode),
        /// A node is to go, or to stay after all, or is gone.
        91 => Change(ChangeNode),
        /// Shards may move, or not.
        92 => Moves(ChangeMoves),
    }
}

crate::wire_struct! {
    /// See [`MetaCommand::CheckIn`].
    pub struct CheckIn { 1 => node: NodeId, 2 => store: StoreId }
}

crate::wire_struct! {
    /// See [`MetaCommand::Replace`].
    pub struct ReplacePlacement {
        1 => based_on: u64,
        2 => nodes: Vec<NodeInfo>,
        3 => shards: Vec<ShardPlacement>,
        /// Replicas of each shard from now on; 0 for as before.
        90 => replication: u32,
    }
}

crate::wire_struct! {
    /// See [`MetaCommand::Join`].
    pub struct JoinNode {
        /// The cluster it means.
        1 => cluster: ClusterId,
        /// The data directory it will run on, drawn before it asked.
        2 => store: StoreId,
        3 => zone: String,
        /// `host:port` for clients.
        4 => client_addr: String,
        /// `host:port` for other nodes.
        5 => peer_addr: String,
        /// `host:port` for operators.
        6 => admin_addr: String,
    }
}

crate::wire_struct! {
    /// See [`MetaCommand::Change`].
    pub struct ChangeNode {
        1 => node: NodeId,
        2 => state: NodeState,
        /// Also if shards have fewer replicas without it.
        3 => fewer_replicas: bool,
    }
}

crate::wire_struct! {
    /// See [`MetaCommand::Moves`].
    pub struct ChangeMoves { 1 => paused: bool }
}

impl JoinNode {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> [&str; 3] {
        [&self.client_addr, &self.peer_addr, &self.admin_addr]
    }
}

impl NodeInfo {
    /// Where it listens.
    #[must_use]
    pub fn addresses(&self) -> [&str; 3] {
        [&self.client_addr, &self.peer_addr, &self.admin_addr]
    }
}

impl ClusterState {
    /// A node of the cluster, be it one that was removed.
    #[must_use]
    pub fn node(&self, id: NodeId) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// The node that was registered with a data directory.
    #[must_use]
    pub fn node_on(&self, store: StoreId) -> Option<&NodeInfo> {
        self.nodes.iter().find(|node| node.store == Some(store))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;

    #[test]
    fn the_tags_are_pinned() {
        let join = JoinNode {
            cluster: ClusterId([1; 16]),
            store: StoreId([2; 16]),
            zone: "b".into(),
            client_addr: "h:1".into(),
            peer_addr: "h:2".into(),
            admin_addr: "h:3".into(),
        };
        let mut inner = vec![0x0a, 16];
        inner.extend([1; 16]);
        inner.extend([0x12, 16]);
        inner.extend([2; 16]);
        inner.extend(b"\x1a\x01b\x22\x03h:1\x2a\x03h:2\x32\x03h:3");
        let command = MetaCommand::Join(join);
        let bytes = command.to_wire();
        // Tag 90, of a message.
        assert_eq!(bytes, [&[0xd2, 0x05, inner.len() as u8], &inner[..]].concat());
        assert_eq!(MetaCommand::from_wire(&bytes), Ok(command));
        let change = ChangeNode { node: NodeId(4), state: NodeState::Draining, fewer_replicas: true };
        assert_eq!(MetaCommand::Change(change).to_wire(), [0xda, 0x05, 6, 0x08, 4, 0x10, 2, 0x18, 1]);
        assert_eq!(MetaCommand::Moves(ChangeMoves { paused: true }).to_wire(), [0xe2, 0x05, 2, 0x08, 1]);
        let placed =
            ShardPlacement { shard: ShardId(0), replicas: vec![], first_members: vec![], moved: true, held: true };
        assert!(placed.to_wire().ends_with(&[0xd0, 0x05, 1, 0xd8, 0x05, 1]));
        let absent = ChangeNode { node: NodeId(4), state: NodeState::Absent, fewer_replicas: false };
        assert_eq!(absent.to_wire(), [0x08, 4, 0x10, 4]);
        let replace = ReplacePlacement { based_on: 0, nodes: vec![], shards: vec![], replication: 3 };
        assert_eq!(replace.to_wire(), [0xd0, 0x05, 3]);
    }
}
