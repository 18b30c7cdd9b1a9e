//! Replicas come and go while the group works.
//!
//! Owns: a move from its beginning to its end, by log and by snapshot, and a node that comes back with nothing.
//! Must not know: placements.

use crate::fixture::{Node, SHARD, WITHIN, addresses, agree, call, create, newest, store_messages};
use messenger_proto::ids::{ClusterId, NodeId};
use messenger_proto::meta::{ClusterState, NodeInfo, NodeState, ShardPlacement};
use messenger_proto::rpc::{ShardCall, ShardOutcome};
use messenger_raft::group::timing::Timing;
use messenger_raft::types::GroupId;
use std::net::SocketAddr;
use tokio::time::{Duration, sleep, timeout};

pub fn record(addresses: &[SocketAddr], replicas: &[u64]) -> ClusterState {
    let node = |(id, address): (u64, &SocketAddr)| NodeInfo {
        id: NodeId(id),
        zone: String::new(),
        client_addr: String::new(),
        peer_addr: address.to_string(),
        admin_addr: String::new(),
        state: NodeState::Active,
        store: None,
    };
    let replicas: Vec<NodeId> = replicas.iter().copied().map(NodeId).collect();
    let first_members = (1..=3).map(NodeId).collect();
    ClusterState {
        cluster: ClusterId([9; 16]),
        epoch: 2,
        secret: bytes::Bytes::new(),
        nodes: (1..).zip(addresses).map(node).collect(),
        shards: vec![ShardPlacement { shard: SHARD, replicas, first_members, moved: true, held: false }],
        replication: 3,
        wished: 3,
        moves_paused: false,
    }
}

/// Has whoever leads steer until its group is what the record says, and says who voted on the way.
pub async fn steer(nodes: &[&Node], record: &ClusterState) {
    let steering = async {
        loop {
            for node in nodes {
                node.host.steer_shards(record).await;
                let Some(replica) = node.host.shard(SHARD) else { continue };
                let Some(members) = replica.confirmed_members().await else { continue };
                let mut wanted = record.shards[0].replicas.clone();
                wanted.sort();
                if !members.joint && members.learners.is_empty() && members.voters == wanted {
                    return;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WITHIN, steering).await.expect("the group becomes what the record says");
}

pub fn on<'a>(nodes: &'a [Node], ids: &[u64]) -> Vec<&'a Node> {
    nodes.iter().filter(|node| ids.contains(&node.host.node().0)).collect()
}

async fn there_and_back(timing: Timing) {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(id, directory.path(), &addresses, timing).await);
    }
    let all: Vec<&Node> = nodes.iter().collect();
    assert!(matches!(call(&all, ShardCall::Command(create())).await, ShardOutcome::Reply(_)));
    store_messages(&all, 0..50).await;

    // Of three only one stays, whoever leads; the others are destroyed and come back with nothing.
    steer(&all, &record(&addresses, &[2])).await;
    for node in on(&nodes, &[1, 3]) {
        let before = node.host.shard(SHARD).unwrap().metrics();
        assert!(!node.host.retire(SHARD, async { false }).await.unwrap(), "it is not needless");
        assert!(node.host.shard(SHARD).is_some() && node.host.stored_shards().unwrap() == [SHARD]);
        assert!(node.host.retire(SHARD, async { true }).await.unwrap());
        assert!(node.host.shard(SHARD).is_none() && node.host.stored_shards().unwrap().is_empty());
        let again = node.host.start_shard(SHARD).await.unwrap();
        assert!(!again.is_whole() && again.metrics().last_log_index.is_none());
        let vote = node.store.vote(GroupId::of_shard(SHARD)).unwrap();
        assert!(vote.is_some_and(|vote| vote.leader_id.term >= before.current_term), "it votes once in a term");
        let forgotten = node.store.forgotten(GroupId::of_shard(SHARD)).unwrap();
        assert!(forgotten.map(|at| at.index) >= before.last_log_index);
    }
    store_messages(&on(&nodes, &[2]), 50..120).await;

    // And back, without the one that stayed.
    steer(&all, &record(&addresses, &[1, 2, 3])).await;
    agree(&all).await;
    assert!(all.iter().all(|node| node.host.shard(SHARD).unwrap().is_whole()));
    steer(&all, &record(&addresses, &[1, 3])).await;
    assert!(nodes[1].host.retire(SHARD, async { true }).await.unwrap());
    let left = on(&nodes, &[1, 3]);
    store_messages(&left, 120..150).await;
    agree(&left).await;
    assert_eq!(newest(&left, 100).await.len(), 100);
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_move_there_and_back_by_their_logs() {
    there_and_back(Timing::default()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_move_there_and_back_by_snapshots() {
    there_and_back(Timing { snapshot_every: 10, keep_entries: 2, ..Timing::default() }).await;
}
