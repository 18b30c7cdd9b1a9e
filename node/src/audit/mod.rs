//! A log of who wrote what, when and from where: for operators, and never of what was said.
//!
//! Owns: the records of writes, how they come into files, how those are read and checked; counts by sender.
//! Must not know: routes and frames, who may read the log, other nodes.
//! Invariants: noting a write takes no lock and waits for nobody: it is put on a bounded queue, behind which one thread per
//! node renders, chains and writes. What does not fit is counted, and the log says how much that was. An answer does not
//! wait for its record: `kill -9` loses what came within the last [`writer::GATHER`] and what the thread was about to hand
//! to the system, at most [`WRITES_QUEUED`] records; what was handed over survives it. A loss of power loses up to
//! [`writer::SYNC_EVERY`] more. Failing to write stops nobody's work.

pub mod log;
pub mod read;
pub mod record;
pub mod refused;
pub mod segment;
pub mod senders;
pub mod verify;
mod writer;

pub use read::{Position, merge};
pub use record::{Ending, Kind, Payload, Record, Target};

use crate::config::AuditConfig;
use crate::metric_names as names;
use messenger_proto::audit::{AuditPage, AuditQuery, SenderCounts, SendersQuery};
use messenger_proto::ids::Millis;
use record::Chain;
use segment::Stream;
use senders::Senders;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering, fence};
use std::sync::mpsc::{SyncSender, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{JoinHandle, Thread};
use writer::{Queues, Writer};

/// Records of carried-out writes that wait at most.
pub const WRITES_QUEUED: usize = 16 * 1024;
/// Records of refused ones; what is beyond is counted with those that are not recorded one by one.
const REFUSED_QUEUED: usize = 4 * 1024;

/// The audit log of a node; a cheap handle to clone. Without one, nothing is noted.
#[derive(Clone, Default)]
pub struct Audit(Option<Arc<Inner>>);

struct Inner {
    shared: Arc<Shared>,
    writes: SyncSender<Box<Record>>,
    refused: SyncSender<Box<Record>>,
    writer: Thread,
    thread: Mutex<Option<JoinHandle<()>>>,
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.writer.unpark();
    }
}

/// What the writer's thread and others look at.
#[derive(Default)]
struct Shared {
    /// Where the files are, if any are kept.
    dir: Option<PathBuf>,
    /// The writer has nothing to do, and is to be woken.
    asleep: AtomicBool,
    /// The writer is to write what there is and end.
    closing: AtomicBool,
    /// Carried-out writes that did not fit the queue.
    lost: AtomicU64,
    /// Refused ones that did not.
    beyond: AtomicU64,
    /// The last record of each log, and its chain.
    ends: Mutex<[(u64, Chain); 2]>,
    senders: Mutex<Senders>,
}

impl Shared {
    fn ends(&self) -> MutexGuard<'_, [(u64, Chain); 2]> {
        self.ends.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn senders(&self) -> MutexGuard<'_, Senders> {
        self.senders.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What a log is kept with.
#[derive(Debug, Clone)]
pub struct AuditParts {
    /// Whether and how much.
    pub config: AuditConfig,
    /// The node's data directory.
    pub data: PathBuf,
    /// The node.
    pub node: u64,
    /// Bytes of the disk that the node keeps free.
    pub disk_reserve_bytes: u64,
}

/// Where a node's log lies in its data directory.
#[must_use]
pub fn directory(data: &Path) -> PathBuf {
    data.join("audit")
}

impl Audit {
    /// Takes a log up where it ended, and starts its thread. Where nothing is to be kept, senders are counted all the same.
    ///
    /// # Errors
    /// When the directory can't be used, or no thread be started.
    pub fn start(parts: AuditParts, now: Millis) -> io::Result<Self> {
        let dir = parts.config.enabled.then(|| directory(&parts.data));
        let shared = Arc::new(Shared { dir, ..Shared::default() });
        let (writes, writes_in) = sync_channel(WRITES_QUEUED);
        let (refused, refused_in) = sync_channel(REFUSED_QUEUED);
        let queues = Queues { writes: writes_in, refused: refused_in };
        let ready = Writer::open(Arc::clone(&shared), queues, parts, now)?;
        let thread = std::thread::Builder::new().name("audit".into()).spawn(move || ready.run())?;
        let inner =
            Inner { shared, writes, refused, writer: thread.thread().clone(), thread: Mutex::new(Some(thread)) };
        Ok(Self(Some(Arc::new(inner))))
    }

