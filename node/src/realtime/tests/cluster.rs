//! A cluster in memory: a few nodes that serve real sockets, over shards that are the real state machine behind a lock.

use super::device::Device;
use crate::audit::Audit;
use crate::auth::{Authenticator, Clock, Grant, Scopes, SigningKey};
use crate::config::{LimitsConfig, ProxiesConfig, RateLimitsConfig};
use crate::gateway::cors::Origins;
use crate::gateway::serve::{ServeLimits, serve};
use crate::gateway::{AdmissionLimits, GatewayParts, GatewayState, Revocations, router_with};
use crate::rates::Rates;
use crate::readiness::Phase;
use crate::realtime::registry::SessionRegistry;
use crate::realtime::{NodeCaller, Realtime, RealtimeParts, Tuning};
use crate::testing::{MemoryShard, SHARDS, cluster_state, deliver, keys, plain};
use messenger_proto::command::{Command, CommandResult, CreateThread, Op, ReplyBody, Retention, SendMessage};
use messenger_proto::event::Event;
use messenger_proto::ids::{ClientSeq, DeviceId, Millis, NodeId, ShardId, Term, ThreadId, UserId};
use messenger_proto::meta::{ClusterState, NodeInfo};
use messenger_proto::model::{ContentType, Message, Thread, ThreadKind};
use messenger_proto::query::{Answer, MessageQuery, Query, QueryResult, RecipientsQuery};
use messenger_proto::rpc::{
    InForce, InterestChange, NodeCall, Reset, SessionCall, ShardCall, ShardOutcome, ShardRequest, StreamItem,
};
use messenger_proto::slot::Slot;
use messenger_router::{CallError, Router, ShardStream, ShardTransport};
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;

/// Items a subscriber may be behind.
const STREAM: usize = 65_536;

#[derive(Default)]
struct Shard {
    memory: MemoryShard,
    subscribers: Vec<Subscriber>,
}

struct Subscriber {
    threads: BTreeSet<ThreadId>,
    users: BTreeSet<UserId>,
    items: mpsc::Sender<StreamItem>,
    /// Tells it from the others.
    id: u64,
}

impl Subscriber {
    fn wants(&self, event: &Event) -> bool {
        match event {
            Event::Thread(event) => self.threads.contains(&event.thread),
            Event::User(event) => self.users.contains(&event.user),
            Event::Device(event) => self.users.contains(&event.user),
            Event::Suspension(event) => self.users.contains(&event.user),
            Event::PrekeysLow(event) => self.users.contains(&event.user),
            Event::MemberDevices(event) => self.threads.contains(&event.thread),
        }
    }
}

/// What all nodes share.
pub(super) struct Shared {
    shards: Vec<Mutex<Shard>>,
    last_stamp: AtomicU64,
    next_id: AtomicU64,
    /// Nodes lead all shards in turn, from the first one in term 1.
    term: AtomicU64,
    /// Users whose connections nobody hears of.
    forgotten: Mutex<BTreeSet<UserId>>,
    registry: OnceLock<SessionRegistry>,
    nodes: OnceLock<Vec<Realtime>>,
    /// Whether queries for what was missed are answered.
    storage: watch::Sender<bool>,
    /// Whether messages are taken.
    pub(super) taking: watch::Sender<bool>,
    /// A shard that does not answer queries for what was missed.
    stuck: watch::Sender<Option<ShardId>>,
    /// Whether streams carry anything.
    deaf: AtomicBool,
    /// Questions for what was missed.
    pub(super) resumes: AtomicU64,
    acknowledgements: AtomicU64,
}

pub(super) fn now() -> u64 {
    u64::try_from(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_millis()).unwrap()
}

