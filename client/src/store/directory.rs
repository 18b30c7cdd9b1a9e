//! The store's files.
//!
//! Owns: their names and modes, the lock, and that a key or a database is there whole or not at all.
//! Must not know: what is in the database.

use super::StoreError;
use redb::backends::FileBackend;
use std::fs::{DirBuilder, File, TryLockError};
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

const LOCK: &str = "lock";
const KEY: &str = "key";
const DATABASE: &str = "store";

fn failed(path: &Path) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.to_owned();
    |source| StoreError::Io { path, source }
}

pub(super) fn key_path(directory: &Path) -> PathBuf {
    directory.join(KEY)
}

/// Makes the directory, for its owner alone; those above it too where they are missing.
pub(super) fn make(directory: &Path) -> Result<(), StoreError> {
    DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(failed(directory))
}

/// Keeps others out for as long as the file is held.
pub(super) fn lock(directory: &Path) -> Result<File, StoreError> {
    let path = directory.join(LOCK);
    let mut options = File::options();
    let file = options.create(true).truncate(false).write(true).mode(0o600).open(&path).map_err(failed(&path))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(StoreError::InUse(directory.to_owned())),
        Err(TryLockError::Error(error)) => Err(failed(&path)(error)),
    }
}

/// The store's key; made if there is neither key nor database.
pub(super) fn key(directory: &Path) -> Result<[u8; 32], StoreError> {
    let path = key_path(directory);
    match std::fs::read(&path) {
        Ok(bytes) => bytes.try_into().map_err(|_| StoreError::Key(path)),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            if directory.join(DATABASE).exists() {
                return Err(StoreError::Key(path));
            }
            let key: [u8; 32] = rand::random();
            place(directory, KEY, |file| file.write_all(&key).map_err(failed(&path)))?;
            Ok(key)
        }
        Err(error) => Err(failed(&path)(error)),
    }
}

/// The database's file; made by `fill` if there is none.
pub(super) fn database(
    directory: &Path,
    fill: impl FnOnce(FileBackend) -> Result<(), StoreError>,
) -> Result<File, StoreError> {
    let path = directory.join(DATABASE);
    if !path.exists() {
        place(directory, DATABASE, |file| fill(backend(file.try_clone().map_err(failed(&path))?, directory)?))?;
    }
    File::options().read(true).write(true).open(&path).map_err(failed(&path))
}

/// A file for the database to be in.
pub(super) fn backend(file: File, directory: &Path) -> Result<FileBackend, StoreError> {
    FileBackend::new(file).map_err(|error| match error {
        redb::DatabaseError::DatabaseAlreadyOpen => StoreError::InUse(directory.to_owned()),
        error => StoreError::database(error),
    })
}

/// Makes a file under another name, and gives it its own once it is whole and on disk.
fn place(
    directory: &Path,
    name: &str,
    fill: impl FnOnce(&mut File) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    let (path, new) = (directory.join(name), directory.join(format!("{name}.new")));
    let mut options = File::options();
    let options = options.create(true).truncate(true).read(true).write(true).mode(0o600);
    let mut made = options.open(&new).map_err(failed(&new))?;
    fill(&mut made)?;
    made.sync_all().map_err(failed(&new))?;
    std::fs::rename(&new, &path).map_err(failed(&path))?;
    File::open(directory).and_then(|directory| directory.sync_all()).map_err(failed(directory))
}
