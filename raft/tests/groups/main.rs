//! Whole groups: three hosts over real sockets and real storage.
//!
//! Owns: what holds of a group as such: agreement, failover, catching up by log and by snapshot.
//! Must not know: routers, gateways.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod comeback;
mod fixture;
mod leadership;
mod moves;
mod outbox;

use fixture::{Node, SHARD, WITHIN, addresses, agree, call, create, newest, send, store_messages};
use messenger_proto::command::Op;
use messenger_proto::rpc::{ShardCall, ShardOutcome};
use messenger_raft::group::timing::Timing;

type Metrics = openraft::RaftMetrics<messenger_raft::types::TypeConfig>;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_outlives_its_leader_and_all_replicas_agree() {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let timing = Timing::default();
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Some(Node::start(id, directory.path(), &addresses, timing).await));
    }
    let all: Vec<&Node> = nodes.iter().flatten().collect();
    assert!(matches!(call(&all, ShardCall::Command(create())).await, ShardOutcome::Reply(_)));
    store_messages(&all, 0..20).await;
    agree(&all).await;

    let leader = all[0].host.shard(SHARD).unwrap().leader().unwrap().0;
    nodes[leader as usize - 1].take().unwrap().stop().await;
    let left: Vec<&Node> = nodes.iter().flatten().collect();
    store_messages(&left, 20..40).await;
    assert_eq!(newest(&left, 100).await.len(), 40);

    nodes[leader as usize - 1] = Some(Node::start(leader, directory.path(), &addresses, timing).await);
    agree(&nodes.iter().flatten().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_entries_were_purged_catches_up_by_snapshot() {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let timing = Timing { snapshot_every: 20, keep_entries: 5, ..Timing::default() };
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(id, directory.path(), &addresses, timing).await);
    }
    let all: Vec<&Node> = nodes.iter().collect();
    assert!(matches!(call(&all, ShardCall::Command(create())).await, ShardOutcome::Reply(_)));
    agree(&all).await;

    let away = nodes.pop().unwrap();
    let had = away.host.shard(SHARD).unwrap().metrics().last_log_index.unwrap();
    away.stop().await;
    let left: Vec<&Node> = nodes.iter().collect();
    store_messages(&left, 0..200).await;
    for node in &left {
        let replica = node.host.shard(SHARD).unwrap();
        let metrics = replica.raft().wait(Some(WITHIN));
        let purged = |metrics: &Metrics| metrics.purged.is_some_and(|purged| purged.index > had);
        metrics.metrics(purged, "the log is purged beyond what the other has").await.unwrap();
    }

    nodes.push(Node::start(3, directory.path(), &addresses, timing).await);
    let all: Vec<&Node> = nodes.iter().collect();
    agree(&all).await;
    // The metrics follow the rows.
    let metrics = all[2].host.shard(SHARD).unwrap().raft().wait(Some(WITHIN));
    let came_by_snapshot = |metrics: &Metrics| metrics.snapshot.is_some_and(|snapshot| snapshot.index > had);
    metrics.metrics(came_by_snapshot, "a snapshot beyond what it had").await.unwrap();
    store_messages(&all, 200..210).await;
    agree(&all).await;
    assert_eq!(newest(&all, 1).await, [209u64.to_be_bytes().to_vec()]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_of_few_large_entries_is_purged_by_bytes() {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let timing = Timing { keep_bytes: 1 << 20, ..Timing::default() };
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(id, directory.path(), &addresses, timing).await);
    }
    let all: Vec<&Node> = nodes.iter().collect();
    assert!(matches!(call(&all, ShardCall::Command(create())).await, ShardOutcome::Reply(_)));
    for number in 0..40 {
        let mut command = send(number);
        let Op::SendMessage(op) = &mut command.op else { panic!("{command:?}") };
        op.ciphertext = vec![7; 60_000].into();
        assert!(matches!(call(&all, ShardCall::Command(command)).await, ShardOutcome::Reply(_)));
    }
    for node in &all {
        let replica = node.host.shard(SHARD).unwrap();
        let metrics = replica.raft().wait(Some(WITHIN));
        let purged = |metrics: &Metrics| metrics.purged.is_some_and(|purged| purged.index >= 20);
        metrics.metrics(purged, "half of it is gone").await.unwrap();
    }
    agree(&all).await;
}
