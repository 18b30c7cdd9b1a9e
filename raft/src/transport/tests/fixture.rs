//! Nodes with a listener and links, over controllable replicas.

use super::super::codec::{Append, AppendResult};
use super::super::*;
use crate::clock::HybridClock;
use crate::entry::{Entry, LogId, log_id};
use crate::snapshot::SnapshotError;
use crate::store::snapshot::testing::{Taken, framed};
use crate::types::{GroupId, Identity, PackBytes, SnapshotMeta, TypeConfig, Vote};
use bytes::Bytes;
use futures_util::stream::BoxStream;
use futures_util::{Stream, StreamExt};
use messenger_proto::ids::{ClusterId, NodeId, ShardId, StoreId};
use messenger_proto::rpc::pb::peer_client::PeerClient;
use messenger_proto::rpc::{InForce, InterestChange, StreamItem};
use openraft::EntryPayload;
use openraft::raft::{
    AppendEntriesResponse, StreamAppendError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest, VoteResponse,
};
use openraft::type_config::alias::LeaderIdOf;
use std::collections::HashMap;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tonic::transport::{Channel, Endpoint};

pub(super) const CLUSTER: ClusterId = ClusterId([1; 16]);
pub(super) const GROUP: GroupId = GroupId(7);
pub(super) const NO_GROUP: GroupId = GroupId(0);

/// Far enough for a loaded machine; a test that gets there has failed.
pub(super) fn soon() -> Instant {
    Instant::now() + Duration::from_secs(20)
}

pub(super) fn identity(node: u64) -> Identity {
    Identity { cluster: CLUSTER, node: NodeId(node), store: StoreId([node as u8; 16]) }
}

/// A replica that records what it is sent, and answers appends as far as it is allowed to.
#[derive(Clone)]
pub(super) struct FakePort {
    pub(super) appended: watch::Sender<Vec<u64>>,
    pub(super) sessions: Arc<AtomicUsize>,
    pub(super) open_sessions: watch::Sender<usize>,
    pub(super) answers: Arc<Semaphore>,
    /// Appends that begin at this index conflict.
    pub(super) conflict_at: Option<u64>,
    /// The vote it gave to another, if any.
    pub(super) voted: Option<Vote>,
    pub(super) installed: watch::Sender<Vec<Bytes>>,
}

impl Default for FakePort {
    fn default() -> Self {
        Self {
            appended: watch::channel(Vec::new()).0,
            sessions: Arc::default(),
            open_sessions: watch::channel(0).0,
            answers: Arc::new(Semaphore::new(Semaphore::MAX_PERMITS)),
            conflict_at: None,
            voted: None,
            installed: watch::channel(Vec::new()).0,
        }
    }
}

impl FakePort {
    pub(super) fn holding_back() -> Self {
        Self { answers: Arc::new(Semaphore::new(0)), ..Self::default() }
    }

    pub(super) async fn wait_appended(&self, count: usize) -> Vec<u64> {
        let mut appended = self.appended.subscribe();
        let reached = appended.wait_for(|indexes| indexes.len() >= count);
        tokio::time::timeout_at(soon(), reached).await.expect("appends in time").unwrap().clone()
    }

    fn result(&self, append: &Append) -> AppendResult {
        if let Some(voted) = self.voted.filter(|voted| *voted > append.vote) {
            return Err(StreamAppendError::HigherVote(voted));
        }
        match append.prev_log_id {
            Some(prev) if self.conflict_at == Some(prev.index + 1) => Err(StreamAppendError::Conflict(prev)),
            prev => Ok(append.entries.last().map(|entry| entry.log_id).or(prev)),
        }
    }
}

impl RaftPort for FakePort {
    type SnapshotData = Vec<Bytes>;

