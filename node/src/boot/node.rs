//! One node, put together.
//!
//! Owns: the wiring of store, groups, links, router and listeners.
//! Must not know: what flows through them.

use super::bootstrap::{differs, first_record};
use super::drain::{PARENT_ENV, Signals, drain};
use super::leaders::Leaders;
use super::moves::Moves;
use super::reload::{Reload, Reloads};
use super::secured::Secured;
use super::sessions::NodeSessions;
use super::{BootError, behind, gauges, notify, serving};
use crate::auth::{self, KeySet};
use crate::config::{Address, ClusterConfig, Config, LimitsConfig, PeerConfig};
use crate::readiness::Readiness;
use crate::rpc::cross::RouterCross;
use crate::rpc::handler::NodeHandler;
use crate::rpc::meta::MetaClient;
use crate::rpc::transport::NodeTransport;
use messenger_client::ServerUrl;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::ClusterState;
use messenger_raft::clock::HybridClock;
use messenger_raft::group::host::{Host, HostParts};
use messenger_raft::group::registry::Registry;
use messenger_raft::group::timing::Timing;
use messenger_raft::store::{OpenError, Store, StoreError, StoreOptions};
use messenger_raft::transport::{Links, PeerServer, Peers, TransportConfig};
use messenger_raft::types::{GroupId, Identity, META_GROUP};
use messenger_router::Router;
use messenger_router::placement::plan::Caps;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

/// Between two looks at whether every replica has a leader, while starting.
const SETTLE_POLL: Duration = Duration::from_millis(25);

/// The listeners of a node, bound before anything else happens.
pub struct Listeners {
    /// For clients.
    pub client: TcpListener,
    /// For other nodes.
    pub peer: TcpListener,
    /// For operators.
    pub admin: TcpListener,
}

async fn bind(config: &Config, address: &Address) -> Result<TcpListener, BootError> {
    let address = address.listening_at(config.node.listen_ip);
    TcpListener::bind(address.to_string()).await.map_err(|source| BootError::Address { address, source })
}

/// Runs a node from start to end.
pub async fn run(config: Config, join: Option<ServerUrl>, reload: Reload, raft: Handle) -> Result<(), BootError> {
    let reloads = Reloads::new(reload)?;
    let mut signals = Signals::new(std::env::var_os(PARENT_ENV).is_some())?;
    // All that the configuration says and names is checked before anything is made.
    let this = config.this_node()?;
    let keys = auth::load_keys(&config.auth.keys).map_err(|error| BootError::Config(format!("auth.keys: {error}")))?;
    let secured = Secured::read(&config.tls)?;
    let first = first_record_of(&config)?;
    let listeners = Listeners {
        client: bind(&config, &this.client_addr).await?,
        peer: bind(&config, &this.peer_addr).await?,
        admin: bind(&config, &this.admin_addr).await?,
    };
    let store = Store::open(&config.node.data_dir, store_options(&config.limits))?;
    let mut fatal = store.fatal();
    let readiness = Readiness::default();
    // Until the process ends: also a node that goes is watched over.
    let _told = notify::Notifier::from_env()
        .map(|notifier| AbortOnDropHandle::new(tokio::spawn(notifier.follow(readiness.clone()))));
    let life = async {
        let known = tokio::select! {
            known = identify(&config, join.as_ref(), &this, &store) => known?,
            // Nothing has begun that would have to end.
            () = signals.next() => return Ok(()),
        };
        let data = Data { store, identity: known.0, peers: known.1 };
        let checked = Checked { keys, first, reloads, secured };
        Box::pin(live(&config, checked, raft, listeners, data, readiness, &mut signals)).await
    };
    tokio::select! {
        outcome = life => outcome,
        stopped = fatal.wait_for(Option::is_some) => {
            let why = stopped.ok().and_then(|fatal| fatal.clone());
            Err(why.map_or_else(|| BootError::Storage("it stopped".into()), Into::into))
        }
    }
}

/// A data directory that is this node's.
struct Data {
    store: Store,
    identity: Identity,
    /// The other nodes, as far as they are known before the record is.
    peers: Peers,
}

