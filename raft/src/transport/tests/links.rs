//! Calls, their failures, and the life of connections.

use super::fixture::*;
use crate::transport::*;
use bytes::Bytes;
use messenger_proto::ids::NodeId;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::time::Instant;

#[tokio::test]
async fn calls_are_answered_each_with_its_own() {
    let (one, _two) = pair(TransportConfig::default(), FakePort::default()).await;
    assert_eq!(one.call(Lane::Calls, "who").await.unwrap(), "1 0");
    let calls = (0..2_000_u32).map(|number| {
        let lane = [Lane::Priority, Lane::Bulk, Lane::Calls][number as usize % 3];
        let body = Bytes::from(number.to_string());
        let links = one.links.clone();
        async move {
            let answer = links.call(NodeId(2), lane, Method::Node, NO_GROUP, body.clone(), soon()).await;
            assert_eq!(answer.unwrap(), body);
        }
    });
    futures_util::future::join_all(calls).await;
}

#[tokio::test]
async fn large_bodies_pass_and_too_large_ones_are_not_sent() {
    let (one, _two) = pair(TransportConfig::default(), FakePort::default()).await;
    let call = |size: usize| {
        let body = Bytes::from(vec![b'x'; size]);
        one.links.call(NodeId(2), Lane::Calls, Method::Node, NO_GROUP, body, soon())
    };
    assert_eq!(call(16 * 1024 * 1024).await.unwrap().len(), 16 * 1024 * 1024);
    assert!(matches!(call(16 * 1024 * 1024 + 1).await, Err(LinkError::NotSent(_))));
}

#[tokio::test]
async fn errors_say_whether_the_call_may_have_had_effects() {
    let (one, two) = pair(TransportConfig::default(), FakePort::default()).await;
    assert_eq!(one.call(Lane::Calls, "fail").await, Err(LinkError::Refused("as you wish".into())));
    let vote = one.links.call(NodeId(2), Lane::Priority, Method::Vote, NO_GROUP, Bytes::new(), soon()).await;
    assert!(matches!(vote, Err(LinkError::Refused(why)) if why.contains("not hosted")));
    let unknown = one.links.call(NodeId(9), Lane::Calls, Method::Node, NO_GROUP, Bytes::new(), soon()).await;
    assert!(matches!(unknown, Err(LinkError::NotSent(_))));

    let in_time = Instant::now() + Duration::from_millis(50);
    let hang = Bytes::from_static(b"hang");
    let lost = one.links.call(NodeId(2), Lane::Calls, Method::Node, NO_GROUP, hang, in_time).await;
    assert!(matches!(lost, Err(LinkError::Lost(_))));
    // The receiver does not work on for a caller whose time is up.
    let mut hanging = two.echo.hanging.subscribe();
    let freed = hanging.wait_for(|count| *count == 0);
    tokio::time::timeout_at(soon(), freed).await.expect("freed in time").unwrap();
}

