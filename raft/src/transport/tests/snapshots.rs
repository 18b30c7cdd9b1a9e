//! Snapshots: whole, damaged, broken off, refused, cancelled.

use super::fixture::*;
use crate::clock::HybridClock;
use crate::store::snapshot::testing::framed;
use crate::transport::codec::SnapshotHeader;
use crate::transport::*;
use crate::types::{GroupId, SnapshotMeta, TypeConfig};
use bytes::Bytes;
use messenger_proto::rpc::pb;
use messenger_proto::wire::Wire;
use openraft::BasicNode;
use openraft::errors::{ReplicationClosed, StreamingError};
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::SnapshotResponse;
use openraft::storage::Snapshot;
use std::future::{Future, pending};
use std::time::Duration;
use tonic::Code;

async fn send(
    one: &Node,
    group: GroupId,
    chunks: Vec<Bytes>,
    cancel: impl Future<Output = ReplicationClosed> + Send + 'static,
) -> Result<SnapshotResponse<TypeConfig>, StreamingError<TypeConfig>> {
    let mut network = one.network(group).new_snapshot_client(2, &BasicNode::default()).await;
    let snapshot = Snapshot { meta: SnapshotMeta::default(), snapshot: chunks };
    network.full_snapshot(vote(), snapshot, cancel, RPCOption::new(Duration::from_secs(20))).await
}

async fn sinks_closed(node: &Node) {
    let mut sinks = node.groups.snapshots.sinks.subscribe();
    let closed = sinks.wait_for(|open| *open == 0);
    tokio::time::timeout_at(soon(), closed).await.expect("closed in time").unwrap();
}

#[tokio::test]
async fn a_snapshot_arrives_whole_and_is_installed() {
    let port = FakePort::default();
    let (one, _two) = pair(TransportConfig::default(), port.clone()).await;
    let chunks: Vec<Bytes> = (1..=40_u8).map(|number| vec![number; 200_000].into()).collect();
    let response = send(&one, GROUP, chunks.clone(), pending()).await.unwrap();
    assert_eq!(response.vote, vote());
    assert!(*port.installed.borrow() == chunks, "the chunks differ");
}

#[tokio::test]
async fn an_unknown_group_and_an_unreadable_source_are_no_disaster() {
    let port = FakePort::default();
    let (one, two) = pair(TransportConfig::default(), port.clone()).await;
    let chunk = Bytes::from_static(b"x");
    let unknown = send(&one, GroupId(99), vec![chunk.clone(); 9], pending()).await;
    assert!(matches!(unknown, Err(StreamingError::Unreachable(_))), "{unknown:?}");
    let unreadable = send(&one, GROUP, vec![chunk.clone(), Bytes::new(), chunk.clone()], pending()).await;
    assert!(matches!(unreadable, Err(StreamingError::Unreachable(_))), "{unreadable:?}");
    sinks_closed(&two).await;
    assert!(port.installed.borrow().is_empty());
    send(&one, GROUP, vec![chunk], pending()).await.unwrap();
}

#[tokio::test]
async fn a_cancelled_transfer_ends_at_both_ends() {
    let port = FakePort::default();
    let (one, two) = pair(TransportConfig::default(), port.clone()).await;
    let mut sinks = two.groups.snapshots.sinks.subscribe();
    let cancel = async move {
        sinks.wait_for(|open| *open == 1).await.unwrap();
        ReplicationClosed::new("enough")
    };
    let chunks: Vec<Bytes> = vec![Bytes::from(vec![1; 1_000_000]); 2_000];
    let cancelled = send(&one, GROUP, chunks, cancel).await;
    assert!(matches!(cancelled, Err(StreamingError::Closed(_))), "{cancelled:?}");
    sinks_closed(&two).await;
    assert!(port.installed.borrow().is_empty());
}

fn header() -> pb::SnapshotChunk {
    let header = SnapshotHeader { group: GROUP.0, vote: (&vote()).into() }.to_wire();
    pb::SnapshotChunk { header: header.into(), ..pb::SnapshotChunk::default() }
}

