//! The realtime side of the gateway: devices on sockets, each following its user's threads.
//!
//! Owns: sessions and their frames, the hub between shard streams and sessions, acknowledgements on their way back,
//! and the registry that keeps one connection per device.
//! Must not know: how shards are replicated or found (see the router), nor how tokens are checked (see [`crate::auth`]).
//! Invariants: everything a device is told comes from a shard's stream or from its storage, in each thread's order; every
//! queue here is bounded, and what does not fit is read from storage again.

pub mod ack;
pub mod encode;
pub mod ephemeral;
pub mod event;
pub mod hub;
pub mod mailbox;
pub mod presence;
pub mod registry;
pub mod session;
mod socket;

pub use self::registry::{NodeCaller, SessionRegistry};
pub use self::socket::Tuning;

use self::ack::Acks;
use self::ephemeral::{Relay, show::Show};
use self::hub::Hub;
use self::mailbox::CloseReason;
use self::presence::board::Board;
use self::presence::{Desk, Leads, greeting};
use self::registry::Registrations;
use crate::audit::Audit;
use crate::auth::{Authenticator, Clock};
use crate::gateway::cors::Origins;
use crate::gateway::{GatewayState, Revocations};
use crate::rates::Rates;
use axum::extract::Request;
use axum::routing::any;
use messenger_proto::audit::{SendersAnswer, SendersQuery};
use messenger_proto::ephemeral::{Ephemeral, EphemeralItems, PresenceAnswer, PresenceCall};
use messenger_proto::ids::{Millis, NodeId, ShardId, Term, ThreadId, UserId};
use messenger_proto::rpc::{ForgetDevice, RegisterSession, SessionCall};
use messenger_proto::slot::Slot;
use messenger_router::Router;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};

/// Sessions of a node that read from storage at a time; each holds some 200 KiB, and a message more of each shard that it
/// asks at once, a dozen at most. Questions to a shard that does not answer are not counted, and end with their deadline.
const RESUMES_MAX: usize = 128;
/// How long the last acknowledgements may take when a node drains.
const LAST_ACKS: Duration = Duration::from_secs(2);

/// What the realtime side is made of.
pub struct RealtimeParts {
    /// The way to the shards.
    pub router: Router,
    /// Whose tokens are believed.
    pub authenticator: Arc<Authenticator>,
    /// Which devices were deleted.
    pub revocations: Revocations,
    /// What time it is, by the hybrid clock.
    pub clock: Clock,
    /// This node.
    pub node: NodeId,
    /// Whose pages may open connections, beside those of the host itself; the gateway's list.
    pub origins: Origins,
    /// How much clients may ask; the gateway's.
    pub rates: Rates,
    /// Where writes are recorded; the gateway's.
    pub audit: Audit,
    /// The way to other nodes.
    pub caller: Arc<dyn NodeCaller>,
    /// Which shards the node leads.
    pub leads: Leads,
    /// Connections at a time, at most.
    pub sockets_max: usize,
    /// Connections' patience.
    pub tuning: Tuning,
}

/// The realtime side of a node; a cheap handle to clone.
#[derive(Clone)]
pub struct Realtime(Arc<Inner>);

struct Inner {
    parts: RealtimeParts,
    hub: Hub,
    acks: Acks,
    relay: Relay,
    desk: Desk,
    board: Arc<Mutex<Board>>,
    greetings: Semaphore,
    registrations: Registrations,
    resumes: Arc<Semaphore>,
    seats: Arc<Semaphore>,
    draining: watch::Sender<bool>,
}

impl Realtime {
    /// Puts the parts together and starts what runs beside connections. Needs a runtime.
    #[must_use]
    pub fn start(parts: RealtimeParts) -> Self {
        let hub = Hub::new(parts.router.clone());
        let acks = Acks::start(parts.router.clone());
        let registrations = Registrations::start(parts.router.clone());
        let (relay, heard) = Relay::new(parts.router.clone(), Arc::clone(&parts.caller), parts.node);
        let (clock, leads) = (Arc::clone(&parts.clock), Arc::clone(&parts.leads));
        let desk = Desk::start(parts.router.clone(), relay.clone(), clock, leads);
        let (board, greetings) = (Arc::default(), Semaphore::new(greeting::GREETINGS));
        tokio::spawn(Show::new(hub.clone(), desk.clone(), Arc::clone(&board)).run(heard));
        tokio::spawn(presence::watch::watch(parts.router.clone(), Arc::downgrade(&board)));
        let (resumes, seats) = (Arc::new(Semaphore::new(RESUMES_MAX)), Arc::new(Semaphore::new(parts.sockets_max)));
        let draining = watch::Sender::new(false);
        Self(Arc::new(Inner {
            parts,
            hub,
            acks,
            relay,
            desk,
            board,
            greetings,
            registrations,
            resumes,
            seats,
            draining,
        }))
    }

