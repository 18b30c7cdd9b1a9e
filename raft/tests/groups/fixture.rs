//! Hosts of one group over real sockets and real storage.
//!
//! Owns: starting and stopping them, calls to whichever leads, and what they hold.
//! Must not know: what is tested.

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use messenger_proto::command::{Command, CreateThread, IndexMembership, Op, Retention, SendMessage};
use messenger_proto::ids::{ClientSeq, ClusterId, CommandId, DeviceId, NodeId, ShardId, ThreadId, UserId};
use messenger_proto::model::{ContentType, ThreadKind};
use messenger_proto::profile::Profile;
use messenger_proto::query::{Answer, HistoryQuery, HistoryRange, Query, SeqBound};
use messenger_proto::rpc::{ShardCall, ShardOutcome, ShardRequest};
use messenger_raft::clock::HybridClock;
use messenger_raft::group::host::{Host, HostParts};
use messenger_raft::group::outbox::{CrossShard, NotArrived};
use messenger_raft::group::registry::Registry;
use messenger_raft::group::timing::Timing;
use messenger_raft::store::{Store, StoreOptions};
use messenger_raft::transport::{LinkHandler, Links, Method, Peer, PeerServer, Peers, TransportConfig};
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

pub const SHARD: ShardId = ShardId(0);
pub const WITHIN: Duration = Duration::from_mins(1);
pub const THREAD: ThreadId = ThreadId([7; 16]);

/// Every change of membership arrives at once: these tests have one shard.
pub struct Nowhere;

impl CrossShard for Nowhere {
    fn shard_of(&self, _user: &UserId) -> Option<ShardId> {
        None
    }

    fn deliver(&self, _change: IndexMembership) -> BoxFuture<'_, Result<Option<Profile>, NotArrived>> {
        async { Ok(None) }.boxed()
    }

    fn tell(&self, _: UserId, _: Profile, _: Vec<ThreadId>) -> BoxFuture<'_, Result<(), NotArrived>> {
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

/// What a node has to do with beside its peers.
pub struct World {
    pub cross: Arc<dyn CrossShard>,
    pub clock: HybridClock,
}

impl Default for World {
    fn default() -> Self {
        Self { cross: Arc::new(Nowhere), clock: HybridClock::system() }
    }
}

pub struct Node {
    pub host: Host,
    pub store: Store,
    pub registry: Registry,
    links: Links,
    stop: CancellationToken,
}

impl Node {
    pub async fn start(id: u64, directory: &Path, addresses: &[SocketAddr], timing: Timing) -> Self {
        Self::start_with(id, directory, addresses, timing, World::default()).await
    }

    pub async fn start_with(id: u64, directory: &Path, addresses: &[SocketAddr], timing: Timing, world: World) -> Self {
        let World { cross, clock } = world;
        let cluster = ClusterId([9; 16]);
        let store = Store::open(&directory.join(id.to_string()), StoreOptions::default()).unwrap();
        let known = store.identity().unwrap();
        let identity = known.unwrap_or_else(|| store.create_identity(cluster, NodeId(id)).unwrap());
        let peers: Peers = (1..)
            .zip(addresses)
            .map(|(node, address)| (NodeId(node), Peer { addr: address.to_string(), store: None }))
            .collect();
        let (_, peers) = watch::channel(Arc::new(peers));
        let config = TransportConfig::default();
        let links = Links::start(identity, clock.clone(), peers.clone(), config.clone());
        let registry = Registry::new(store.clone());
        let host = Host::new(HostParts {
            node: NodeId(id),
            store: store.clone(),
            clock: clock.clone(),
            links: links.clone(),
            registry: registry.clone(),
            timing,
            admission_bytes: 1 << 24,
            disk_reserve_bytes: 0,
            tail_bytes: 1 << 20,
            cross,
            runtime: Handle::current(),
            storage_watch: Handle::current(),
            erase_every: Duration::from_mins(10),
        })
        .unwrap();
        let (groups, calls) = (Arc::new(registry.clone()), Arc::new(NoCalls));
        let server = PeerServer::new(identity, clock, peers, groups, calls, config);
        let listener = TcpListener::bind(addresses[id as usize - 1]).await.unwrap();
        let stop = CancellationToken::new();
        tokio::spawn(server.serve(listener, stop.clone()));
        host.start_shard(SHARD).await.unwrap();
        let members: Vec<_> = (1..).zip(addresses).map(|(node, address)| (NodeId(node), address.to_string())).collect();
        host.initialize(GroupId::of_shard(SHARD), &members).await.unwrap();
        Self { host, store, registry, links, stop }
    }

    pub async fn stop(self) {
        self.stop.cancel();
        self.links.shutdown();
        self.host.stop().await;
    }
}

pub async fn addresses() -> Vec<SocketAddr> {
    let mut listeners = Vec::new();
    for _ in 0..3 {
        listeners.push(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap());
    }
    listeners.iter().map(|listener| listener.local_addr().unwrap()).collect()
}

pub fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

pub fn create() -> Command {
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

pub fn send(number: u64) -> Command {
    let op = Op::SendMessage(SendMessage {
        thread: THREAD,
        sender: user("a"),
        device: DeviceId::new("d").unwrap(),
        client_seq: ClientSeq(number),
        ciphertext: number.to_be_bytes().to_vec().into(),
        content_type: ContentType::Text,
        attachments: vec![],
        reply_to: None,
        ttl_s: None,
        envelopes: None,
    });
    let mut id = [2; 16];
    id[..8].copy_from_slice(&number.to_be_bytes());
    Command { id: CommandId(id), retention: Retention::Minted, body_hash: number, op }
}

/// Asks whichever replica leads, until one answers.
pub async fn call(nodes: &[&Node], call: ShardCall) -> ShardOutcome {
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

pub async fn store_messages(nodes: &[&Node], numbers: std::ops::Range<u64>) {
    for number in numbers {
        let outcome = call(nodes, ShardCall::Command(send(number))).await;
        assert!(matches!(outcome, ShardOutcome::Reply(_)), "{outcome:?}");
    }
}

pub async fn newest(nodes: &[&Node], limit: u32) -> Vec<Vec<u8>> {
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
pub async fn agree(nodes: &[&Node]) {
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