#[tokio::test]
async fn calls_beyond_the_bound_are_refused_and_others_go_on() {
    let config = TransportConfig { serve_in_flight: 3, ..TransportConfig::default() };
    let (one, two) = pair(config, FakePort::default()).await;
    let hanging: Vec<_> = (0..3)
        .map(|_| {
            let links = one.links.clone();
            let hang = Bytes::from_static(b"hang");
            tokio::spawn(async move { links.call(NodeId(2), Lane::Calls, Method::Node, NO_GROUP, hang, soon()).await })
        })
        .collect();
    two.echo.hanging.subscribe().wait_for(|count| *count == 3).await.unwrap();
    assert_eq!(one.call(Lane::Calls, "more").await, Err(LinkError::Busy("too much is under way at the peer".into())));
    assert_eq!(one.call(Lane::Priority, "other lane").await.unwrap(), "other lane");
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

#[tokio::test]
async fn a_full_lane_says_so_at_once() {
    let config = TransportConfig { in_flight: 2, ..TransportConfig::default() };
    let (one, two) = pair(config, FakePort::default()).await;
    let hang = || {
        let links = one.links.clone();
        tokio::spawn(async move {
            let hang = Bytes::from_static(b"hang");
            links.call(NodeId(2), Lane::Calls, Method::Node, NO_GROUP, hang, soon()).await
        })
    };
    let hanging = [hang(), hang()];
    two.echo.hanging.subscribe().wait_for(|count| *count == 2).await.unwrap();
    assert_eq!(one.call(Lane::Calls, "more").await, Err(LinkError::Busy("the lane is full".into())));
    hanging.iter().for_each(tokio::task::JoinHandle::abort);
}

/// A node in a runtime of its own, which can be taken away as a process can.
fn start_apart(listener: std::net::TcpListener) -> (tokio::runtime::Runtime, Node) {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let node = runtime.block_on(async {
        listener.set_nonblocking(true).unwrap();
        Node::start_on(TcpListener::from_std(listener).unwrap(), identity(2), TransportConfig::default())
    });
    (runtime, node)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dead_peer_is_noticed_at_once_and_found_again() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let addr = listener.local_addr().unwrap().to_string();
    let (runtime, two) = tokio::task::spawn_blocking(move || start_apart(listener)).await.unwrap();
    // Only the end of the connection itself can tell: no ping is sent within the test's time.
    let config = TransportConfig { keepalive_interval: Duration::from_hours(1), ..TransportConfig::default() };
    let one = Node::start(identity(1), config).await;
    one.list(2, &addr);
    assert!(one.links.wait_connected(NodeId(2), true, soon()).await);

    let links = one.links.clone();
    let hanging = tokio::spawn(async move {
        links.call(NodeId(2), Lane::Calls, Method::Node, NO_GROUP, Bytes::from_static(b"hang"), soon()).await
    });
    two.echo.hanging.subscribe().wait_for(|count| *count == 1).await.unwrap();
    // Once it returns, the port is free.
    tokio::task::spawn_blocking(move || runtime.shutdown_timeout(Duration::from_secs(20))).await.unwrap();
    assert!(matches!(hanging.await.unwrap(), Err(LinkError::Lost(_))));
    assert!(one.links.wait_connected(NodeId(2), false, soon()).await);
    assert!(matches!(one.call(Lane::Calls, "x").await, Err(LinkError::NotSent(_))));

    let again = std::net::TcpListener::bind(&addr).unwrap();
    let (runtime, two_again) = tokio::task::spawn_blocking(move || start_apart(again)).await.unwrap();
    assert!(one.links.wait_connected(NodeId(2), true, soon()).await);
    assert_eq!(one.call(Lane::Calls, "back").await.unwrap(), "back");
    std::mem::forget((two, two_again)); // their runtimes are gone or going
    runtime.shutdown_background();
}

#[tokio::test]
async fn a_peer_that_moves_is_followed_and_one_that_leaves_is_dropped() {
    let (one, two) = pair(TransportConfig::default(), FakePort::default()).await;
    let moved = Node::start(identity(2), TransportConfig::default()).await;
    one.list(2, &moved.addr);
    drop(two);
    let back = async {
        while one.call(Lane::Calls, "x").await.is_err() {
            one.links.wait_connected(NodeId(2), true, soon()).await;
        }
    };
    tokio::time::timeout_at(soon(), back).await.expect("followed in time");

    // Its registration is no move.
    let registered = Peer { addr: moved.addr.clone(), store: Some(identity(2).store) };
    let hanging = tokio::spawn({
        let links = one.links.clone();
        let hang = Bytes::from_static(b"hang");
        async move { links.call(NodeId(2), Lane::Calls, Method::Node, NO_GROUP, hang, soon()).await }
    });
    moved.echo.hanging.subscribe().wait_for(|count| *count == 1).await.unwrap();
    one.peers.send_replace(Arc::new(Peers::from([(NodeId(2), registered)])));
    assert_eq!(one.call(Lane::Calls, "still there").await.unwrap(), "still there");
    assert!(!hanging.is_finished(), "the connection was given up");

    one.peers.send_replace(Arc::new(Peers::new()));
    assert!(matches!(hanging.await.unwrap(), Err(LinkError::Lost(_))));
    let gone = async {
        while one.links.is_connected(NodeId(2)) {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout_at(soon(), gone).await.expect("dropped in time");
    assert!(matches!(one.call(Lane::Calls, "x").await, Err(LinkError::NotSent(_))));
}

#[tokio::test]
async fn a_stopping_server_ends_its_links() {
    let (one, two) = pair(TransportConfig::default(), FakePort::default()).await;
    two.stop.cancel();
    assert!(one.links.wait_connected(NodeId(2), false, soon()).await);
}