/// What a configuration comes to that was found good, and the way to a newer one.
struct Checked {
    /// What tokens are verified with.
    keys: KeySet,
    /// The record to make a cluster with, at the node that may.
    first: Option<ClusterState>,
    reloads: Reloads,
    /// What its listeners show.
    secured: Secured,
}

fn first_record_of(config: &Config) -> Result<Option<ClusterState>, BootError> {
    let cluster = config.cluster_id()?;
    let first = config.cluster.bootstrap.then(|| first_record(config, cluster)).transpose();
    first.map_err(|error| BootError::Config(format!("cluster: {error}")))
}

/// Shares a node's storage memory out: write buffers, block cache, recent entries, and what waits for the disk.
fn store_options(limits: &LimitsConfig) -> StoreOptions {
    let bytes = limits.store_bytes;
    let part = |eighths: u64| usize::try_from(bytes / 8 * eighths).unwrap_or(usize::MAX);
    StoreOptions {
        memtable_bytes: part(3),
        block_cache_bytes: part(3),
        log_cache_bytes: part(1),
        queue_bytes: part(1),
        snapshot_bytes_per_second: limits.move_bytes_per_second,
        ..StoreOptions::default()
    }
}

/// Makes sure that the data directory is this node's, or makes it so.
async fn identify(
    config: &Config,
    join: Option<&ServerUrl>,
    this: &PeerConfig,
    store: &Store,
) -> Result<(Identity, Peers), BootError> {
    let (cluster, node) = (config.cluster_id()?, config.node_id());
    let unreadable = |error: StoreError| BootError::from(OpenError::of(&config.node.data_dir, &error));
    let known = store.identity().map_err(unreadable)?;
    let Some(found) = known else {
        if !config.joins() {
            return Ok((store.create_identity(cluster, node).map_err(unreadable)?, super::peers::of_config(config)));
        }
        let Some(admin) = join else {
            let advice = "is new, and cluster.nodes is not there: name a node of the cluster with --join";
            return Err(BootError::Config(format!("{} {advice}", config.node.data_dir.display())));
        };
        let drawn = store.draw_id().map_err(unreadable)?;
        let (given, peers) = super::join::ask(admin, config, this, drawn).await?;
        return Ok((store.create_identity(cluster, given).map_err(unreadable)?, peers));
    };
    if found.cluster == cluster && (config.joins() || found.node == node) {
        return Ok((found, super::peers::of_config(config)));
    }
    let path = config.node.data_dir.display();
    let wanted = if config.joins() { "a node".to_owned() } else { format!("node {node}") };
    Err(BootError::WrongData(format!(
        "{path} belongs to node {} of cluster {}, not to {wanted} of cluster {cluster}",
        found.node, found.cluster
    )))
}

async fn live(
    config: &Config,
    checked: Checked,
    raft: Handle,
    listeners: Listeners,
    data: Data,
    readiness: Readiness,
    signals: &mut Signals,
) -> Result<(), BootError> {
    let secured = checked.secured.with_peers(&config.tls, data.identity)?;
    let node = assemble(config, &raft, data, &secured, &readiness)?;
    let Listeners { client, peer, admin } = listeners;
    node.serve_peers(&raft, peer, wire(&secured));
    let serving = serving::start(config, checked.keys, &node, secured, client, admin)?;
    let _measured = AbortOnDropHandle::new(tokio::spawn(gauges::follow(node.host.clone(), readiness)));
    tokio::select! {
        lived = node.live(checked.first, &config.cluster) => lived?,
        () = checked.reloads.follow(serving.in_force()) => {}
        // Also while it starts: some of its replicas may lead already.
        () = signals.next() => {}
    }
    tokio::select! {
        () = drain(&node, serving) => Ok(()),
        () = signals.next() => {
            let led = node.host.leads();
            tracing::warn!(led, "stopping at once");
            Err(BootError::CutShort { led })
        }
    }
}

