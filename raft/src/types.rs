//! The types that every group shares, openraft's configuration among them.
//!
//! Owns: which types the consensus library works with, our names for what it makes of them, and who a node is.
//! Must not know: what a pack means.

use bytes::Bytes;
use messenger_proto::command::CommandResult;
use messenger_proto::ids::{ClusterId, NodeId, StoreId};
use openraft::type_config::alias::{LogIdOf, SnapshotMetaOf, StoredMembershipOf, VoteOf};
use serde::{Deserialize, Serialize};
use std::fmt;

/// Who a node is, to others and to its own data directory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Identity {
    /// Its cluster.
    pub cluster: ClusterId,
    /// Itself.
    pub node: NodeId,
    /// The data directory it runs on.
    pub store: StoreId,
}

/// The Raft group that keeps the cluster's record.
pub const META_GROUP: GroupId = GroupId(0);

/// A Raft group: 0 is the meta group, shard `n` is group `n + 1`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GroupId(pub u32);

impl GroupId {
    /// The group that replicates a shard.
    #[must_use]
    pub fn of_shard(shard: messenger_proto::ids::ShardId) -> Self {
        Self(shard.0 + 1)
    }

    /// The shard a group replicates; `None` for the meta group.
    #[must_use]
    pub fn shard(self) -> Option<messenger_proto::ids::ShardId> {
        self.0.checked_sub(1).map(messenger_proto::ids::ShardId)
    }
}

impl fmt::Display for GroupId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// An encoded [`messenger_proto::command::Pack`]: the data of one log entry.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PackBytes(pub Bytes);

impl fmt::Display for PackBytes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pack of {} bytes", self.0.len())
    }
}

/// One result per command of the pack, in order; empty for entries that hold none. Never leaves the process.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(from = "()", into = "()")]
pub struct PackResults(pub Vec<CommandResult>);

impl From<()> for PackResults {
    fn from((): ()) -> Self {
        Self::default()
    }
}

impl From<PackResults> for () {
    fn from(_: PackResults) -> Self {}
}

openraft::declare_raft_types!(
    /// See the module.
    pub TypeConfig:
        D = PackBytes,
        R = PackResults,
        NodeId = u64,
        Node = openraft::BasicNode,
);

/// A log position of any group.
pub type LogId = LogIdOf<TypeConfig>;
/// A vote of any group.
pub type Vote = VoteOf<TypeConfig>;
/// Who belongs to a group.
pub type Membership = openraft::Membership<u64, openraft::BasicNode>;
/// A membership and where it stands in the log.
pub type StoredMembership = StoredMembershipOf<TypeConfig>;
/// What a snapshot covers.
pub type SnapshotMeta = SnapshotMetaOf<TypeConfig>;