fn chunk(frame: Bytes) -> pb::SnapshotChunk {
    pb::SnapshotChunk { frame, ..pb::SnapshotChunk::default() }
}

/// The header's frame, three of rows, and the end.
fn frames(group: GroupId) -> Vec<Bytes> {
    framed(group, ["first", "second", "third"].map(Bytes::from).to_vec()).collect()
}

#[tokio::test]
async fn what_is_damaged_or_incomplete_is_never_installed() {
    type Harm = fn(&mut Vec<Bytes>);
    let port = FakePort::default();
    let (_one, two) = pair(TransportConfig::default(), port.clone()).await;
    let send = async |chunks: Vec<pb::SnapshotChunk>| {
        let mut client = stranger(&two.addr).await;
        let mut request = tonic::Request::new(futures_util::stream::iter(chunks));
        identity(1).stamp(&HybridClock::system(), request.metadata_mut());
        let answer = client.snapshot(request).await.map(|_| ());
        sinks_closed(&two).await;
        answer.map_err(|status| status.code())
    };
    let whole = |frames: Vec<Bytes>| [header()].into_iter().chain(frames.into_iter().map(chunk)).collect();
    let harms: [(&str, Harm); 8] = [
        ("nothing follows", Vec::clear),
        ("cut before its end", |frames| frames.truncate(4)),
        ("cut within a frame", |frames| frames[2] = frames[2].slice(..9)),
        ("altered", |frames| {
            let mut bytes = frames[2].to_vec();
            bytes[7] ^= 1;
            frames[2] = bytes.into();
        }),
        ("a frame is missing", |frames| drop(frames.remove(2))),
        ("two frames changed places", |frames| frames.swap(1, 2)),
        ("a frame comes twice", |frames| frames.insert(2, frames[1].clone())),
        ("of another group", |frames| *frames = self::frames(GroupId(99))),
    ];
    for (what, harm) in harms {
        let mut frames = frames(GROUP);
        harm(&mut frames);
        assert_eq!(send(whole(frames)).await, Err(Code::DataLoss), "{what}");
    }
    let garbage = pb::SnapshotChunk { header: Bytes::from_static(b"\xff\xff"), ..pb::SnapshotChunk::default() };
    assert_eq!(send(vec![garbage]).await, Err(Code::InvalidArgument));
    assert_eq!(send(vec![]).await, Err(Code::Aborted));
    assert!(port.installed.borrow().is_empty());
    assert_eq!(send(whole(frames(GROUP))).await, Ok(()), "and the way is free for one that is whole");
    assert_eq!(*port.installed.borrow(), ["first", "second", "third"].map(Bytes::from));
}

#[tokio::test]
async fn a_stalled_transfer_is_given_up_and_only_one_runs_at_a_time() {
    let config = TransportConfig { snapshot_stall: Duration::from_millis(200), ..TransportConfig::default() };
    let (_one, two) = pair(config, FakePort::default()).await;
    let open = |chunks: Vec<pb::SnapshotChunk>| {
        let addr = two.addr.clone();
        async move {
            use futures_util::StreamExt;
            let mut client = stranger(&addr).await;
            let chunks = futures_util::stream::iter(chunks).chain(futures_util::stream::pending());
            let mut request = tonic::Request::new(chunks);
            identity(1).stamp(&HybridClock::system(), request.metadata_mut());
            client.snapshot(request).await.unwrap_err().code()
        }
    };
    let stalled = tokio::spawn(open(vec![header(), chunk(frames(GROUP).swap_remove(0))]));
    two.groups.snapshots.sinks.subscribe().wait_for(|open| *open == 1).await.unwrap();
    assert_eq!(open(vec![header()]).await, Code::ResourceExhausted);
    assert_eq!(stalled.await.unwrap(), Code::DeadlineExceeded);
    sinks_closed(&two).await;
}
