//! What a device keeps: a small database in a directory of its own.
//!
//! Owns: the directory and its modes, the lock that keeps a second process out, the key that every value is sealed with,
//! and atomic writes.
//! Must not know: what the values mean.
//! Invariants: a write is on disk, whole, when it is reported, and not at all before (redb: copy on write, two checked
//! roots, an fsync per write); nothing is readable without the key file; no file is readable by others.

mod directory;
mod seal;

use bytes::Bytes;
use messenger_proto::wire::{Wire, WireError};
use redb::backends::FileBackend;
use redb::{Builder, Database, ReadTransaction, ReadableDatabase, ReadableTable, TableDefinition, WriteTransaction};
use seal::Seal;
use std::fs::File;
use std::path::{Path, PathBuf};

/// Bytes of the database that are kept in memory at most.
const CACHE: usize = 8 * 1024 * 1024;

/// A named set of rows.
pub(crate) type Table = TableDefinition<'static, &'static [u8], &'static [u8]>;

/// Why the store cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process works with it.
    #[error("{} is in use: this device chats already, in another terminal", .0.display())]
    InUse(PathBuf),
    /// A file or directory cannot be read or made.
    #[error("{}: {source}", path.display())]
    Io {
        /// Which.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// The database cannot be read or written.
    #[error("the local store failed: {0}")]
    Database(String),
    /// The key file is lost, or another's.
    #[error("{} does not open what is stored beside it; move the directory away to begin with new keys", .0.display())]
    Key(PathBuf),
    /// A row is not what it should be.
    #[error("the local store is damaged: {0}")]
    Damaged(&'static str),
}

impl StoreError {
    pub(crate) fn database(error: impl std::fmt::Display) -> Self {
        Self::Database(error.to_string())
    }
}

impl From<WireError> for StoreError {
    fn from(_: WireError) -> Self {
        Self::Damaged("a row cannot be read")
    }
}

/// An open store.
pub(crate) struct Store {
    database: Database,
    seal: Seal,
    /// Held for as long as the store is open, and let go by the system however the process ends.
    _lock: Option<File>,
}

impl Store {
    /// Opens the store in a directory, which is made if there is none.
    pub(crate) fn open(path: &Path, tables: &[Table]) -> Result<Self, StoreError> {
        directory::make(path)?;
        let lock = directory::lock(path)?;
        let key = directory::key(path)?;
        let database = directory::database(path, |file| Self::make(&key, file, tables))?;
        let mut builder = Builder::new();
        builder.set_cache_size(CACHE);
        let database =
            builder.create_with_backend(directory::backend(database, path)?).map_err(StoreError::database)?;
        let store = Self { database, seal: Seal::new(&key), _lock: Some(lock) };
        store.check(tables).map_err(|error| match error {
            StoreError::Damaged(_) => StoreError::Key(directory::key_path(path)),
            other => other,
        })?;
        Ok(store)
    }

    /// A store over any storage: for tests of what a crash leaves.
    #[cfg(test)]
    pub(crate) fn over(
        backend: impl redb::StorageBackend,
        key: &[u8; 32],
        tables: &[Table],
    ) -> Result<Self, StoreError> {
        let database = Builder::new().create_with_backend(backend).map_err(StoreError::database)?;
        let store = Self { database, seal: Seal::new(key), _lock: None };
        store.create(tables)?;
        Ok(store)
    }

    /// A new database with its tables.
    fn make(key: &[u8; 32], backend: FileBackend, tables: &[Table]) -> Result<(), StoreError> {
        let database = Builder::new().create_with_backend(backend).map_err(StoreError::database)?;
        Self { database, seal: Seal::new(key), _lock: None }.create(tables)
    }

    fn create(&self, tables: &[Table]) -> Result<(), StoreError> {
        self.write(|tx| {
            for table in tables {
                tx.inner.open_table(*table).map_err(StoreError::database)?;
            }
            tx.put_bytes(CHECK, CHECK_KEY, CHECK_VALUE)
        })
    }

    /// That the key opens what is there.
    fn check(&self, tables: &[Table]) -> Result<(), StoreError> {
        match self.read(|view| view.get_bytes(CHECK, CHECK_KEY))?.as_deref() {
            Some(CHECK_VALUE) => Ok(()),
            Some(_) => Err(StoreError::Damaged("its format is another")),
            // A database that was made and never written.
            None => self.create(tables),
        }
    }

    /// All that `change` does, or nothing of it when it fails; it is on disk when this comes back.
    pub(crate) fn write<T, E: From<StoreError>>(
        &self,
        change: impl FnOnce(&mut Tx<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let inner = self.database.begin_write().map_err(StoreError::database)?;
        let mut tx = Tx { inner, seal: &self.seal };
        // Left without a commit, nothing is changed.
        let done = change(&mut tx)?;
        tx.inner.commit().map_err(StoreError::database)?;
        Ok(done)
    }

    /// Looks at one state of the store.
    pub(crate) fn read<T>(&self, look: impl FnOnce(&View<'_>) -> Result<T, StoreError>) -> Result<T, StoreError> {
        let inner = self.database.begin_read().map_err(StoreError::database)?;
        look(&View { inner, seal: &self.seal })
    }
}

const CHECK: Table = Table::new("check");
const CHECK_KEY: &[u8] = b"format";
const CHECK_VALUE: &[u8] = b"1";

/// A write under way.
pub(crate) struct Tx<'s> {
    inner: WriteTransaction,
    seal: &'s Seal,
}

impl Tx<'_> {
    pub(crate) fn get<T: Wire>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        let opened = self.inner.open_table(table).map_err(StoreError::database)?;
        let row = opened.get(key).map_err(StoreError::database)?;
        row.map(|row| Ok(T::decode_from(self.seal.open(table, key, row.value())?)?)).transpose()
    }

    pub(crate) fn put<T: Wire>(&mut self, table: Table, key: &[u8], value: &T) -> Result<(), StoreError> {
        self.put_bytes(table, key, &value.to_wire())
    }

    fn put_bytes(&mut self, table: Table, key: &[u8], value: &[u8]) -> Result<(), StoreError> {
        let sealed = self.seal.seal(table, key, value)?;
        let mut opened = self.inner.open_table(table).map_err(StoreError::database)?;
        opened.insert(key, sealed.as_slice()).map_err(StoreError::database)?;
        Ok(())
    }

    pub(crate) fn delete(&mut self, table: Table, key: &[u8]) -> Result<(), StoreError> {
        let mut opened = self.inner.open_table(table).map_err(StoreError::database)?;
        opened.remove(key).map_err(StoreError::database)?;
        Ok(())
    }

    /// Every row whose key begins so, in order.
    pub(crate) fn with_prefix<T: Wire>(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let opened = self.inner.open_table(table).map_err(StoreError::database)?;
        rows(self.seal, table, &opened, prefix, usize::MAX, false)
    }
}

