//! A shard's events at another node.

use super::fixture::*;
use crate::transport::*;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::rpc::{InForce, InterestChange, StreamItem};
use tokio::sync::watch;

fn change(version: u64) -> InterestChange {
    InterestChange {
        version,
        add_threads: Vec::new(),
        remove_threads: Vec::new(),
        add_users: Vec::new(),
        remove_users: Vec::new(),
    }
}

async fn wait_streams(streams: &watch::Sender<usize>, count: usize) {
    let mut streams = streams.subscribe();
    let reached = streams.wait_for(|streams| *streams == count);
    tokio::time::timeout_at(soon(), reached).await.expect("in time").unwrap();
}

#[tokio::test]
async fn changes_go_one_way_and_items_the_other_in_order() {
    let (one, two) = pair(TransportConfig::default(), FakePort::default()).await;
    let (changes, mut items) = one.links.subscribe(NodeId(2), ShardId(1), soon()).await.unwrap();
    wait_streams(&two.echo.streams, 1).await;
    for round in [3, 5_000, 1] {
        changes.send(change(round)).await.unwrap();
        for version in 0..round {
            assert_eq!(items.recv().await, Some(StreamItem::InForce(InForce { version })));
        }
    }
    drop(changes);
    assert_eq!(items.recv().await, None, "the source ends when the subscriber wants nothing more");
    wait_streams(&two.echo.streams, 0).await;
}

#[tokio::test]
async fn a_subscriber_that_goes_is_noticed() {
    let (one, two) = pair(TransportConfig::default(), FakePort::default()).await;
    let (changes, items) = one.links.subscribe(NodeId(2), ShardId(1), soon()).await.unwrap();
    wait_streams(&two.echo.streams, 1).await;
    drop(items);
    // The source notices at the next item it has.
    while changes.send(change(1_000)).await.is_ok() {
        tokio::task::yield_now().await;
        if *two.echo.streams.borrow() == 0 {
            break;
        }
    }
    wait_streams(&two.echo.streams, 0).await;
}

#[tokio::test]
async fn a_shard_without_a_replica_is_refused() {
    let (one, _two) = pair(TransportConfig::default(), FakePort::default()).await;
    let refused = one.links.subscribe(NodeId(2), ShardId(5), soon()).await;
    assert!(matches!(refused, Err(LinkError::Refused(why)) if why == "no replica here"));
    let unknown = one.links.subscribe(NodeId(3), ShardId(1), soon()).await;
    assert!(matches!(unknown, Err(LinkError::NotSent(_))));
}

#[tokio::test]
async fn the_stream_ends_with_the_connection() {
    let (one, two) = pair(TransportConfig::default(), FakePort::default()).await;
    let (_changes, mut items) = one.links.subscribe(NodeId(2), ShardId(1), soon()).await.unwrap();
    wait_streams(&two.echo.streams, 1).await;
    two.stop.cancel();
    assert_eq!(tokio::time::timeout_at(soon(), items.recv()).await.expect("in time"), None);
}

#[tokio::test]
async fn a_slow_subscriber_holds_the_source_back() {
    let config = TransportConfig {
        subscription_items: 10,
        batch_frames: 10,
        subscription_window: 65_535,
        ..TransportConfig::default()
    };
    let (one, two) = pair(config, FakePort::default()).await;
    let (changes, mut items) = one.links.subscribe(NodeId(2), ShardId(1), soon()).await.unwrap();
    let many = 200_000;
    changes.send(change(many)).await.unwrap();
    // Nothing is lost, however slowly it is taken; what is on the way is bounded by the windows.
    for version in 0..many {
        assert_eq!(items.recv().await, Some(StreamItem::InForce(InForce { version })));
    }
    drop((changes, items, two));
}

#[tokio::test]
async fn subscriptions_left_lying_keep_nothing_else_from_passing() {
    // Their connection's window is full, and the lanes' is as small.
    let config = TransportConfig {
        subscription_items: 1,
        subscription_window: 65_535,
        connection_window: 65_535,
        ..TransportConfig::default()
    };
    let (one, two) = pair(config, FakePort::default()).await;
    let mut lying = Vec::new();
    for _ in 0..3 {
        let (changes, items) = one.links.subscribe(NodeId(2), ShardId(1), soon()).await.unwrap();
        changes.send(change(1_000_000)).await.unwrap();
        lying.push((changes, items));
    }
    wait_streams(&two.echo.streams, 3).await;
    for _ in 0..100 {
        assert_eq!(one.call(Lane::Priority, "urgent").await.unwrap(), "urgent");
    }
}
