//! The groups a node hosts.
//!
//! Owns: which replicas run here, the meta group among them, and calls to them.
//! Must not know: gateways; who routes a call here.
//! Invariants: a group is initialized solely with its first members, each time the same, and only while its log is
//! empty and never was destroyed here; placement is intent, so a replica that runs here is kept until its group is sure to
//! do without it (see [`retire`]); one that was destroyed here and is back is restrained (see [`super::restraint`]).

mod retire;
mod steer;

use super::erase::Erasures;
use super::hook::{MetaHook, ShardHook};
use super::outbox::{CrossShard, Outbox};
use super::outcome::Lost;
use super::proposer::Admission;
use super::registry::Registry;
use super::replica::{Parts, Replica};
use super::restraint::{Port, Restraint};
use super::rules::{MetaRules, ShardRules};
use super::shed::Shed;
use super::tail::{Subscriber, Tail};
use super::timer::Timer;
use super::timing::Timing;
use super::{balance, erase, proposer, trim};
use crate::clock::HybridClock;
use crate::store::{GroupReader, SnapshotProgress, StateMachine, Store, StoreError, tells_of_corruption};
use crate::transport::{GroupNetwork, Links};
use crate::types::{GroupId, META_GROUP};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::ClusterState;
use messenger_proto::rpc::{
    InterestChange, Redirect, SendingSnapshot, ShardCall, ShardOutcome, ShardRequest, StreamItem,
};
use openraft::BasicNode;
use openraft::errors::{InitializeError, RaftError};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::task::AbortOnDropHandle;

/// Leaders handed over per look at the groups.
const TRANSFERS_AT_ONCE: usize = 2;
/// How long a transfer has until another successor may be named.
const TRANSFER_WITHIN: Duration = Duration::from_secs(1);

/// Why a group can't run.
#[derive(Debug, thiserror::Error)]
pub enum HostError {
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The consensus core refused to start.
    #[error("group {group}: {message}")]
    Raft {
        /// The group.
        group: GroupId,
        /// Why.
        message: String,
    },
}

impl HostError {
    /// Whether it is about stored bytes that are not what they should be.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        match self {
            Self::Store(StoreError::Stopped(fatal)) => fatal.is_corruption(),
            Self::Store(error) => matches!(error, StoreError::Corrupt(_)),
            Self::Raft { message, .. } => tells_of_corruption(message),
        }
    }
}

/// What a host is made of.
pub struct HostParts {
    /// This node.
    pub node: NodeId,
    /// Its storage.
    pub store: Store,
    /// Its clock.
    pub clock: HybridClock,
    /// Its links to peers.
    pub links: Links,
    /// Where the transport finds groups.
    pub registry: Registry,
    /// How groups beat.
    pub timing: Timing,
    /// Bytes of commands that may wait or be in flight.
    pub admission_bytes: u32,
    /// Bytes of disk to keep free: with less, no command is taken.
    pub disk_reserve_bytes: u64,
    /// Bytes of recent events per shard.
    pub tail_bytes: usize,
    /// Between two rounds in which what messages said that were taken away leaves the disk.
    pub erase_every: Duration,
    /// The way to other shards.
    pub cross: Arc<dyn CrossShard>,
    /// The threads that groups run on.
    pub runtime: Handle,
    /// The threads that look after storage: not the groups' own, which a database that stops writes would stop.
    pub storage_watch: Handle,
}

/// What a replica's machine and its tasks share.
struct Around {
    group: GroupId,
    reader: GroupReader,
    tail: Tail,
    outbox: Outbox,
    timer: Timer,
}

/// The groups of this node; cheap to clone.
#[derive(Clone)]
pub struct Host {
    inner: Arc<Inner>,
}

struct Inner {
    parts: HostParts,
    config: Arc<openraft::Config>,
    admission: Admission,
    /// Look at storage, and at the logs.
    watches: [AbortOnDropHandle<()>; 3],
    /// What it saw.
    short_of_disk: Arc<AtomicBool>,
    /// What is to leave the disk.
    erasures: Erasures,
    groups: RwLock<BTreeMap<GroupId, Replica>>,
    record: watch::Sender<Arc<ClusterState>>,
    /// When each group that this node leads, or led, was last handed over.
    moving: Mutex<BTreeMap<GroupId, Instant>>,
    /// Held by whoever gives back the disk of destroyed replicas.
    reclaims: Arc<tokio::sync::Mutex<()>>,
}

