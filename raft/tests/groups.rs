//! Whole groups: three hosts over real sockets and real storage.
//!
//! Owns: what holds of a group as such: agreement, failover, catching up by log and by snapshot.
//! Must not know: routers, gateways.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use messenger_proto::command::{Command, CreateThread, IndexMembership, Op, Retention, SendMessage};
use messenger_proto::ids::{ClientSeq, ClusterId, CommandId, DeviceId, NodeId, ShardId, ThreadId, UserId};
use messenger_proto::model::{ContentType, ThreadKind};
use messenger_proto::query::{Answer, HistoryQuery, HistoryRange, Query, SeqBound};
use messenger_proto::rpc::{ShardCall, ShardOutcome, ShardRequest};
use messenger_raft::clock::HybridClock;
use messenger_raft::group::host::{Host, HostParts};
use messenger_raft::group::outbox::CrossShard;
use messenger_raft::group::registry::Registry;
use messenger_raft::group::timing::Timing;
use messenger_raft::store::{Store, StoreOptions};
use messenger_raft::transport::{Identity, LinkHandler, Links, Method, Peer, PeerServer, Peers, TransportConfig};
use messenger_raft::types::GroupId;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout};
use tokio_util::sync::CancellationToken;

type Metrics = openraft::RaftMetrics<messenger_raft::types::TypeConfig>;

const SHARD: ShardId = ShardId(0);
const WITHIN: Duration = Duration::from_secs(60);
const THREAD: ThreadId = ThreadId([7; 16]);

/// Every change of membership arrives at once: these tests have one shard.
struct Nowhere;

impl CrossShard for Nowhere {
    fn deliver(&self, _change: IndexMembership) -> BoxFuture<'_, Result<(), String>> {
        async { Ok(()) }.boxed()
    }
}

struct NoCalls;

impl LinkHandler for NoCalls {
    async fn handle(&self, _: NodeId, _: Method, _: GroupId, _: Bytes) -> Result<Bytes, String> {
        Err("nothing is called here".into())
    }
    fn subscribe(
        &self,
        _: NodeId,
        _: ShardId,
        _: mpsc::Receiver<messenger_proto::rpc::InterestChange>,
    ) -> Result<mpsc::Receiver<messenger_proto::rpc::StreamItem>, String> {
        Err("nothing is streamed here".into())
    }
}

struct Node {
    host: Host,
    links: Links,
    stop: CancellationToken,
}

impl Node {
    async fn start(id: u64, directory: &Path, addresses: &[SocketAddr], timing: Timing) -> Self {
        let cluster = ClusterId([9; 16]);
        let store = Store::open(&directory.join(id.to_string()), StoreOptions::default()).unwrap();
        let known = store.identity().unwrap();
        let identity = known.unwrap_or_else(|| store.create_identity(cluster, NodeId(id)).unwrap());
        let identity = Identity { cluster, node: NodeId(id), store: identity.store };
        let peers: Peers = (1..)
            .zip(addresses)
            .map(|(node, address)| (NodeId(node), Peer { addr: address.to_string(), store: None }))
            .collect();
        let (_, peers) = watch::channel(Arc::new(peers));
        let clock = HybridClock::system();
        let config = TransportConfig::default();
        let links = Links::start(identity.clone(), clock.clone(), peers.clone(), config.clone());
        let registry = Registry::new(store.clone());
        let host = Host::new(HostParts {
            node: NodeId(id),
            store,
            clock: clock.clone(),
            links: links.clone(),
            registry: registry.clone(),
            timing,
            admission_bytes: 1 << 24,
            tail_bytes: 1 << 20,
            cross: Arc::new(Nowhere),
            runtime: Handle::current(),
        })
        .unwrap();
        let server = PeerServer::new(identity, clock, peers, Arc::new(registry), Arc::new(NoCalls), config);
        let listener = TcpListener::bind(addresses[id as usize - 1]).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(listener, stop.clone()));
        host.start_shard(SHARD).await.unwrap();
        let members: Vec<_> = (1..).zip(addresses).map(|(node, address)| (NodeId(node), address.to_string())).collect();
        host.initialize(GroupId::of_shard(SHARD), &members).await.unwrap();
        Self { host, links, stop }
    }

    async fn stop(self) {
        self.stop.cancel();
        self.links.shutdown();
        self.host.stop().await;
    }
}

async fn addresses() -> Vec<SocketAddr> {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    }
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn create() -> Command {
    let op = Op::CreateThread(CreateThread {
        thread: THREAD,
        kind: ThreadKind::OneToOne,
        creator: user("a"),
        others: vec![user("b")],
        title: None,
        description: None,
    });
    Command { id: CommandId([1; 16]), retention: Retention::Minted, body_hash: 1, op }
}

fn send(number: u64) -> Command {
    let op = Op::SendMessage(SendMessage {
        thread: THREAD,
        sender: user("a"),
        device: DeviceId::new("d").unwrap(),
        client_seq: ClientSeq(number),
        ciphertext: number.to_be_bytes().to_vec().into(),
        content_type: ContentType::Text,
        attachments: vec![],
        reply_to: None,
    });
    let mut id = [2; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Command { id: CommandId(id), retention: Retention::Minted, body_hash: number, op }
}

/// Asks whichever replica leads, until one answers.
async fn call(nodes: &[&Node], call: ShardCall) -> ShardOutcome {
    let request = ShardRequest { shard: SHARD, deadline_ms: 5_000, call };
    let asking = async {
        loop {
            for node in nodes {
                match node.host.call(GroupId::of_shard(SHARD), &request).await {
                    Ok(ShardOutcome::Redirect(_)) | Err(_) => {}
                    Ok(outcome) => return outcome,
                }
            }
            tokio::task::yield_now().await;
        }
    };
    timeout(WITHIN, asking).await.expect("a leader answers")
}

async fn store_messages(nodes: &[&Node], numbers: std::ops::Range<u64>) {
    for number in numbers {
        let outcome = call(nodes, ShardCall::Command(send(number))).await;
        assert!(matches!(outcome, ShardOutcome::Reply(_)), "{outcome:?}");
    }
}

async fn newest(nodes: &[&Node], limit: u32) -> Vec<Vec<u8>> {
    let query = HistoryQuery {
        thread: THREAD,
        viewer: user("b"),
        device: DeviceId::new("d").unwrap(),
        range: HistoryRange::NewestBefore(SeqBound { seq: messenger_proto::ids::Seq(0) }),
        limit,
    };
    match call(nodes, ShardCall::Query(Query::History(query))).await {
        ShardOutcome::Answer(Answer::Messages(page)) => {
            page.messages.into_iter().map(|message| message.ciphertext.unwrap().to_vec()).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// Waits until every replica has applied the same entry, and checks that they hold the same rows.
async fn agree(nodes: &[&Node]) {
    let deadline = Instant::now() + WITHIN;
    loop {
        let states: Vec<_> = nodes
            .iter()
            .map(|node| {
                let replica = node.host.shard(SHARD).unwrap();
                let view = replica.reader().view();
                (view.applied().unwrap(), view.full_hash().unwrap(), replica.metrics().last_log_index)
            })
            .collect();
        let (applied, hash, last) = &states[0];
        let level = states.iter().all(|state| state.0 == *applied && state.2 == *last);
        if level && applied.as_ref().map(|at| at.index) == *last {
            assert!(states.iter().all(|state| state.1 == *hash), "replicas differ at {applied:?}");
            return;
        }
        assert!(Instant::now() < deadline, "replicas do not level: {states:?}");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

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
