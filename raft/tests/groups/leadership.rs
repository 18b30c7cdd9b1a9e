//! Who leads, and what a call hears when that changes.
//!
//! Owns: hand-overs to nodes that are ready, and what is said of calls that fall into one.

use crate::fixture::{Node, SHARD, WITHIN, World, addresses, call, create, send};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use messenger_proto::command::IndexMembership;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{NodeId, ShardId, ThreadId, UserId};
use messenger_proto::profile::Profile;
use messenger_proto::rpc::{ShardCall, ShardOutcome, ShardRequest};
use messenger_raft::clock::{HybridClock, Reading, SystemSource, TimeSource};
use messenger_raft::group::outbox::{CrossShard, NotArrived};
use messenger_raft::group::timing::Timing;
use messenger_raft::machine;
use messenger_raft::types::GroupId;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use tokio::time::{Duration, Instant, sleep, timeout};

async fn three(directory: &std::path::Path) -> Vec<Node> {
    let addresses = addresses().await;
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(id, directory, &addresses, Timing::default()).await);
    }
    nodes
}

fn request(call: ShardCall, deadline_ms: u32) -> ShardRequest {
    ShardRequest { shard: SHARD, deadline_ms, call }
}

/// The node that leads, once all say so and it has heard from the others.
pub async fn leader(nodes: &[Node]) -> &Node {
    let asking = async {
        loop {
            let leading = nodes.iter().find(|node| node.host.shard(SHARD).is_some_and(|replica| replica.leads()));
            if let Some(leading) = leading {
                let id = leading.host.node();
                let replica = leading.host.shard(SHARD).unwrap();
                let followed = nodes.iter().all(|node| node.host.shard(SHARD).unwrap().leader() == Some(id));
                let level = |voter: &messenger_raft::group::balance::Voter| {
                    voter.node == id || (voter.lag == 0 && voter.silence_ms.is_some())
                };
                if followed && replica.voters().iter().all(level) {
                    return leading;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WITHIN, asking).await.expect("a leader is found")
}

/// Waits for what a node shows sooner or later.
async fn until(what: &str, limit: Duration, holds: impl Fn() -> bool) {
    let asking = async {
        while !holds() {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(limit, asking).await.expect(what);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_go_only_to_nodes_that_are_ready() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    let all: Vec<&Node> = nodes.iter().collect();
    assert!(matches!(call(&all, ShardCall::Command(create())).await, ShardOutcome::Reply(_)));
    let leading = leader(&nodes).await;
    let others: BTreeSet<NodeId> = leading.host.successors(true);
    assert_eq!(others.len(), 2, "both followers could take over");
    assert_eq!(leading.host.successors(false), BTreeSet::new(), "no placement wants it elsewhere");

    assert_eq!(leading.host.balance(true, &BTreeSet::new()).await, 1);
    let moved = nodes.iter().filter(|node| node.host.node() != leading.host.node());
    let target = moved.map(|node| node.host.node()).max().unwrap();
    leading.host.balance(true, &[target].into()).await;
    let handed_over = async {
        while leader(&nodes).await.host.node() != target {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WITHIN, handed_over).await.expect("the ready node leads");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_command_that_meets_a_hand_over_is_sent_to_the_next_leader() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    let all: Vec<&Node> = nodes.iter().collect();
    assert!(matches!(call(&all, ShardCall::Command(create())).await, ShardOutcome::Reply(_)));
    let mut redirected = false;
    for number in 0..20 {
        let leading = leader(&nodes).await;
        let target = leading.host.successors(true).into_iter().next().unwrap();
        leading.host.shard(SHARD).unwrap().transfer(target).await;
        let sent = leading.host.call(GroupId::of_shard(SHARD), &request(ShardCall::Command(send(number)), 5_000)).await;
        match sent.expect("nothing was appended, and that is known") {
            ShardOutcome::Redirect(redirect) => {
                redirected = true;
                assert!(redirect.leader.is_none_or(|to| to == target), "{redirect:?}");
            }
            ShardOutcome::Reply(_) => {}
            other => panic!("{other:?}"),
        }
        until("the target takes over", WITHIN, || !leading.host.shard(SHARD).unwrap().leads()).await;
    }
    assert!(redirected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_asks_all_the_time_who_leads_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    let all: Vec<&Node> = nodes.iter().collect();
    assert!(matches!(call(&all, ShardCall::Command(create())).await, ShardOutcome::Reply(_)));
    let replica = leader(&nodes).await.host.shard(SHARD).unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let asking = std::thread::spawn({
        let done = Arc::clone(&done);
        move || while !done.load(Ordering::Relaxed) && replica.leading_term().is_some() {}
    });
    let sending = async {
        for number in 0..500 {
            assert!(matches!(call(&all, ShardCall::Command(send(number))).await, ShardOutcome::Reply(_)));
        }
    };
    if timeout(3 * WITHIN, sending).await.is_err() {
        // Threads that wait for each other can't be wound down.
        eprintln!("the group stands still");
        std::process::exit(101);
    }
    done.store(true, Ordering::Relaxed);
    asking.join().unwrap();
}

/// Other shards that answer for everybody but `b`, unless they do for all.
struct Silent {
    for_all: bool,
}

impl CrossShard for Silent {
    fn shard_of(&self, user: &UserId) -> Option<ShardId> {
        Some(ShardId(u32::from(user.as_str() == "b")))
    }

    fn deliver(&self, change: IndexMembership) -> BoxFuture<'_, Result<Option<Profile>, NotArrived>> {
        if self.for_all || change.user.as_str() != "b" {
            async { Ok(None) }.boxed()
        } else {
            std::future::pending().boxed()
        }
    }

    fn tell(&self, _: UserId, _: Profile, _: Vec<ThreadId>) -> BoxFuture<'_, Result<(), NotArrived>> {
        async { Ok(()) }.boxed()
    }
}

fn silent(for_all: bool) -> World {
    World { cross: Arc::new(Silent { for_all }), ..World::default() }
}

fn outbox(node: &Node) -> Vec<String> {
    let replica = node.host.shard(SHARD).unwrap();
    let rows = machine::outbox_scan(&replica.reader().view(), None, 100).unwrap();
    rows.into_iter().map(|(key, _)| key.user.as_str().to_owned()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_that_waits_for_other_shards_comes_before_its_caller_gives_up() {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let alone = Node::start_with(1, directory.path(), &addresses[..1], Timing::default(), silent(false)).await;
    let (group, nodes) = (GroupId::of_shard(SHARD), [alone]);
    let alone = leader(&nodes).await;
    let deadline = Instant::now() + Duration::from_millis(800);
    let outcome = alone.host.call(group, &request(ShardCall::Command(create()), 800)).await;
    assert!(Instant::now() < deadline, "the caller has left");
    assert!(matches!(outcome, Ok(ShardOutcome::Refused(refusal)) if refusal.code == ErrorCode::OutcomeUnknown));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_for_shards_that_answer_leave_the_outbox_before_those_for_one_that_does_not() {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let alone = Node::start_with(1, directory.path(), &addresses[..1], Timing::default(), silent(false)).await;
    let nodes = [alone];
    let alone = leader(&nodes).await;
    let creating = alone.host.clone();
    let create = request(ShardCall::Command(create()), 60_000);
    let creating = tokio::spawn(async move { creating.call(GroupId::of_shard(SHARD), &create).await });
    until("the other row leaves", WITHIN / 2, || outbox(alone) == ["b"]).await;
    creating.abort();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_answer_outlives_the_leadership_of_the_node_that_gives_it() {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let mut nodes = Vec::new();
    for id in 1..=3 {
        // The first one can't deliver.
        nodes.push(Node::start_with(id, directory.path(), &addresses, Timing::default(), silent(id != 1)).await);
    }
    let first_leads = async {
        while leader(&nodes).await.host.node() != NodeId(1) {
            leader(&nodes).await.host.balance(true, &[NodeId(1)].into()).await;
            sleep(Duration::from_millis(100)).await;
        }
    };
    timeout(WITHIN, first_leads).await.expect("the first one leads");
    let first = nodes[0].host.clone();
    let create = request(ShardCall::Command(create()), 60_000);
    let creating = tokio::spawn(async move { first.call(GroupId::of_shard(SHARD), &create).await });
    until("what can't be delivered is left", WITHIN, || outbox(&nodes[0]) == ["b"]).await;
    leader(&nodes).await.host.shard(SHARD).unwrap().transfer(NodeId(2)).await;
    let answer = timeout(WITHIN / 2, creating).await.expect("the next leader delivers").unwrap();
    assert!(matches!(answer, Ok(ShardOutcome::Reply(_))), "{answer:?}");
}

/// A wall clock that can be set.
#[derive(Default)]
struct Settable {
    machine: SystemSource,
    ahead_ms: AtomicU64,
}

impl TimeSource for Settable {
    fn read(&self) -> Reading {
        let Reading { wall_ms, mono_ms } = self.machine.read();
        Reading { wall_ms: wall_ms + self.ahead_ms.load(Ordering::Relaxed), mono_ms }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leader_whose_clock_jumps_ahead_stamps_nothing() {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let (mut nodes, mut clocks) = (Vec::new(), Vec::new());
    for id in 1..=3 {
        let source = Arc::new(Settable::default());
        clocks.push(Arc::clone(&source));
        let world = World { clock: HybridClock::with_source(source), ..World::default() };
        nodes.push(Node::start_with(id, directory.path(), &addresses, Timing::default(), world).await);
    }
    let all: Vec<&Node> = nodes.iter().collect();
    assert!(matches!(call(&all, ShardCall::Command(create())).await, ShardOutcome::Reply(_)));
    let leading = leader(&nodes).await;
    let clock = &clocks[leading.host.node().0 as usize - 1];
    clock.ahead_ms.store(3_600_000, Ordering::Relaxed);
    let sent = leading.host.call(GroupId::of_shard(SHARD), &request(ShardCall::Command(send(0)), 5_000)).await;
    assert!(matches!(sent, Ok(ShardOutcome::Redirect(redirect)) if redirect.leader.is_none()));
    clock.ahead_ms.store(0, Ordering::Relaxed);
    assert!(matches!(call(&all, ShardCall::Command(send(0))).await, ShardOutcome::Reply(_)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_replica_whose_core_dies_takes_the_node_with_it_and_one_that_is_stopped_does_not() {
    let (directory, addresses) = (tempfile::tempdir().unwrap(), addresses().await);
    let stopped = Node::start(1, directory.path(), &addresses[..1], Timing::default()).await;
    let fatal = stopped.store.fatal();
    stopped.stop().await;
    assert!(fatal.borrow().is_none());
    drop(fatal);

    let alone = Node::start(2, directory.path(), &addresses, Timing::default()).await;
    let mut fatal = alone.store.fatal();
    // The core runs this, and panics.
    let _ = alone.host.shard(SHARD).unwrap().raft().external_request(|_| panic!("as told")).await;
    timeout(WITHIN / 2, fatal.wait_for(Option::is_some)).await.expect("the node is told to end").unwrap();
}
