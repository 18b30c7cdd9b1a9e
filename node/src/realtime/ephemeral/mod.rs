//! What is told and never stored, on its way between nodes: who types, and who is there.
//!
//! Owns: the queues to every node of the cluster, and what came for this one.
//! Must not know: sockets, who listens to what here, who may say what.
//! Invariants: an item goes to each node once, this one included, and the hub there shows it to whom it concerns; one call
//! to a node is under way at a time and what waits behind it is bounded (see [`queue`]); a node that can't be reached
//! loses what it was to be told, and nobody waits for it.

pub mod audience;
pub(super) mod gate;
mod parted;
mod queue;
pub(super) mod show;

use super::registry::NodeCaller;
use crate::metric_names as names;
use messenger_proto::ephemeral::{Ephemeral, EphemeralItems};
use messenger_proto::ids::NodeId;
use messenger_proto::rpc::NodeCall;
use messenger_router::Router;
use queue::Queue;
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// How long a call to a node may take.
const DEADLINE: Duration = Duration::from_secs(1);
/// Between two calls to a node that was not reached.
const PAUSE: Duration = Duration::from_millis(500);
/// Calls to a node in a row that may fail before what waits for it is dropped.
const TRIES: u32 = 3;
/// Lists of items from other nodes that wait to be shown here; each is as large as a call, so 4 MiB or so.
const HEARD: usize = 64;

/// The way to every node; a cheap handle to clone.
#[derive(Clone)]
pub struct Relay {
    shared: Arc<Shared>,
}

struct Shared {
    router: Router,
    caller: Arc<dyn NodeCaller>,
    node: NodeId,
    peers: Mutex<BTreeMap<NodeId, Peer>>,
    heard: mpsc::Sender<Vec<Ephemeral>>,
}

/// What waits for one node.
#[derive(Default)]
struct Peer {
    queue: Queue,
    /// A task sends what is queued.
    sending: bool,
}

impl Relay {
    /// The way from `node` to all nodes of the cluster; what this one is told comes out of the receiver.
    #[must_use]
    pub fn new(router: Router, caller: Arc<dyn NodeCaller>, node: NodeId) -> (Self, mpsc::Receiver<Vec<Ephemeral>>) {
        let (heard, hearing) = mpsc::channel(HEARD);
        (Self { shared: Arc::new(Shared { router, caller, node, peers: Mutex::default(), heard }) }, hearing)
    }

    /// Tells every node. Never waits; to be called within a runtime.
    pub fn tell(&self, item: &Ephemeral) {
        let nodes = self.shared.router.nodes();
        self.shared.lock().retain(|node, _| nodes.contains(node));
        for node in nodes {
            if node == self.shared.node {
                self.hear(vec![item.clone()]);
            } else if self.shared.queue(node, item) {
                tokio::spawn(send(Arc::clone(&self.shared), node));
            }
        }
    }

