//! Whoever else finds the port.

use super::fixture::*;
use crate::clock::HybridClock;
use crate::transport::*;
use crate::types::Identity;
use messenger_proto::ids::{ClusterId, NodeId, StoreId};
use messenger_proto::rpc::pb;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::Code;

fn request<T>(message: T, identity: Option<&Identity>) -> tonic::Request<T> {
    let mut request = tonic::Request::new(message);
    if let Some(identity) = identity {
        identity.stamp(&HybridClock::system(), request.metadata_mut());
    }
    request
}

#[tokio::test]
async fn nothing_answers_without_the_right_hello() {
    let node = Node::start(identity(2), TransportConfig::default()).await;
    node.host(GROUP, FakePort::default());
    let foreign = Identity { cluster: ClusterId([9; 16]), ..identity(1) };
    let impostor = identity(2);
    for (who, code) in [
        (None, Code::Unauthenticated),
        (Some(&foreign), Code::PermissionDenied),
        (Some(&impostor), Code::PermissionDenied),
    ] {
        let mut client = stranger(&node.addr).await;
        let frames = futures_util::stream::pending::<pb::Frames>();
        assert_eq!(client.link(request(frames, who)).await.unwrap_err().code(), code);
        let chunks = futures_util::stream::pending::<pb::SnapshotChunk>();
        assert_eq!(client.snapshot(request(chunks, who)).await.unwrap_err().code(), code);
        let wanted = futures_util::stream::pending::<pb::SubscribeRequest>();
        assert_eq!(client.subscribe(request(wanted, who)).await.unwrap_err().code(), code);
        if let Some(who) = who {
            let hello = who.hello(&HybridClock::system());
            assert_eq!(client.handshake(hello).await.unwrap_err().code(), code);
        }
    }
    let empty = stranger(&node.addr).await.handshake(pb::Hello::default()).await;
    assert_eq!(empty.unwrap_err().code(), Code::FailedPrecondition);
}

#[tokio::test]
async fn a_node_of_another_cluster_is_never_linked() {
    let foreign = Identity { cluster: ClusterId([9; 16]), ..identity(1) };
    let one = Node::start(foreign, TransportConfig::default()).await;
    let two = Node::start(identity(2), TransportConfig::default()).await;
    one.list(2, &two.addr);
    let a_while = tokio::time::Instant::now() + Duration::from_millis(300);
    assert!(!one.links.wait_connected(NodeId(2), true, a_while).await);
    assert!(matches!(one.call(Lane::Calls, "x").await, Err(LinkError::NotSent(_))));
}

#[tokio::test]
async fn a_node_on_another_disk_or_at_anothers_address_is_not_linked() {
    let one = Node::start(identity(1), TransportConfig::default()).await;
    let two = Node::start(identity(2), TransportConfig::default()).await;
    let wrong_disk = Peer { addr: two.addr.clone(), store: Some(StoreId([99; 16])) };
    one.peers.send_replace(Arc::new(Peers::from([(NodeId(2), wrong_disk), (NodeId(3), peer(&two.addr))])));
    let a_while = tokio::time::Instant::now() + Duration::from_millis(300);
    assert!(!one.links.wait_connected(NodeId(2), true, a_while).await);
    assert!(one.links.connected().is_empty());

    let right_disk = Peer { addr: two.addr.clone(), store: Some(StoreId([2; 16])) };
    one.peers.send_replace(Arc::new(Peers::from([(NodeId(2), right_disk)])));
    assert!(one.links.wait_connected(NodeId(2), true, soon()).await);
}

#[tokio::test]
async fn random_bytes_disturb_nobody() {
    let (one, two) = pair(TransportConfig::default(), FakePort::default()).await;
    for round in 0..50_usize {
        let mut socket = TcpStream::connect(&two.addr).await.unwrap();
        let mut noise: Vec<u8> = (0..=round * 37).map(|_| rand::random()).collect();
        if round % 3 == 0 {
            // Past the preface, so that the frames are noise.
            noise.splice(0..0, *b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n");
        }
        // The server may close before all is written.
        let _ = socket.write_all(&noise).await;
        let _ = socket.shutdown().await;
        let mut rest = Vec::new();
        let closed = tokio::time::timeout_at(soon(), socket.read_to_end(&mut rest)).await;
        assert!(closed.is_ok(), "round {round}: the connection is still open");
        assert_eq!(one.call(Lane::Calls, "fine").await.unwrap(), "fine");
    }
}

#[tokio::test]
async fn a_silent_connection_is_closed_and_a_talking_one_is_not() {
    let config = TransportConfig { preface_timeout: Duration::from_millis(200), ..TransportConfig::default() };
    let (one, two) = pair(config, FakePort::default()).await;
    let mut silent = TcpStream::connect(&two.addr).await.unwrap();
    silent.write_all(b"PRI").await.unwrap();
    let mut rest = Vec::new();
    // Closed or reset, as the system likes.
    let _ = tokio::time::timeout_at(soon(), silent.read_to_end(&mut rest)).await.expect("closed in time");
    assert!(one.links.is_connected(NodeId(2)));
    assert_eq!(one.call(Lane::Calls, "fine").await.unwrap(), "fine");
}

#[tokio::test]
async fn connections_are_bounded() {
    let config =
        TransportConfig { connections: 2, preface_timeout: Duration::from_millis(300), ..TransportConfig::default() };
    let node = Node::start(identity(2), config).await;
    let mut idle = Vec::new();
    for _ in 0..6 {
        idle.push(TcpStream::connect(&node.addr).await.unwrap());
    }
    // They wait for the silent ones to be thrown out, and are then served.
    let mut client = tokio::time::timeout_at(soon(), stranger(&node.addr)).await.unwrap();
    let hello = identity(1).hello(&HybridClock::system());
    tokio::time::timeout_at(soon(), client.handshake(hello)).await.unwrap().unwrap();
}

#[tokio::test]
async fn clocks_are_observed_from_both_ends() {
    let (one, two) = pair(TransportConfig::default(), FakePort::default()).await;
    one.call(Lane::Calls, "tick").await.unwrap();
    for (node, other) in [(&one, 2), (&two, 1)] {
        let offsets = node.clock.offsets();
        assert_eq!(offsets.len(), 1);
        assert_eq!(offsets[0].0, NodeId(other));
        assert!(node.clock.leads_ok());
    }
}
