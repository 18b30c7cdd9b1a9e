//! ⑤ Applying: committed entries become rows, replies and events.
//!
//! Owns: the consensus library's state machine trait over a [`Machine`]: batches of entries, their one write, and who
//! is told afterwards.
//! Must not know: what commands do.
//! Invariants: rows, applied position, membership and digest change in one write; that write enters the write-ahead
//! log only after the entries it covers, so any prefix of the log is a valid state; replies and events leave only after
//! it; results do not depend on how entries are grouped.
//!
//! Runs on the group's own task and not on a thread of its own: its writes are not synced, so they take microseconds,
//! and a hop between threads would cost more than it saves. It never runs on the log writer's thread.

use super::codec::{self, AppliedRow};
use super::error::StoreError;
use super::hot::HotRows;
use super::keys::{self, Standing};
use super::log::LogStore;
use super::metrics;
use super::snapshot::{LocalSnapshot, SnapshotData};
use super::tables::GroupRows;
use super::{LogId, Snapshot, SnapshotMeta, StoredMembership};
use crate::entry::{Entry, encoded_len};
use crate::machine::tables::{Overlay, TableError, Writes};
use crate::types::{PackResults, TypeConfig};
use bytes::Bytes;
use futures_util::future::FutureExt;
use futures_util::stream::{Stream, TryStreamExt};
use messenger_proto::command::CommandResult;
use messenger_proto::event::Event;
use messenger_proto::ids::{LogIndex, Term};
use openraft::EntryPayload;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use rocksdb::WriteBatch;
use std::io;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::OwnedRwLockReadGuard;

/// Where an entry is in the log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct LogPosition {
    /// The term of the leader that proposed it.
    pub term: Term,
    /// Its index.
    pub index: LogIndex,
}

/// What applying a pack gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Outcome {
    /// One result per command, in order.
    pub results: Vec<CommandResult>,
    /// What followers of the group are told, in order.
    pub events: Vec<Event>,
}

/// The rules of a group; pure.
pub trait Machine: Send + Sync + 'static {
    /// Carries out an encoded pack, through `tables` alone.
    ///
    /// # Errors
    /// [`TableError`] when storage fails; the node then stops.
    fn apply(
        &self,
        tables: &mut Overlay<'_, GroupRows<'_>>,
        position: LogPosition,
        pack: &Bytes,
    ) -> Result<Outcome, TableError>;
}

/// Told of what was applied at this replica.
pub trait ApplyHook: Send + Sync + 'static {
    /// Entries were applied, and their rows are readable; `events` in log order, possibly none. Must not wait.
    fn applied(&self, events: Vec<Event>);

    /// A snapshot was installed: anything may have changed. Must not wait.
    fn installed(&self);
}

/// The state machine of one group.
pub struct StateMachine {
    pub(super) log: LogStore,
    /// The group is not destroyed while it is there.
    writes: Arc<OwnedRwLockReadGuard<()>>,
    hot: Arc<HotRows>,
    machine: Arc<dyn Machine>,
    pub(super) hook: Arc<dyn ApplyHook>,
}

/// Entries applied together.
#[derive(Default)]
struct Run {
    entries: Vec<(Entry, Option<ApplyResponder<TypeConfig>>)>,
    bytes: usize,
}

impl Run {
    fn push(&mut self, (entry, responder): EntryResponder<TypeConfig>) {
        self.bytes += encoded_len(&entry);
        self.entries.push((entry, responder));
    }
}

/// What a run comes to.
struct Evaluated {
    batch: WriteBatch,
    writes: Writes,
    applied: AppliedRow,
    membership: Option<StoredMembership>,
    results: Vec<PackResults>,
    events: Vec<Event>,
}

impl StateMachine {
    pub(super) fn new(log: LogStore, machine: Arc<dyn Machine>, hook: Arc<dyn ApplyHook>) -> Result<Self, StoreError> {
        let writes = Arc::clone(&log.group.writers).try_read_owned();
        let writes = writes.map_err(|_| StoreError::Misuse(format!("group {} is being destroyed", log.group.id)))?;
        Ok(Self { log, writes: Arc::new(writes), hot: Arc::new(HotRows::new()), machine, hook })
    }

