//! Cross-shard effects: the leader delivers, followers only hold the rows.
//!
//! Owns: the worker that sends a group's outbox rows to the shards they are for, and the barrier that an answer waits
//! at until its rows have arrived.
//! Must not know: how another shard is reached (see [`CrossShard`]).
//! Invariants: delivery is at least once and receivers are idempotent, so a death between delivery and the removal of
//! a row only repeats it; a row leaves the outbox only after its receiver acknowledged it on disk at a majority.

use super::outcome::Proposed;
use super::proposer::Proposer;
use crate::machine;
use crate::store::GroupReader;
use futures_util::future::BoxFuture;
use futures_util::stream::{self, StreamExt};
use messenger_proto::command::{Command, IndexMembership, Op, OutboxBarrier, OutboxDelivered, OutboxKey, Retention};
use messenger_proto::ids::CommandId;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// Rows taken at once.
const BATCH: usize = 256;
/// Rows under way at once.
const CONCURRENCY: usize = 32;
/// Removals under way at once.
const REMOVALS: usize = 4;
/// Pause after a failed delivery, doubled up to [`PAUSE_MAX`].
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);

/// The way to other shards' leaders.
pub trait CrossShard: Send + Sync + 'static {
    /// Has a change of membership applied at the user's shard.
    ///
    /// Resolves to an error, in words, when that is not certain; the caller tries again.
    fn deliver(&self, change: IndexMembership) -> BoxFuture<'_, Result<(), String>>;
}

/// A group's outbox at this replica; cheap to clone.
#[derive(Clone)]
pub struct Outbox {
    reader: GroupReader,
    wake: Arc<Notify>,
    /// Advances whenever rows have left the outbox.
    progress: watch::Sender<u64>,
}

impl Outbox {
    /// An outbox whose worker is yet to be started.
    #[must_use]
    pub fn new(reader: GroupReader) -> Self {
        Self { reader, wake: Arc::new(Notify::new()), progress: watch::Sender::new(0) }
    }

    /// Says that rows may have been added, or that this replica may have come to lead.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Says that rows were removed, whichever node delivered them: answers may wait here that were begun while this
    /// replica led.
    pub(super) fn removed(&self) {
        self.progress.send_modify(|count| *count += 1);
    }

    /// Waits until no row behind `barrier` is left; the caller bounds the wait.
    pub async fn passed(&self, barrier: &OutboxBarrier) {
        let mut progress = self.progress.subscribe();
        loop {
            progress.mark_unchanged();
            match machine::outbox_pending(&self.reader.view(), barrier.thread, barrier.seq) {
                Ok(false) => return,
                Ok(true) => self.wake(),
                // The store has already stopped the node.
                Err(error) => tracing::error!(%error, "outbox can't be read"),
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
        leads: impl Fn() -> bool + Send,
        stopped: impl Future<Output = ()> + Send,
    ) {
        let deliver = async {
            let mut pause = PAUSE_MIN;
            loop {
                if !leads() {
                    self.wake.notified().await;
                    continue;
                }
                match self.round(&proposer, cross.as_ref()).await {
                    Round::Empty => {
                        pause = PAUSE_MIN;
                        self.wake.notified().await;
                    }
                    Round::Delivered => pause = PAUSE_MIN,
                    Round::Failed => {
                        tokio::time::sleep(pause).await;
                        pause = (pause * 2).min(PAUSE_MAX);
                    }
                }
            }
        };
        tokio::select! {
            () = deliver => {}
            () = stopped => {}
        }
    }

    async fn round(&self, proposer: &Proposer, cross: &dyn CrossShard) -> Round {
        let rows = match machine::outbox_scan(&self.reader.view(), None, BATCH) {
            Ok(rows) if rows.is_empty() => return Round::Empty,
            Ok(rows) => rows,
            Err(error) => {
                tracing::error!(%error, "outbox can't be read");
                return Round::Failed;
            }
        };
        let removed = AtomicBool::new(false);
        // Rows leave as they are delivered: those whose shards answer do not wait for one that does not.
        stream::iter(rows)
            .map(|(key, change)| async move {
                match cross.deliver(change).await {
                    Ok(()) => Some(key),
                    Err(error) => {
                        tracing::debug!(thread = %key.thread, user = %key.user, error, "outbox row not delivered yet");
                        None
                    }
                }
            })
            .buffer_unordered(CONCURRENCY)
            .filter_map(std::future::ready)
            .ready_chunks(BATCH)
            .for_each_concurrent(REMOVALS, |delivered| async {
                if self.remove(proposer, delivered).await {
                    removed.store(true, Ordering::Relaxed);
                }
            })
            .await;
        if removed.into_inner() { Round::Delivered } else { Round::Failed }
    }

    /// Takes delivered rows out of the group's rows.
    async fn remove(&self, proposer: &Proposer, delivered: Vec<OutboxKey>) -> bool {
        let op = Op::OutboxDelivered(OutboxDelivered { rows: delivered });
        let command = Command { id: CommandId([0; 16]), retention: Retention::None, body_hash: 0, op };
        matches!(proposer.propose(&command).await, Ok(Proposed::Applied(Ok(_))))
    }
}

enum Round {
    Empty,
    Delivered,
    Failed,
}
