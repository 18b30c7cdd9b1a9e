//! The database under everything here.
//!
//! Owns: opening the data directory, its lock and format; reads, writes and syncs, and what their failure means.
//! Must not know: consensus; what rows mean.
//! Invariants: after a write or a sync failed, nothing is written any more; a directory that was once made is never
//! made anew over what is left of it, nor used when less is left of it than was synced.

use super::codec;
use super::error::{FatalSignal, OpenError, StoreError};
use super::keys::{self, Generation};
use super::mark::SyncedMark;
use super::options::{Moment, StoreOptions};
use super::wal;
use crate::types::GroupId;
use rocksdb::{ColumnFamily, DB, DBPinnableSlice, DBRawIterator, ErrorKind, Range, ReadOptions, WriteBatch};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// The format of a data directory that this program reads and writes.
pub const FORMAT_VERSION: u32 = 5;

const LOCK_FILE: &str = "lock";
const FORMAT_FILE: &str = "format";
const DATABASE: &str = "db";
const INCOMING: &str = "incoming";

/// An open data directory.
pub(crate) struct Engine {
    // Closed before the lock is let go.
    db: DB,
    pub(crate) fatal: FatalSignal,
    pub(crate) options: StoreOptions,
    root: PathBuf,
    _lock: File,
}

impl Engine {
    pub(crate) fn open(root: &Path, options: StoreOptions) -> Result<(Self, SyncedMark), OpenError> {
        let io = |error: io::Error| OpenError::Io { path: root.to_owned(), reason: error.to_string() };
        fs::create_dir_all(root).map_err(io)?;
        let lock = lock(root)?;
        let made = read_format(root)?;
        if made.is_none() {
            SyncedMark::expect_new(root)?;
        }
        if let Some(found) = made.filter(|found| *found > FORMAT_VERSION) {
            return Err(OpenError::NewerFormat { path: root.to_owned(), found, supported: FORMAT_VERSION });
        }
        if let Some(found) = made.filter(|found| *found < FORMAT_VERSION) {
            return Err(OpenError::OlderFormat { path: root.to_owned(), found, supported: FORMAT_VERSION });
        }
        let incoming = root.join(INCOMING);
        if incoming.exists() {
            fs::remove_dir_all(&incoming).map_err(io)?;
        }
        let path = root.join(DATABASE);
        wal::settle(root, &path)?;
        let db = DB::open_cf_descriptors(&options.database(made.is_none()), path, options.families())
            .map_err(|error| open_error(root, &error))?;
        let engine = Self { db, fatal: FatalSignal::new(), options, root: root.to_owned(), _lock: lock };
        engine.settle_format(made.is_none())?;
        let batch = engine.last_batch().map_err(|error| engine.unusable(&error))?;
        let mark = SyncedMark::open(root, batch)?;
        engine.drop_orphans().map_err(|error| engine.unusable(&error))?;
        Ok((engine, mark))
    }

    fn unusable(&self, error: &StoreError) -> OpenError {
        OpenError::of(&self.root, error)
    }

    /// The row first, then the file that says it is there: a directory with the file is never made anew.
    fn settle_format(&self, new: bool) -> Result<(), OpenError> {
        let row = self.get(keys::META, keys::FORMAT).map_err(|error| self.unusable(&error))?;
        match row.as_deref().map(<[u8; 4]>::try_from) {
            Some(Ok(version)) if u32::from_be_bytes(version) == FORMAT_VERSION => {}
            None if new => {
                let mut batch = WriteBatch::default();
                batch.put_cf(self.family(keys::META), keys::FORMAT, FORMAT_VERSION.to_be_bytes());
                self.write(batch).and_then(|()| self.sync()).map_err(|error| self.unusable(&error))?;
            }
            _ => return Err(self.unusable(&StoreError::Corrupt("the format row is missing or unknown".into()))),
        }
        if new { write_format(&self.root) } else { Ok(()) }
    }

