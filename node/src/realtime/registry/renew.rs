//! The connections of this node, as it keeps them registered.
//!
//! Owns: which connections are open here, their renewal, and the way from a `CloseReplaced` to a session.
//! Must not know: frames; how the registry decides.
//! Invariants: a connection is registered when it opens and every [`RENEWAL`] until it closes, spread over the interval;
//! calls under way are bounded, one per connection and [`CONCURRENCY`] in all; a shard that does not answer delays nobody
//! else's until its own take up that many.

use crate::realtime::mailbox::{CloseReason, Mailbox};
use messenger_proto::ids::ConnectionId;
use messenger_proto::rpc::{RegisterSession, SessionCall};
use messenger_proto::slot::Slot;
use messenger_router::Router;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::Semaphore;
use tokio::time::Instant;

/// Between two renewals of a connection.
pub const RENEWAL: Duration = Duration::from_secs(5);
/// Between two renewals of a connection out of turn.
const HASTE: Duration = Duration::from_secs(1);
/// Parts that the interval is divided into.
const TURNS: u8 = 20;
/// Renewals under way at a time. Those of a shard without a leader take their whole time, so there is room for many.
const CONCURRENCY: usize = 1_024;
/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(2);

struct Open {
    session: RegisterSession,
    mailbox: Weak<Mailbox>,
    /// When its registration was first answered.
    answered: Option<Instant>,
    /// When it was last renewed out of turn.
    hastened: Option<Instant>,
    /// Its renewal is under way.
    renewing: bool,
}

/// The open connections of this node; a cheap handle to clone.
#[derive(Clone)]
pub struct Registrations {
    shared: Arc<Shared>,
}

struct Shared {
    router: Router,
    open: Mutex<HashMap<ConnectionId, Open>>,
}

impl Registrations {
    /// Starts renewing; ends when the last handle is gone.
    #[must_use]
    pub fn start(router: Router) -> Self {
        let shared = Arc::new(Shared { router, open: Mutex::default() });
        tokio::spawn(renew_all(Arc::downgrade(&shared)));
        Self { shared }
    }

    /// Keeps a connection that opened, and renews it until [`Registrations::closing`].
    pub fn opened(&self, session: RegisterSession, mailbox: &Arc<Mailbox>) {
        let connection = session.connection;
        let mailbox = Arc::downgrade(mailbox);
        let open = Open { session, mailbox, answered: None, hastened: None, renewing: false };
        self.shared.lock().insert(connection, open);
    }

    /// Registers a connection that opened for the first time, if it is still open.
    pub async fn register(&self, connection: ConnectionId) {
        let session = self.shared.lock().get(&connection).map(|open| open.session.clone());
        if let Some(session) = session {
            self.shared.register(session).await;
        }
    }

    /// A device says whether somebody looks. Its shard's leader is told at once, unless it was within [`HASTE`]: then it
    /// is with the next renewal. To be called within a runtime.
    pub fn set_away(&self, connection: ConnectionId, away: bool) {
        if let Some(session) = self.shared.set_away(connection, away) {
            let shared = Arc::clone(&self.shared);
            tokio::spawn(async move { shared.renew(session).await });
        }
    }

    /// A connection is about to close, and no longer renewed.
    #[must_use]
    pub fn closing(&self, connection: ConnectionId) -> Option<RegisterSession> {
        self.shared.lock().remove(&connection).map(|open| open.session)
    }

    /// A connection closed; returns once its shard's leader knows, or soon after.
    pub async fn closed(&self, session: RegisterSession) {
        let slot = Slot::of_user(&session.user);
        // If it is not reached, the entry runs out there.
        let _ = self.shared.router.session(slot, SessionCall::Unregister(session), Instant::now() + DEADLINE).await;
    }

    /// The registry says that a newer connection took this one's place.
    pub fn close_replaced(&self, session: &RegisterSession) {
        self.shared.close(session.connection);
    }

    /// The mailboxes of the open connections.
    #[must_use]
    pub fn mailboxes(&self) -> Vec<Arc<Mailbox>> {
        self.shared.lock().values().filter_map(|open| open.mailbox.upgrade()).collect()
    }

