//! Receiving a snapshot from a leader.
//!
//! Owns: checking what arrives, writing it, and handing the whole to the group.
//! Must not know: what the files hold.
//! Invariants: nothing is installed that was not closed by the sender or whose chunks fail their checksums; a transfer
//! that stalls or breaks off leaves nothing behind.

use super::codec::{SnapshotHeader, encode_vote};
use super::port::{Groups, RaftPort};
use super::snapshot::{ChunkSink, SnapshotError, SnapshotStore};
use crate::types::GroupId;
use messenger_proto::rpc::pb::{SnapshotChunk, SnapshotDone};
use messenger_proto::wire::{Wire, WireError};
use std::time::Duration;
use tokio::time::timeout;
use tonic::{Status, Streaming};
use xxhash_rust::xxh3::xxh3_64;

pub(crate) async fn receive<G: Groups>(
    groups: &G,
    mut chunks: Streaming<SnapshotChunk>,
    stall: Duration,
) -> Result<SnapshotDone, Status> {
    let first = next(&mut chunks, stall).await?;
    let malformed = |error: WireError| Status::invalid_argument(error.to_string());
    let header = SnapshotHeader::decode_from(first.header).map_err(malformed)?;
    let group = GroupId(header.group);
    let port = groups.port(group).ok_or_else(|| Status::not_found(format!("group {group} is not hosted here")))?;

    let mut sink = groups.snapshots().sink(group).await.map_err(failed)?;
    let mut number = 0_u32;
    loop {
        let chunk = next(&mut chunks, stall).await?;
        if chunk.number != number {
            return Err(Status::data_loss("a chunk is missing"));
        }
        if chunk.last {
            break;
        }
        number = number.wrapping_add(1);
        if xxh3_64(&chunk.data) != chunk.checksum {
            return Err(Status::data_loss("a chunk does not match its checksum"));
        }
        sink.write(chunk.data).await.map_err(failed)?;
    }
    let (meta, data) = sink.finish().await.map_err(failed)?;
    let vote = port.install_snapshot(header.vote.into(), meta, data).await.map_err(Status::unavailable)?;
    Ok(SnapshotDone { body: encode_vote(&vote) })
}

#[allow(clippy::needless_pass_by_value)] // as `map_err` hands it over
fn failed(error: SnapshotError) -> Status {
    tracing::error!(%error, "cannot take a snapshot");
    Status::internal("the receiver cannot store the snapshot")
}

async fn next(chunks: &mut Streaming<SnapshotChunk>, stall: Duration) -> Result<SnapshotChunk, Status> {
    match timeout(stall, chunks.message()).await {
        Ok(Ok(Some(chunk))) => Ok(chunk),
        Ok(Ok(None)) => Err(Status::aborted("the snapshot broke off")),
        Ok(Err(status)) => Err(status),
        Err(_) => Err(Status::deadline_exceeded("the snapshot stalled")),
    }
}