    fn append_stream(
        &self,
        input: impl Stream<Item = Append> + Send + 'static,
    ) -> BoxStream<'static, Result<AppendResult, String>> {
        self.sessions.fetch_add(1, Ordering::SeqCst);
        self.open_sessions.send_modify(|open| *open += 1);
        let port = self.clone();
        let (results, output) = mpsc::channel(64);
        // Like the real one: the input is read by a task of its own.
        tokio::spawn(async move {
            let mut input = Box::pin(input);
            while let Some(append) = input.next().await {
                let first = append.entries.first().map_or(u64::MAX, |entry| entry.log_id.index);
                port.appended.send_modify(|indexes| indexes.push(first));
                if results.send(port.result(&append)).await.is_err() {
                    break;
                }
            }
            drop(input);
            port.open_sessions.send_modify(|open| *open -= 1);
        });
        let answers = self.answers.clone();
        tokio_stream::wrappers::ReceiverStream::new(output)
            .then(move |result| {
                let answers = answers.clone();
                async move {
                    answers.acquire().await.unwrap().forget();
                    Ok(result)
                }
            })
            .boxed()
    }

    async fn append(&self, request: Append) -> Result<AppendEntriesResponse<TypeConfig>, String> {
        Ok(self.result(&request).into())
    }

    async fn vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        Ok(VoteResponse::new(request.vote, request.last_log_id, request.leadership_transfer))
    }

    async fn pre_vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        Ok(VoteResponse::new(request.vote, None, false))
    }

    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, String> {
        match request.to_node_id() {
            2 => Ok(Ok(())),
            _ => Err("not me".into()),
        }
    }

    async fn install_snapshot(&self, vote: Vote, _: SnapshotMeta, data: Vec<Bytes>) -> Result<Vote, String> {
        self.installed.send_replace(data);
        Ok(vote)
    }
}

/// Snapshots whose rows are what was sent, in real frames.
#[derive(Default)]
pub(super) struct FakeSnapshots {
    /// Sinks that are open.
    pub(super) sinks: Arc<watch::Sender<usize>>,
}

/// Fails at a row without bytes.
pub(super) struct FakeSource {
    frames: Box<dyn Iterator<Item = Bytes> + Send>,
    left: Option<usize>,
}

impl ChunkSource for FakeSource {
    async fn next(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        self.left = match self.left {
            Some(0) => return Err(SnapshotError::Files("an unreadable file".into())),
            left => left.map(|left| left - 1),
        };
        Ok(self.frames.next())
    }
}

pub(super) struct FakeSink {
    taken: Option<Taken>,
    sinks: Arc<watch::Sender<usize>>,
}

impl Drop for FakeSink {
    fn drop(&mut self) {
        self.sinks.send_modify(|open| *open -= 1);
    }
}

impl ChunkSink for FakeSink {
    type Data = Vec<Bytes>;

    async fn write(&mut self, chunk: Bytes) -> Result<(), SnapshotError> {
        self.taken.as_mut().unwrap().take(&chunk)
    }

    async fn finish(mut self) -> Result<(SnapshotMeta, Vec<Bytes>), SnapshotError> {
        self.taken.take().unwrap().finish()
    }
}

impl SnapshotStore for FakeSnapshots {
    type Data = Vec<Bytes>;
    type Source = FakeSource;
    type Sink = FakeSink;

    async fn source(
        &self,
        group: GroupId,
        _: LeaderIdOf<TypeConfig>,
        data: Vec<Bytes>,
    ) -> Result<FakeSource, SnapshotError> {
        let left = data.iter().position(Bytes::is_empty);
        Ok(FakeSource { frames: Box::new(framed(group, data)), left })
    }

    async fn sink(&self, group: GroupId) -> Result<FakeSink, SnapshotError> {
        self.sinks.send_modify(|open| *open += 1);
        Ok(FakeSink { taken: Some(Taken::new(group)), sinks: self.sinks.clone() })
    }
}

#[derive(Default)]
pub(super) struct FakeGroups {
    pub(super) ports: Mutex<HashMap<GroupId, FakePort>>,
    pub(super) snapshots: FakeSnapshots,
}

impl Groups for FakeGroups {
    type Port = FakePort;
    type Snapshots = FakeSnapshots;

    fn port(&self, group: GroupId) -> Option<FakePort> {
        self.ports.lock().unwrap().get(&group).cloned()
    }

    fn snapshots(&self) -> &FakeSnapshots {
        &self.snapshots
    }
}

/// Answers `Node` calls with their body; fails or hangs when the body says so. Shard 1 has a stream.
pub(super) struct Echo {
    /// Calls that hang.
    pub(super) hanging: watch::Sender<usize>,
    pub(super) streams: watch::Sender<usize>,
}

impl Default for Echo {
    fn default() -> Self {
        Self { hanging: watch::channel(0).0, streams: watch::channel(0).0 }
    }
}

struct Count(watch::Sender<usize>);

impl Count {
    fn new(of: &watch::Sender<usize>) -> Self {
        of.send_modify(|count| *count += 1);
        Self(of.clone())
    }
}

impl Drop for Count {
    fn drop(&mut self) {
        self.0.send_modify(|count| *count -= 1);
    }
}

impl LinkHandler for Echo {
    async fn handle(&self, from: NodeId, _: Method, group: GroupId, body: Bytes) -> Result<Bytes, String> {
        match &body[..] {
            b"fail" => Err("as you wish".into()),
            b"who" => Ok(format!("{from} {group}").into()),
            b"hang" => {
                let _count = Count::new(&self.hanging);
                std::future::pending().await
            }
            _ => Ok(body),
        }
    }