    /// Takes what another node tells; drops it when too much waits here already.
    pub fn hear(&self, items: Vec<Ephemeral>) {
        if self.shared.heard.try_send(items).is_err() {
            metrics::counter!(names::EPHEMERAL_DROPPED, names::WHERE => "heard").increment(1);
        }
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<NodeId, Peer>> {
        self.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Queues an item; whether somebody has to begin to send.
    fn queue(&self, node: NodeId, item: &Ephemeral) -> bool {
        let mut peers = self.lock();
        let peer = peers.entry(node).or_default();
        peer.queue.push(item.clone());
        !std::mem::replace(&mut peer.sending, true)
    }

    /// What to send to a node next; nothing, and the task that sends has ended.
    fn next(&self, node: NodeId) -> Option<Vec<Ephemeral>> {
        let mut peers = self.lock();
        let peer = peers.get_mut(&node)?;
        let items = peer.queue.take();
        peer.sending = !items.is_empty();
        peer.sending.then_some(items)
    }

    /// A call failed: keeps what is still worth telling, unless the node is given up.
    fn failed(&self, node: NodeId, items: Vec<Ephemeral>, failures: u32) {
        if let Some(peer) = self.lock().get_mut(&node) {
            if failures < TRIES { peer.queue.give_back(items) } else { peer.queue.clear() }
        }
    }
}

/// Sends what is queued for a node until nothing is.
async fn send(shared: Arc<Shared>, node: NodeId) {
    let mut failures = 0;
    while let Some(items) = shared.next(node) {
        let call = NodeCall::Ephemeral(EphemeralItems { items: items.clone() });
        let until = Instant::now() + DEADLINE;
        if shared.caller.call(node, call, until).await {
            failures = 0;
            continue;
        }
        failures += 1;
        shared.failed(node, items, failures);
        tokio::time::sleep(PAUSE).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cluster_state;
    use messenger_proto::ephemeral::{Presence, PresenceChange, PresenceStatus, Typing};
    use messenger_proto::ids::{ShardId, Term, ThreadId, UserId};
    use messenger_proto::meta::NodeInfo;
    use messenger_proto::rpc::{ShardOutcome, ShardRequest};
    use messenger_router::{CallError, ShardStream, ShardTransport};
    use std::future::Future;
    use std::pin::Pin;
    use tokio::sync::watch;

    struct Nowhere;

    impl ShardTransport for Nowhere {
        fn local(&self) -> NodeId {
            NodeId(1)
        }
        async fn call(
            &self,
            _: NodeId,
            requests: Vec<ShardRequest>,
            _: Instant,
        ) -> Vec<Result<ShardOutcome, CallError>> {
            requests.iter().map(|_| Err(CallError::NotSent("no shards here".into()))).collect()
        }
        async fn open(&self, _: NodeId, _: ShardId) -> Result<ShardStream, CallError> {
            Err(CallError::NotSent("no streams here".into()))
        }
    }

    /// Node 3 is reached from the fourth call on, if ever; what is taken is noted.
    struct Calls {
        taken: mpsc::UnboundedSender<(NodeId, Vec<Ephemeral>)>,
        failing: Mutex<u32>,
    }

    impl NodeCaller for Calls {
        fn call(&self, node: NodeId, call: NodeCall, _: Instant) -> Pin<Box<dyn Future<Output = bool> + Send + '_>> {
            Box::pin(async move {
                let NodeCall::Ephemeral(items) = call else { return false };
                if node == NodeId(3) {
                    let mut failing = self.failing.lock().unwrap();
                    if *failing > 0 {
                        *failing -= 1;
                        return false;
                    }
                }
                self.taken.send((node, items.items)).unwrap();
                true
            })
        }
    }

    type Taken = mpsc::UnboundedReceiver<(NodeId, Vec<Ephemeral>)>;

    fn relay(failing: u32) -> (Relay, mpsc::Receiver<Vec<Ephemeral>>, Taken) {
        let mut state = cluster_state();
        for id in [2, 3] {
            let node = NodeInfo { id: NodeId(id), ..state.nodes[0].clone() };
            state.nodes.push(node);
        }
        let (_cluster, record) = watch::channel(Arc::new(state));
        let (taken, seen) = mpsc::unbounded_channel();
        let caller = Arc::new(Calls { taken, failing: Mutex::new(failing) });
        let (relay, heard) = Relay::new(Router::new(Nowhere, record), caller, NodeId(1));
        (relay, heard, seen)
    }

    fn typing() -> Ephemeral {
        Ephemeral::Typing(Typing {
            thread: ThreadId([1; 16]),
            user: UserId::new("u").unwrap(),
            stop: false,
            away: vec![],
            version: 0,
        })
    }

    fn presence(status: PresenceStatus) -> Ephemeral {
        let of = Presence { user: UserId::new("u").unwrap(), status, last_seen: None };
        Ephemeral::Presence(PresenceChange {
            of,
            threads: vec![],
            shard: ShardId(1),
            term: Term(1),
            away: vec![],
            version: 0,
        })
    }

    #[tokio::test(start_paused = true)]
    async fn every_node_is_told_once_this_one_included() {
        let (relay, mut heard, mut seen) = relay(0);
        relay.tell(&typing());
        assert_eq!(heard.recv().await, Some(vec![typing()]));
        let mut told = [seen.recv().await.unwrap(), seen.recv().await.unwrap()];
        told.sort_by_key(|(node, _)| *node);
        assert_eq!(told, [(NodeId(2), vec![typing()]), (NodeId(3), vec![typing()])]);
        tokio::time::sleep(PAUSE * 4).await;
        assert!(seen.try_recv().is_err() && heard.try_recv().is_err());
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_is_away_briefly_hears_how_users_are_by_then() {
        let (relay, _heard, mut seen) = relay(TRIES - 1);
        relay.tell(&presence(PresenceStatus::Online));
        relay.tell(&typing());
        tokio::time::sleep(PAUSE / 2).await;
        relay.tell(&presence(PresenceStatus::Offline));
        let mut to_third = Vec::new();
        tokio::time::sleep(PAUSE * 10).await;
        while let Ok((node, items)) = seen.try_recv() {
            if node == NodeId(3) {
                to_third.extend(items);
            }
        }
        assert_eq!(to_third, [presence(PresenceStatus::Offline)], "typing is not worth telling late");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_stays_away_is_given_up_and_told_of_later_things_again() {
        let (relay, _heard, mut seen) = relay(TRIES);
        relay.tell(&presence(PresenceStatus::Online));
        tokio::time::sleep(PAUSE * 10).await;
        while let Ok((node, _)) = seen.try_recv() {
            assert_eq!(node, NodeId(2));
        }
        relay.tell(&typing());
        let mut nodes = vec![seen.recv().await.unwrap().0, seen.recv().await.unwrap().0];
        nodes.sort();
        assert_eq!(nodes, [NodeId(2), NodeId(3)]);
    }
}