impl Shared {
    fn apply(&self, shard: ShardId, command: Command) -> CommandResult {
        if matches!(command.op, Op::Acknowledge(_)) {
            self.acknowledgements.fetch_add(1, Ordering::SeqCst);
        }
        let mut shard = self.shard(shard);
        let stamp = now().max(self.last_stamp.load(Ordering::SeqCst));
        self.last_stamp.store(stamp, Ordering::SeqCst);
        let (result, events) = shard.memory.apply(Millis(stamp), command);
        if !self.deaf.load(Ordering::SeqCst) {
            for event in events {
                for subscriber in shard.subscribers.iter().filter(|subscriber| subscriber.wants(&event)) {
                    subscriber.items.try_send(StreamItem::Event(event.clone())).unwrap();
                }
            }
        }
        result
    }

    fn shard(&self, shard: ShardId) -> MutexGuard<'_, Shard> {
        self.shards[shard.0 as usize].lock().unwrap()
    }

    async fn carry_out(&self, request: ShardRequest) -> ShardOutcome {
        if matches!(&request.call, ShardCall::Command(Command { op: Op::SendMessage(_), .. })) {
            self.taking.subscribe().wait_for(|taking| *taking).await.unwrap();
        }
        match request.call {
            ShardCall::Command(command) => match self.apply(request.shard, command) {
                Ok(reply) => {
                    let outbox = self.shard(request.shard).memory.outbox();
                    deliver(request.shard, outbox, |shard, command| self.apply(shard, command));
                    ShardOutcome::Reply(reply)
                }
                Err(refusal) => ShardOutcome::Refused(refusal),
            },
            ShardCall::Query(query) => {
                if matches!(query, Query::Resume(_)) {
                    self.resumes.fetch_add(1, Ordering::SeqCst);
                    self.storage.subscribe().wait_for(|open| *open).await.unwrap();
                    self.stuck.subscribe().wait_for(|stuck| *stuck != Some(request.shard)).await.unwrap();
                }
                match self.shard(request.shard).memory.query(&query) {
                    Ok(answer) => ShardOutcome::Answer(answer),
                    Err(refusal) => ShardOutcome::Refused(refusal),
                }
            }
            ShardCall::Presence(call) => {
                let (leader, term) = self.leader();
                ShardOutcome::Presence(leader.presence(request.shard, term, call))
            }
            ShardCall::Session(call) => {
                let outcome = self.registry.get().unwrap().handle(request.shard, call.clone());
                let (SessionCall::Register(session) | SessionCall::Unregister(session)) = &call;
                let forgotten = self.forgotten.lock().unwrap().contains(&session.user);
                if !outcome.replaced && !forgotten {
                    let (leader, term) = self.leader();
                    leader.note(request.shard, term, &call);
                }
                ShardOutcome::Session(outcome)
            }
        }
    }

    /// The node that leads all shards, and its term.
    fn leader(&self) -> (&Realtime, Term) {
        let (nodes, term) = (self.nodes.get().unwrap(), self.term.load(Ordering::SeqCst));
        (&nodes[(term as usize - 1) % nodes.len()], Term(term))
    }

    fn change_interest(&self, shard: ShardId, id: u64, change: InterestChange) {
        let mut shard = self.shard(shard);
        let Some(subscriber) = shard.subscribers.iter_mut().find(|subscriber| subscriber.id == id) else { return };
        subscriber.threads.extend(change.add_threads);
        subscriber.users.extend(change.add_users);
        subscriber.threads.retain(|thread| !change.remove_threads.contains(thread));
        subscriber.users.retain(|user| !change.remove_users.contains(user));
        let _ = subscriber.items.try_send(StreamItem::InForce(InForce { version: change.version }));
    }
}

struct Transport {
    shared: Arc<Shared>,
    node: NodeId,
}

impl ShardTransport for Transport {
    fn local(&self) -> NodeId {
        self.node
    }

    async fn call(
        &self,
        _node: NodeId,
        requests: Vec<ShardRequest>,
        _deadline: Instant,
    ) -> Vec<Result<ShardOutcome, CallError>> {
        let mut outcomes = Vec::new();
        for request in requests {
            outcomes.push(Ok(self.shared.carry_out(request).await));
        }
        outcomes
    }