    fn subscribe(
        &self,
        _: NodeId,
        shard: ShardId,
        mut changes: mpsc::Receiver<InterestChange>,
    ) -> Result<mpsc::Receiver<StreamItem>, String> {
        if shard != ShardId(1) {
            return Err("no replica here".into());
        }
        let (items, stream) = mpsc::channel(4);
        let count = Count::new(&self.streams);
        tokio::spawn(async move {
            let _count = count;
            while let Some(change) = changes.recv().await {
                // As many items as the change says.
                for version in 0..change.version {
                    if items.send(StreamItem::InForce(InForce { version })).await.is_err() {
                        return;
                    }
                }
            }
        });
        Ok(stream)
    }
}

/// A node: its listener and its links.
pub(super) struct Node {
    pub(super) addr: String,
    pub(super) groups: Arc<FakeGroups>,
    pub(super) echo: Arc<Echo>,
    pub(super) links: Links,
    pub(super) peers: watch::Sender<Arc<Peers>>,
    pub(super) stop: CancellationToken,
    pub(super) clock: HybridClock,
}

impl Drop for Node {
    fn drop(&mut self) {
        self.stop.cancel();
        self.links.shutdown();
    }
}

pub(super) fn peer(addr: &str) -> Peer {
    Peer { addr: addr.to_owned(), store: None }
}

impl Node {
    pub(super) async fn start(identity: Identity, config: TransportConfig) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        Self::start_on(listener, identity, config)
    }

    pub(super) fn start_on(listener: TcpListener, identity: Identity, config: TransportConfig) -> Self {
        let addr = listener.local_addr().unwrap().to_string();
        let (peers, list) = watch::channel(Arc::new(Peers::new()));
        let (clock, groups, echo, stop) =
            (HybridClock::system(), Arc::default(), Arc::default(), CancellationToken::new());
        let server = PeerServer::new(
            identity,
            clock.clone(),
            list.clone(),
            Arc::clone(&groups),
            Arc::clone(&echo),
            config.clone(),
        );
        tokio::spawn(server.serve(listener, stop.clone()));
        let links = Links::start(identity, clock.clone(), list, config);
        Self { addr, groups, echo, links, peers, stop, clock }
    }

    /// Lists another node as a peer.
    pub(super) fn list(&self, node: u64, addr: &str) {
        self.peers.send_modify(|peers| {
            let mut listed = Peers::clone(peers);
            listed.insert(NodeId(node), peer(addr));
            *peers = Arc::new(listed);
        });
    }

    pub(super) fn host(&self, group: GroupId, port: FakePort) {
        self.groups.ports.lock().unwrap().insert(group, port);
    }

    pub(super) async fn call(&self, lane: Lane, body: &'static str) -> Result<Bytes, LinkError> {
        self.links.call(NodeId(2), lane, Method::Node, NO_GROUP, Bytes::from_static(body.as_bytes()), soon()).await
    }

    /// This node's side of a group's replication to node 2.
    pub(super) fn network(&self, group: GroupId) -> GroupNetwork<FakeSnapshots> {
        GroupNetwork::new(self.links.clone(), group, Arc::default())
    }
}

/// Nodes 1 and 2, the first linked with the second, which hosts [`GROUP`] on the port.
pub(super) async fn pair(config: TransportConfig, port: FakePort) -> (Node, Node) {
    let one = Node::start(identity(1), config.clone()).await;
    let two = Node::start(identity(2), config).await;
    two.host(GROUP, port);
    one.list(2, &two.addr);
    assert!(one.links.wait_connected(NodeId(2), true, soon()).await, "a connection in time");
    (one, two)
}

pub(super) fn vote() -> Vote {
    Vote::new_committed(1, 1)
}

pub(super) fn id(index: u64) -> LogId {
    log_id(1, 1, index)
}

/// An append of entries from `first`, with so many bytes each.
pub(in crate::transport) fn append(first: u64, sizes: &[usize]) -> Append {
    let entries = sizes.iter().zip(first..).map(|(size, index)| Entry {
        log_id: id(index),
        payload: EntryPayload::Normal(PackBytes(vec![0; *size].into())),
    });
    Append { vote: vote(), prev_log_id: first.checked_sub(1).map(id), entries: entries.collect(), leader_commit: None }
}

/// A connection that says nothing of who it is.
pub(super) async fn stranger(addr: &str) -> PeerClient<Channel> {
    PeerClient::new(Endpoint::from_shared(format!("http://{addr}")).unwrap().connect().await.unwrap())
}
