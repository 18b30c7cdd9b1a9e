//! Storage of all groups of a node: one database, one write-ahead log, one sync for all.
//!
//! Owns: the data directory, the groups' logs and votes, the machines' rows, snapshots.
//! Must not know: consensus rules, what commands do, the network.
//! Invariants: any prefix of the write-ahead log is a valid state of every group (see [`writer`] and [`apply`]); a
//! storage error is final and stops the node.

mod apply;
mod codec;
mod engine;
mod entries;
mod erase;
mod error;
mod group;
mod hot;
mod keys;
mod log;
mod mark;
pub mod metrics;
mod options;
mod pressure;
mod sizes;
pub(crate) mod snapshot;
mod tables;
mod wal;
mod writer;

pub use apply::{ApplyHook, LogPosition, Machine, Outcome, SnapshotBuilder, StateMachine};
pub use engine::FORMAT_VERSION;
pub use erase::Erased;
pub(crate) use error::tells_of_corruption;
pub use error::{Fatal, OpenError, StoreError};
pub use log::LogStore;
pub use options::{Moment, Observer, StoreOptions};
pub use pressure::Pressure;
pub use snapshot::{LocalSnapshot, ReceivedSnapshot, SnapshotData, SnapshotProgress, SnapshotSink, SnapshotSource};
pub use tables::{GroupReader, GroupRows, GroupTables};

pub use crate::types::{LogId, SnapshotMeta, StoredMembership, Vote};

use crate::snapshot::SnapshotError;
use crate::types::{GroupId, Identity, TypeConfig};
use engine::Engine;
use group::{Group, MachineState};
use messenger_proto::ids::{ClusterId, LogIndex, NodeId, StoreId};
use openraft::storage::IOFlushed;
use openraft::type_config::alias::SnapshotOf;
use rocksdb::WriteBatch;
use std::collections::{BTreeSet, HashMap};
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::sync::{Semaphore, watch};
use tokio::time::timeout;
use writer::LogWriter;

/// How long what writes a group's rows has to end once its consensus core has.
const WRITERS_END_WITHIN: Duration = Duration::from_secs(10);

/// A snapshot.
pub type Snapshot = SnapshotOf<TypeConfig, SnapshotData>;
type IoFlushed = IOFlushed<TypeConfig>;

/// How far a group has applied.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Applied {
    /// The last entry; 0 before the first.
    pub index: LogIndex,
    /// All entries up to there, and every row they wrote, chained: replicas that applied the same have the same.
    pub digest: u64,
}

/// An open data directory; cheap to clone. Closed once every handle to it, and to its groups, is gone.
#[derive(Clone)]
pub struct Store(Arc<Inner>);

pub(crate) struct Inner {
    // Ended, with all it was given on disk, before the database is closed.
    writer: LogWriter,
    engine: Arc<Engine>,
    groups: Mutex<HashMap<GroupId, Arc<Group>>>,
    sends: Arc<Semaphore>,
    sending: Mutex<Option<SnapshotProgress>>,
    receipts: Arc<Semaphore>,
}

impl Store {
    /// Opens a data directory, or makes it.
    ///
    /// # Errors
    /// [`OpenError`].
    pub fn open(path: &Path, options: StoreOptions) -> Result<Self, OpenError> {
        let (engine, mark) = Engine::open(path, options)?;
        let engine = Arc::new(engine);
        let writer = LogWriter::start(Arc::clone(&engine), mark)
            .map_err(|error| OpenError::Io { path: path.to_owned(), reason: error.to_string() })?;
        Ok(Self(Arc::new(Inner {
            writer,
            engine,
            groups: Mutex::default(),
            // One at a time, so that a node that lags in every group does not fill its disk and its links at once.
            sends: Arc::new(Semaphore::new(1)),
            sending: Mutex::default(),
            receipts: Arc::new(Semaphore::new(1)),
        })))
    }

