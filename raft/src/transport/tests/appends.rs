//! Replication: order, pipelining, windows, rejections.

use super::fixture::*;
use crate::transport::codec::Append;
use crate::transport::*;
use crate::types::{GroupId, Vote};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{StreamExt, stream};
use messenger_proto::ids::NodeId;
use openraft::BasicNode;
use openraft::errors::RPCError;
use openraft::network::{RPCOption, RaftNetworkFactory, RaftNetworkV2};
use openraft::raft::{AppendEntriesResponse, StreamAppendError, TransferLeaderRequest, VoteRequest};
use std::collections::BTreeSet;
use std::sync::atomic::Ordering;
use std::time::Duration;

type Client = Network<FakeSnapshots>;

fn option() -> RPCOption {
    RPCOption::new(Duration::from_secs(20))
}

async fn client(one: &Node, group: GroupId) -> Client {
    one.network(group).new_client(2, &BasicNode::default()).await
}

async fn heartbeat_client(one: &Node, group: GroupId) -> Client {
    one.network(group).new_heartbeat_client(2, &BasicNode::default()).await
}

/// Appends of one entry each, and then the leader has nothing more for the time being.
fn appends(indexes: std::ops::Range<u64>) -> BoxStream<'static, Append> {
    stream::iter(indexes).map(|index| append(index, &[100])).chain(stream::pending()).boxed()
}

#[tokio::test]
async fn appends_are_pipelined_and_keep_their_order() {
    let port = FakePort::holding_back();
    let (one, _two) = pair(TransportConfig::default(), port.clone()).await;
    let mut network = client(&one, GROUP).await;
    let mut results = network.stream_append(appends(0..500), option()).await.unwrap();
    // As many as the window allows arrive before the first is answered.
    tokio::select! {
        _ = results.next() => panic!("nothing was answered yet"),
        indexes = port.wait_appended(64) => assert_eq!(indexes, (0..64).collect::<Vec<_>>()),
    }
    port.answers.add_permits(500);
    for index in 0..500 {
        assert_eq!(results.next().await.unwrap().unwrap(), Ok(Some(id(index))));
    }
    assert_eq!(*port.appended.borrow(), (0..500).collect::<Vec<_>>());
    assert_eq!(port.sessions.load(Ordering::SeqCst), 1);
}

#[tokio::test]
async fn the_window_bounds_what_is_under_way() {
    for (config, expected) in [
        (TransportConfig { append_window: 5, ..TransportConfig::default() }, 5),
        // Entries of 100 bytes: the third append goes beyond 300.
        (TransportConfig { append_window_bytes: 300, ..TransportConfig::default() }, 3),
    ] {
        let port = FakePort::holding_back();
        let (one, _two) = pair(config, port.clone()).await;
        let mut network = client(&one, GROUP).await;
        let mut results = network.stream_append(appends(0..50), option()).await.unwrap();
        let fence = async {
            port.wait_appended(expected).await;
            // Whatever else was sent came before this call on the same lane.
            one.call(Lane::Bulk, "fence").await.unwrap();
        };
        tokio::select! {
            _ = results.next() => panic!("nothing was answered yet"),
            () = fence => {}
        }
        assert_eq!(port.appended.borrow().len(), expected);
        port.answers.add_permits(1);
        results.next().await.unwrap().unwrap().unwrap();
        tokio::select! {
            more = results.next() => panic!("nothing more was answered, but {more:?}"),
            _ = port.wait_appended(expected + 1) => {}
        }
    }
}

#[tokio::test]
async fn a_long_append_is_sent_in_parts_that_are_acknowledged_in_order() {
    let config = TransportConfig { append_bytes: 1_000, ..TransportConfig::default() };
    let port = FakePort::default();
    let (one, _two) = pair(config, port.clone()).await;
    let mut network = client(&one, GROUP).await;
    let input = stream::iter([append(10, &[400; 5])]).boxed();
    let results: Vec<_> = network.stream_append(input, option()).await.unwrap().collect().await;
    let matched: Vec<_> = results.into_iter().map(|result| result.unwrap().unwrap().unwrap().index).collect();
    assert_eq!(matched, [11, 13, 14]);
    assert_eq!(*port.appended.borrow(), [10, 12, 14]);

    let lone = network.append_entries(append(20, &[400; 5]), option()).await.unwrap();
    assert_eq!(lone, AppendEntriesResponse::PartialSuccess(Some(id(21))));
}

