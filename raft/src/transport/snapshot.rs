//! Sending a snapshot to a follower.
//!
//! Owns: the views of a snapshot as chunks, and how a transfer ends early.
//! Must not know: what the chunks hold, how fast they may be read, or how many may be sent at a time.
//! Invariants: memory is a few chunks; what a chunk holds is passed on as it is, since it numbers, checks and ends itself;
//! dropping a transfer ends it at both ends.

use super::codec::{SnapshotHeader, decode_vote};
use super::lane::LinkError;
use super::links::Links;
use crate::snapshot::SnapshotError;
use crate::types::{GroupId, SnapshotMeta, TypeConfig, Vote};
use bytes::Bytes;
use messenger_proto::ids::NodeId;
use messenger_proto::rpc::pb::SnapshotChunk;
use messenger_proto::wire::Wire;
use openraft::type_config::alias::LeaderIdOf;
use std::future::Future;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::timeout;
use tokio_stream::wrappers::ReceiverStream;

/// Chunks on their way to the connection.
const CHUNKS_AHEAD: usize = 2;

/// A snapshot, read in order, at the pace that is right for it.
pub trait ChunkSource: Send + 'static {
    /// The next piece, well below 16 MiB; `None` after the last.
    fn next(&mut self) -> impl Future<Output = Result<Option<Bytes>, SnapshotError>> + Send;
}

/// A snapshot, written in order; dropping it unfinished leaves nothing behind. It alone says what is damaged, out of turn
/// or not whole.
pub trait ChunkSink: Send + 'static {
    /// The snapshot, once complete.
    type Data: Send + 'static;

    /// Takes the next piece.
    fn write(&mut self, chunk: Bytes) -> impl Future<Output = Result<(), SnapshotError>> + Send;

    /// Completes the snapshot, if all of it came, and says what it covers.
    fn finish(self) -> impl Future<Output = Result<(SnapshotMeta, Self::Data), SnapshotError>> + Send;
}

/// Turns snapshots into chunks and chunks into snapshots.
pub trait SnapshotStore: Send + Sync + 'static {
    /// A group's snapshot, as the consensus library passes it around.
    type Data: Send + 'static;
    /// Reads one.
    type Source: ChunkSource;
    /// Writes one.
    type Sink: ChunkSink<Data = Self::Data>;

    /// Opens a snapshot for reading on behalf of `leader`; may wait while others are being sent.
    fn source(
        &self,
        group: GroupId,
        leader: LeaderIdOf<TypeConfig>,
        data: Self::Data,
    ) -> impl Future<Output = Result<Self::Source, SnapshotError>> + Send;

    /// Prepares to receive one.
    fn sink(&self, group: GroupId) -> impl Future<Output = Result<Self::Sink, SnapshotError>> + Send;
}

/// Why a snapshot did not arrive.
#[derive(Debug, thiserror::Error)]
pub(crate) enum SendError {
    #[error(transparent)]
    Source(#[from] SnapshotError),
    #[error(transparent)]
    Link(#[from] LinkError),
    #[error("no progress for {0:?}")]
    Stalled(Duration),
}

/// Sends a snapshot and waits until it is installed; answers with the receiver's vote.
pub(crate) async fn send<S: SnapshotStore>(
    links: &Links,
    to: NodeId,
    group: GroupId,
    vote: Vote,
    data: S::Data,
    store: &S,
) -> Result<Vote, SendError> {
    let stall = links.config().snapshot_stall;
    let source = store.source(group, vote.leader_id, data).await?;
    let mut client = links.client(to)?;
    let header = SnapshotHeader { group: group.0, vote: (&vote).into() };
    let (chunks, outgoing) = mpsc::channel(CHUNKS_AHEAD);
    let mut request = tonic::Request::new(ReceiverStream::new(outgoing));
    links.stamp(request.metadata_mut());

    let feeding = feed(header, source, chunks, stall);
    let answering = client.snapshot(request);
    tokio::pin!(feeding, answering);
    // The answer may come first, when the receiver refuses; what the feed does then is moot.
    let early = tokio::select! {
        fed = &mut feeding => { fed?; None }
        answer = &mut answering => Some(answer),
    };
    let answer = match early {
        Some(answer) => answer,
        None => timeout(stall, answering).await.map_err(|_| SendError::Stalled(stall))?,
    };
    let done = answer.map_err(|status| LinkError::Refused(status.message().into()))?;
    Ok(decode_vote(done.into_inner().body).map_err(|error| LinkError::Lost(error.to_string()))?)
}

async fn feed(
    header: SnapshotHeader,
    mut source: impl ChunkSource,
    chunks: mpsc::Sender<SnapshotChunk>,
    stall: Duration,
) -> Result<(), SendError> {
    push(&chunks, SnapshotChunk { header: header.to_wire().into(), ..SnapshotChunk::default() }, stall).await?;
    while let Some(frame) = source.next().await? {
        push(&chunks, SnapshotChunk { frame, ..SnapshotChunk::default() }, stall).await?;
    }
    Ok(())
}

async fn push(chunks: &mpsc::Sender<SnapshotChunk>, chunk: SnapshotChunk, stall: Duration) -> Result<(), SendError> {
    match timeout(stall, chunks.send(chunk)).await {
        Ok(Ok(())) => Ok(()),
        // The receiver went away; its answer says why, and is waited for beside this.
        Ok(Err(_)) => std::future::pending().await,
        Err(_) => Err(SendError::Stalled(stall)),
    }
}