/// One state of the store.
pub(crate) struct View<'s> {
    inner: ReadTransaction,
    seal: &'s Seal,
}

impl View<'_> {
    fn get_bytes(&self, table: Table, key: &[u8]) -> Result<Option<Bytes>, StoreError> {
        let opened = match self.inner.open_table(table) {
            Ok(opened) => opened,
            Err(redb::TableError::TableDoesNotExist(_)) => return Ok(None),
            Err(error) => return Err(StoreError::database(error)),
        };
        let row = opened.get(key).map_err(StoreError::database)?;
        row.map(|row| self.seal.open(table, key, row.value())).transpose()
    }

    pub(crate) fn get<T: Wire>(&self, table: Table, key: &[u8]) -> Result<Option<T>, StoreError> {
        self.get_bytes(table, key)?.map(|bytes| Ok(T::decode_from(bytes)?)).transpose()
    }

    /// Every row whose key begins so, in order.
    pub(crate) fn with_prefix<T: Wire>(&self, table: Table, prefix: &[u8]) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let opened = self.inner.open_table(table).map_err(StoreError::database)?;
        rows(self.seal, table, &opened, prefix, usize::MAX, false)
    }

    /// The last rows whose key begins so, the very last first.
    pub(crate) fn last_with_prefix<T: Wire>(
        &self,
        table: Table,
        prefix: &[u8],
        count: usize,
    ) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
        let opened = self.inner.open_table(table).map_err(StoreError::database)?;
        rows(self.seal, table, &opened, prefix, count, true)
    }
}

