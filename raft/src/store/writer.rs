//! ④ The log writer: one thread for the votes and logs of all groups.
//!
//! Owns: the queue in front of the disk, group commit, and the answers once something is on disk.
//! Must not know: consensus; why something is written.
//! Invariants: a group's tasks reach the write-ahead log in the order they were submitted; nothing is answered before
//! the sync that covers it; after a failed write or sync nothing is written or synced again, and every task fails; the
//! queue is bounded by bytes, small tasks included.

use super::codec::{self, AppliedRow};
use super::engine::Engine;
use super::entries::{Submission, weight};
use super::error::StoreError;
use super::group::Group;
use super::keys::{self, Kind, Standing};
use super::mark::SyncedMark;
use super::metrics;
use super::options::Moment;
use super::{IoFlushed, LogId, StoredMembership, Vote};
use crate::entry::{Entry, encode_entry};
use rocksdb::WriteBatch;
use std::collections::VecDeque;
use std::io;
use std::ops::Range;
use std::sync::Arc;
use std::sync::mpsc;
use std::thread::JoinHandle;
use std::time::Instant;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};

/// Bytes that a task without entries counts for.
const SMALL_TASK: usize = 256;

pub(crate) type Done = oneshot::Sender<Result<(), StoreError>>;

/// What the writer can be asked to write.
pub(crate) enum Task {
    /// Entries that follow the log.
    Append { entries: Vec<Entry>, done: IoFlushed },
    /// A vote.
    Vote { vote: Vote, done: Done },
    /// The log ends where `gone` begins.
    Truncate { gone: Range<u64> },
    /// The log begins after `upto`.
    Purge { gone: Range<u64>, upto: LogId },
    /// Rows of another generation are in force, at a position that the log up to there is no longer needed for.
    Install { applied: AppliedRow, membership: StoredMembership, gone: Option<Range<u64>>, done: Done },
    /// The group is gone but for its vote, and where its log ended.
    Destroy { forgotten: Option<LogId>, done: Done },
}

impl Task {
    fn waits_for_disk(&self) -> bool {
        match self {
            Self::Append { .. } | Self::Vote { .. } | Self::Install { .. } | Self::Destroy { .. } => true,
            Self::Truncate { .. } | Self::Purge { .. } => false,
        }
    }

    fn finish(self, group: &Group, result: Result<(), StoreError>) {
        match self {
            Self::Append { done, .. } => done.io_completed(result.map_err(io::Error::from)),
            Self::Vote { vote, done } => {
                if result.is_ok() {
                    group.log().vote = Some(vote);
                }
                // Whoever asked may be gone; the vote stands all the same.
                let _ = done.send(result);
            }
            Self::Install { done, .. } | Self::Destroy { done, .. } => {
                let _ = done.send(result);
            }
            Self::Truncate { .. } | Self::Purge { .. } => {}
        }
    }
}

/// Room in the queue.
pub(crate) struct Permit(OwnedSemaphorePermit);

struct Queued {
    group: Arc<Group>,
    submission: Submission,
    task: Task,
    permit: Permit,
}

/// The handle to the log writer; dropping it writes what is queued and ends the thread.
pub(crate) struct LogWriter {
    queue: Option<mpsc::Sender<Queued>>,
    thread: Option<JoinHandle<()>>,
    room: Arc<Semaphore>,
    capacity: usize,
}

impl LogWriter {
    pub(crate) fn start(engine: Arc<Engine>, mark: SyncedMark) -> io::Result<Self> {
        let capacity = engine.options.queue_bytes.min(Semaphore::MAX_PERMITS).min(u32::MAX as usize);
        let (queue, tasks) = mpsc::channel();
        let worker = Worker { engine, mark, tasks, cached: VecDeque::new(), cached_bytes: 0, buffer: Vec::new() };
        let thread = std::thread::Builder::new().name("log-writer".into()).spawn(move || worker.run())?;
        Ok(Self { queue: Some(queue), thread: Some(thread), room: Arc::new(Semaphore::new(capacity)), capacity })
    }

    /// Waits for room for entries of so many bytes.
    pub(crate) async fn admit(&self, bytes: usize) -> Permit {
        // One that is larger than the whole queue goes alone.
        let bytes = (bytes + SMALL_TASK).min(self.capacity);
        let bytes = u32::try_from(bytes).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room).acquire_many_owned(bytes).await;
        Permit(permit.expect("the semaphore is never closed"))
    }

    /// Bytes that wait for the disk.
    pub(crate) fn queued_bytes(&self) -> usize {
        self.capacity - self.room.available_permits()
    }

    pub(crate) fn push(&self, group: Arc<Group>, submission: Submission, task: Task, permit: Permit) {
        let queue = self.queue.as_ref().expect("taken only when dropped");
        if let Err(mpsc::SendError(queued)) = queue.send(Queued { group, submission, task, permit }) {
            // The thread is gone only if it panicked, which raised the signal.
            queued.task.finish(&queued.group, Err(StoreError::Read("the log writer has ended".into())));
        }
    }
}

impl Drop for LogWriter {
    fn drop(&mut self) {
        self.queue.take();
        if let Some(thread) = self.thread.take()
            && thread.join().is_err()
        {
            tracing::error!("the log writer panicked");
        }
    }
}

/// Raises the signal should the thread panic.
struct Sentinel(Arc<Engine>);

impl Drop for Sentinel {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.0.fatal.raise("writing the log", "the log writer panicked");
        }
    }
}

