//! A replica that was destroyed and comes back does no harm with what it does not know any more.
//!
//! Owns: one that has only that part of the log in which it decided alone; its votes.
//! Must not know: placements.

use crate::fixture::{Node, SHARD, WITHIN, addresses, agree, call, create, store_messages};
use crate::moves::{on, record, steer};
use messenger_proto::rpc::{ShardCall, ShardOutcome};
use messenger_raft::entry::{Entry, LogId};
use messenger_raft::group::timing::Timing;
use messenger_raft::transport::{Groups, RaftPort};
use messenger_raft::types::{GroupId, TypeConfig, Vote};
use openraft::EntryPayload;
use openraft::raft::VoteRequest;
use openraft::storage::{RaftLogReader, RaftLogStorageExt};
use openraft::type_config::alias::LeaderIdOf;
use openraft::vote::RaftLeaderId;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout};

const GROUP: GroupId = GroupId(SHARD.0 + 1);

fn is_alone(entry: &Entry, node: u64) -> bool {
    let EntryPayload::Membership(members) = &entry.payload else { return false };
    members.get_joint_config().len() == 1 && members.voter_ids().eq([node])
}

/// Three replicas; then the first alone; then the second alone, and what the first had is destroyed. What the log says of
/// the time when the first was alone, and where its log ended.
async fn left_behind(nodes: &[Node], addresses: &[std::net::SocketAddr]) -> (Vec<Entry>, LogId) {
    let all: Vec<&Node> = nodes.iter().collect();
    assert!(matches!(call(&all, ShardCall::Command(create())).await, ShardOutcome::Reply(_)));
    steer(&all, &record(addresses, &[1])).await;
    store_messages(&on(nodes, &[1]), 0..10).await;
    steer(&all, &record(addresses, &[2])).await;
    assert!(nodes[0].host.retire(SHARD, async { true }).await.unwrap());
    store_messages(&on(nodes, &[2]), 10..20).await;
    let log = nodes[1].store.log(GROUP).unwrap().try_get_log_entries(..).await.unwrap();
    let alone = log.iter().position(|entry| is_alone(entry, 1)).expect("it decided alone once");
    (log[..=alone].to_vec(), nodes[0].store.forgotten(GROUP).unwrap().expect("it had a log"))
}

async fn start_all(directory: &std::path::Path, addresses: &[std::net::SocketAddr]) -> Vec<Node> {
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(id, directory, addresses, Timing::default()).await);
    }
    nodes
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_that_decided_alone_once_does_not_lead_by_that() {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let nodes = start_all(directory.path(), &addresses).await;
    let (piece, forgotten) = left_behind(&nodes, &addresses).await;
    assert!(piece.last().is_some_and(|last| last.log_id < forgotten));

    // It comes back, is sent that part, and whoever sends it is gone.
    nodes[0].store.log(GROUP).unwrap().blocking_append(piece).await.unwrap();
    let replica = nodes[0].host.start_shard(SHARD).await.unwrap();
    let timing = Timing::default();
    let until = Instant::now() + 4 * (timing.election_max + timing.heartbeat);
    while Instant::now() < until {
        nodes[0].host.campaigns(true);
        replica.campaign().await;
        assert!(!replica.leads() && !replica.is_whole());
        // Several elections' time: what is to be seen is that nothing happens.
        sleep(Duration::from_millis(50)).await;
    }

    // Taken in again it catches up, and is as good as any: also to lead, when it is the only one that stays.
    let all: Vec<&Node> = nodes.iter().collect();
    steer(&all, &record(&addresses, &[1, 2, 3])).await;
    agree(&all).await;
    assert!(replica.is_whole());
    steer(&all, &record(&addresses, &[1])).await;
    store_messages(&on(&nodes, &[1]), 20..30).await;
    for node in nodes {
        node.stop().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn its_vote_is_for_those_alone_who_have_what_it_had() {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let nodes = start_all(directory.path(), &addresses).await;
    let (piece, forgotten) = left_behind(&nodes, &addresses).await;
    let last = piece.last().expect("it has entries").log_id;
    nodes[0].store.log(GROUP).unwrap().blocking_append(piece).await.unwrap();
    nodes[0].host.start_shard(SHARD).await.unwrap();
    let port = nodes[0].registry.port(GROUP).unwrap();
    let term = nodes[0].store.vote(GROUP).unwrap().unwrap().leader_id.term;
    let asks = |term: u64, last: LogId| {
        let vote = Vote { leader_id: LeaderIdOf::<TypeConfig>::new(term, 3), committed: false };
        VoteRequest::<TypeConfig>::new(vote, Some(last))
    };
    // Another one that came back like it, and has the same part: by itself it would vote for that.
    let answer = port.vote(asks(term + 1, last)).await.unwrap();
    assert!(!answer.vote_granted && answer.last_log_id == Some(forgotten), "{answer:?}");
    assert!(!port.pre_vote(asks(term + 1, last)).await.unwrap().vote_granted);
    let granted = async {
        let mut term = term + 1;
        // As long as it takes the leader it last heard of for alive it votes for nobody.
        while !port.vote(asks(term, forgotten)).await.unwrap().vote_granted {
            sleep(Duration::from_millis(20)).await;
            term += 1;
        }
    };
    timeout(WITHIN, granted).await.expect("who has what it had gets its vote");
    for node in nodes {
        node.stop().await;
    }
}