fn rows<T: Wire>(
    seal: &Seal,
    table: Table,
    opened: &impl ReadableTable<&'static [u8], &'static [u8]>,
    prefix: &[u8],
    count: usize,
    backwards: bool,
) -> Result<Vec<(Vec<u8>, T)>, StoreError> {
    let mut end = prefix.to_vec();
    // No key goes on with 0xff: what follows a prefix is a name or a number far from its end.
    end.extend_from_slice(&[0xff; 17]);
    let mut range = opened.range::<&[u8]>(prefix..end.as_slice()).map_err(StoreError::database)?;
    let mut found = Vec::new();
    while found.len() < count {
        let Some(row) = (if backwards { range.next_back() } else { range.next() }) else { break };
        let (key, value) = row.map_err(StoreError::database)?;
        found.push((key.value().to_vec(), T::decode_from(seal.open(table, key.value(), value.value())?)?));
    }
    Ok(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    const ROWS: Table = Table::new("rows");

    messenger_proto::wire_struct! { struct Row { 1 => text: String } }

    fn row(text: &str) -> Row {
        Row { text: text.into() }
    }

    fn get(store: &Store, key: &[u8]) -> Option<String> {
        store.read(|view| view.get::<Row>(ROWS, key)).unwrap().map(|row| row.text)
    }

    #[test]
    fn what_was_written_is_there_after_an_end_without_notice() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("deep/er");
        for round in 0..3u8 {
            let store = Store::open(&path, &[ROWS]).unwrap();
            store.write(|tx| tx.put(ROWS, &[round], &row("x"))).unwrap();
            let failed: Result<(), StoreError> = store.write(|tx| {
                tx.put(ROWS, b"never", &row("y"))?;
                Err(StoreError::Damaged("on purpose"))
            });
            assert!(failed.is_err());
            assert_eq!(store.read(|view| view.with_prefix::<Row>(ROWS, b"")).unwrap().len(), usize::from(round) + 1);
        }
    }

    #[test]
    fn a_second_opener_is_refused_and_files_are_ones_own() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("store");
        let store = Store::open(&path, &[ROWS]).unwrap();
        let refused = Store::open(&path, &[ROWS]).err().unwrap();
        assert!(matches!(refused, StoreError::InUse(_)), "{refused}");
        for entry in std::fs::read_dir(&path).unwrap() {
            let entry = entry.unwrap();
            let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
            assert_eq!(mode, 0o600, "{:?}", entry.file_name());
        }
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
        drop(store);
        Store::open(&path, &[ROWS]).unwrap();
    }

    #[test]
    fn without_the_key_nothing_is_read() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &[ROWS]).unwrap();
        store.write(|tx| tx.put(ROWS, b"k", &row("a very particular secret"))).unwrap();
        assert_eq!(get(&store, b"k").as_deref(), Some("a very particular secret"));
        drop(store);
        let raw = std::fs::read(dir.path().join("store")).unwrap();
        assert!(!raw.windows(10).any(|window| window == b"particular"));
        let key = dir.path().join("key");
        let kept = std::fs::read(&key).unwrap();
        std::fs::write(&key, [7; 32]).unwrap();
        assert!(matches!(Store::open(dir.path(), &[ROWS]).err().unwrap(), StoreError::Key(_)));
        std::fs::remove_file(&key).unwrap();
        assert!(matches!(Store::open(dir.path(), &[ROWS]).err().unwrap(), StoreError::Key(_)));
        std::fs::write(&key, kept).unwrap();
        assert!(get(&Store::open(dir.path(), &[ROWS]).unwrap(), b"k").is_some());
    }

    #[test]
    fn a_value_is_bound_to_its_place() {
        let seal = Seal::new(&[1; 32]);
        let sealed = seal.seal(ROWS, b"a", b"value").unwrap();
        assert_eq!(&seal.open(ROWS, b"a", &sealed).unwrap()[..], b"value");
        assert!(seal.open(ROWS, b"b", &sealed).is_err());
        assert!(seal.open(Table::new("other"), b"a", &sealed).is_err());
        assert!(seal.open(ROWS, b"a", &sealed[..9]).is_err());
    }

    #[test]
    fn the_last_rows_come_first() {
        let dir = tempfile::tempdir().unwrap();
        let store = Store::open(dir.path(), &[ROWS]).unwrap();
        for key in ["a1", "a2", "a3", "b1"] {
            store.write(|tx| tx.put(ROWS, key.as_bytes(), &row(key))).unwrap();
        }
        let last = store.read(|view| view.last_with_prefix::<Row>(ROWS, b"a", 2)).unwrap();
        assert_eq!(last.iter().map(|(_, row)| row.text.as_str()).collect::<Vec<_>>(), ["a3", "a2"]);
    }
}
