//! A cluster of make-believe nodes behind the transport.
//!
//! Owns: a scripted [`ShardTransport`] that records what it is asked, and builders of commands, events and placements.
//! Must not know: how the router decides.

#![allow(dead_code, unreachable_pub, missing_docs, clippy::unwrap_used, clippy::unnecessary_wraps)] // every test binary uses a part of it

use messenger_proto::command::{Command, Done, IndexMembership, Op, Reply, ReplyBody, Retention};
use messenger_proto::ephemeral::PresenceAnswer;
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::event::{Event, UserEvent};
use messenger_proto::ids::{ClusterId, CommandId, NodeId, Seq, ShardId, Term, ThreadId, UserId};
use messenger_proto::meta::{ClusterState, NodeInfo, NodeState, ShardPlacement};
use messenger_proto::query::{Answer, Query, UserThreadsAnswer, UserThreadsQuery};
use messenger_proto::rpc::{
    InterestChange, Redirect, SessionOutcome, ShardCall, ShardOutcome, ShardRequest, StreamItem,
};
use messenger_proto::slot::{Slot, SlotMap};
use messenger_router::{CallError, ShardStream, ShardTransport};
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

pub type Outcome = Result<ShardOutcome, CallError>;

/// One call as it came to the transport.
#[derive(Debug, Clone)]
pub struct Seen {
    pub at: Instant,
    pub node: NodeId,
    pub requests: Vec<ShardRequest>,
}

/// How a node behaves.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Health {
    Up,
    /// Refuses connections.
    Down,
    /// Takes requests and never answers.
    Hung,
}

/// What is scripted, and what happened.
#[derive(Debug, Default)]
pub struct World {
    pub leaders: BTreeMap<ShardId, NodeId>,
    health: BTreeMap<NodeId, Health>,
    /// Where followers say the leader is; else the truth.
    pub hearsay: BTreeMap<NodeId, Option<NodeId>>,
    /// Outcomes to give before anything else, whatever the node; `Some(true)` beside one has the command done first.
    pub script: VecDeque<(Outcome, bool)>,
    /// How long a call takes.
    pub latency: Duration,
    /// Commands carried out, in order.
    pub done: Vec<(ShardId, CommandId)>,
    pub calls: Vec<Seen>,
    pub opens: Vec<(Instant, NodeId)>,
    pub streams: VecDeque<Source>,
    pub refuse_streams: bool,
}

/// The other end of an open stream.
#[derive(Debug)]
pub struct Source {
    pub node: NodeId,
    pub changes: mpsc::Receiver<InterestChange>,
    pub items: mpsc::Sender<StreamItem>,
}

/// The transport of node 1, unless told otherwise.
#[derive(Debug, Clone)]
pub struct Fake {
    pub local: NodeId,
    pub world: Arc<Mutex<World>>,
}

impl Fake {
    pub fn new(local: u64) -> Self {
        Self { local: NodeId(local), world: Arc::default() }
    }

    pub fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }

    pub fn set(&self, node: u64, health: Health) {
        self.world().health.insert(NodeId(node), health);
    }

    pub fn lead(&self, shard: u32, node: u64) {
        self.world().leaders.insert(ShardId(shard), NodeId(node));
    }

    /// The nodes called so far, in order.
    pub fn called(&self) -> Vec<u64> {
        self.world().calls.iter().map(|call| call.node.0).collect()
    }

    pub fn script(&self, outcomes: impl IntoIterator<Item = Outcome>) {
        self.world().script.extend(outcomes.into_iter().map(|outcome| (outcome, false)));
    }

    /// The next stream that was opened, waiting for it.
    pub async fn source(&self) -> Source {
        for _ in 0..60_000 {
            if let Some(source) = self.world().streams.pop_front() {
                return source;
            }
            sleep(Duration::from_millis(1)).await;
        }
        panic!("no stream was opened in a minute");
    }
}

impl World {
    fn health(&self, node: NodeId) -> Health {
        self.health.get(&node).copied().unwrap_or(Health::Up)
    }

    fn answer(&mut self, node: NodeId, request: &ShardRequest) -> Outcome {
        if let Some((outcome, carried_out)) = self.script.pop_front() {
            if carried_out {
                self.carry_out(request);
            }
            return outcome;
        }
        let leader = self.leaders.get(&request.shard).copied();
        if leader == Some(node) {
            return Ok(self.carry_out(request));
        }
        let hint = self.hearsay.get(&node).copied().unwrap_or(leader);
        Ok(ShardOutcome::Redirect(Redirect { leader: hint }))
    }

    fn carry_out(&mut self, request: &ShardRequest) -> ShardOutcome {
        match &request.call {
            ShardCall::Command(command) => {
                let key = (request.shard, command.id);
                let replayed = self.done.contains(&key);
                if !replayed {
                    self.done.push(key);
                }
                ShardOutcome::Reply(Reply { replayed, body: ReplyBody::Done(Done {}), barrier: None })
            }
            // Tells the shard that answered, by its number of threads.
            ShardCall::Query(_) => ShardOutcome::Answer(shard_answer(request.shard)),
            ShardCall::Session(_) => ShardOutcome::Session(SessionOutcome { replaced: true }),
            ShardCall::Presence(_) => ShardOutcome::Presence(PresenceAnswer { term: Term(7), people: Vec::new() }),
        }
    }
}

impl ShardTransport for Fake {
    fn local(&self) -> NodeId {
        self.local
    }

