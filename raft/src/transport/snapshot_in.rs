//! Receiving a snapshot from a leader.
//!
//! Owns: the way of what arrives to the sink, and of the whole to the group.
//! Must not know: what chunks hold.
//! Invariants: nothing is installed that the sink does not take for whole; a transfer that stalls or breaks off leaves
//! nothing behind.

use super::codec::{SnapshotHeader, encode_vote};
use super::port::{Groups, RaftPort};
use super::snapshot::{ChunkSink, SnapshotStore};
use crate::snapshot::SnapshotError;
use crate::types::GroupId;
use messenger_proto::rpc::pb::{SnapshotChunk, SnapshotDone};
use messenger_proto::wire::{Wire, WireError};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Status, Streaming};

pub(crate) async fn receive<G: Groups>(
    groups: &G,
    mut chunks: Streaming<SnapshotChunk>,
    stall: Duration,
) -> Result<SnapshotDone, Status> {
    let first = next(&mut chunks, stall).await?.ok_or_else(|| Status::aborted("the snapshot broke off"))?;
    let malformed = |error: WireError| Status::invalid_argument(error.to_string());
    let header = SnapshotHeader::decode_from(first.header).map_err(malformed)?;
    let group = GroupId(header.group);
    let port = groups.port(group).ok_or_else(|| Status::not_found(format!("group {group} is not hosted here")))?;

    let mut sink = groups.snapshots().sink(group).await.map_err(failed)?;
    while let Some(chunk) = next(&mut chunks, stall).await? {
        sink.write(chunk.frame).await.map_err(failed)?;
    }
    let (meta, data) = sink.finish().await.map_err(failed)?;
    let vote = port.install_snapshot(header.vote.into(), meta, data).await.map_err(Status::unavailable)?;
    Ok(SnapshotDone { body: encode_vote(&vote) })
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it over
fn failed(error: SnapshotError) -> Status {
    match error {
        SnapshotError::Damaged(_) | SnapshotError::WrongGroup => {
            tracing::warn!(%error, "what a leader sent is not taken");
            Status::data_loss(error.to_string())
        }
        SnapshotError::Store(_)
        | SnapshotError::Files(_)
        | SnapshotError::LeaderChanged
        | SnapshotError::OnItsWayIn => {
            tracing::error!(%error, "cannot take a snapshot");
            Status::internal("the receiver cannot store the snapshot")
        }
    }
}

/// The next chunk; `None` when the sender has closed the stream.
async fn next(chunks: &mut Streaming<SnapshotChunk>, stall: Duration) -> Result<Option<SnapshotChunk>, Status> {
    timeout(stall, chunks.message()).await.unwrap_or_else(|_| Err(Status::deadline_exceeded("the snapshot stalled")))
}
