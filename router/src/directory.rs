//! From a slot to the route of its shard.
//!
//! Owns: the table of routes, rebuilt as the cluster's record changes, and the queue of calls that wait for a leader.
//! Must not know: what is called.
//! Invariants: a shard keeps its route object through every change of placement; all waiting calls wake when the leader
//! is found, and one at a time for a question of the search.

use crate::route::{Lesson, Next, Route};
use arc_swap::ArcSwap;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::{ClusterState, NodeState};
use messenger_proto::slot::{Slot, SlotMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, Semaphore, watch};
use tokio::time::{Instant, sleep_until, timeout_at};

/// One shard's route and those who wait on it.
#[derive(Debug)]
pub(crate) struct RouteCell {
    route: Mutex<Route>,
    found: Notify,
    /// Held by the one call that sleeps until the next question is due.
    asking: Semaphore,
}

impl RouteCell {
    fn new(route: Route) -> Self {
        Self { route: Mutex::new(route), found: Notify::new(), asking: Semaphore::new(1) }
    }

    fn lock(&self) -> MutexGuard<'_, Route> {
        // Each method of a route leaves it whole.
        self.route.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The known leader.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        self.lock().leader()
    }

    /// Where to send a call now, if anywhere.
    pub(crate) fn poll_target(&self) -> Option<NodeId> {
        match self.next() {
            Next::Send(node) => Some(node),
            Next::WaitUntil(_) | Next::Nobody => None,
        }
    }

    /// Where to send a call; `None` at the deadline, or if there is no node at all.
    pub(crate) async fn target(&self, deadline: Instant) -> Option<NodeId> {
        timeout_at(deadline, async {
            loop {
                let found = self.found.notified();
                tokio::pin!(found);
                // Registers, so that a leader found from here on is not missed.
                found.as_mut().enable();
                match self.next() {
                    Next::Send(node) => return Some(node),
                    Next::Nobody => return None,
                    Next::WaitUntil(_) => {}
                }
                tokio::select! {
                    () = &mut found => {}
                    node = self.ask_in_turn() => return node,
                }
            }
        })
        .await
        .ok()
        .flatten()
    }

    /// Waits for this call's turn to ask, then for the time of the next question.
    async fn ask_in_turn(&self) -> Option<NodeId> {
        // Never closed; without a permit the pace is kept all the same.
        let _turn = self.asking.acquire().await;
        loop {
            match self.next() {
                Next::Send(node) => return Some(node),
                Next::WaitUntil(then) => sleep_until(then).await,
                Next::Nobody => return None,
            }
        }
    }

    /// Takes note of what an attempt at `node` that began at `sent_at` taught.
    pub(crate) fn learn(&self, node: NodeId, lesson: Lesson, sent_at: Instant) {
        if self.lock().learn(node, lesson, sent_at, Instant::now()) {
            self.found.notify_waiters();
        }
    }

    fn next(&self) -> Next {
        self.lock().next(Instant::now(), rand::random())
    }

    fn relocate(&self, replicas: Vec<NodeId>, others: Vec<NodeId>) {
        self.lock().relocate(replicas, others, Instant::now());
        self.found.notify_waiters();
    }
}

/// The routes of one state of the cluster.
#[derive(Debug)]
struct Table {
    state: Arc<ClusterState>,
    slots: Option<SlotMap>,
    routes: Vec<Arc<RouteCell>>,
}

impl Table {
    /// The table of a new state; shards that were there before keep their routes.
    fn of(state: Arc<ClusterState>, before: &[Arc<RouteCell>]) -> Self {
        let nodes = nodes_of(&state);
        let route = |(index, replicas): (usize, &Vec<NodeId>)| {
            let others = nodes.iter().copied().filter(|node| !replicas.contains(node)).collect();
            match before.get(index) {
                Some(cell) => {
                    cell.relocate(replicas.clone(), others);
                    Arc::clone(cell)
                }
                None => Arc::new(RouteCell::new(Route::new(replicas.clone(), others, Instant::now()))),
            }
        };
        let routes = state.shards.iter().map(|shard| &shard.replicas).enumerate().map(route).collect();
        let slots = u32::try_from(state.shards.len()).ok().and_then(SlotMap::new);
        Self { state, slots, routes }
    }
}

/// The nodes that were not removed.
fn nodes_of(state: &ClusterState) -> Vec<NodeId> {
    state.nodes.iter().filter(|node| node.state != NodeState::Removed).map(|node| node.id).collect()
}

/// The way to every shard.
#[derive(Debug)]
pub(crate) struct Directory {
    cluster: watch::Receiver<Arc<ClusterState>>,
    table: ArcSwap<Table>,
    rebuild: Mutex<()>,
}

impl Directory {
    pub(crate) fn new(cluster: watch::Receiver<Arc<ClusterState>>) -> Self {
        let state = Arc::clone(&cluster.borrow());
        let table = ArcSwap::from_pointee(Table::of(state, &[]));
        Self { cluster, table, rebuild: Mutex::new(()) }
    }

    fn table(&self) -> Arc<Table> {
        let table = self.table.load_full();
        if Arc::ptr_eq(&table.state, &self.cluster.borrow()) {
            return table;
        }
        let _one_at_a_time = self.rebuild.lock().unwrap_or_else(PoisonError::into_inner);
        let (table, state) = (self.table.load_full(), Arc::clone(&self.cluster.borrow()));
        if Arc::ptr_eq(&table.state, &state) {
            return table;
        }
        let table = Arc::new(Table::of(state, &table.routes));
        self.table.store(Arc::clone(&table));
        table
    }

    /// The shard that owns a slot; shard 0 while the cluster has none.
    pub(crate) fn shard_of(&self, slot: Slot) -> ShardId {
        self.table().slots.map_or(ShardId(0), |slots| slots.shard_of(slot))
    }

    /// The route of a shard; `None` while there is no such shard.
    pub(crate) fn route(&self, shard: ShardId) -> Option<Arc<RouteCell>> {
        self.table().routes.get(shard.0 as usize).map(Arc::clone)
    }

    /// Waits until the cluster has shards; false at the deadline.
    pub(crate) async fn ready(&self, deadline: Instant) -> bool {
        if self.table().slots.is_some() {
            return true;
        }
        let mut cluster = self.cluster.clone();
        let ready = timeout_at(deadline, cluster.wait_for(|state| !state.shards.is_empty())).await;
        matches!(ready, Ok(Ok(_)))
    }

    /// The nodes that should hold a replica of a shard.
    pub(crate) fn replicas(&self, shard: ShardId) -> Vec<NodeId> {
        self.table().state.shards.get(shard.0 as usize).map(|shard| shard.replicas.clone()).unwrap_or_default()
    }

    /// The nodes of the cluster.
    pub(crate) fn nodes(&self) -> Vec<NodeId> {
        nodes_of(&self.cluster.borrow())
    }

    /// A receiver of the cluster's record, to hear of changes.
    pub(crate) fn watch(&self) -> watch::Receiver<Arc<ClusterState>> {
        self.cluster.clone()
    }
}