    /// `GET /v1/realtime`, to stand beside the REST routes behind the gateway's edge.
    pub fn routes(&self) -> axum::Router<GatewayState> {
        let node = self.clone();
        let handler = move |request: Request| {
            let node = node.clone();
            async move { socket::upgrade(node, request).await }
        };
        axum::Router::new().route("/v1/realtime", any(handler))
    }

    /// Closes a connection that a newer one of its device replaced.
    pub fn close_replaced(&self, session: &RegisterSession) {
        self.0.registrations.close_replaced(session);
    }

    /// Tells every node something that is told once. To be called within a runtime.
    pub fn tell(&self, item: &Ephemeral) {
        self.0.relay.tell(item);
    }

    /// Shows what another node tells to whom it concerns here.
    pub fn hear(&self, items: EphemeralItems) {
        self.0.relay.hear(items.items);
    }

    /// Takes note of a connection that was registered or unregistered here, as its user's shard leader in `term`.
    pub fn note(&self, shard: ShardId, term: Term, call: &SessionCall) {
        self.0.desk.note(shard, term, call);
    }

    /// Says who is there, as a shard's leader in `term`.
    #[must_use]
    pub fn presence(&self, shard: ShardId, term: Term, call: PresenceCall) -> PresenceAnswer {
        self.0.desk.answer(shard, term, call)
    }

    /// Has this node ask again whether a device was deleted.
    pub fn forget_device(&self, device: &ForgetDevice) {
        self.revocations().forget(&device.user, &device.device);
    }

    /// Has this node ask again how a user's devices stand.
    pub fn forget_user(&self, user: &UserId) {
        self.revocations().forget_user(user);
    }

    /// Who sends the most through this node.
    #[must_use]
    pub fn senders(&self, query: &SendersQuery) -> SendersAnswer {
        SendersAnswer { senders: self.audit().senders(query, self.now()) }
    }

    /// Closes every connection with 1001, spread over `spread`, and writes what they acknowledged. Those that are being
    /// opened are closed at once, and new ones are the gateway's to refuse.
    pub async fn drain(&self, spread: Duration) {
        self.0.draining.send_replace(true);
        let mailboxes = self.0.registrations.mailboxes();
        let pause = spread / u32::try_from(mailboxes.len().max(1)).unwrap_or(u32::MAX);
        let started = tokio::time::Instant::now();
        for (n, mailbox) in (0..).zip(mailboxes) {
            mailbox.close(CloseReason::Draining);
            tokio::time::sleep_until(started + pause.saturating_mul(n)).await;
        }
        self.0.acks.flush(LAST_ACKS).await;
    }

    /// How many connections are open.
    #[must_use]
    pub fn connections(&self) -> usize {
        self.0.registrations.count()
    }

    fn is_draining(&self) -> bool {
        *self.0.draining.borrow()
    }

    /// Ready once the node drains.
    async fn drains(&self) {
        // The sender is there as long as we are.
        let _ = self.0.draining.subscribe().wait_for(|draining| *draining).await;
    }

    fn seat(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.0.seats).try_acquire_owned().ok()
    }

    fn router(&self) -> &Router {
        &self.0.parts.router
    }

    fn authenticator(&self) -> &Authenticator {
        &self.0.parts.authenticator
    }

    fn revocations(&self) -> &Revocations {
        &self.0.parts.revocations
    }

    fn id(&self) -> NodeId {
        self.0.parts.node
    }

    fn now(&self) -> Millis {
        (self.0.parts.clock)()
    }

    fn tuning(&self) -> &Tuning {
        &self.0.parts.tuning
    }

    /// Where writes are recorded.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.0.parts.audit
    }

    fn rates(&self) -> &Rates {
        &self.0.parts.rates
    }

    fn origins(&self) -> &Origins {
        &self.0.parts.origins
    }

    fn hub(&self) -> &Hub {
        &self.0.hub
    }

    fn acks(&self) -> &Acks {
        &self.0.acks
    }

    fn relay(&self) -> &Relay {
        &self.0.relay
    }

    fn board(&self) -> MutexGuard<'_, Board> {
        // Each method of a board leaves it whole.
        self.0.board.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn greetings(&self) -> &Semaphore {
        &self.0.greetings
    }

    fn registrations(&self) -> &Registrations {
        &self.0.registrations
    }

    fn resumes(&self) -> &Arc<Semaphore> {
        &self.0.resumes
    }

    fn shard_of_thread(&self, thread: ThreadId) -> ShardId {
        self.router().shard_of(Slot::of_thread(thread))
    }

    fn shard_of_user(&self, user: &UserId) -> ShardId {
        self.router().shard_of(Slot::of_user(user))
    }
}

#[cfg(test)]
mod tests;
