//! What the transport hands incoming calls to.
//!
//! Owns: the narrow views of a group, of the groups of a node, and of whatever else answers calls.
//! Must not know: how any of them works.

use super::codec::{Append, AppendResult};
use super::method::Method;
use super::snapshot::SnapshotStore;
use crate::types::{GroupId, SnapshotMeta, TypeConfig, Vote};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::rpc::{InterestChange, StreamItem};
use openraft::raft::{AppendEntriesResponse, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse};
use openraft::storage::{RaftStateMachine, Snapshot};
use std::future::Future;
use tokio::sync::mpsc;

/// A replica of a group, as its peers use it. Errors say why the replica is of no use any more, in words: they are for
/// the peer's log, and whoever gets one only tries again later.
pub trait RaftPort: Clone + Send + Sync + 'static {
    /// A received snapshot, ready to install.
    type SnapshotData: Send + 'static;

    /// Takes appends in order without waiting for each; answers in the same order, and ends with the first rejection.
    fn append_stream(
        &self,
        input: impl Stream<Item = Append> + Send + 'static,
    ) -> BoxStream<'static, Result<AppendResult, String>>;

    /// Takes one append.
    fn append(&self, request: Append)
    -> impl Future<Output = Result<AppendEntriesResponse<TypeConfig>, String>> + Send;

    /// Answers a candidate.
    fn vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> impl Future<Output = Result<VoteResponse<TypeConfig>, String>> + Send;

    /// Answers whether it would vote so.
    fn pre_vote(
        &self,
        request: VoteRequest<TypeConfig>,
    ) -> impl Future<Output = Result<VoteResponse<TypeConfig>, String>> + Send;

    /// Hears that the leader hands over.
    fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> impl Future<Output = Result<TransferLeaderResponse<TypeConfig>, String>> + Send;

    /// Replaces the replica's state; answers with its vote.
    fn install_snapshot(
        &self,
        vote: Vote,
        meta: SnapshotMeta,
        data: Self::SnapshotData,
    ) -> impl Future<Output = Result<Vote, String>> + Send;
}

impl<M: RaftStateMachine<TypeConfig>> RaftPort for openraft::Raft<TypeConfig, M> {
    type SnapshotData = M::SnapshotData;

    fn append_stream(
        &self,
        input: impl Stream<Item = Append> + Send + 'static,
    ) -> BoxStream<'static, Result<AppendResult, String>> {
        self.stream_append(input).map(|result| result.map_err(|fatal| fatal.to_string())).boxed()
    }

    async fn append(&self, request: Append) -> Result<AppendEntriesResponse<TypeConfig>, String> {
        self.append_entries(request).await.map_err(|error| error.to_string())
    }

    async fn vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        Self::vote(self, request).await.map_err(|error| error.to_string())
    }

    async fn pre_vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        Self::pre_vote(self, request).await.map_err(|error| error.to_string())
    }

    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, String> {
        self.handle_transfer_leader(request).await.map_err(|error| error.to_string())
    }

    async fn install_snapshot(&self, vote: Vote, meta: SnapshotMeta, data: M::SnapshotData) -> Result<Vote, String> {
        let snapshot = Snapshot { meta, snapshot: data };
        let response = self.install_full_snapshot(vote, snapshot).await.map_err(|error| error.to_string())?;
        Ok(response.vote)
    }
}

/// The groups of a node.
pub trait Groups: Send + Sync + 'static {
    /// A group's replica.
    type Port: RaftPort;
    /// Where snapshots are read and written.
    type Snapshots: SnapshotStore<Data = <Self::Port as RaftPort>::SnapshotData>;

    /// The replica of `group` on this node, if it runs.
    fn port(&self, group: GroupId) -> Option<Self::Port>;

    /// Where snapshots are read and written.
    fn snapshots(&self) -> &Self::Snapshots;
}

/// What answers the calls that are not the groups'.
pub trait LinkHandler: Send + Sync + 'static {
    /// Answers a call; many run at a time. It is dropped when the caller's time is up.
    ///
    /// An error is passed to the caller as "not carried out", and must mean that; its words are for the log alone.
    fn handle(
        &self,
        from: NodeId,
        method: Method,
        group: GroupId,
        body: Bytes,
    ) -> impl Future<Output = Result<Bytes, String>> + Send;

    /// Opens a shard's live stream to another node. Its channel ends with the stream; `changes` ends with the
    /// subscriber. An error: this node has no replica of the shard.
    ///
    /// # Errors
    /// Why there is no stream here.
    fn subscribe(
        &self,
        from: NodeId,
        shard: ShardId,
        changes: mpsc::Receiver<InterestChange>,
    ) -> Result<mpsc::Receiver<StreamItem>, String>;
}