    /// Takes note of a write.
    pub fn note(&self, record: Record) {
        let Some(inner) = &self.0 else { return };
        let shared = &inner.shared;
        if record.ending.had_no_effect() {
            if inner.refused.try_send(Box::new(record)).is_err() {
                shared.beyond.fetch_add(1, Ordering::Relaxed);
            }
        } else if inner.writes.try_send(Box::new(record)).is_err() {
            shared.lost.fetch_add(1, Ordering::Relaxed);
            metrics::counter!(names::AUDIT_LOST).increment(1);
        }
        // Either the writer finds the record when it looks for the last time, or it is found asleep.
        fence(Ordering::SeqCst);
        if shared.asleep.load(Ordering::Relaxed) && shared.asleep.swap(false, Ordering::Relaxed) {
            inner.writer.unpark();
        }
    }

    /// Records that are asked for. Reads files.
    ///
    /// # Errors
    /// When they can't be read.
    pub fn page(&self, query: &AuditQuery) -> io::Result<AuditPage> {
        let Some((dir, inner)) = self.0.as_ref().and_then(|inner| Some((inner.shared.dir.as_ref()?, inner))) else {
            return Ok(AuditPage { parts: Vec::new() });
        };
        // Before the files are looked at: what is written meanwhile belongs to the next page.
        let ends = *inner.shared.ends();
        let part = |(stream, (head, chain)): (Stream, (u64, Chain))| {
            read::part(dir, stream, query).map(|part| read::with_head(part, head, chain))
        };
        let parts = Stream::ALL.into_iter().zip(ends).map(part).collect::<io::Result<_>>()?;
        Ok(AuditPage { parts })
    }

    /// Who sent the most by now.
    #[must_use]
    pub fn senders(&self, query: &SendersQuery, now: Millis) -> Vec<SenderCounts> {
        self.0.as_ref().map_or_else(Vec::new, |inner| inner.shared.senders().top(query, now))
    }

    /// Writes what there is, and ends. What is noted from then on is lost.
    pub fn close(&self) {
        let Some(inner) = &self.0 else { return };
        inner.shared.closing.store(true, Ordering::SeqCst);
        inner.writer.unpark();
        let thread = inner.thread.lock().unwrap_or_else(PoisonError::into_inner).take();
        if thread.is_some_and(|thread| thread.join().is_err()) {
            tracing::error!("the audit log's thread panicked");
        }
    }
}

/// A write that is under way: whatever becomes of it, there is a record.
#[derive(Debug)]
pub struct Pending {
    audit: Audit,
    record: Option<Record>,
}

impl std::fmt::Debug for Audit {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Audit").finish_non_exhaustive()
    }
}

impl Pending {
    /// Begins; dropped without an end, it is recorded as one that nobody waited for.
    #[must_use]
    pub fn new(audit: &Audit, record: Record) -> Self {
        Self { audit: audit.clone(), record: Some(record) }
    }

    /// It ended at a time.
    pub fn end(mut self, at: Millis, ending: Ending, change: impl FnOnce(&mut Record)) {
        if let Some(mut record) = self.record.take() {
            (record.at, record.ending) = (at, ending);
            change(&mut record);
            self.audit.note(record);
        }
    }
}

impl Drop for Pending {
    fn drop(&mut self) {
        if let Some(record) = self.record.take() {
            self.audit.note(record);
        }
    }
}

#[cfg(test)]
mod tests;