struct Worker {
    engine: Arc<Engine>,
    mark: SyncedMark,
    tasks: mpsc::Receiver<Queued>,
    /// Written entries that are still in memory, oldest first.
    cached: VecDeque<(Arc<Group>, u64, Submission, usize)>,
    cached_bytes: usize,
    buffer: Vec<u8>,
}

impl Worker {
    fn run(mut self) {
        let _sentinel = Sentinel(Arc::clone(&self.engine));
        while let Ok(first) = self.tasks.recv() {
            let tasks = self.gather(first);
            let result = self.commit(&tasks);
            for Queued { group, submission, task, permit } in tasks {
                if let (Ok(()), Task::Append { entries, .. }) = (&result, &task) {
                    self.note_cached(&group, entries, submission);
                }
                task.finish(&group, result.clone());
                if result.is_err() {
                    group.note_failed();
                }
                drop(permit.0);
            }
            self.evict();
        }
    }

    /// Takes what waits, up to a batch.
    fn gather(&self, first: Queued) -> Vec<Queued> {
        let mut bytes = first.permit.0.num_permits();
        let mut tasks = vec![first];
        while bytes < self.engine.options.batch_bytes
            && let Ok(next) = self.tasks.try_recv()
        {
            bytes += next.permit.0.num_permits();
            tasks.push(next);
        }
        tasks
    }

    fn commit(&mut self, tasks: &[Queued]) -> Result<(), StoreError> {
        self.engine.fatal.check()?;
        let mut batch = WriteBatch::default();
        for queued in tasks {
            self.encode(queued, &mut batch);
        }
        let number = self.mark.next().to_be_bytes();
        for (family, key) in keys::BATCH {
            batch.put_cf(self.engine.family(family), key, number);
        }
        metrics::batch(tasks.len(), batch.size_in_bytes());
        self.engine.reach(Moment::Writing)?;
        self.engine.write(batch)?;
        for queued in tasks {
            queued.group.note_written(queued.submission);
        }
        if tasks.iter().any(|queued| queued.task.waits_for_disk()) {
            let begun = Instant::now();
            self.engine.sync()?;
            metrics::synced(begun.elapsed());
            self.mark.advance().map_err(|error| self.engine.fatal.raise("noting a sync", &error.to_string()))?;
        }
        Ok(())
    }

    fn encode(&mut self, queued: &Queued, batch: &mut WriteBatch) {
        let group = queued.group.id;
        let [log, meta, state] = [keys::LOG, keys::META, keys::STATE].map(|name| self.engine.family(name));
        let remove = |batch: &mut WriteBatch, gone: &Range<u64>| {
            batch.delete_range_cf(log, keys::log(group, gone.start), keys::log(group, gone.end));
        };
        match &queued.task {
            Task::Append { entries, .. } => {
                for entry in entries {
                    self.buffer.clear();
                    encode_entry(entry, &mut self.buffer);
                    batch.put_cf(log, keys::log(group, entry.log_id.index), &self.buffer);
                }
                // Known to be committed and, from this batch on, in the log.
                let committed = entries.last().and_then(|last| queued.group.log().take_committed(last.log_id.index));
                if let Some(id) = committed {
                    batch.put_cf(meta, keys::meta(group, Kind::Committed), codec::encode_log_id(&id));
                }
            }
            Task::Vote { vote, .. } => batch.put_cf(meta, keys::meta(group, Kind::Vote), codec::encode_vote(vote)),
            Task::Truncate { gone } => remove(batch, gone),
            Task::Purge { gone, upto } => {
                remove(batch, gone);
                batch.put_cf(meta, keys::meta(group, Kind::Purged), codec::encode_log_id(upto));
            }
            Task::Install { applied, membership, gone, .. } => {
                batch.put_cf(state, keys::standing(group, Standing::Applied), codec::encode_applied(applied));
                batch.put_cf(state, keys::standing(group, Standing::Membership), codec::encode_membership(membership));
                if let (Some(gone), Some(at)) = (gone, &applied.log_id) {
                    remove(batch, gone);
                    batch.put_cf(meta, keys::meta(group, Kind::Purged), codec::encode_log_id(at));
                }
            }
            Task::Destroy { forgotten, .. } => {
                // All of it, whatever memory says is left.
                batch.delete_range_cf(log, keys::log(group, 0).to_vec(), keys::log_end(group));
                let rows = group.0.to_be_bytes();
                batch.delete_range_cf(state, rows.to_vec(), keys::successor(&rows));
                for kind in Kind::ALL.into_iter().filter(|kind| !kind.outlives_the_group()) {
                    batch.delete_cf(meta, keys::meta(group, kind));
                }
                if let Some(id) = forgotten {
                    batch.put_cf(meta, keys::meta(group, Kind::Forgotten), codec::encode_log_id(id));
                }
            }
        }
    }

    fn note_cached(&mut self, group: &Arc<Group>, entries: &[Entry], submission: Submission) {
        let Some(last) = entries.last() else { return };
        let bytes = entries.iter().map(weight).sum();
        self.cached_bytes += bytes;
        self.cached.push_back((Arc::clone(group), last.log_id.index, submission, bytes));
    }

    fn evict(&mut self) {
        while self.cached_bytes > self.engine.options.log_cache_bytes
            && let Some((group, index, submission, bytes)) = self.cached.pop_front()
        {
            group.log().evict(index, submission);
            self.cached_bytes -= bytes;
        }
    }
}