    async fn call(&self, node: NodeId, requests: Vec<ShardRequest>, _deadline: Instant) -> Vec<Outcome> {
        let (health, latency) = {
            let mut world = self.world();
            world.calls.push(Seen { at: Instant::now(), node, requests: requests.clone() });
            (world.health(node), world.latency)
        };
        if !latency.is_zero() {
            sleep(latency).await;
        }
        match health {
            Health::Up => requests.iter().map(|request| self.world().answer(node, request)).collect(),
            Health::Down => requests.iter().map(|_| Err(CallError::NotSent("refused".into()))).collect(),
            Health::Hung => std::future::pending().await,
        }
    }

    async fn open(&self, node: NodeId, _shard: ShardId) -> Result<ShardStream, CallError> {
        let mut world = self.world();
        world.opens.push((Instant::now(), node));
        if world.refuse_streams || world.health(node) != Health::Up {
            return Err(CallError::NotSent("refused".into()));
        }
        let (change_sender, changes) = mpsc::channel(4);
        let (items, item_receiver) = mpsc::channel(4);
        world.streams.push_back(Source { node, changes, items });
        Ok((change_sender, item_receiver))
    }
}

impl Source {
    /// Takes changes until there is one with something in it, and puts it in force.
    pub async fn settle(&mut self) -> InterestChange {
        loop {
            let change = timeout(Duration::from_mins(1), self.changes.recv()).await.expect("a change").unwrap();
            self.put_in_force(change.version).await;
            if [change.add_threads.len(), change.remove_threads.len()] != [0, 0] {
                return change;
            }
        }
    }

    /// Puts the first change in force.
    pub async fn greet(&mut self) {
        let greeting = self.changes.recv().await.unwrap();
        self.put_in_force(greeting.version).await;
    }

    pub async fn put_in_force(&self, version: u64) {
        self.items.send(StreamItem::InForce(messenger_proto::rpc::InForce { version })).await.unwrap();
    }

    pub async fn event(&self, seq: u64) {
        self.items.send(StreamItem::Event(event(seq))).await.unwrap();
    }
}

pub fn node(id: u64) -> NodeInfo {
    NodeInfo {
        id: NodeId(id),
        zone: String::new(),
        client_addr: String::new(),
        peer_addr: String::new(),
        admin_addr: String::new(),
        state: NodeState::Active,
        store: None,
    }
}

/// A record whose shards live on these nodes.
pub fn state(nodes: u64, shards: &[&[u64]]) -> Arc<ClusterState> {
    let place = |(shard, replicas): (u32, &&[u64])| {
        let replicas: Vec<NodeId> = replicas.iter().copied().map(NodeId).collect();
        ShardPlacement { shard: ShardId(shard), first_members: replicas.clone(), replicas, moved: false, held: false }
    };
    Arc::new(ClusterState {
        cluster: ClusterId([0; 16]),
        epoch: 1,
        secret: bytes::Bytes::new(),
        nodes: (1..=nodes).map(node).collect(),
        shards: (0..).zip(shards).map(place).collect(),
        replication: 3,
        wished: 3,
        moves_paused: false,
    })
}

pub fn watch_of(state: Arc<ClusterState>) -> (watch::Sender<Arc<ClusterState>>, watch::Receiver<Arc<ClusterState>>) {
    watch::channel(state)
}

pub fn in_secs(seconds: u64) -> Instant {
    Instant::now() + Duration::from_secs(seconds)
}

/// A slot of a shard.
pub fn slot_of(shard: u32, shards: u32) -> Slot {
    Slot::from_low_bits(SlotMap::new(shards).unwrap().slots_of(ShardId(shard)).start)
}

pub fn command(id: u8) -> Command {
    Command {
        id: CommandId([id; 16]),
        retention: Retention::Minted,
        body_hash: 0,
        op: Op::IndexMembership(IndexMembership {
            user: UserId::new("alice").unwrap(),
            thread: ThreadId([2; 16]),
            source_seq: Seq(1),
            present: true,
        }),
    }
}

pub fn query() -> Query {
    Query::UserThreads(UserThreadsQuery { user: UserId::new("alice").unwrap(), left_since: None })
}

/// An answer that tells which shard gave it.
pub fn shard_answer(shard: ShardId) -> Answer {
    let thread = messenger_proto::query::UserThread { thread: ThreadId([0; 16]), source_seq: Seq(u64::from(shard.0)) };
    Answer::UserThreads(UserThreadsAnswer { threads: vec![thread], left: Vec::new() })
}

pub fn event(seq: u64) -> Event {
    Event::User(UserEvent {
        user: UserId::new("alice").unwrap(),
        thread: ThreadId([1; 16]),
        present: true,
        source_seq: Seq(seq),
    })
}

pub fn redirect(leader: Option<u64>) -> Outcome {
    Ok(ShardOutcome::Redirect(Redirect { leader: leader.map(NodeId) }))
}

pub fn refused(code: ErrorCode) -> Outcome {
    Ok(ShardOutcome::Refused(Refusal::new(code, "as scripted")))
}

pub fn lost() -> Outcome {
    Err(CallError::Lost("as scripted".into()))
}

pub fn not_sent() -> Outcome {
    Err(CallError::NotSent("as scripted".into()))
}

/// The ids of all commands the transport was asked to carry.
pub fn command_ids(calls: &[Seen]) -> BTreeSet<CommandId> {
    let of_request = |request: &ShardRequest| match &request.call {
        ShardCall::Command(command) => Some(command.id),
        _ => None,
    };
    calls.iter().flat_map(|call| call.requests.iter().filter_map(of_request)).collect()
}
