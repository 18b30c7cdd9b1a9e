//! A group's rows, as its machine sees them.
//!
//! Owns: the machine's [`Tables`] over the database: the rows as they are for applying, and frozen views for queries.
//! Must not know: what the rows mean.
//! Invariants: a row of another group or generation is never seen; a view does not change, and belongs to the applied
//! position it names.

use super::codec::{self, AppliedRow};
use super::engine::{Engine, bounds, read_error};
use super::error::StoreError;
use super::hot::HotRows;
use super::keys::{self, Generation, STATE_PREFIX, Standing};
use super::{Inner, LogId};
use crate::machine::tables::{Direction, TableError, Tables, Visit};
use crate::types::GroupId;
use bytes::Bytes;
use rocksdb::{DB, DBPinnableSlice, DBRawIterator, SnapshotWithThreadMode};
use std::sync::Arc;
use xxhash_rust::xxh3::Xxh3;

fn row_key(prefix: [u8; STATE_PREFIX], key: &[u8]) -> Vec<u8> {
    let mut full = Vec::with_capacity(STATE_PREFIX + key.len());
    full.extend_from_slice(&prefix);
    full.extend_from_slice(key);
    full
}

fn owned(row: Result<Option<DBPinnableSlice<'_>>, rocksdb::Error>) -> Result<Option<Bytes>, TableError> {
    let row = row.map_err(|error| read_error(&error))?;
    Ok(row.map(|row| Bytes::copy_from_slice(&row)))
}

/// Walks an iterator that is bounded to the wanted rows.
fn walk(mut rows: DBRawIterator<'_>, direction: Direction, visit: Visit<'_>) -> Result<(), TableError> {
    match direction {
        Direction::Forward => rows.seek_to_first(),
        Direction::Backward => rows.seek_to_last(),
    }
    while let Some((key, value)) = rows.item() {
        if visit(&key[STATE_PREFIX..], value).is_break() {
            return Ok(());
        }
        match direction {
            Direction::Forward => rows.next(),
            Direction::Backward => rows.prev(),
        }
    }
    Ok(rows.status().map_err(|error| read_error(&error))?)
}

/// The rows as they are; for the one who writes them.
pub struct GroupRows<'a> {
    engine: &'a Engine,
    hot: &'a HotRows,
    generation: Generation,
    prefix: [u8; STATE_PREFIX],
}

impl<'a> GroupRows<'a> {
    pub(super) fn new(engine: &'a Engine, hot: &'a HotRows, group: GroupId, generation: Generation) -> Self {
        Self { engine, hot, generation, prefix: keys::state_prefix(group, generation) }
    }

    /// The database key of a row.
    pub(super) fn key(&self, key: &[u8]) -> Vec<u8> {
        row_key(self.prefix, key)
    }
}

impl Tables for GroupRows<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        if let Some(row) = self.hot.get(self.generation, key) {
            return Ok(Some(row));
        }
        let row = owned(self.engine.db().get_pinned_cf(self.engine.family(keys::STATE), self.key(key)))?;
        if let Some(row) = &row {
            self.hot.keep(self.generation, key, row);
        }
        Ok(row)
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: Visit<'_>) -> Result<(), TableError> {
        if from >= to {
            return Ok(());
        }
        walk(self.engine.iterate(keys::STATE, self.key(from), self.key(to)), direction, visit)
    }
}

/// Reads a group's rows; cheap to clone.
#[derive(Clone)]
pub struct GroupReader {
    store: Arc<Inner>,
    group: GroupId,
}

impl GroupReader {
    pub(super) fn new(store: Arc<Inner>, group: GroupId) -> Self {
        Self { store, group }
    }

    /// Raises the signal that the process must end: rows can't be read that must be there.
    pub fn fail(&self, doing: &str, reason: &str) {
        // The signal is what matters; nobody waits for the error.
        let _ = self.store.engine.fatal.raise(doing, reason);
    }