    /// How many connections are open.
    #[must_use]
    pub fn count(&self) -> usize {
        self.shared.lock().len()
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<ConnectionId, Open>> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn close(&self, connection: ConnectionId) {
        let mailbox = self.lock().get(&connection).and_then(|open| open.mailbox.upgrade());
        if let Some(mailbox) = mailbox {
            mailbox.close(CloseReason::Replaced);
        }
    }

    async fn register(&self, session: RegisterSession) {
        let connection = session.connection;
        let slot = Slot::of_user(&session.user);
        match self.router.session(slot, SessionCall::Register(session), Instant::now() + DEADLINE).await {
            Ok(outcome) if outcome.replaced => self.close(connection),
            Ok(_) => self.answered(connection),
            Err(refusal) => tracing::debug!(%refusal, "a connection could not be registered; tried again later"),
        }
    }

    fn answered(&self, connection: ConnectionId) {
        if let Some(open) = self.lock().get_mut(&connection) {
            let first = *open.answered.get_or_insert_with(Instant::now);
            open.session.settled = first.elapsed() >= RENEWAL;
        }
    }

    /// What to register at once.
    fn set_away(&self, connection: ConnectionId, away: bool) -> Option<RegisterSession> {
        let mut open = self.lock();
        let open = open.get_mut(&connection)?;
        if std::mem::replace(&mut open.session.away, away) == away || open.renewing {
            return None;
        }
        if open.hastened.is_some_and(|hastened| hastened.elapsed() < HASTE) {
            return None;
        }
        open.hastened = Some(Instant::now());
        open.renewing = true;
        Some(open.session.clone())
    }

    /// Those whose turn it is, but for those that are under way since their last one; they count as under way now.
    fn turn(&self, turn: u8) -> Vec<RegisterSession> {
        let mut open = self.lock();
        // An id begins with a number and ends with chance.
        let due = open.values_mut().filter(|open| !open.renewing && open.session.connection.0[15] % TURNS == turn);
        let due = due.map(|open| {
            open.renewing = true;
            open.session.clone()
        });
        due.collect()
    }

    async fn renew(&self, session: RegisterSession) {
        let connection = session.connection;
        self.register(session).await;
        if let Some(open) = self.lock().get_mut(&connection) {
            open.renewing = false;
        }
    }
}

/// The id of a connection that opens now. Ids of one process grow, so that of two connections opened in one millisecond the later one wins.
#[must_use]
pub fn next_connection_id() -> ConnectionId {
    static OPENED: AtomicU64 = AtomicU64::new(0);
    let number = OPENED.fetch_add(1, Ordering::Relaxed);
    let mut id: [u8; 16] = rand::random();
    id[..8].copy_from_slice(&number.to_be_bytes());
    ConnectionId(id)
}

async fn renew_all(shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(RENEWAL / u32::from(TURNS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let room = Arc::new(Semaphore::new(CONCURRENCY));
    for turn in (0..TURNS).cycle() {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        for session in shared.turn(turn) {
            let (shared, room) = (Arc::clone(&shared), Arc::clone(&room));
            tokio::spawn(async move {
                // Nobody closes the semaphore.
                let _permit = room.acquire().await;
                shared.renew(session).await;
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{cluster_state, shard_of};
    use messenger_proto::ids::{DeviceId, Millis, NodeId, ShardId, UserId};
    use messenger_proto::rpc::{SessionOutcome, ShardCall, ShardOutcome, ShardRequest};
    use messenger_router::{CallError, ShardStream, ShardTransport};
    use tokio::sync::{mpsc, watch};

    /// Nodes that register whoever they are asked to, but for one shard, which has no leader.
    struct Nodes {
        registered: mpsc::UnboundedSender<ConnectionId>,
        leaderless: ShardId,
    }

    impl ShardTransport for Nodes {
        fn local(&self) -> NodeId {
            NodeId(1)
        }
        async fn call(
            &self,
            _node: NodeId,
            requests: Vec<ShardRequest>,
            _deadline: Instant,
        ) -> Vec<Result<ShardOutcome, CallError>> {
            for request in &requests {
                if request.shard == self.leaderless {
                    return std::future::pending().await;
                }
                if let ShardCall::Session(SessionCall::Register(session)) = &request.call {
                    self.registered.send(session.connection).unwrap();
                }
            }
            requests.iter().map(|_| Ok(ShardOutcome::Session(SessionOutcome { replaced: false }))).collect()
        }
        async fn open(&self, _node: NodeId, _shard: ShardId) -> Result<ShardStream, CallError> {
            Err(CallError::NotSent("no streams here".into()))
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_without_a_leader_delays_no_other_renewal() {
        let session = |user: &str, n: u8| RegisterSession {
            user: UserId::new(user).unwrap(),
            device: DeviceId::new("d").unwrap(),
            connection: ConnectionId([n; 16]),
            node: NodeId(1),
            opened_at: Millis(1),
            away: false,
            settled: false,
        };
        let shard = |user: &str| shard_of(Slot::of_user(&UserId::new(user).unwrap()));
        let other =
            ["bob", "carol", "dave", "eve", "fay", "gil"].into_iter().find(|user| shard(user) != shard("alice"));
        let (registered, mut seen) = mpsc::unbounded_channel();
        let (_cluster, record) = watch::channel(Arc::new(cluster_state()));
        let router = Router::new(Nodes { registered, leaderless: shard("alice") }, record);
        let registrations = Registrations::start(router);
        let mailbox = Arc::default();
        for n in 0..200 {
            registrations.opened(session("alice", n), &mailbox);
        }
        registrations.opened(session(other.unwrap(), 250), &mailbox);
        tokio::time::sleep(6 * RENEWAL).await;
        let mut renewals = 0;
        while let Ok(connection) = seen.try_recv() {
            assert_eq!(connection, ConnectionId([250; 16]));
            renewals += 1;
        }
        assert!((5..=7).contains(&renewals), "{renewals}");
    }
}
