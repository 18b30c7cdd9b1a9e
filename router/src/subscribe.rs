//! Subscriptions to shard streams that survive their source.
//!
//! Owns: the handles of a subscription, the choice of its source, and its re-opening with the whole interest.
//! Must not know: what events mean, who listens.
//! Invariants: whatever may have been lost is followed by a [`SubscriptionItem::Reset`], once the interest is in force at
//! the source that goes on; a slow consumer holds bounded memory and is sent a `Reset` rather than waited for; interest
//! comes into force also while the consumer is slow.

use crate::admission::Limits;
use crate::forward::Shared;
use crate::interest::{Stamp, Wanted};
use crate::metric_names as names;
use crate::outlet::{Outlet, Parcel};
use crate::pause::Pauses;
use crate::source::{End, follow};
use crate::transport::{CallError, ShardStream};
use messenger_proto::event::Event;
use messenger_proto::ids::{NodeId, ShardId};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, timeout};

pub use crate::interest::Topic;

/// Between attempts to open a stream.
const PAUSES: Pauses = Pauses { min: Duration::from_millis(50), max: Duration::from_secs(1) };
/// How long opening may take.
const OPEN_MAX: Duration = Duration::from_secs(3);
/// A source that lasted so long was sound: its end is no failure of its node.
const SOUND: Duration = Duration::from_secs(5);

/// What one subscription wants to hear: a set of topics; a cheap handle to clone.
#[derive(Debug, Clone)]
pub struct Interest {
    desk: Arc<Desk>,
    in_force: watch::Receiver<Stamp>,
}

/// Where wishes are left for the task that serves the subscription.
#[derive(Debug, Default)]
pub(crate) struct Desk {
    wanted: Mutex<Wanted>,
    pub(crate) news: Notify,
}

impl Desk {
    pub(crate) fn wanted(&self) -> MutexGuard<'_, Wanted> {
        // Each method of the set leaves it whole.
        self.wanted.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Interest {
    /// Adds a topic, and returns once it is in force at the source: every event of it that the source applies from then
    /// on arrives, or a [`SubscriptionItem::Reset`] does. Returns at once when the subscription is gone, and waits for as
    /// long as there is no source.
    ///
    /// A topic counts once however often it is added. Dropping the future leaves the topic added.
    pub async fn add(&self, topic: Topic) {
        let stamp = self.desk.wanted().add(topic);
        self.desk.news.notify_one();
        // An error says that the subscription is gone, and nobody listens any more.
        let _ = self.in_force.clone().wait_for(|covered| *covered >= stamp).await;
    }

    /// Takes a topic away; a few more of its events may arrive.
    pub fn remove(&self, topic: Topic) {
        self.desk.wanted().remove(topic);
        self.desk.news.notify_one();
    }
}

/// What comes of a subscription.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // nearly all are events
pub enum SubscriptionItem {
    /// Something happened; may be a repeat of what was heard before.
    Event(Event),
    /// Events may have been lost: resume every thread of this shard from storage.
    Reset,
}

/// A shard's stream, for as long as this value lives.
#[derive(Debug)]
pub struct Subscription {
    parcels: mpsc::Receiver<Parcel>,
}

impl Subscription {
    /// The next item. Never ends: a lost source is replaced by another one. Cancel-safe.
    pub async fn next(&mut self) -> SubscriptionItem {
        match self.parcels.recv().await {
            Some(parcel) => parcel.unpack(),
            // The runtime is shutting down.
            None => std::future::pending().await,
        }
    }
}

/// Starts the task that serves a subscription; it ends when the [`Subscription`] is dropped.
pub(crate) fn start(router: Arc<Shared>, shard: ShardId, limits: Limits) -> (Interest, Subscription) {
    let (outlet, parcels) = Outlet::new(limits);
    let (covered, in_force) = watch::channel(0);
    let desk = Arc::new(Desk::default());
    let service = Service { shared: router, shard, desk: Arc::clone(&desk), covered, outlet };
    tokio::spawn(async move {
        tokio::select! {
            () = service.outlet.closed() => {}
            () = service.run() => {}
        }
    });
    (Interest { desk, in_force }, Subscription { parcels })
}

/// What the task of a subscription works with.
pub(crate) struct Service {
    pub(crate) shared: Arc<Shared>,
    pub(crate) shard: ShardId,
    pub(crate) desk: Arc<Desk>,
    pub(crate) covered: watch::Sender<Stamp>,
    pub(crate) outlet: Outlet,
}

impl Service {
    async fn run(&self) {
        let (mut turn, mut failures, mut opened) = (0, 0_u32, false);
        loop {
            if let Some(nth) = failures.checked_sub(1) {
                sleep(PAUSES.nth(nth, rand::random())).await;
            }
            let sources = self.sources();
            // Counting turns wraps around the sources there are.
            let node = sources.get(turn % sources.len().max(1)).copied();
            let since = Instant::now();
            let sound = match self.open(node).await {
                Ok((node, stream)) => {
                    let end = follow(self, node, stream, opened).await;
                    tracing::debug!(shard = %self.shard, %node, ?end, "a stream is over");
                    opened = true;
                    end != End::Silent && since.elapsed() >= SOUND
                }
                Err(error) => {
                    tracing::debug!(shard = %self.shard, %error, "no stream");
                    false
                }
            };
            failures = if sound { 0 } else { failures.saturating_add(1) };
            turn = if sound && sources.first() == Some(&self.shared.transport.local()) { 0 } else { turn + 1 };
        }
    }

    /// The nodes to hear the shard from: this one if it can, then the others, in an order that differs from node to node
    /// and from shard to shard, so that sources share the load.
    fn sources(&self) -> Vec<NodeId> {
        let local = self.shared.transport.local();
        let mut sources = self.shared.directory.replicas(self.shard);
        if let Some(at) = sources.iter().position(|&node| node == local) {
            let others = sources.split_off(at + 1);
            sources.pop();
            sources.splice(..0, others);
            sources.insert(0, local);
        } else if !sources.is_empty() {
            let length = sources.len() as u64;
            // Below the length.
            sources.rotate_left(((local.0 + u64::from(self.shard.0)) % length) as usize);
        }
        sources
    }

    async fn open(&self, node: Option<NodeId>) -> Result<(NodeId, ShardStream), CallError> {
        let node = node.ok_or_else(|| CallError::NotSent("the shard has no replicas".into()))?;
        let opening = timeout(OPEN_MAX, self.shared.transport.open(node, self.shard)).await;
        let result = opening.unwrap_or_else(|_| Err(CallError::Lost("opening took too long".into())));
        let label = if result.is_ok() { "ok" } else { "failed" };
        metrics::counter!(names::SUBSCRIPTION_OPENS, names::RESULT => label).increment(1);
        Ok((node, result?))
    }
}