#[tokio::test]
async fn a_rejection_ends_the_stream_and_the_next_one_starts_clean() {
    let port = FakePort { conflict_at: Some(30), ..FakePort::default() };
    let (one, _two) = pair(TransportConfig::default(), port.clone()).await;
    let mut network = client(&one, GROUP).await;
    let results: Vec<_> = network.stream_append(appends(28..60), option()).await.unwrap().collect().await;
    let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(results, [Ok(Some(id(28))), Ok(Some(id(29))), Err(StreamAppendError::Conflict(id(29)))]);

    let mut again = network.stream_append(appends(40..45), option()).await.unwrap();
    for index in 40..45 {
        assert_eq!(again.next().await.unwrap().unwrap(), Ok(Some(id(index))));
    }
    drop(again);
    assert_eq!(port.sessions.load(Ordering::SeqCst), 2);
    // The replica's reader of the first session does not linger.
    let mut open = port.open_sessions.subscribe();
    let closed = open.wait_for(|open| *open == 1);
    tokio::time::timeout_at(soon(), closed).await.expect("closed in time").unwrap();
}

#[tokio::test]
async fn an_ended_input_ends_the_stream_after_its_answers() {
    let (one, _two) = pair(TransportConfig::default(), FakePort::default()).await;
    let mut network = client(&one, GROUP).await;
    let input = stream::iter([append(3, &[]), append(4, &[10])]).boxed();
    let results: Vec<_> = network.stream_append(input, option()).await.unwrap().collect().await;
    let results: Vec<_> = results.into_iter().map(Result::unwrap).collect();
    assert_eq!(results, [Ok(Some(id(2))), Ok(Some(id(4)))]);
}

#[tokio::test]
async fn heartbeats_and_votes_pass_a_stalled_replication() {
    let port = FakePort::holding_back();
    let config = TransportConfig { append_window_bytes: 64 * 1024 * 1024, ..TransportConfig::default() };
    let (one, _two) = pair(config, port.clone()).await;
    let mut network = client(&one, GROUP).await;
    // More than the bulk lane's flow control lets through.
    let input = stream::iter(0..64).map(|index| append(index, &[1_000_000])).chain(stream::pending()).boxed();
    let mut results = network.stream_append(input, option()).await.unwrap();
    let mut urgent = heartbeat_client(&one, GROUP).await;
    let others = async {
        port.wait_appended(1).await;
        for _ in 0..100 {
            let beat = stream::iter([append(3, &[])]).boxed();
            let results: Vec<_> = urgent.stream_append(beat, option()).await.unwrap().collect().await;
            assert_eq!(results.len(), 1);
            assert_eq!(results.into_iter().next().unwrap().unwrap(), Ok(Some(id(2))));
        }
        let request = VoteRequest::new(vote(), Some(id(9)));
        assert!(!urgent.vote(request, option()).await.unwrap().vote_granted);
    };
    tokio::select! {
        _ = results.next() => panic!("nothing was answered yet"),
        () = others => {}
    }
}

#[tokio::test]
async fn votes_and_transfers_reach_the_replica_as_they_are() {
    let (one, _two) = pair(TransportConfig::default(), FakePort::default()).await;
    let mut network = client(&one, GROUP).await;
    let mut request = VoteRequest::new(vote(), Some(id(9)));
    request.leadership_transfer = true;
    let answer = network.vote(request.clone(), option()).await.unwrap();
    assert_eq!((answer.vote, answer.last_log_id, answer.vote_granted), (vote(), Some(id(9)), true));
    let answer = network.pre_vote(request, option()).await.unwrap();
    assert_eq!((answer.vote, answer.last_log_id, answer.vote_granted), (vote(), None, false));

    let transfer = |to| TransferLeaderRequest::new(vote(), to, Some(id(9)));
    assert_eq!(network.transfer_leader(transfer(2), option()).await.unwrap(), Ok(()));
    assert!(network.transfer_leader(transfer(3), option()).await.is_err());
}

#[tokio::test]
async fn a_lone_append_answers_like_a_stream() {
    let (one, _two) = pair(TransportConfig::default(), FakePort { conflict_at: Some(5), ..FakePort::default() }).await;
    let mut network = client(&one, GROUP).await;
    let good = network.append_entries(append(1, &[10]), option()).await.unwrap();
    assert_eq!(good, AppendEntriesResponse::Success);
    let conflict = network.append_entries(append(5, &[10]), option()).await.unwrap();
    assert_eq!(conflict, AppendEntriesResponse::Conflict);
}