    async fn open(&self, _node: NodeId, shard: ShardId) -> Result<ShardStream, CallError> {
        let (changes, mut wishes) = mpsc::channel(64);
        let (items, stream) = mpsc::channel(STREAM);
        let id = self.shared.next_id.fetch_add(1, Ordering::SeqCst);
        let subscriber = Subscriber { threads: BTreeSet::new(), users: BTreeSet::new(), items, id };
        self.shared.shard(shard).subscribers.push(subscriber);
        let all = Arc::clone(&self.shared);
        tokio::spawn(async move {
            while let Some(change) = wishes.recv().await {
                all.change_interest(shard, id, change);
            }
            all.shard(shard).subscribers.retain(|subscriber| subscriber.id != id);
        });
        Ok((changes, stream))
    }
}

struct Caller(Arc<Shared>);

impl NodeCaller for Caller {
    fn call(&self, node: NodeId, call: NodeCall, _: Instant) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
        Box::pin(async move {
            let Some(node) = self.0.nodes.get().unwrap().get(node.0 as usize - 1) else { return false };
            match call {
                NodeCall::CloseReplaced(session) => node.close_replaced(&session),
                NodeCall::Ephemeral(items) => node.hear(items),
                NodeCall::ForgetDevice(device) => node.forget_device(&device),
                NodeCall::ForgetUser(user) => node.forget_user(&user.user),
                NodeCall::Status(_) | NodeCall::Members(_) | NodeCall::Audit(_) | NodeCall::Senders(_) => return false,
            }
            true
        })
    }
}

/// The cluster under test; its nodes end with it.
pub(super) struct Cluster {
    pub(super) shared: Arc<Shared>,
    pub(super) addresses: Vec<SocketAddr>,
    pub(super) nodes: Vec<Realtime>,
    pub(super) phase: watch::Sender<Phase>,
    routers: Vec<Router>,
    key: SigningKey,
}

/// A record of so many nodes.
fn cluster_of(count: u64) -> ClusterState {
    let mut state = cluster_state();
    let node = |id| NodeInfo { id: NodeId(id), ..state.nodes[0].clone() };
    state.nodes = (1..=count).map(node).collect();
    state
}

pub(super) fn hasty() -> Tuning {
    Tuning { auth: Duration::from_millis(300), close: Duration::from_millis(500), ..Tuning::default() }
}

impl Shared {
    fn new() -> Self {
        Self {
            shards: (0..SHARDS).map(|_| Mutex::default()).collect(),
            last_stamp: AtomicU64::new(0),
            next_id: AtomicU64::new(0),
            term: AtomicU64::new(1),
            forgotten: Mutex::default(),
            registry: OnceLock::new(),
            nodes: OnceLock::new(),
            storage: watch::Sender::new(true),
            taking: watch::Sender::new(true),
            stuck: watch::Sender::new(None),
            deaf: AtomicBool::new(false),
            resumes: AtomicU64::new(0),
            acknowledgements: AtomicU64::new(0),
        }
    }
}

impl Cluster {
    pub(super) async fn start(count: u64) -> Self {
        Self::start_with(count, hasty(), 10_000).await
    }

    pub(super) async fn start_with(count: u64, tuning: Tuning, sockets_max: usize) -> Self {
        Self::start_limited(count, tuning, sockets_max, &RateLimitsConfig::never_met()).await
    }

