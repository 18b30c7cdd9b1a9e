//! ⑦ From shard streams to sessions.
//!
//! Owns: one subscription per shard that some session of this node is interested in, and the way from its events to
//! those sessions' mailboxes; and the way there for what is ephemeral, which comes from other nodes and not by streams.
//! Must not know: sockets, cursors, where a shard's replicas are.
//! Invariants: a subscription opens with the first interest in its shard and closes with the last; an event is encoded
//! once, whoever listens; a session's slowness never holds up the stream.

mod listeners;
mod reads;
mod routes;

pub use self::listeners::Listeners;

use self::reads::{HeldReads, LARGE};
use self::routes::Routes;
use super::encode;
use super::event::SharedEvent;
use super::mailbox::{Mail, Mailbox};
use futures_util::StreamExt;
use futures_util::stream;
use messenger_proto::envelope::of_device;
use messenger_proto::event::{Event, ThreadEvent};
use messenger_proto::ids::{ShardId, ThreadId, UserId};
use messenger_proto::slot::Slot;
use messenger_router::{Interest, Router, Subscription, SubscriptionItem, Topic};
use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Instant;
use tokio::task::AbortHandle;

/// Topics of one session that are put into force at a time.
const ADDING: usize = 256;

/// The hub of a node; a cheap handle to clone.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    router: Router,
    shards: Mutex<HashMap<ShardId, Open>>,
}

struct Open {
    interest: Interest,
    routes: Arc<Mutex<Routes>>,
    task: AbortHandle,
}

impl Drop for Open {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Hub {
    /// A hub without subscriptions.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self { shared: Arc::new(Shared { router, shards: Mutex::default() }) }
    }

    /// Adds topics of a shard for a session; once it returns, every event of them that is applied from then on reaches
    /// the mailbox, or leaves a mark there.
    pub async fn listen(&self, shard: ShardId, topics: Vec<Topic>, mailbox: &Arc<Mailbox>) {
        let interest = {
            let mut shards = self.shared.lock();
            let open = shards.entry(shard).or_insert_with(|| self.shared.open(shard));
            let mut routes = lock(&open.routes);
            for topic in &topics {
                routes.add(topic.clone(), mailbox);
            }
            open.interest.clone()
        };
        stream::iter(topics).for_each_concurrent(ADDING, |topic| interest.add(topic)).await;
    }

    /// Takes topics of a shard away from a session.
    pub fn forget<'a>(&self, shard: ShardId, topics: impl IntoIterator<Item = &'a Topic>, mailbox: &Arc<Mailbox>) {
        let mut shards = self.shared.lock();
        let Some(open) = shards.get(&shard) else { return };
        let empty = {
            let mut routes = lock(&open.routes);
            for topic in topics {
                if routes.remove(topic, mailbox) {
                    open.interest.remove(topic.clone());
                }
            }
            routes.is_empty()
        };
        if empty {
            shards.remove(&shard);
        }
    }

    /// Those who listen to any of some threads, each once. Whoever is to hear a thread listens to it, so whoever has left
    /// one is not among them.
    #[must_use]
    pub fn listeners(&self, threads: &[ThreadId]) -> Listeners {
        let mut listeners = Listeners::default();
        let mut shards: BTreeMap<ShardId, Vec<ThreadId>> = BTreeMap::new();
        for thread in threads {
            shards.entry(self.shared.router.shard_of(Slot::of_thread(*thread))).or_default().push(*thread);
        }
        for (shard, threads) in shards {
            let routes = self.shared.lock().get(&shard).map(|open| Arc::clone(&open.routes));
            let Some(routes) = routes else { continue };
            let routes = lock(&routes);
            for thread in threads {
                listeners.add(routes.listeners(&Topic::Thread(thread)));
            }
        }
        listeners
    }

    /// A user's own sessions.
    #[must_use]
    pub fn sessions_of(&self, user: &UserId) -> Listeners {
        let mut listeners = Listeners::default();
        let shard = self.shared.router.shard_of(Slot::of_user(user));
        let routes = self.shared.lock().get(&shard).map(|open| Arc::clone(&open.routes));
        if let Some(routes) = routes {
            listeners.add(lock(&routes).listeners(&Topic::User(user.clone())));
        }
        listeners
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<ShardId, Open>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn open(&self, shard: ShardId) -> Open {
        let (interest, subscription) = self.router.subscribe(shard);
        let routes = Arc::default();
        let task = tokio::spawn(follow(shard, subscription, Arc::clone(&routes))).abort_handle();
        Open { interest, routes, task }
    }
}

fn lock(routes: &Mutex<Routes>) -> MutexGuard<'_, Routes> {
    routes.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Carries a shard's stream to its listeners until it is aborted.
async fn follow(shard: ShardId, mut subscription: Subscription, routes: Arc<Mutex<Routes>>) {
    let mut held = HeldReads::default();
    loop {
        let due = held.due();
        tokio::select! {
            item = subscription.next() => match item {
                SubscriptionItem::Event(Event::Thread(event)) => deliver(&routes, &mut held, event),
                SubscriptionItem::Event(Event::User(event)) => {
                    lock(&routes).deliver(&Topic::User(event.user.clone()), &Mail::Index(event));
                }
                SubscriptionItem::Event(Event::Device(event)) => {
                    lock(&routes).deliver(&Topic::User(event.user.clone()), &Mail::Device(event));
                }
                SubscriptionItem::Event(Event::Suspension(event)) => {
                    lock(&routes).deliver(&Topic::User(event.user.clone()), &Mail::Suspension(event));
                }
                SubscriptionItem::Event(Event::PrekeysLow(event)) => {
                    lock(&routes).deliver(&Topic::User(event.user.clone()), &Mail::Low(event));
                }
                SubscriptionItem::Event(Event::MemberDevices(event)) => {
                    lock(&routes).deliver(&Topic::Thread(event.thread), &Mail::Member(event));
                }
                SubscriptionItem::Reset => lock(&routes).interrupted(shard),
            },
            () = sleep_until(due), if due.is_some() => {
                for late in held.take(Instant::now()) {
                    let topic = Topic::Thread(late.thread);
                    lock(&routes).deliver(&topic, &Mail::Late(Arc::new(late)));
                }
            }
        }
    }
}

fn deliver(routes: &Mutex<Routes>, held: &mut HeldReads, event: ThreadEvent) {
    let topic = Topic::Thread(event.thread);
    if !lock(routes).has(&topic) {
        return;
    }
    if !event.envelopes.is_empty() {
        return deliver_sealed(routes, event);
    }
    let event = Arc::new(encode::shared(event, LARGE));
    held.hold(&event, Instant::now());
    lock(routes).deliver(&topic, &Mail::Event(event));
}

/// Hands each listener what all have in common, and what its own device has; nobody is handed another's.
fn deliver_sealed(routes: &Mutex<Routes>, event: ThreadEvent) {
    let topic = Topic::Thread(event.thread);
    let (shared, envelopes) = encode::sealed(event);
    lock(routes).deliver_each(&topic, |listener| {
        let own = listener.owner().and_then(|owner| of_device(&envelopes, &owner.user, &owner.device));
        Mail::Event(Arc::new(SharedEvent { for_device: encode::opened(own), ..shared.clone() }))
    });
}

async fn sleep_until(due: Option<Instant>) {
    if let Some(due) = due {
        tokio::time::sleep_until(due.into()).await;
    }
}