/// The parts of a node that others need.
pub struct Node {
    /// Its groups.
    pub host: Host,
    /// Its clock.
    pub clock: HybridClock,
    /// Its links to other nodes.
    pub links: Links,
    /// What it does when others ask.
    pub handler: NodeHandler,
    /// The way to every node.
    pub transport: NodeTransport,
    /// The way to the cluster's record.
    pub meta: MetaClient,
    /// The way to every shard.
    pub router: Router,
    /// Whether it takes requests.
    pub readiness: Readiness,
    /// Its registry of sessions and the sockets it holds.
    pub sessions: Arc<NodeSessions>,
    caps: Caps,
    replace_after: Option<Duration>,
    identity: Identity,
    peers: watch::Receiver<Arc<Peers>>,
    registry: Registry,
    stop: CancellationToken,
}

/// How other nodes are reached, and reach this one.
fn wire(secured: &Secured) -> TransportConfig {
    TransportConfig { tls: secured.peer.clone(), ..TransportConfig::default() }
}

fn assemble(
    config: &Config,
    raft: &Handle,
    data: Data,
    secured: &Secured,
    readiness: &Readiness,
) -> Result<Node, BootError> {
    let main = Handle::current();
    let _on_raft_threads = raft.enter();
    let Data { store, identity, peers } = data;
    let clock = HybridClock::system();
    let peers = watch::Sender::new(Arc::new(peers));
    let registry = Registry::new(store.clone());
    let listed = peers.subscribe();
    let links = Links::start(identity, clock.clone(), listed.clone(), wire(secured));
    let cross = Arc::new(RouterCross::default());
    let host = Host::new(HostParts {
        node: identity.node,
        store,
        clock: clock.clone(),
        links: links.clone(),
        registry: registry.clone(),
        timing: Timing::default(),
        admission_bytes: config.limits.proposal_bytes,
        disk_reserve_bytes: config.limits.disk_reserve_bytes,
        tail_bytes: config.limits.tail_bytes as usize,
        cross: Arc::clone(&cross) as _,
        runtime: raft.clone(),
        storage_watch: main.clone(),
        erase_every: Duration::from_secs(config.limits.erase_every_seconds.into()),
    })
    .map_err(|error| BootError::Runtime(error.to_string()))?;
    tokio::spawn(super::peers::follow(peers, host.record()));
    let sessions = Arc::new(NodeSessions::default());
    let handler = NodeHandler::new(host.clone(), Arc::clone(&sessions) as _, readiness.clone(), main);
    let transport = NodeTransport::new(identity.node, handler.clone(), links.clone());
    let meta = MetaClient::new(host.clone(), links.clone());
    let router = Router::new(transport.clone(), host.record());
    cross.connect(router.clone());
    Ok(Node {
        host,
        clock,
        links,
        handler,
        transport,
        meta,
        router,
        readiness: readiness.clone(),
        sessions,
        replace_after: config.cluster.replace_after(),
        caps: Caps { total: config.limits.moves as usize, per_node: config.limits.moves_per_node as usize },
        identity,
        peers: listed,
        registry,
        stop: CancellationToken::new(),
    })
}

impl Node {
    /// Starts and then lives until it is removed.
    async fn live(&self, first: Option<ClusterState>, configured: &ClusterConfig) -> Result<(), BootError> {
        let leaders = Leaders::new(self.host.clone(), self.transport.clone());
        let (host, transport) = (self.host.clone(), self.transport.clone());
        let (meta, caps, replace_after) = (self.meta.clone(), self.caps, self.replace_after);
        let moves = Moves { host, transport, meta, caps, replace_after };
        let life = async {
            self.start(first, configured).await?;
            self.readiness.ready();
            tracing::info!(node = %self.host.node(), "ready");
            tokio::select! {
                () = self.removed() => Err(BootError::Refused("it was removed from the cluster".into())),
                // Its replicas are started by now: what has none yet begins with nothing.
                settled = moves.settle() => settled,
                () = moves.plan() => Ok(()),
                why = self.meta.disowned() => Err(BootError::Refused(why)),
            }
        };
        tokio::select! {
            ended = life => ended,
            // Also while it starts: what it leads by then it may not be able to serve.
            () = leaders.balance(self.clock.clone()) => Ok(()),
            () = moves.steer() => Ok(()),
        }
    }

    /// Stops consensus, and whatever else still runs.
    pub async fn stop(&self) {
        self.host.stop().await;
        self.links.shutdown();
        self.stop.cancel();
    }