    pub(super) async fn start_limited(
        count: u64,
        tuning: Tuning,
        sockets_max: usize,
        limits: &RateLimitsConfig,
    ) -> Self {
        let shared = Arc::new(Shared::new());
        let clock: Clock = Arc::new(|| Millis(now()));
        let (phase, _) = watch::channel(Phase::Ready);
        let (mut addresses, mut nodes, mut routers) = (Vec::new(), Vec::new(), Vec::new());
        for node in (1..=count).map(NodeId) {
            let (_, cluster) = watch::channel(Arc::new(cluster_of(count)));
            let router = Router::new(Transport { shared: Arc::clone(&shared), node }, cluster.clone());
            let authenticator = Arc::new(Authenticator::new(keys().1, Arc::clone(&clock)));
            let rates = Rates::new(limits, &ProxiesConfig::default(), Arc::clone(&clock));
            let revocations = Revocations::new(router.clone());
            let realtime = Realtime::start(RealtimeParts {
                router: router.clone(),
                authenticator: Arc::clone(&authenticator),
                revocations: revocations.clone(),
                clock: Arc::clone(&clock),
                node,
                origins: Origins::new(&["https://chat.example".into()]),
                rates: rates.clone(),
                audit: Audit::default(),
                caller: Arc::new(Caller(Arc::clone(&shared))),
                leads: {
                    let shared = Arc::clone(&shared);
                    Arc::new(move |_| {
                        let term = shared.term.load(Ordering::SeqCst);
                        ((term - 1) % count == node.0 - 1).then_some(Term(term))
                    })
                },
                sockets_max,
                tuning,
            });
            let teller = realtime.clone();
            let gateway = GatewayState::new(GatewayParts {
                tell: Arc::new(move |item| teller.tell(item)),
                router: router.clone(),
                authenticator,
                revocations,
                cluster,
                clock: Arc::clone(&clock),
                phase: phase.subscribe(),
                deadline: Duration::from_secs(2),
                admission: AdmissionLimits::of(&LimitsConfig::default()),
                origins: Origins::default(),
                rates,
                audit: Audit::default(),
            });
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            addresses.push(listener.local_addr().unwrap());
            let app = router_with(gateway, realtime.routes());
            tokio::spawn(serve(listener, None, app, ServeLimits::new(1_000), std::future::pending()));
            nodes.push(realtime);
            routers.push(router);
        }
        let _ = shared.registry.set(SessionRegistry::new(Arc::new(Caller(Arc::clone(&shared)))));
        let _ = shared.nodes.set(nodes.clone());
        Self { shared, addresses, nodes, phase, routers, key: keys().0 }
    }

    pub(super) fn token(&self, user: &str, device: &str) -> String {
        self.token_with(user, device, Scopes::ALL, Duration::from_hours(1))
    }

    pub(super) fn token_with(&self, user: &str, device: &str, scopes: Scopes, lifetime: Duration) -> String {
        let grant =
            Grant { user: UserId::new(user).unwrap(), device: DeviceId::new(device).unwrap(), scopes, lifetime };
        self.key.mint(&grant, Millis(now())).unwrap()
    }

    /// Connects a device through a node and takes its frames up to `caught_up`.
    pub(super) async fn online(&self, node: usize, user: &str, device: &str) -> Device {
        let mut device = self.connect(node, user, device, "").await;
        device.caught_up().await;
        device
    }

    /// Connects a device and reads nothing but hello.
    pub(super) async fn connect(&self, node: usize, user: &str, device: &str, params: &str) -> Device {
        let mut device = Device::open(self.addresses[node - 1], &self.token(user, device), params).await.unwrap();
        let hello = device.next().await;
        assert_eq!((&hello["t"], &hello["user_id"]), (&"hello".into(), &user.into()));
        device
    }

    pub(super) async fn command(&self, thread_slot: Slot, op: Op) -> CommandResult {
        let command = Command { retention: Retention::Minted, ..plain(op) };
        self.routers[0].command(thread_slot, command, Instant::now() + Duration::from_secs(5)).await
    }

    /// A command as it is, which must succeed.
    pub(super) async fn command_as(&self, command: Command, slot: Slot) {
        self.routers[0].command(slot, command, Instant::now() + Duration::from_secs(5)).await.unwrap();
    }