/// The node that should lead a replica's group.
fn preferred(record: &ClusterState, replica: &Replica) -> Option<NodeId> {
    let placed = record.shards.get(replica.group().shard()?.0 as usize)?;
    placed.replicas.first().copied()
}

fn no_record() -> ClusterState {
    ClusterState {
        cluster: messenger_proto::ids::ClusterId([0; 16]),
        epoch: 0,
        secret: bytes::Bytes::new(),
        nodes: vec![],
        shards: vec![],
        replication: 0,
        wished: 0,
        moves_paused: false,
    }
}

impl Host {
    /// A host without groups.
    ///
    /// # Errors
    /// [`HostError::Raft`] when the timing contradicts itself.
    pub fn new(parts: HostParts) -> Result<Self, HostError> {
        let config = parts
            .timing
            .to_config()
            .map_err(|error| HostError::Raft { group: META_GROUP, message: error.to_string() })?;
        let admission = Admission::new(parts.admission_bytes);
        let short_of_disk = Arc::new(AtomicBool::new(false));
        let (store, reserve) = (parts.store.clone(), parts.disk_reserve_bytes);
        let shed = Shed::new(store, reserve, admission.clone(), Arc::clone(&short_of_disk));
        let trim = trim::follow(parts.store.clone(), parts.registry.clone(), parts.timing.keep_bytes);
        let erasures = Erasures::default();
        let (store, registry) = (parts.store.clone(), parts.registry.clone());
        let erase = erase::follow(store, registry, erasures.clone(), parts.erase_every);
        let watch = &parts.storage_watch;
        let watches = [watch.spawn(shed.follow()), watch.spawn(erase), parts.runtime.spawn(trim)];
        let inner = Inner {
            config: Arc::new(config),
            admission,
            watches: watches.map(AbortOnDropHandle::new),
            short_of_disk,
            erasures,
            groups: RwLock::new(BTreeMap::new()),
            record: watch::Sender::new(Arc::new(no_record())),
            moving: Mutex::default(),
            reclaims: Arc::default(),
            parts,
        };
        Ok(Self { inner: Arc::new(inner) })
    }

    /// This node.
    #[must_use]
    pub fn node(&self) -> NodeId {
        self.inner.parts.node
    }

    /// Whether this node's disk is almost full: it takes no commands, and should not lead while others can.
    #[must_use]
    pub fn short_of_disk(&self) -> bool {
        self.inner.short_of_disk.load(Ordering::Relaxed)
    }

    /// Bytes left on this node's disk; `None` when that is unknown. Asks the disk.
    #[must_use]
    pub fn disk_free_bytes(&self) -> Option<u64> {
        self.inner.parts.store.pressure().disk_free_bytes
    }

    /// The cluster's record, as this node has applied it; epoch 0 until there is one.
    #[must_use]
    pub fn record(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.inner.record.subscribe()
    }