    fn serve_peers(&self, raft: &Handle, listener: TcpListener, wire: TransportConfig) {
        let server = PeerServer::new(
            self.identity,
            self.clock.clone(),
            self.peers.clone(),
            Arc::new(self.registry.clone()),
            Arc::new(self.handler.clone()),
            wire,
        );
        let stop = self.stop.clone();
        raft.spawn(async move {
            if let Err(error) = server.serve(listener, stop).await {
                tracing::error!(%error, "other nodes can't reach this one any more");
            }
        });
    }

    /// Brings the node to where it can take requests.
    async fn start(&self, first: Option<ClusterState>, configured: &ClusterConfig) -> Result<(), BootError> {
        self.readiness.waiting("the meta group has no leader yet");
        self.host.start_meta().await?;
        if let Some(first) = first.filter(|_| self.host.record().borrow().epoch == 0) {
            let members: Vec<(NodeId, String)> =
                first.nodes.iter().map(|node| (node.id, node.peer_addr.clone())).collect();
            self.host.initialize(META_GROUP, &members).await?;
            self.meta.bootstrap(first).await?;
        }
        let mut record = self.host.record();
        self.readiness.waiting("the cluster's record is not known yet");
        let differs = match record.wait_for(|state| state.epoch > 0).await {
            Ok(state) => differs(configured, &state).filter(|_| configured.bootstrap),
            Err(_) => return Err(BootError::Runtime("the meta group stopped".into())),
        };
        // Elsewhere nobody has to say what the cluster began with.
        if let Some(differs) = differs {
            tracing::warn!("{differs}");
        }
        self.readiness.waiting("the meta group has not taken note of this node yet");
        self.meta.check_in(self.host.node(), self.identity.store).await?;
        let expected = self.start_shards().await?;
        self.readiness.waiting("some replica has found no leader yet");
        let leads = |shard: &ShardId| self.host.shard(*shard).is_some_and(|replica| replica.leader().is_some());
        while !expected.iter().all(leads) {
            sleep(SETTLE_POLL).await;
        }
        self.readiness.waiting("some replica is behind its leader");
        behind::catch_up(&self.host, &self.transport, &expected).await;
        Ok(())
    }

    /// Starts the replicas that have data here, as their groups may count on them whatever the placement says by now, and
    /// those that the placement puts here. Says of which of them it is to be expected that they are led: a group may have
    /// gone on without a replica that was away, and one that is new here waits for its group to take it in.
    async fn start_shards(&self) -> Result<BTreeSet<ShardId>, BootError> {
        let this = self.host.node();
        self.readiness.waiting("replicas are starting");
        for shard in self.host.stored_shards()? {
            self.host.start_shard(shard).await?;
        }
        self.host.reclaim_destroyed()?;
        // Not the record as this node knows it: by an old one it could begin a group anew that has moved since.
        let state = self.meta.known_record().await?;
        let mut expected = BTreeSet::new();
        for placed in state.shards.iter().filter(|placed| placed.replicas.contains(&this)) {
            let replica = self.host.start_shard(placed.shard).await?;
            let is_first = !placed.moved && placed.first_members.contains(&this);
            if is_first || replica.is_known() {
                expected.insert(placed.shard);
            }
            if !is_first {
                continue;
            }
            let address = |id: &NodeId| (*id, state.node(*id).map_or_else(String::new, |node| node.peer_addr.clone()));
            let members: Vec<(NodeId, String)> = placed.first_members.iter().map(address).collect();
            self.host.initialize(GroupId::of_shard(placed.shard), &members).await?;
            if placed.replicas.first() == Some(&this) && replica.leader().is_none() {
                replica.campaign().await;
            }
        }
        Ok(expected)
    }

    /// Resolves once the record says that this node was removed.
    async fn removed(&self) {
        let this = self.host.node();
        let mut record = self.host.record();
        let gone = |state: &Arc<ClusterState>| {
            state.nodes.iter().any(|node| node.id == this && node.state == messenger_proto::meta::NodeState::Removed)
        };
        if record.wait_for(gone).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}
