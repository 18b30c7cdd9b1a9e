//! How much of the log writer's work is known to be on disk, kept beside the write-ahead log.
//!
//! Recovery can't tell a write-ahead log that was damaged, cut or deleted from one whose unsynced end a crash tore off:
//! both just end early. A node that went on from a damaged one would have forgotten entries and votes it answered for.
//!
//! Owns: the file `synced`: the number of the last batch that a completed sync covered.
//! Must not know: what a batch holds.
//! Invariants: the file never says more than is on disk, since it is written after the sync; an older number, which is
//! what a power loss may leave of it, is still true.

use super::error::OpenError;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::time::{Duration, Instant};
use xxhash_rust::xxh3::xxh3_64;

const FILE: &str = "synced";
/// The number and its hash, `BE64` each: within one sector, so never torn.
const LENGTH: usize = 16;
/// A process that dies takes nothing of the file with it. So that a power loss takes little, it is synced this often.
const SYNC_EVERY: Duration = Duration::from_secs(1);

/// The open file.
pub(crate) struct SyncedMark {
    file: File,
    last: u64,
    synced: Instant,
}

impl SyncedMark {
    /// Makes the file of a new directory; on disk, name included, once the directory is synced.
    pub(crate) fn create(root: &Path) -> io::Result<()> {
        let file = File::create(root.join(FILE))?;
        file.write_all_at(&encode(0), 0)?;
        file.sync_all()
    }

    /// Refuses a directory that is to be made anew, although something was synced in it before.
    pub(crate) fn expect_new(root: &Path) -> Result<(), OpenError> {
        match std::fs::read(root.join(FILE)) {
            // Made, and its maker died before it could say so in the file for that.
            Ok(bytes) if bytes == encode(0) => Ok(()),
            // Torn, by a power loss while it was made.
            Ok(bytes) if bytes.is_empty() || bytes == [0; LENGTH] => Ok(()),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
            Err(error) => Err(OpenError::Io { path: root.join(FILE), reason: error.to_string() }),
            Ok(_) => {
                let reason = "it was in use, and the file `format` is missing".into();
                Err(OpenError::Corrupt { path: root.to_owned(), reason })
            }
        }
    }

    /// Opens the file, unless the database knows of fewer batches than had been synced.
    pub(crate) fn open(root: &Path, found: u64) -> Result<Self, OpenError> {
        let corrupt = |reason: String| OpenError::Corrupt { path: root.to_owned(), reason };
        let file =
            File::options().read(true).write(true).open(root.join(FILE)).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => corrupt(format!("the file `{FILE}` is missing")),
                _ => OpenError::Io { path: root.join(FILE), reason: error.to_string() },
            })?;
        let mut bytes = [0; LENGTH];
        file.read_exact_at(&mut bytes, 0)
            .map_err(|error| corrupt(format!("the file `{FILE}` can't be read: {error}")))?;
        let synced = decode(bytes).ok_or_else(|| corrupt(format!("the file `{FILE}` is damaged")))?;
        if found < synced {
            return Err(corrupt(format!(
                "the write-ahead log ends at batch {found}, and batch {synced} had been synced: part of it is damaged or \
                 gone, and with it entries this node has answered for"
            )));
        }
        Ok(Self { file, last: found, synced: Instant::now() })
    }

    /// The number of the next batch; a row of it, so that recovery finds it.
    pub(crate) fn next(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// Every batch so far is on disk.
    pub(crate) fn advance(&mut self) -> io::Result<()> {
        self.file.write_all_at(&encode(self.last), 0)?;
        if self.synced.elapsed() >= SYNC_EVERY {
            self.file.sync_data()?;
            self.synced = Instant::now();
        }
        Ok(())
    }
}

fn encode(batch: u64) -> [u8; LENGTH] {
    let number = batch.to_be_bytes();
    let mut bytes = [0; LENGTH];
    bytes[..8].copy_from_slice(&number);
    bytes[8..].copy_from_slice(&xxh3_64(&number).to_be_bytes());
    bytes
}

fn decode(bytes: [u8; LENGTH]) -> Option<u64> {
    let (number, hash) = bytes.split_first_chunk::<8>()?;
    (xxh3_64(number).to_be_bytes() == *hash).then(|| u64::from_be_bytes(*number))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn made() -> tempfile::TempDir {
        let directory = tempfile::tempdir().expect("a directory can be made");
        SyncedMark::create(directory.path()).expect("the file can be made");
        directory
    }

    #[test]
    fn fewer_batches_than_were_synced_are_refused() {
        let directory = made();
        let mut mark = SyncedMark::open(directory.path(), 6).expect("new");
        assert_eq!(mark.next(), 7);
        mark.advance().expect("it can be written");
        assert!(matches!(SyncedMark::open(directory.path(), 6), Err(OpenError::Corrupt { .. })));
        SyncedMark::open(directory.path(), 7).expect("all that was synced is there");
        SyncedMark::open(directory.path(), 8).expect("and one more that was only written");
    }

    #[test]
    fn any_flipped_bit_and_any_missing_byte_are_noticed() {
        let directory = made();
        let path = directory.path().join(FILE);
        let whole = std::fs::read(&path).expect("it can be read");
        for bit in 0..whole.len() * 8 {
            let mut harmed = whole.clone();
            harmed[bit / 8] ^= 1 << (bit % 8);
            std::fs::write(&path, &harmed).expect("it can be written");
            assert!(matches!(SyncedMark::open(directory.path(), u64::MAX), Err(OpenError::Corrupt { .. })), "{bit}");
        }
        for length in 0..whole.len() {
            std::fs::write(&path, &whole[..length]).expect("it can be written");
            assert!(matches!(SyncedMark::open(directory.path(), u64::MAX), Err(OpenError::Corrupt { .. })), "{length}");
        }
        std::fs::remove_file(&path).expect("it is there");
        assert!(matches!(SyncedMark::open(directory.path(), u64::MAX), Err(OpenError::Corrupt { .. })));
    }
}