    /// Starts this node's replica of the meta group.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn start_meta(&self) -> Result<(), HostError> {
        let reader = self.inner.parts.store.reader(META_GROUP)?;
        let hook = Arc::new(MetaHook { reader: reader.clone(), record: self.inner.record.clone() });
        hook.refresh();
        let (tail, outbox) = (Tail::new(0), Outbox::new(reader.clone()));
        let machine = self.inner.parts.store.state_machine(META_GROUP, Arc::new(MetaRules), hook)?;
        let timer = Timer::new(reader.clone());
        self.start(machine, Around { group: META_GROUP, reader, tail, outbox, timer }).await.map(drop)
    }

    /// Starts this node's replica of a shard, unless it runs.
    ///
    /// # Errors
    /// [`HostError`].
    pub async fn start_shard(&self, shard: ShardId) -> Result<Replica, HostError> {
        let group = GroupId::of_shard(shard);
        if let Some(replica) = self.group(group) {
            return Ok(replica);
        }
        let reader = self.inner.parts.store.reader(group)?;
        let (tail, outbox) = (Tail::new(self.inner.parts.tail_bytes), Outbox::new(reader.clone()));
        let timer = Timer::new(reader.clone());
        let rules = ShardRules::default();
        let outbox_news = Arc::clone(&rules.outbox);
        let hook = Arc::new(ShardHook {
            group,
            erasures: self.inner.erasures.clone(),
            tail: tail.clone(),
            outbox: outbox.clone(),
            timer: timer.clone(),
            outbox_news,
        });
        let machine = self.inner.parts.store.state_machine(group, Arc::new(rules), hook)?;
        self.start(machine, Around { group, reader, tail, outbox, timer }).await
    }

    async fn start(&self, machine: StateMachine, around: Around) -> Result<Replica, HostError> {
        let Around { group, reader, tail, outbox, timer } = around;
        let parts = &self.inner.parts;
        let log = parts.store.log(group)?;
        let restraint = Restraint(parts.store.forgotten(group)?);
        let is_whole = restraint.is_lifted(reader.view().applied()?);
        let config = Arc::clone(&self.inner.config);
        let config =
            if is_whole { config } else { Arc::new(openraft::Config { enable_elect: false, ..(*config).clone() }) };
        let network = GroupNetwork::new(parts.links.clone(), group, parts.registry.stored_snapshots());
        let failed = |message: String| HostError::Raft { group, message };
        let raft = parts
            .runtime
            .spawn(proposer::Raft::new(parts.node.0, config, network, log, machine))
            .await
            .map_err(|error| failed(error.to_string()))?
            .map_err(|error| failed(error.to_string()))?;
        let _on_raft_threads = parts.runtime.enter();
        parts.registry.insert(group, Port::new(raft.clone(), restraint));
        let replica = Replica::start(Parts {
            group,
            raft,
            restraint,
            reader,
            tail,
            outbox,
            timer,
            clock: parts.clock.clone(),
            admission: self.inner.admission.clone(),
            cross: Arc::clone(&parts.cross),
            links: parts.links.clone(),
            store: parts.store.clone(),
        });
        self.inner.groups.write().unwrap_or_else(PoisonError::into_inner).insert(group, replica.clone());
        Ok(replica)
    }

    /// Makes a group out of its first members, unless it was made before.
    ///
    /// # Errors
    /// [`HostError`] when the group isn't hosted or its core has stopped.
    pub async fn initialize(&self, group: GroupId, members: &[(NodeId, String)]) -> Result<(), HostError> {
        let failed = |message: String| HostError::Raft { group, message };
        let replica = self.group(group).ok_or_else(|| failed("is not hosted here".into()))?;
        let known = replica.raft().is_initialized().await.map_err(|error| failed(error.to_string()))?;
        // One that was destroyed here began long ago.
        if known || self.inner.parts.store.forgotten(group)?.is_some() {
            return Ok(());
        }
        let members: BTreeMap<u64, BasicNode> =
            members.iter().map(|(node, address)| (node.0, BasicNode::new(address))).collect();
        match replica.raft().initialize(members).await {
            // It is not allowed where another first member was quicker, with the same members.
            Ok(()) | Err(RaftError::APIError(InitializeError::NotAllowed(_))) => Ok(()),
            Err(error) => Err(failed(error.to_string())),
        }
    }

    /// A replica that runs here.
    #[must_use]
    pub fn group(&self, group: GroupId) -> Option<Replica> {
        self.inner.groups.read().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()
    }

    /// A shard's replica, if it runs here.
    #[must_use]
    pub fn shard(&self, shard: ShardId) -> Option<Replica> {
        self.group(GroupId::of_shard(shard))
    }

    /// Every replica that runs here, in order of group.
    #[must_use]
    pub fn replicas(&self) -> Vec<Replica> {
        self.inner.groups.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// The snapshot that is being sent to another node, if one is.
    #[must_use]
    pub fn sending(&self) -> Option<SendingSnapshot> {
        let SnapshotProgress { group, sent, whole, begun } = self.inner.parts.store.sending()?;
        Some(SendingSnapshot { shard: group.shard()?, sent, whole, elapsed_ms: begun.elapsed().as_millis() as u64 })
    }

    /// How many groups this node leads.
    #[must_use]
    pub fn leads(&self) -> usize {
        self.replicas().iter().filter(|replica| replica.leads()).count()
    }

    /// The live events of a shard, if it has a replica here.
    #[must_use]
    pub fn subscribe(&self, shard: ShardId) -> Option<Subscriber> {
        self.voice(shard).map(|replica| replica.subscribe())
    }

    /// [`Host::subscribe`] for a caller that has the channel for changes.
    #[must_use]
    pub fn follow(
        &self,
        shard: ShardId,
        changes: mpsc::Receiver<InterestChange>,
    ) -> Option<mpsc::Receiver<StreamItem>> {
        self.voice(shard).map(|replica| replica.follow(changes))
    }

    /// A shard's replica, if it runs here and hears of what happens.
    fn voice(&self, shard: ShardId) -> Option<Replica> {
        self.shard(shard).filter(Replica::votes)
    }

    /// ③ Carries out a call to a group that this node may lead.
    ///
    /// # Errors
    /// [`Lost`] when it may have had effects.
    pub async fn call(&self, group: GroupId, request: &ShardRequest) -> Result<ShardOutcome, Lost> {
        let deadline = Instant::now() + Duration::from_millis(request.deadline_ms.into());
        let Some(replica) = self.group(group) else {
            return Ok(ShardOutcome::Redirect(Redirect { leader: None }));
        };
        match &request.call {
            ShardCall::Command(command) => replica.command(command, deadline).await,
            ShardCall::Query(query) => Ok(replica.query(query, deadline).await),
            ShardCall::Session(_) | ShardCall::Presence(_) => {
                let detail = "sessions and who is there are the node's matter, not a replica's";
                Ok(ShardOutcome::Refused(Refusal::new(ErrorCode::Internal, detail)))
            }
        }
    }

    /// The nodes that leaders could be handed to, if they take requests: none while everything is where it should be.
    #[must_use]
    pub fn successors(&self, yielding: bool) -> BTreeSet<NodeId> {
        let record = self.inner.record.borrow().clone();
        let this = self.inner.parts.node;
        let led = self.replicas().into_iter().filter(Replica::leads);
        led.flat_map(|led| balance::candidates(this, &led.voters(), preferred(&record, &led), yielding)).collect()
    }

    /// Hands over leaders that should be elsewhere, a few at a time, all of them when `yielding`; only to nodes that
    /// are `ready`. Says how many groups this node still leads.
    pub async fn balance(&self, yielding: bool, ready: &BTreeSet<NodeId>) -> usize {
        let (mut led, mut moved) = (0, 0);
        let record = self.inner.record.borrow().clone();
        let this = self.inner.parts.node;
        for replica in self.replicas().into_iter().filter(Replica::leads) {
            led += 1;
            if (!yielding && moved >= TRANSFERS_AT_ONCE) || self.is_moving(replica.group()) {
                continue;
            }
            let preferred = preferred(&record, &replica);
            if let Some(to) = balance::successor(this, &replica.voters(), preferred, yielding, ready) {
                tracing::info!(group = %replica.group(), %to, "handing over leadership");
                self.moving().insert(replica.group(), Instant::now());
                replica.transfer(to).await;
                moved += 1;
            }
        }
        led
    }

    /// Whether a successor was named so lately that another one would only get in its way.
    fn is_moving(&self, group: GroupId) -> bool {
        self.moving().get(&group).is_some_and(|since| since.elapsed() < TRANSFER_WITHIN)
    }

    fn moving(&self) -> MutexGuard<'_, BTreeMap<GroupId, Instant>> {
        self.inner.moving.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether this node's replicas may stand for election.
    pub fn campaigns(&self, may: bool) {
        for replica in self.replicas() {
            replica.campaigns(may);
        }
    }

    /// Stops every replica.
    pub async fn stop(&self) {
        self.inner.watches.iter().for_each(AbortOnDropHandle::abort);
        let replicas = std::mem::take(&mut *self.inner.groups.write().unwrap_or_else(PoisonError::into_inner));
        for replica in replicas.into_values() {
            self.inner.parts.registry.remove(replica.group());
            replica.stop().await;
        }
    }
}
