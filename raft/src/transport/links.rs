//! This node's links to all others.
//!
//! Owns: which peers are linked, and finding the connection a call goes out on.
//! Must not know: what is called, or how a connection is kept.
//! Invariants: exactly the listed peers are linked, one connection each; a call to a peer without one fails at once.

use super::config::TransportConfig;
use super::connect::{Connection, Keeper, Shared, Slot};
use super::identity::{Peer, Peers};
use super::lane::{self, Answer, Call, LinkError, NotQueued};
use super::method::{Lane, Method};
use super::subscribe;
use crate::clock::HybridClock;
use crate::types::{GroupId, Identity};
use arc_swap::ArcSwap;
use bytes::Bytes;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::rpc::pb::peer_client::PeerClient;
use messenger_proto::rpc::{InterestChange, StreamItem};
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use tokio::sync::{mpsc, watch};
use tokio::time::Instant;
use tokio_util::sync::{CancellationToken, DropGuard};
use tonic::metadata::MetadataMap;
use tonic::transport::Channel;

/// A linked peer.
struct Linked {
    peer: watch::Sender<Peer>,
    slot: Arc<Slot>,
    _stop: DropGuard,
}

struct Inner {
    shared: Arc<Shared>,
    linked: ArcSwap<BTreeMap<NodeId, Arc<Linked>>>,
    /// Signals that `linked` has changed.
    followed: watch::Sender<()>,
    sessions: AtomicU64,
    stop: CancellationToken,
}

/// The links of a node; clones are the same links.
#[derive(Clone)]
pub struct Links(Arc<Inner>);

impl fmt::Debug for Links {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Links").field("node", &self.0.shared.identity.node).finish_non_exhaustive()
    }
}

impl Links {
    /// Starts to link with the listed peers, on the runtime this is called on, and follows the list as it changes.
    #[must_use]
    pub fn start(
        identity: Identity,
        clock: HybridClock,
        peers: watch::Receiver<Arc<Peers>>,
        config: TransportConfig,
    ) -> Self {
        let shared = Arc::new(Shared { identity, clock, config, peers });
        let links = Self(Arc::new(Inner {
            shared,
            linked: ArcSwap::default(),
            followed: watch::channel(()).0,
            sessions: AtomicU64::new(1),
            stop: CancellationToken::new(),
        }));
        let mut peers = links.0.shared.peers.clone();
        links.follow(&peers.borrow_and_update().clone());
        let (following, stop) = (links.clone(), links.0.stop.clone());
        tokio::spawn(stop.run_until_cancelled_owned(async move {
            while peers.changed().await.is_ok() {
                let listed = peers.borrow_and_update().clone();
                following.follow(&listed);
            }
        }));
        links
    }

    /// Calls a peer and waits for its answer, at most until `deadline`.
    ///
    /// # Errors
    /// [`LinkError`], which says whether the call can have had effects. Without a connection, or with the lane at its
    /// bounds, the call fails at once.
    pub async fn call(
        &self,
        node: NodeId,
        lane: Lane,
        method: Method,
        group: GroupId,
        body: Bytes,
        deadline: Instant,
    ) -> Result<Bytes, LinkError> {
        let connection = self.connection(node)?;
        let call = Call { method, group, body, deadline };
        let answer = connection.lane(lane).try_submit(call).map_err(|error| match error {
            NotQueued::Full => lane::full(),
            NotQueued::Never(error) => error,
        })?;
        drop(connection);
        answer.until(deadline).await
    }

    /// Opens a subscription to a shard's events at a peer. It ends with either channel, or with the connection.
    ///
    /// # Errors
    /// [`LinkError`]; nothing has happened in any case.
    pub async fn subscribe(
        &self,
        node: NodeId,
        shard: ShardId,
        deadline: Instant,
    ) -> Result<(mpsc::Sender<InterestChange>, mpsc::Receiver<StreamItem>), LinkError> {
        subscribe::open(self, node, shard, deadline).await
    }

    /// Whether there is a connection to the peer right now.
    #[cfg(test)]
    pub(super) fn is_connected(&self, node: NodeId) -> bool {
        self.connection(node).is_ok()
    }

    /// The peers there is a connection to right now.
    #[must_use]
    pub fn connected(&self) -> Vec<NodeId> {
        let linked = self.0.linked.load();
        linked.iter().filter(|(_, linked)| linked.slot.borrow().is_some()).map(|(node, _)| *node).collect()
    }