    /// Whose data this is; `None` in a new directory.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub fn identity(&self) -> Result<Option<Identity>, StoreError> {
        let row = self.0.engine.get(keys::META, keys::IDENTITY)?;
        row.map(|row| codec::decode_identity(&row)).transpose()
    }

    /// The directory's own id, drawn when first asked for. On disk when it returns, so that whoever names it to others
    /// has it still after a crash.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read or written.
    pub fn draw_id(&self) -> Result<StoreId, StoreError> {
        if let Some(identity) = self.identity()? {
            return Ok(identity.store);
        }
        if let Some(drawn) = self.0.engine.get(keys::META, keys::DRAWN)? {
            let drawn = <[u8; 16]>::try_from(drawn.as_ref());
            return drawn.map(StoreId).map_err(|_| StoreError::Corrupt("the directory's id can't be read".into()));
        }
        let drawn: [u8; 16] = rand::random();
        let mut batch = WriteBatch::default();
        batch.put_cf(self.0.engine.family(keys::META), keys::DRAWN, drawn);
        self.0.engine.write(batch)?;
        self.0.engine.sync()?;
        Ok(StoreId(drawn))
    }

    /// Says, for good, whose data this is. On disk when it returns.
    ///
    /// # Errors
    /// [`StoreError::Misuse`] when it is someone's already.
    pub fn create_identity(&self, cluster: ClusterId, node: NodeId) -> Result<Identity, StoreError> {
        if let Some(identity) = self.identity()? {
            return Err(StoreError::Misuse(format!("the directory belongs to node {}", identity.node)));
        }
        let identity = Identity { cluster, node, store: self.draw_id()? };
        let mut batch = WriteBatch::default();
        batch.put_cf(self.0.engine.family(keys::META), keys::IDENTITY, codec::encode_identity(&identity));
        self.0.engine.write(batch)?;
        self.0.engine.sync()?;
        Ok(identity)
    }

    /// The signal that storage has failed and the process must end.
    #[must_use]
    pub fn fatal(&self) -> watch::Receiver<Option<Fatal>> {
        self.0.engine.fatal.subscribe()
    }

    /// Raises the signal that the process must end, for a failure that storage has not met itself.
    pub fn fail(&self, doing: &str, reason: &str) {
        // The signal is what matters; nobody waits for the error.
        let _ = self.0.engine.fatal.raise(doing, reason);
    }

    /// How far a group has applied, and the digest of that; `None` when the group is not in use here.
    #[must_use]
    pub fn applied(&self, group: GroupId) -> Option<Applied> {
        let group = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()?;
        let row = group.machine().applied;
        Some(Applied { index: LogIndex(row.log_id.map_or(0, |id| id.index)), digest: row.digest })
    }

    /// Who belongs to a group, as applied here: what a majority has on disk. `None` when the group is not in use here, or
    /// nobody told it yet.
    #[must_use]
    pub fn membership(&self, group: GroupId) -> Option<StoredMembership> {
        let group = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()?;
        let membership = group.machine().membership.clone();
        membership.log_id().is_some().then_some(membership)
    }

    /// The snapshot that is being sent, if one is.
    #[must_use]
    pub fn sending(&self) -> Option<SnapshotProgress> {
        *self.0.sending.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How close storage is to its limits.
    #[must_use]
    pub fn pressure(&self) -> Pressure {
        Pressure::read(&self.0.engine, &self.0.writer)
    }

    /// The groups that have a log or rows here; one that was destroyed is not among them.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub fn groups(&self) -> Result<Vec<GroupId>, StoreError> {
        let engine = &self.0.engine;
        let mut groups = BTreeSet::new();
        let (from, to) = keys::meta_range();
        let mut rows = engine.iterate(keys::META, from.to_vec(), to.to_vec());
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            match keys::parse_meta(key) {
                Some((_, kind)) if kind.outlives_the_group() => {}
                Some((group, _)) => {
                    groups.insert(group);
                }
                None => return Err(StoreError::Corrupt("a group's row has an unknown key".into())),
            }
            rows.next();
        }
        rows.status().map_err(|error| engine::read_error(&error))?;
        // Each group's first key, in either family.
        for family in [keys::LOG, keys::STATE] {
            let mut seek = Vec::new();
            loop {
                let mut rows = engine.iterate(family, seek, keys::GROUPS_END.to_vec());
                rows.seek_to_first();
                let Some(key) = rows.key() else {
                    rows.status().map_err(|error| engine::read_error(&error))?;
                    break;
                };
                let group = keys::group_of(key).ok_or_else(|| StoreError::Corrupt(format!("a key of {family}")))?;
                groups.insert(group);
                seek = keys::log_end(group);
            }
        }
        Ok(groups.into_iter().collect())
    }

    /// The groups whose logs hold more than `keep` bytes, and up to where each is to be purged.
    #[must_use]
    pub fn surplus(&self, keep: u64) -> Vec<(GroupId, LogIndex)> {
        let groups = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner);
        groups.iter().filter_map(|(id, group)| Some((*id, LogIndex(group.log().surplus(keep)?)))).collect()
    }

    /// The index up to which a group's log was purged, 0 before any was; `None` when the group is not in use here.
    #[must_use]
    pub fn purged(&self, group: GroupId) -> Option<LogIndex> {
        let group = self.0.groups.lock().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()?;
        let purged = group.log().purged;
        Some(LogIndex(purged.map_or(0, |id| id.index)))
    }

    /// Rids the disk of older versions of some rows, and of what was purged from their groups' logs. Takes its time.
    ///
    /// # Errors
    /// [`StoreError`] when storage fails.
    pub fn erase(&self, groups: &[(GroupId, Erased)]) -> Result<(), StoreError> {
        self.0.engine.erase(groups)
    }

    /// The log of a group.
    ///
    /// # Errors
    /// [`StoreError`] when the group can't be read.
    pub fn log(&self, group: GroupId) -> Result<LogStore, StoreError> {
        Ok(LogStore { store: Arc::clone(&self.0), group: self.0.group(group)? })
    }

    /// The state machine of a group.
    ///
    /// # Errors
    /// [`StoreError`] when the group can't be read, or its log and rows don't belong together.
    pub fn state_machine(
        &self,
        group: GroupId,
        machine: Arc<dyn Machine>,
        hook: Arc<dyn ApplyHook>,
    ) -> Result<StateMachine, StoreError> {
        let log = self.log(group)?;
        log.group.check()?;
        StateMachine::new(log, machine, hook)
    }

    /// Reads a group's rows.
    ///
    /// # Errors
    /// [`StoreError`] when the group can't be read.
    pub fn reader(&self, group: GroupId) -> Result<GroupReader, StoreError> {
        self.0.group(group)?;
        Ok(GroupReader::new(Arc::clone(&self.0), group))
    }

    /// Takes a snapshot of `group` that another node sends; waits while another one is being received.
    ///
    /// # Errors
    /// [`SnapshotError`] when there is no place for it.
    pub async fn receive_snapshot(&self, group: GroupId) -> Result<SnapshotSink, SnapshotError> {
        SnapshotSink::open(&self.0, self.0.group(group)?).await
    }

    /// Deletes a group's log and rows, and leaves its vote and where its log ended: should the group ever come back, this
    /// node must not vote twice in a term, nor for a leader that lacks what it once had (see
    /// [`crate::group::restraint`]). Its consensus core must have stopped. On disk when it returns, in one step, so that a
    /// crash leaves all of it or none; the bytes are given back by [`Store::reclaim`].
    ///
    /// # Errors
    /// [`StoreError::Misuse`] when something still writes the group's rows; another one when storage fails.
    pub async fn destroy_group(&self, group: GroupId) -> Result<(), StoreError> {
        self.0.engine.fatal.check()?;
        let log = self.log(group)?;
        let Ok(_no_writers) = timeout(WRITERS_END_WITHIN, log.group.writers.write()).await else {
            return Err(StoreError::Misuse(format!("group {group} is still in use")));
        };
        let writer = &self.0.writer;
        log.carry_out(|group, permit, done| group.destroy(writer, permit, done)).await?;
        let mut machine = log.group.machine();
        *machine = MachineState { reserved: machine.reserved, ..MachineState::default() };
        Ok(())
    }

    /// Where the log ended that a group had here when it was destroyed, if it was.
    ///
    /// # Errors
    /// [`StoreError`] when the group can't be read.
    pub fn forgotten(&self, group: GroupId) -> Result<Option<LogId>, StoreError> {
        Ok(self.0.group(group)?.log().forgotten)
    }

    /// The vote that a group has on disk here.
    ///
    /// # Errors
    /// [`StoreError`] when the group can't be read.
    pub fn vote(&self, group: GroupId) -> Result<Option<Vote>, StoreError> {
        Ok(self.0.group(group)?.log().vote)
    }

    /// Gives back the disk that destroyed groups took; those that are in use again are left alone. Takes its time, and
    /// may be done again.
    ///
    /// # Errors
    /// [`StoreError`] when storage fails.
    pub fn reclaim(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        self.0.engine.reclaim(groups)
    }

    /// The groups that were destroyed here and have neither log nor rows.
    ///
    /// # Errors
    /// [`StoreError`] when they can't be read.
    pub fn destroyed(&self) -> Result<Vec<GroupId>, StoreError> {
        let there: BTreeSet<GroupId> = self.groups()?.into_iter().collect();
        let (from, to) = keys::meta_range();
        let mut rows = self.0.engine.iterate(keys::META, from.to_vec(), to.to_vec());
        let mut gone = BTreeSet::new();
        rows.seek_to_first();
        while let Some(key) = rows.key() {
            if let Some((group, keys::Kind::Forgotten)) = keys::parse_meta(key) {
                gone.insert(group);
            }
            rows.next();
        }
        rows.status().map_err(|error| engine::read_error(&error))?;
        Ok(gone.difference(&there).copied().collect())
    }
}

impl Inner {
    fn group(&self, id: GroupId) -> Result<Arc<Group>, StoreError> {
        let mut groups = self.groups.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(group) = groups.get(&id) {
            return Ok(Arc::clone(group));
        }
        let group = Arc::new(Group::load(&self.engine, id)?);
        groups.insert(id, Arc::clone(&group));
        Ok(group)
    }
}
