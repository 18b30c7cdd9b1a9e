//! Cross-shard effects: the leader delivers, followers only hold the rows.
//!
//! Owns: the life of the workers that carry a group's outbox rows to the shards they are for (see [`courier`]) and tell
//! threads of their members (see [`herald`]), and the barrier that an answer waits at until that is done.
//! Must not know: how another shard is reached (see [`CrossShard`]).
//! Invariants: delivery is at least once and receivers are idempotent, so a death between delivery and the removal of
//! a row only repeats it; a row leaves the outbox only after its receiver acknowledged it on disk at a majority.

mod courier;
mod herald;
mod rest;

use super::proposer::Proposer;
use crate::machine;
use crate::store::GroupReader;
use courier::Courier;
use futures_util::future::BoxFuture;
use herald::Herald;
use messenger_proto::command::{IndexMembership, OutboxBarrier};
use messenger_proto::error::Refusal;
use messenger_proto::ids::{ShardId, ThreadId, UserId};
use messenger_proto::profile::Profile;
use std::sync::Arc;
use tokio::sync::{Notify, watch};

/// Why it is not certain that something arrived at another shard. It is tried again, whatever this says.
#[derive(Debug, Clone, thiserror::Error)]
pub enum NotArrived {
    /// The node is starting, and has no way to other shards yet.
    #[error("the node is starting")]
    Starting,
    /// The shard was not reached, or refused.
    #[error(transparent)]
    Refused(#[from] Refusal),
}

impl NotArrived {
    /// Whether nothing but a fault explains it: what is delivered is never refused for what it says, so a refusal that
    /// trying again does not mend holds its rows back until someone looks.
    fn is_strange(&self) -> bool {
        matches!(self, Self::Refused(refusal) if !refusal.code.retryable())
    }
}

/// The way to other shards' leaders.
pub trait CrossShard: Send + Sync + 'static {
    /// The user's shard: changes for one shard arrive or fail together. `None` while it is not known.
    fn shard_of(&self, user: &UserId) -> Option<ShardId>;

    /// Has a change of membership applied at the user's shard, and returns what that says of a new member.
    ///
    /// Resolves to an error when that is not certain; the caller tries again.
    fn deliver(&self, change: IndexMembership) -> BoxFuture<'_, Result<Option<Profile>, NotArrived>>;

    /// Has a user's profile applied at the shards of these threads, all of them.
    ///
    /// Resolves to an error as [`CrossShard::deliver`].
    fn tell(&self, user: UserId, profile: Profile, threads: Vec<ThreadId>) -> BoxFuture<'_, Result<(), NotArrived>>;
}

/// A group's outbox at this replica; cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    reader: GroupReader,
    /// For the courier and for the herald.
    wake: Arc<[Notify; 2]>,
    /// Advances whenever rows have left the outbox.
    progress: watch::Sender<u64>,
}

impl Outbox {
    /// An outbox whose worker is yet to be started.
    #[must_use]
    pub fn new(reader: GroupReader) -> Self {
        Self { reader, wake: Arc::default(), progress: watch::Sender::new(0) }
    }

    fn couriers_wake(&self) -> &Notify {
        let [courier, _] = self.wake.as_ref();
        courier
    }

    fn heralds_wake(&self) -> &Notify {
        let [_, herald] = self.wake.as_ref();
        herald
    }

    /// Says that rows may have been added, or that this replica may have come to lead.
    pub fn wake(&self) {
        for wake in self.wake.iter() {
            wake.notify_one();
        }
    }

    /// Says that rows were removed, whichever node delivered them: answers may wait here that were begun while this
    /// replica led.
    pub(super) fn removed(&self) {
        self.progress.send_modify(|count| *count += 1);
    }

    /// Advances whenever rows have left; look at the rows after taking it.
    pub(super) fn progress(&self) -> watch::Receiver<u64> {
        self.progress.subscribe()
    }

    /// Waits until no row behind `barrier` is left; the caller bounds the wait.
    pub async fn passed(&self, barrier: &OutboxBarrier) {
        let mut progress = self.progress.subscribe();
        loop {
            progress.mark_unchanged();
            match machine::outbox_pending(&self.reader.view(), barrier) {
                Ok(false) => return,
                Ok(true) => self.wake(),
                Err(error) => self.reader.fail("reading the outbox", &error.to_string()),
            }
            if progress.changed().await.is_err() {
                return;
            }
        }
    }

    /// Delivers rows while `leads` holds; ends when `stopped` resolves.
    pub async fn work(
        self,
        proposer: Proposer,
        cross: Arc<dyn CrossShard>,
        leads: impl Fn() -> bool + Send + Sync,
        stopped: impl Future<Output = ()> + Send,
    ) {
        let courier = Courier::new(&self, &proposer, cross.as_ref());
        let herald = Herald::new(&self, &proposer, cross.as_ref());
        tokio::select! {
            () = courier.run(&leads) => {}
            () = herald.run(&leads) => {}
            () = stopped => {}
        }
    }
}
