//! Acknowledgements of this node's devices, on their way to the shards.
//!
//! Owns: one command per shard and moment for whatever the node's devices took, and its retries.
//! Must not know: frames and windows; what an acknowledgement means was decided by the session.
//! Invariants: at most one command per shard is under way; a failed one is joined with what came since and tried again,
//! no faster than [`RETRY`]; the operation is idempotent, so its outcome need not be known.

mod book;

use self::book::{Book, Key};
use super::session::Progress;
use crate::metric_names as names;
use futures_util::StreamExt;
use futures_util::stream::FuturesUnordered;
use messenger_proto::command::{Acknowledge, Acknowledgement, Command, Op, Retention};
use messenger_proto::ids::{CommandId, DeviceId, ShardId, ThreadId, UserId};
use messenger_proto::slot::Slot;
use messenger_router::Router;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::Notify;

/// How long one try may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between two tries for a shard.
const RETRY: Duration = Duration::from_millis(500);

/// The acknowledgements of a node; a cheap handle to clone.
#[derive(Clone)]
pub struct Acks {
    shared: Arc<Shared>,
}

struct Shared {
    router: Router,
    shards: Mutex<HashMap<ShardId, ShardAcks>>,
    /// Something became due sooner than was known.
    wake: Notify,
    /// Nothing is left.
    emptied: Notify,
}

#[derive(Default)]
struct ShardAcks {
    book: Book,
    under_way: bool,
}

impl Acks {
    /// Starts writing; ends with the runtime or when the last handle is gone.
    #[must_use]
    pub fn start(router: Router) -> Self {
        let shards = Mutex::default();
        let shared = Arc::new(Shared { router, shards, wake: Notify::new(), emptied: Notify::new() });
        tokio::spawn(write_all(Arc::clone(&shared)));
        Self { shared }
    }

    /// Notes what a device took.
    pub fn note(&self, user: &UserId, device: &DeviceId, progress: &[Progress]) {
        let (now, mut sooner) = (Instant::now(), false);
        let mut shards = self.shared.lock();
        for Progress { thread, delivered, position } in progress {
            let key = Key { thread: *thread, user: user.clone(), device: device.clone() };
            let acks = shards.entry(self.shared.shard_of(*thread)).or_default();
            let before = acks.book.due();
            if !acks.book.note(key, *delivered, *position, now) {
                metrics::counter!(names::ACKS_DROPPED).increment(1);
            }
            sooner |= !acks.under_way && (before.is_none() || acks.book.due() < before);
        }
        drop(shards);
        if sooner {
            self.shared.wake.notify_one();
        }
    }

    /// Writes soon what is noted of a device that leaves.
    pub fn hasten(&self, user: &UserId, device: &DeviceId, threads: impl Iterator<Item = ThreadId>) {
        let now = Instant::now();
        let mut shards = self.shared.lock();
        for thread in threads {
            if let Some(acks) = shards.get_mut(&self.shared.shard_of(thread)) {
                acks.book.hasten(&Key { thread, user: user.clone(), device: device.clone() }, now);
            }
        }
        drop(shards);
        self.shared.wake.notify_one();
    }

    /// Writes everything now, and returns once it is written or `patience` is over.
    pub async fn flush(&self, patience: Duration) {
        let now = Instant::now();
        self.shared.lock().values_mut().for_each(|acks| acks.book.hasten_all(now));
        self.shared.wake.notify_one();
        let emptied = async {
            loop {
                let emptied = self.shared.emptied.notified();
                if self.shared.is_empty() {
                    return;
                }
                emptied.await;
            }
        };
        // What is left is only told to the devices again.
        let _ = tokio::time::timeout(patience, emptied).await;
    }
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, HashMap<ShardId, ShardAcks>> {
        self.shards.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn shard_of(&self, thread: ThreadId) -> ShardId {
        self.router.shard_of(Slot::of_thread(thread))
    }

    fn is_empty(&self) -> bool {
        self.lock().is_empty()
    }

    /// Takes what is due at shards where nothing is under way, and says when more will be.
    fn take(&self, now: Instant) -> (Vec<(ShardId, Vec<Acknowledgement>)>, Option<Instant>) {
        let (mut batches, mut next) = (Vec::new(), None::<Instant>);
        for (shard, acks) in self.lock().iter_mut().filter(|(_, acks)| !acks.under_way) {
            let batch = acks.book.take(now);
            if !batch.is_empty() {
                acks.under_way = true;
                batches.push((*shard, batch));
            } else if let Some(due) = acks.book.due() {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        (batches, next)
    }

    /// Writes a batch; what could not be written goes back into the book.
    async fn write(&self, shard: ShardId, batch: Vec<Acknowledgement>) {
        let Some(slot) = batch.first().map(|item| Slot::of_thread(item.thread)) else { return };
        let id = CommandId(rand::random());
        let op = Op::Acknowledge(Acknowledge { items: batch.clone() });
        let command = Command { id, retention: Retention::None, body_hash: 0, op };
        let deadline = tokio::time::Instant::now() + DEADLINE;
        let outcome = self.router.command(slot, command, deadline).await;
        let mut shards = self.lock();
        let Some(acks) = shards.get_mut(&shard) else { return };
        acks.under_way = false;
        match outcome {
            Ok(_) => metrics::counter!(names::ACKS_WRITTEN).increment(batch.len() as u64),
            Err(refusal) if refusal.code.retryable() => acks.book.give_back(batch, Instant::now() + RETRY),
            Err(refusal) => tracing::error!(%refusal, "acknowledgements were refused"),
        }
        if acks.book.is_empty() {
            shards.remove(&shard);
        }
        if shards.is_empty() {
            drop(shards);
            self.emptied.notify_waiters();
        }
    }
}

async fn write_all(shared: Arc<Shared>) {
    let mut under_way = FuturesUnordered::new();
    // Ours is the last handle: nobody can note or wait any more.
    while Arc::strong_count(&shared) > 1 || !shared.is_empty() {
        let now = Instant::now();
        let (batches, next) = shared.take(now);
        for (shard, batch) in batches {
            under_way.push(shared.write(shard, batch));
        }
        // The fallback notices that the last handle is gone.
        let due = next.unwrap_or(now + Duration::from_secs(1));
        tokio::select! {
            () = shared.wake.notified() => {}
            Some(()) = under_way.next() => {}
            () = tokio::time::sleep_until(due.into()) => {}
        }
    }
}