#[tokio::test]
async fn what_cannot_be_reached_is_unreachable_and_what_was_lost_is_a_network_error() {
    let port = FakePort::holding_back();
    let (one, two) = pair(TransportConfig::default(), port.clone()).await;
    let mut elsewhere = client(&one, GroupId(99)).await;
    let mut results = elsewhere.stream_append(appends(0..3), option()).await.unwrap();
    assert!(matches!(results.next().await, Some(Err(RPCError::Unreachable(_)))));
    assert!(results.next().await.is_none());

    let mut network = client(&one, GROUP).await;
    let mut results = network.stream_append(appends(0..3), option()).await.unwrap();
    let stopping = async {
        port.wait_appended(3).await;
        two.stop.cancel();
        std::future::pending::<()>().await;
    };
    tokio::select! {
        result = results.next() => assert!(matches!(result, Some(Err(RPCError::Network(_)))), "{result:?}"),
        () = stopping => {}
    }
    drop(results);
    assert!(one.links.wait_connected(NodeId(2), false, soon()).await);
    let mut results = network.stream_append(appends(0..3), option()).await.unwrap();
    assert!(matches!(results.next().await, Some(Err(RPCError::Unreachable(_)))));
}

#[tokio::test]
async fn a_follower_that_never_answers_is_given_up() {
    let config = TransportConfig { append_stall: Duration::from_millis(100), ..TransportConfig::default() };
    let (one, _two) = pair(config, FakePort::holding_back()).await;
    let mut network = client(&one, GROUP).await;
    let mut results = network.stream_append(appends(0..3), option()).await.unwrap();
    assert!(matches!(results.next().await, Some(Err(RPCError::Timeout(_)))));
    assert!(results.next().await.is_none());
}

#[tokio::test]
async fn groups_do_not_wait_for_each_other() {
    let stuck = FakePort::holding_back();
    let (one, two) = pair(TransportConfig::default(), stuck.clone()).await;
    let other = FakePort::default();
    two.host(GroupId(8), other.clone());
    let (mut first, mut second) = (client(&one, GROUP).await, client(&one, GroupId(8)).await);
    let mut waiting = first.stream_append(appends(0..100), option()).await.unwrap();
    let mut going = second.stream_append(appends(0..100), option()).await.unwrap();
    let others = async {
        stuck.wait_appended(64).await;
        for index in 0..100 {
            assert_eq!(going.next().await.unwrap().unwrap(), Ok(Some(id(index))));
        }
    };
    tokio::select! {
        _ = waiting.next() => panic!("nothing was answered yet"),
        () = others => {}
    }
}

#[tokio::test]
async fn malformed_appends_are_refused_and_disturb_nobody() {
    let (one, _two) = pair(TransportConfig::default(), FakePort::default()).await;
    for method in [Method::Append, Method::Heartbeat, Method::Vote, Method::PreVote, Method::TransferLeader] {
        let garbage = Bytes::from_static(b"\xff\xfe garbage");
        let answer = one.links.call(NodeId(2), Lane::Bulk, method, GROUP, garbage, soon()).await;
        assert!(matches!(answer, Err(LinkError::Refused(_))), "{method:?}: {answer:?}");
    }
    assert_eq!(one.call(Lane::Bulk, "fine").await.unwrap(), "fine");
}

#[tokio::test]
async fn a_leader_leads_while_a_majority_of_every_configuration_follows_it() {
    let leads_by = async |vote: Vote, port: FakePort, voters: &[&[u64]]| {
        let (one, _two) = pair(TransportConfig::default(), port).await;
        let configurations: Vec<BTreeSet<u64>> = voters.iter().map(|voters| voters.iter().copied().collect()).collect();
        still_leads(&one.links, GROUP, vote, &configurations, soon()).await
    };
    let leads = async |port: FakePort, voters: &[&[u64]]| leads_by(vote(), port, voters).await;
    assert!(leads(FakePort::default(), &[&[1, 2, 3]]).await, "node 2 follows, node 3 is not there");
    assert!(!leads(FakePort::default(), &[&[1, 2, 3], &[1, 3]]).await, "node 3 would have to follow too");
    let voted = FakePort { voted: Some(Vote::new_committed(2, 3)), ..FakePort::default() };
    assert!(!leads(voted, &[&[1, 2]]).await, "node 2 follows another");
    let others = [Vote::new_committed(1, 2), Vote::new(1, 1)];
    for vote in others {
        assert!(!leads_by(vote, FakePort::default(), &[&[1, 2]]).await, "{vote} is not of a leader that is this node");
    }
}
