//! The leader's side of presence: what is heard of users, and telling others.
//!
//! Owns: the book of the shards that this node leads, what it heard from other leaders, and the way from a change to all
//! nodes; and what is told of a user that shows its presence to nobody.
//! Must not know: sockets; what a status follows from (see [`book`]).
//! Invariants: a change is told by a node that led the user's shard in one term from before the user's threads were read,
//! with a quorum, until after it: so one that was cut off tells nothing. At most [`PUBLISHING`] changes are under way; the
//! others wait in the book, one per user, so a crowd that comes at once is told of in turn.
//!
//! [`book`]: super::book

use super::book::{Book, Due};
use super::rumours::Rumours;
use crate::auth::Clock;
use crate::metric_names as names;
use crate::realtime::ephemeral::Relay;
use messenger_proto::ephemeral::{Ephemeral, Presence, PresenceAnswer, PresenceCall, PresenceChange, PresenceStatus};
use messenger_proto::ids::{ShardId, Term, ThreadId, UserId};
use messenger_proto::query::{Answer, BlocksAnswer, BlocksQuery, PrivacyQuery, Query, UserThreadsQuery};
use messenger_proto::rpc::SessionCall;
use messenger_proto::slot::Slot;
use messenger_router::Router;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

/// Changes that are being told at a time; of each the user's threads are read, 10,000 at most.
const PUBLISHING: usize = 64;
/// Between two looks at who was not renewed.
const TICK: Duration = Duration::from_secs(1);
/// How long reading a user's threads may take.
const READING: Duration = Duration::from_secs(3);

/// In which term this node leads a shard, if it does.
pub type Leads = Arc<dyn Fn(ShardId) -> Option<Term> + Send + Sync>;

/// The desk of a node; a cheap handle to clone.
#[derive(Clone)]
pub struct Desk {
    shared: Arc<Shared>,
}

struct Shared {
    router: Router,
    relay: Relay,
    clock: Clock,
    leads: Leads,
    book: Mutex<Book>,
    rumours: Mutex<Rumours>,
    stirred: Notify,
    room: Arc<Semaphore>,
}

impl Desk {
    /// A desk, at work until its last handle is gone. Needs a runtime.
    #[must_use]
    pub fn start(router: Router, relay: Relay, clock: Clock, leads: Leads) -> Self {
        let (book, rumours, stirred) = (Mutex::default(), Mutex::default(), Notify::new());
        let room = Arc::new(Semaphore::new(PUBLISHING));
        let shared = Arc::new(Shared { router, relay, clock, leads, book, rumours, stirred, room });
        tokio::spawn(work(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// A connection was registered or unregistered with this node, which leads its user's shard in `term`.
    pub fn note(&self, shard: ShardId, term: Term, call: &SessionCall) {
        let now = (Instant::now(), (self.shared.clock)());
        match call {
            SessionCall::Register(session) => {
                let rumour = lock(&self.shared.rumours).of(&session.user).map(|presence| presence.status);
                if lock(&self.shared.book).beat((shard, term), session, rumour, now) {
                    self.shared.stirred.notify_one();
                }
            }
            SessionCall::Unregister(session) => lock(&self.shared.book).gone((shard, term), session, now),
        }
    }

    /// Answers for a shard that this node leads in `term`.
    #[must_use]
    pub fn answer(&self, shard: ShardId, term: Term, call: PresenceCall) -> PresenceAnswer {
        let now = (Instant::now(), (self.shared.clock)());
        let people = match call {
            PresenceCall::Ask(ask) => {
                let rumours = lock(&self.shared.rumours);
                let mut book = lock(&self.shared.book);
                let known = |user| book.ask((shard, term), user, rumours.of(user).cloned(), now.0);
                ask.users.iter().map(known).collect()
            }
            PresenceCall::Shown(shown) => {
                lock(&self.shared.book).shown((shard, term), shown.users, now);
                Vec::new()
            }
        };
        PresenceAnswer { term, people }
    }

    /// A user chose anew what to show; of concern where its shard is led.
    pub fn look_again(&self, user: &UserId) {
        let shard = self.shared.router.shard_of(Slot::of_user(user));
        lock(&self.shared.book).look_again(shard, user);
        self.shared.stirred.notify_one();
    }

    /// Takes note of what a leader told.
    pub fn hear(&self, presence: Presence) {
        lock(&self.shared.rumours).hear(presence);
    }
}

/// Each method of what is locked leaves it whole.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn work(desk: Weak<Shared>) {
    let mut tick = tokio::time::interval(TICK);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        let Some(shared) = desk.upgrade() else { return };
        let all = tokio::select! {
            _ = tick.tick() => true,
            () = shared.stirred.notified() => false,
        };
        if all {
            shared.keep();
        }
        shared.publish_due(all);
    }
}

/// Whom a user's presence is told.
struct Audience {
    /// Those in these threads.
    threads: Vec<ThreadId>,
    /// But none of them.
    hides: bool,
    /// But not these.
    away: BlocksAnswer,
}

impl Shared {
    /// Tells everyone. Of one that hides nothing is told but, once, what takes back what was told before.
    fn tell(&self, due: Due, audience: Audience) {
        let Audience { threads, hides, away: BlocksAnswer { users: away, version } } = audience;
        let user = due.presence.user.clone();
        let nothing = Presence { user: user.clone(), status: PresenceStatus::Offline, last_seen: None };
        let of = if hides { nothing.clone() } else { due.presence };
        let quiet = hides && lock(&self.rumours).of(&user).is_none_or(|told| *told == nothing);
        if quiet {
            return;
        }
        if threads.is_empty() {
            lock(&self.rumours).hear(of);
            return;
        }
        let (shard, term) = (due.shard, due.term);
        self.relay.tell(&Ephemeral::Presence(PresenceChange { of, threads, shard, term, away, version }));
    }