    /// The number of the log writer's last batch that is whole in the database; 0 when there is none.
    fn last_batch(&self) -> Result<u64, StoreError> {
        let mut last = u64::MAX;
        for (family, key) in keys::BATCH {
            let number = match self.get(family, key)? {
                Some(row) => {
                    <[u8; 8]>::try_from(&*row).map_err(|_| StoreError::Corrupt("the number of a batch".into()))?
                }
                None => [0; 8],
            };
            last = last.min(u64::from_be_bytes(number));
        }
        Ok(last)
    }

    pub(crate) fn family(&self, name: &str) -> &ColumnFamily {
        self.db.cf_handle(name).expect("every family was opened with the database")
    }

    pub(crate) fn db(&self) -> &DB {
        &self.db
    }

    pub(crate) fn get(&self, family: &str, key: &[u8]) -> Result<Option<DBPinnableSlice<'_>>, StoreError> {
        self.db.get_pinned_cf(self.family(family), key).map_err(|error| read_error(&error))
    }

    /// Iterates over `from..to`.
    pub(crate) fn iterate(&self, family: &str, from: Vec<u8>, to: Vec<u8>) -> DBRawIterator<'_> {
        self.db.raw_iterator_cf_opt(self.family(family), bounds(from, to))
    }

    /// Writes to the write-ahead log and the rows; on disk, or even out of this process, only after [`Engine::sync`].
    pub(crate) fn write(&self, batch: WriteBatch) -> Result<(), StoreError> {
        self.fatal.check()?;
        self.db.write(batch).map_err(|error| self.fatal.raise("writing", error.as_ref()))
    }

    /// Everything written before the call is on disk after it.
    pub(crate) fn sync(&self) -> Result<(), StoreError> {
        self.fatal.check()?;
        if self.options.observer.is_some() {
            // So that an observer finds in the file what is about to be synced.
            self.db.flush_wal(false).map_err(|error| self.fatal.raise("writing", error.as_ref()))?;
        }
        self.reach(Moment::Written)?;
        self.db.flush_wal(true).map_err(|error| self.fatal.raise("syncing", error.as_ref()))?;
        self.reach(Moment::Synced)
    }

    /// Tells the observer, if there is one.
    pub(crate) fn reach(&self, moment: Moment) -> Result<(), StoreError> {
        let Some(observer) = &self.options.observer else { return Ok(()) };
        observer.at(moment).map_err(|error| self.fatal.raise("observed", &error.to_string()))
    }

    /// About how many bytes a group's log takes from an index on.
    pub(crate) fn log_bytes(&self, group: GroupId, from: u64) -> u64 {
        let (start, end) = (keys::log(group, from), keys::log_end(group));
        let sizes = self.db.get_approximate_sizes_cf(self.family(keys::LOG), &[Range::new(&start, &end)]);
        sizes.into_iter().sum()
    }

    /// About how many bytes a generation of a group's rows takes.
    pub(crate) fn row_bytes(&self, group: GroupId, generation: Generation) -> u64 {
        let start = keys::state_prefix(group, generation);
        let end = keys::successor(&start);
        let sizes = self.db.get_approximate_sizes_cf(self.family(keys::STATE), &[Range::new(&start, &end)]);
        sizes.into_iter().sum()
    }

    /// Where files of a snapshot under way go.
    pub(crate) fn incoming(&self) -> PathBuf {
        self.root.join(INCOMING)
    }

    /// The path of the data directory.
    pub(crate) fn root(&self) -> &Path {
        &self.root
    }

    /// The applied row of a group; that of a new one if it has none.
    pub(crate) fn applied(&self, group: GroupId) -> Result<codec::AppliedRow, StoreError> {
        let row = self.get(keys::STATE, &keys::standing(group, keys::Standing::Applied))?;
        row.map_or_else(|| Ok(codec::AppliedRow::default()), |row| codec::decode_applied(&row))
    }

    /// Deletes the rows of one generation.
    pub(crate) fn drop_generation(&self, group: GroupId, generation: Generation) -> Result<(), StoreError> {
        let mut batch = WriteBatch::default();
        let prefix = keys::state_prefix(group, generation);
        batch.delete_range_cf(self.family(keys::STATE), prefix.to_vec(), keys::successor(&prefix));
        self.write(batch)
    }

    /// Deletes what a crash amid the installation of a snapshot left: at most two seeks per group and generation.
    fn drop_orphans(&self) -> Result<(), StoreError> {
        let mut seek = Vec::new();
        loop {
            let mut iterator = self.iterate(keys::STATE, seek, vec![u8::MAX; 2 * keys::STATE_PREFIX]);
            iterator.seek_to_first();
            let Some(key) = iterator.key() else {
                return iterator.status().map_err(|error| read_error(&error));
            };
            let (group, generation) =
                keys::parse_state(key).ok_or_else(|| StoreError::Corrupt("a state key is too short".into()))?;
            if generation != Generation::STANDING && self.applied(group)?.generation != generation {
                tracing::info!(%group, generation = generation.0, "dropping rows of an unfinished snapshot");
                self.drop_generation(group, generation)?;
            }
            seek = keys::successor(&keys::state_prefix(group, generation));
        }
    }
}

