//! The connections of this node, as it keeps them registered.
//!
//! Owns: which connections are open here, their renewal, and the way from a `CloseReplaced` to a session.
//! Must not know: frames; how the registry decides.
//! Invariants: a connection is registered when it opens and every [`RENEWAL`] until it closes, spread over the interval;
//! calls under way are bounded.

use crate::realtime::mailbox::{CloseReason, Mailbox};
use futures_util::StreamExt;
use futures_util::stream;
use messenger_proto::ids::ConnectionId;
use messenger_proto::rpc::{RegisterSession, SessionCall};
use messenger_proto::slot::Slot;
use messenger_router::Router;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Between two renewals of a connection.
pub const RENEWAL: Duration = Duration::from_secs(5);
/// Parts that the interval is divided into.
const TURNS: u8 = 20;
/// Renewals under way at a time.
const CONCURRENCY: usize = 64;
/// How long one call may take.
const DEADLINE: Duration = Duration::from_secs(2);

struct Open {
    session: RegisterSession,
    mailbox: Weak<Mailbox>,
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
        self.shared.lock().insert(connection, Open { session, mailbox: Arc::downgrade(mailbox) });
    }

    /// Registers a connection that opened for the first time.
    pub async fn register(&self, session: RegisterSession) {
        self.shared.register(session).await;
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
            Ok(_) => {}
            Err(refusal) => tracing::debug!(%refusal, "a connection could not be registered; tried again later"),
        }
    }

    fn turn(&self, turn: u8) -> Vec<RegisterSession> {
        let open = self.lock();
        let due = open.values().filter(|open| open.session.connection.0[0] % TURNS == turn);
        due.map(|open| open.session.clone()).collect()
    }
}

async fn renew_all(shared: Weak<Shared>) {
    let mut ticks = tokio::time::interval(RENEWAL / u32::from(TURNS));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    for turn in (0..TURNS).cycle() {
        ticks.tick().await;
        let Some(shared) = shared.upgrade() else { return };
        let due = shared.turn(turn);
        stream::iter(due).for_each_concurrent(CONCURRENCY, |session| shared.register(session)).await;
    }
}