    /// The rows as of now, frozen. Short-lived: while it lives, nothing it sees is reclaimed.
    ///
    /// Should the group's position be unreadable, so is every row.
    #[must_use]
    pub fn view(&self) -> GroupTables<'_> {
        GroupTables::new(&self.store.engine, self.group)
    }
}

/// A frozen view of a group's rows.
pub struct GroupTables<'a> {
    engine: &'a Engine,
    snapshot: SnapshotWithThreadMode<'a, DB>,
    group: GroupId,
    applied: Result<AppliedRow, StoreError>,
}

impl<'a> GroupTables<'a> {
    pub(super) fn new(engine: &'a Engine, group: GroupId) -> Self {
        let snapshot = engine.db().snapshot();
        let applied = snapshot
            .get_pinned_cf(engine.family(keys::STATE), keys::standing(group, Standing::Applied))
            .map_err(|error| read_error(&error))
            .and_then(|row| row.map_or_else(|| Ok(AppliedRow::default()), |row| codec::decode_applied(&row)));
        Self { engine, snapshot, group, applied }
    }

    /// The last entry whose effects are seen.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub fn applied(&self) -> Result<Option<LogId>, StoreError> {
        Ok(self.row()?.log_id)
    }

    /// The hash chained over every write up to [`GroupTables::applied`]: equal on every replica at one position.
    ///
    /// # Errors
    /// [`StoreError`] when it can't be read.
    pub fn digest(&self) -> Result<u64, StoreError> {
        Ok(self.row()?.digest)
    }

    /// The hash over every row: equal for equal rows, however they came to be. Reads the whole group.
    ///
    /// # Errors
    /// [`StoreError`] when a row can't be read.
    pub fn full_hash(&self) -> Result<u64, StoreError> {
        let mut hash = RowHash::default();
        let mut rows = self.rows()?;
        rows.seek_to_first();
        while let Some((key, value)) = rows.item() {
            hash.add(&key[STATE_PREFIX..], value);
            rows.next();
        }
        rows.status().map_err(|error| read_error(&error))?;
        Ok(hash.finish())
    }

    pub(super) fn row(&self) -> Result<AppliedRow, StoreError> {
        self.applied.clone()
    }

    pub(super) fn membership(&self) -> Result<super::StoredMembership, StoreError> {
        let family = self.engine.family(keys::STATE);
        let row = self.snapshot.get_pinned_cf(family, keys::standing(self.group, Standing::Membership));
        let row = row.map_err(|error| read_error(&error))?;
        Ok(row.map(|row| codec::decode_membership(&row)).transpose()?.unwrap_or_default())
    }

    /// All rows, keys with their prefix.
    pub(super) fn rows(&self) -> Result<DBRawIterator<'_>, StoreError> {
        let prefix = self.prefix()?;
        Ok(self.iterate(prefix.to_vec(), keys::successor(&prefix)))
    }

    fn prefix(&self) -> Result<[u8; STATE_PREFIX], StoreError> {
        Ok(keys::state_prefix(self.group, self.row()?.generation))
    }

    fn iterate(&self, from: Vec<u8>, to: Vec<u8>) -> DBRawIterator<'_> {
        self.snapshot.raw_iterator_cf_opt(self.engine.family(keys::STATE), bounds(from, to))
    }
}

impl Tables for GroupTables<'_> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        owned(self.snapshot.get_pinned_cf(self.engine.family(keys::STATE), row_key(self.prefix()?, key)))
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: Visit<'_>) -> Result<(), TableError> {
        if from >= to {
            return Ok(());
        }
        let prefix = self.prefix()?;
        walk(self.iterate(row_key(prefix, from), row_key(prefix, to)), direction, visit)
    }
}

/// A hash over rows in key order.
#[derive(Default)]
pub(super) struct RowHash(Xxh3);

impl RowHash {
    pub(super) fn add(&mut self, key: &[u8], value: &[u8]) {
        self.0.update(&(key.len() as u64).to_be_bytes());
        self.0.update(key);
        self.0.update(&(value.len() as u64).to_be_bytes());
        self.0.update(value);
    }

    pub(super) fn finish(&self) -> u64 {
        self.0.digest()
    }
}