    fn keep(&self) {
        let mut book = lock(&self.book);
        book.keep(|shard| (self.leads)(shard));
        metrics::gauge!(names::USERS_PRESENT).set(u32::try_from(book.len()).unwrap_or(u32::MAX));
    }

    /// Begins to tell as much as there is room for.
    fn publish_due(self: &Arc<Self>, all: bool) {
        let due = lock(&self.book).take_due(Instant::now(), all, self.room.available_permits());
        for due in due {
            // There is one for each, as nobody else takes any.
            let permit = Arc::clone(&self.room).try_acquire_owned().ok();
            tokio::spawn(publish(Arc::clone(self), due, permit));
        }
    }

    /// Whom to tell how a user is.
    async fn audience(&self, due: &Due) -> Option<Audience> {
        let user = due.presence.user.clone();
        let slot = Slot::of_user(&user);
        let privacy = Query::Privacy(PrivacyQuery { users: vec![user.clone()], viewer: None });
        let blocks = Query::Blocks(BlocksQuery { user: user.clone() });
        let threads = Query::UserThreads(UserThreadsQuery { user, left_since: None });
        let until = tokio::time::Instant::now() + READING;
        let ask = |query| self.router.query(slot, query, until);
        let asked = tokio::join!(ask(threads), ask(privacy), ask(blocks));
        match asked {
            (Ok(Answer::UserThreads(answer)), Ok(Answer::Privacy(privacy)), Ok(Answer::Blocks(blocks))) => {
                let threads = answer.threads.into_iter().map(|row| row.thread).collect();
                Some(Audience { threads, hides: !privacy.hidden.is_empty(), away: blocks })
            }
            (threads, privacy, blocks) => {
                tracing::debug!(?threads, ?privacy, ?blocks, "it could not be read whom to tell how a user is");
                None
            }
        }
    }
}

async fn publish(shared: Arc<Shared>, due: Due, permit: Option<OwnedSemaphorePermit>) {
    match shared.audience(&due).await {
        None => lock(&shared.book).untold(&due, Instant::now()),
        Some(_) if (shared.leads)(due.shard) != Some(due.term) => {}
        Some(audience) => shared.tell(due, audience),
    }
    drop(permit);
    shared.stirred.notify_one();
}