/// Read options for the keys of `from..to`.
pub(crate) fn bounds(from: Vec<u8>, to: Vec<u8>) -> ReadOptions {
    let mut options = ReadOptions::default();
    options.set_iterate_lower_bound(from);
    options.set_iterate_upper_bound(to);
    options
}

pub(crate) fn read_error(error: &rocksdb::Error) -> StoreError {
    match error.kind() {
        ErrorKind::Corruption => StoreError::Corrupt(error.to_string()),
        _ => StoreError::Read(error.to_string()),
    }
}

fn lock(root: &Path) -> Result<File, OpenError> {
    let io = |error: io::Error| OpenError::Io { path: root.to_owned(), reason: error.to_string() };
    let file = File::options().create(true).truncate(false).write(true).open(root.join(LOCK_FILE)).map_err(io)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(fs::TryLockError::WouldBlock) => Err(OpenError::Locked(root.to_owned())),
        Err(fs::TryLockError::Error(error)) => Err(io(error)),
    }
}

fn read_format(root: &Path) -> Result<Option<u32>, OpenError> {
    let path = root.to_owned();
    match fs::read_to_string(root.join(FORMAT_FILE)) {
        Ok(text) => match text.trim().parse() {
            Ok(version) => Ok(Some(version)),
            Err(_) => Err(OpenError::Corrupt { path, reason: "the format file holds no number".into() }),
        },
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) if error.kind() == io::ErrorKind::InvalidData => {
            Err(OpenError::Corrupt { path, reason: "the format file holds no number".into() })
        }
        Err(error) => Err(OpenError::Io { path, reason: error.to_string() }),
    }
}

fn write_format(root: &Path) -> Result<(), OpenError> {
    let write = || {
        let draft = root.join(format!("{FORMAT_FILE}.new"));
        let mut file = File::create(&draft)?;
        writeln!(file, "{FORMAT_VERSION}")?;
        file.sync_all()?;
        fs::rename(&draft, root.join(FORMAT_FILE))?;
        File::open(root)?.sync_all()
    };
    SyncedMark::create(root)
        .and_then(|()| write())
        .map_err(|error: io::Error| OpenError::Io { path: root.to_owned(), reason: error.to_string() })
}

fn open_error(root: &Path, error: &rocksdb::Error) -> OpenError {
    let (path, reason) = (root.to_owned(), error.to_string());
    match error.kind() {
        // The directory's own lock is ours already, so something else uses the database inside it.
        ErrorKind::IOError if reason.contains("While lock file") || reason.contains("lock hold by") => {
            OpenError::Locked(path)
        }
        // A database that was once made and now lacks a file is not whole.
        ErrorKind::IOError if reason.contains("No such file") => OpenError::Corrupt { path, reason },
        ErrorKind::IOError => OpenError::Io { path, reason },
        _ => OpenError::Corrupt { path, reason },
    }
}