    pub(super) async fn group(&self, creator: &str, others: &[&str]) -> Thread {
        let thread = ThreadId(rand::random());
        let op = Op::CreateThread(CreateThread {
            thread,
            kind: ThreadKind::Group,
            creator: UserId::new(creator).unwrap(),
            others: others.iter().map(|user| UserId::new(user).unwrap()).collect(),
            title: None,
            description: None,
        });
        match self.command(Slot::of_thread(thread), op).await.unwrap().body {
            ReplyBody::Thread(reply) => reply.thread,
            other => panic!("{other:?}"),
        }
    }

    /// Stores a message as if it had come by REST.
    pub(super) async fn say(&self, thread: ThreadId, sender: &str, client_seq: u64, size: usize) -> Message {
        let op = Op::SendMessage(SendMessage {
            thread,
            sender: UserId::new(sender).unwrap(),
            device: DeviceId::new("rest").unwrap(),
            client_seq: ClientSeq(client_seq),
            ciphertext: vec![7; size].into(),
            content_type: ContentType::Text,
            attachments: Vec::new(),
            reply_to: None,
            ttl_s: None,
            envelopes: None,
        });
        match self.command(Slot::of_thread(thread), op).await.unwrap().body {
            ReplyBody::Message(reply) => reply.message,
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn query(&self, slot: Slot, query: Query) -> QueryResult {
        self.routers[0].query(slot, query, Instant::now() + Duration::from_secs(5)).await
    }

    /// The message as its sender sees it: `(delivered, read)`.
    pub(super) async fn receipts(&self, message: &Message) -> (u32, u32) {
        let (viewer, device) = (message.sender.clone(), DeviceId::new("rest").unwrap());
        let query = Query::Message(MessageQuery { id: message.id, viewer, device });
        match self.query(Slot::of_message(message.id), query).await {
            Ok(Answer::Message(message)) => message.receipts.map(|counts| (counts.delivered, counts.read)).unwrap(),
            other => panic!("{other:?}"),
        }
    }

    pub(super) async fn recipients(&self, message: &Message) -> Vec<messenger_proto::model::Recipient> {
        let query = Query::Recipients(RecipientsQuery { id: message.id, viewer: message.sender.clone() });
        match self.query(Slot::of_message(message.id), query).await {
            Ok(Answer::Recipients(answer)) => answer.recipients,
            other => panic!("{other:?}"),
        }
    }

    /// From now on, storage answers no question for what was missed, or does again.
    pub(super) fn storage(&self, open: bool) {
        self.shared.storage.send_replace(open);
    }

    /// From now on, this shard answers no question for what was missed, or all do again.
    pub(super) fn stuck(&self, shard: Option<ShardId>) {
        self.shared.stuck.send_replace(shard);
    }

    /// From now on, streams lose everything, or carry it again.
    pub(super) fn deaf(&self, deaf: bool) {
        self.shared.deaf.store(deaf, Ordering::SeqCst);
    }

    /// Ends every stream; subscribers open others.
    pub(super) fn cut_streams(&self) {
        for shard in &self.shared.shards {
            shard.lock().unwrap().subscribers.clear();
        }
    }

    /// Tells every subscriber that events were lost.
    pub(super) fn reset_streams(&self) {
        for shard in &self.shared.shards {
            for subscriber in &shard.lock().unwrap().subscribers {
                subscriber.items.try_send(StreamItem::Reset(Reset {})).unwrap();
            }
        }
    }

    /// From now on no registration of this user's connections arrives.
    pub(super) fn forget(&self, user: &str) {
        self.shared.forgotten.lock().unwrap().insert(UserId::new(user).unwrap());
    }

    /// The next node leads from now on, with nothing in its memory.
    pub(super) fn lead_elsewhere(&self) {
        self.shared.term.fetch_add(1, Ordering::SeqCst);
    }

    /// Commands of acknowledgements so far.
    pub(super) fn acknowledgements(&self) -> u64 {
        self.shared.acknowledgements.load(Ordering::SeqCst)
    }
}
