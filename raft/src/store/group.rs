//! What is in memory of one group.
//!
//! Owns: the group's log and how far its machine is, and the one step in which both memory and the writer's queue change.
//! Must not know: the database, except to load from it once.
//! Invariants: what is submitted to the writer is in memory already, and in the same order.

use super::codec::{self, AppliedRow};
use super::engine::Engine;
use super::entries::{GroupLog, Submission};
use super::error::StoreError;
use super::keys::{self, Generation, Standing};
use super::writer::{LogWriter, Permit, Task};
use super::{LogId, SnapshotMeta, StoredMembership};
use crate::entry::Entry;
use crate::types::GroupId;
use std::ops::Range;
use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{Notify, RwLock};

/// How far a group's machine is.
#[derive(Clone, Default)]
pub(crate) struct MachineState {
    pub(crate) applied: AppliedRow,
    pub(crate) membership: StoredMembership,
    /// The snapshot that the consensus core knows of.
    pub(crate) snapshot: Option<SnapshotMeta>,
    /// The last generation given to a snapshot being received.
    pub(crate) reserved: Option<Generation>,
}

impl MachineState {
    fn load(engine: &Engine, group: GroupId) -> Result<Self, StoreError> {
        let membership = engine.get(keys::STATE, &keys::standing(group, Standing::Membership))?;
        Ok(Self {
            applied: engine.applied(group)?,
            membership: membership.map(|row| codec::decode_membership(&row)).transpose()?.unwrap_or_default(),
            ..Self::default()
        })
    }

    /// A generation that no row has.
    pub(crate) fn reserve(&mut self) -> Generation {
        let highest = self.reserved.max(Some(self.applied.generation)).unwrap_or(Generation::FIRST);
        let next = Generation(highest.0 + 1);
        self.reserved = Some(next);
        next
    }
}

/// A group of this node.
pub(crate) struct Group {
    pub(crate) id: GroupId,
    log: Mutex<GroupLog>,
    machine: Mutex<MachineState>,
    written: Notify,
    /// Shared by the machines that write the group's rows; whoever destroys them waits until there is none.
    pub(crate) writers: Arc<RwLock<()>>,
}

impl Group {
    pub(crate) fn load(engine: &Engine, id: GroupId) -> Result<Self, StoreError> {
        let log = Mutex::new(GroupLog::load(engine, id)?);
        let machine = Mutex::new(MachineState::load(engine, id)?);
        Ok(Self { id, log, machine, written: Notify::new(), writers: Arc::default() })
    }

    /// Makes sure that the log can bring the rows up to date: a damaged database may lack the end of either.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        let (log, applied) = (self.log(), self.machine().applied.log_id);
        let problem = if applied > log.last {
            "has applied more than its log holds"
        } else if applied < log.purged {
            "has applied less than its log begins with"
        } else {
            return Ok(());
        };
        let (id, last, purged) = (self.id, log.last, log.purged);
        Err(StoreError::Corrupt(format!("group {id} {problem}: {applied:?}, {purged:?}..{last:?}")))
    }

    pub(crate) fn log(&self) -> MutexGuard<'_, GroupLog> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn machine(&self) -> MutexGuard<'_, MachineState> {
        self.machine.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Changes the log in memory and hands `task` to the writer, in one step, so that both happen in the same order.
    fn submit(
        self: &Arc<Self>,
        writer: &LogWriter,
        permit: Permit,
        change: impl FnOnce(&mut GroupLog, Submission) -> Result<Option<Task>, StoreError>,
    ) -> Result<(), StoreError> {
        let mut log = self.log();
        let submission = Submission(log.submitted.0 + 1);
        if let Some(task) = change(&mut log, submission)? {
            log.submitted = submission;
            writer.push(Arc::clone(self), submission, task, permit);
        }
        Ok(())
    }

    pub(crate) fn append(
        self: &Arc<Self>,
        writer: &LogWriter,
        permit: Permit,
        entries: Vec<Entry>,
        done: super::IoFlushed,
    ) -> Result<(), StoreError> {
        self.submit(writer, permit, |log, submission| {
            log.append(&entries, submission)?;
            Ok(Some(Task::Append { entries, done }))
        })
    }

    pub(crate) fn truncate_after(
        self: &Arc<Self>,
        writer: &LogWriter,
        permit: Permit,
        keep: Option<LogId>,
    ) -> Result<(), StoreError> {
        self.submit(writer, permit, |log, _| {
            let gone = log.truncate_after(keep);
            Ok((!gone.is_empty()).then_some(Task::Truncate { gone }))
        })
    }

    pub(crate) fn purge(self: &Arc<Self>, writer: &LogWriter, permit: Permit, upto: LogId) -> Result<(), StoreError> {
        self.submit(writer, permit, |log, _| Ok(log.purge(upto).map(|gone| Task::Purge { gone, upto })))
    }

    /// Hands over a task that leaves the log in memory as it is.
    pub(crate) fn hand_over(
        self: &Arc<Self>,
        writer: &LogWriter,
        permit: Permit,
        task: Task,
    ) -> Result<(), StoreError> {
        self.submit(writer, permit, |_, _| Ok(Some(task)))
    }

    /// Puts an installed snapshot in force, and with it ends the log that it covers; see [`GroupLog::cover`].
    pub(crate) fn install(
        self: &Arc<Self>,
        writer: &LogWriter,
        permit: Permit,
        at: LogId,
        matches: bool,
        make: impl FnOnce(Option<Range<u64>>) -> Task,
    ) -> Result<(), StoreError> {
        self.submit(writer, permit, |log, _| Ok(Some(make(log.cover(at, matches)))))
    }

    /// Forgets the group but for its vote and where its log ended.
    pub(crate) fn destroy(
        self: &Arc<Self>,
        writer: &LogWriter,
        permit: Permit,
        done: tokio::sync::oneshot::Sender<Result<(), StoreError>>,
    ) -> Result<(), StoreError> {
        self.submit(writer, permit, |log, _| {
            log.forget();
            Ok(Some(Task::Destroy { forgotten: log.forgotten, done }))
        })
    }

    /// The writer has written up to a submission.
    pub(crate) fn note_written(&self, submission: Submission) {
        let mut log = self.log();
        log.written = log.written.max(submission);
        drop(log);
        self.written.notify_waiters();
    }

    /// Wakes those who wait for a write that will not come.
    pub(crate) fn note_failed(&self) {
        self.written.notify_waiters();
    }

    /// Waits until the entry at `index` is in the write-ahead log, unless the log does not hold it at all.
    pub(crate) async fn wait_written(&self, engine: &Engine, index: u64) -> Result<(), StoreError> {
        loop {
            let mut notified = pin!(self.written.notified());
            notified.as_mut().enable();
            if !self.log().is_pending(index) {
                return Ok(());
            }
            tokio::select! {
                () = notified => {}
                error = engine.fatal.raised() => return Err(error),
            }
        }
    }
}