    fn evaluate(&self, run: &Run) -> Result<Evaluated, StoreError> {
        let engine = &self.log.store.engine;
        let group = self.log.group.id;
        let AppliedRow { log_id, generation, digest } = self.log.group.machine().applied;
        let rows = GroupRows::new(engine, &self.hot, group, generation);
        let mut overlay = Overlay::with_digest(&rows, digest);
        let (mut log_id, mut membership, mut events) = (log_id, None, Vec::new());
        let mut results = Vec::with_capacity(run.entries.len());
        for (entry, _) in &run.entries {
            let at = entry.log_id;
            overlay.mark(&codec::encode_log_id(&at));
            let mut outcome = Outcome::default();
            match &entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(pack) => {
                    let position = LogPosition { term: Term(at.leader_id.term), index: LogIndex(at.index) };
                    outcome = self
                        .machine
                        .apply(&mut overlay, position, &pack.0)
                        .map_err(|error| engine.fatal.raise("applying", &error.to_string()))?;
                }
                EntryPayload::Membership(changed) => {
                    membership = Some(StoredMembership::new(Some(at), changed.clone()));
                }
            }
            results.push(PackResults(outcome.results));
            events.extend(outcome.events);
            log_id = Some(at);
        }
        let applied = AppliedRow { log_id, generation, digest: overlay.digest() };
        let state = engine.family(keys::STATE);
        let mut batch = WriteBatch::default();
        let writes = overlay.into_writes();
        for (key, value) in &writes {
            match value {
                Some(value) => batch.put_cf(state, rows.key(key), value),
                None => batch.delete_cf(state, rows.key(key)),
            }
        }
        batch.put_cf(state, keys::standing(group, Standing::Applied), codec::encode_applied(&applied));
        if let Some(membership) = &membership {
            batch.put_cf(state, keys::standing(group, Standing::Membership), codec::encode_membership(membership));
        }
        Ok(Evaluated { batch, writes, applied, membership, results, events })
    }

    async fn apply_run(&self, run: Run) -> Result<(), StoreError> {
        let Some(last) = run.entries.last().map(|(entry, _)| entry.log_id.index) else { return Ok(()) };
        let begun = Instant::now();
        let (engine, group) = (&self.log.store.engine, &self.log.group);
        let Evaluated { batch, writes, applied, membership, results, events } = self.evaluate(&run)?;
        group.wait_written(engine, last).await?;
        engine.write(batch)?;
        self.hot.written(applied.generation, writes.iter().map(|(key, value)| (key.as_slice(), value.as_ref())));
        {
            let mut state = group.machine();
            state.applied = applied;
            if let Some(membership) = membership {
                state.membership = membership;
            }
        }
        metrics::applied(run.entries.len(), begun.elapsed());
        self.hook.applied(events);
        for ((_, responder), results) in run.entries.into_iter().zip(results) {
            if let Some(responder) = responder {
                responder.send(results);
            }
        }
        Ok(())
    }

    fn snapshot(&self, meta: SnapshotMeta) -> Snapshot {
        let data = LocalSnapshot::new(Arc::clone(&self.log.store), self.log.group.id);
        Snapshot { meta, snapshot: SnapshotData::Local(data) }
    }
}

impl RaftStateMachine<TypeConfig> for StateMachine {
    type SnapshotData = SnapshotData;
    type SnapshotBuilder = SnapshotBuilder;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        let state = self.log.group.machine();
        Ok((state.applied.log_id, state.membership.clone()))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        let (bytes, count) = (self.log.store.engine.options.apply_bytes, self.log.store.engine.options.apply_entries);
        while let Some(first) = entries.try_next().await? {
            let mut run = Run::default();
            run.push(first);
            // Whatever else is at hand, without waiting for more.
            while run.bytes < bytes && run.entries.len() < count {
                match entries.try_next().now_or_never() {
                    Some(next) => match next? {
                        Some(next) => run.push(next),
                        None => break,
                    },
                    None => break,
                }
            }
            self.apply_run(run).await?;
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder {
        SnapshotBuilder(Self {
            log: self.log.clone(),
            writes: Arc::clone(&self.writes),
            hot: Arc::clone(&self.hot),
            machine: Arc::clone(&self.machine),
            hook: Arc::clone(&self.hook),
        })
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, snapshot: SnapshotData) -> Result<(), io::Error> {
        Ok(super::snapshot::install(self, meta, snapshot).await?)
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        let meta = self.log.group.machine().snapshot.clone();
        Ok(meta.map(|meta| self.snapshot(meta)))
    }
}

/// Makes snapshots that are but a note of the applied position: rows are read only when a follower asks.
pub struct SnapshotBuilder(StateMachine);

impl RaftSnapshotBuilder<TypeConfig> for SnapshotBuilder {
    type SnapshotData = SnapshotData;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let meta = {
            let mut state = self.0.log.group.machine();
            let meta = SnapshotMeta { last_log_id: state.applied.log_id, last_membership: state.membership.clone() };
            state.snapshot = Some(meta.clone());
            meta
        };
        Ok(self.0.snapshot(meta))
    }
}