    /// Waits until there is a connection to the peer, or none for `wanted` false; false at the deadline.
    #[cfg(test)]
    pub(super) async fn wait_connected(&self, node: NodeId, wanted: bool, deadline: Instant) -> bool {
        let mut followed = self.0.followed.subscribe();
        let reached = async {
            loop {
                followed.mark_unchanged();
                let linked = self.0.linked.load().get(&node).cloned();
                match linked {
                    Some(linked) => {
                        let mut slot = linked.slot.subscribe();
                        // Gone only with the peer, and then the list changes.
                        if slot.wait_for(|connection| connection.is_some() == wanted).await.is_ok() {
                            return;
                        }
                    }
                    None if !wanted => return,
                    None => {}
                }
                // The sender is this very struct's.
                let _ = followed.changed().await;
            }
        };
        tokio::time::timeout_at(deadline, reached).await.is_ok()
    }

    /// Ends all connections and links with nobody any more.
    pub fn shutdown(&self) {
        self.0.stop.cancel();
        self.0.linked.store(Arc::default());
    }

    /// The node these links are of.
    #[must_use]
    pub fn local(&self) -> NodeId {
        self.0.shared.identity.node
    }

    /// Queues an append or whatever else may wait for room until its deadline.
    pub(crate) async fn submit(&self, node: NodeId, lane: Lane, call: Call) -> Result<Answer, LinkError> {
        let connection = self.connection(node)?;
        connection.lane(lane).submit(call).await
    }

    /// Queues it if there is room right now; `Err(None)` when there is none.
    pub(crate) fn try_submit(&self, node: NodeId, lane: Lane, call: Call) -> Result<Answer, Option<LinkError>> {
        let connection = self.connection(node).map_err(Some)?;
        connection.lane(lane).try_submit(call).map_err(|error| match error {
            NotQueued::Full => None,
            NotQueued::Never(error) => Some(error),
        })
    }

    pub(crate) fn client(&self, node: NodeId) -> Result<PeerClient<Channel>, LinkError> {
        self.connection(node).map(|connection| connection.streams.clone())
    }

    pub(crate) fn client_and_end(&self, node: NodeId) -> Result<(PeerClient<Channel>, CancellationToken), LinkError> {
        self.connection(node).map(|connection| (connection.streams.clone(), connection.ended.clone()))
    }

    pub(crate) fn stamp(&self, metadata: &mut MetadataMap) {
        self.0.shared.identity.stamp(&self.0.shared.clock, metadata);
    }

    pub(crate) fn config(&self) -> &TransportConfig {
        &self.0.shared.config
    }

    /// A number for a stream of appends, unlike any other of this process.
    pub(crate) fn new_session(&self) -> u64 {
        self.0.sessions.fetch_add(1, Ordering::Relaxed)
    }

    fn connection(&self, node: NodeId) -> Result<Arc<Connection>, LinkError> {
        let linked = self.0.linked.load();
        let Some(linked) = linked.get(&node) else {
            return Err(LinkError::NotSent(format!("node {node} is not a known peer")));
        };
        let connection = linked.slot.borrow().clone();
        connection.ok_or_else(|| LinkError::NotSent(format!("no connection to node {node}")))
    }

    fn follow(&self, peers: &Peers) {
        let before = self.0.linked.load_full();
        let own = self.local();
        let mut after = BTreeMap::new();
        for (node, peer) in peers.iter().filter(|(node, _)| **node != own) {
            let linked = match before.get(node) {
                Some(linked) => {
                    linked.peer.send_if_modified(|known| {
                        let moved = known != peer;
                        known.clone_from(peer);
                        moved
                    });
                    linked.clone()
                }
                None => self.link(*node, peer.clone()),
            };
            after.insert(*node, linked);
        }
        for gone in before.keys().filter(|node| !after.contains_key(node)) {
            self.0.shared.clock.forget(*gone);
        }
        self.0.linked.store(Arc::new(after));
        self.0.followed.send_replace(());
    }

    fn link(&self, node: NodeId, peer: Peer) -> Arc<Linked> {
        let (peer, known) = watch::channel(peer);
        let slot = Arc::new(watch::channel(None).0);
        let stop = self.0.stop.child_token();
        let keeper =
            Keeper { shared: self.0.shared.clone(), node, peer: known, slot: slot.clone(), stop: stop.clone() };
        tokio::spawn(keeper.run());
        Arc::new(Linked { peer, slot, _stop: stop.drop_guard() })
    }
}
