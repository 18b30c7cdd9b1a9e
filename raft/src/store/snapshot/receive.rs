//! Receiving a snapshot.
//!
//! Owns: turning frames into sorted files that the database can take in as they are.
//! Must not know: who sends them.
//! Invariants: one at a time per node, until it is installed or dropped; rows are written under a generation of their
//! own, so the files overlap with nothing; nothing outside the group's key range can be written, whatever is sent;
//! files that are not installed are deleted, at the latest at the next start.

use super::frame::Header;
use super::sequence::Sequence;
use crate::snapshot::SnapshotError;
use crate::store::group::Group;
use crate::store::keys::{self, Generation};
use crate::store::{Inner, SnapshotMeta};
use bytes::Bytes;
use rocksdb::{Options, SstFileWriter};
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::task::JoinHandle;

/// Frames that wait for the disk.
const WRITE_BEHIND: usize = 2;

/// A directory that goes with its owner.
pub(super) struct Workplace(PathBuf);

impl Drop for Workplace {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::warn!(path = %self.0.display(), %error, "files of a snapshot stay until the next start");
        }
    }
}

/// A snapshot that came whole and can be installed.
pub struct ReceivedSnapshot {
    pub(super) header: Header,
    pub(super) generation: Generation,
    pub(super) files: Vec<PathBuf>,
    pub(super) workplace: Workplace,
    pub(super) permit: OwnedSemaphorePermit,
}

impl ReceivedSnapshot {
    /// What it covers: what the consensus core must be told.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.header.meta
    }
}

/// Takes a snapshot's frames.
pub struct SnapshotSink {
    frames: mpsc::Sender<Bytes>,
    /// Taken once its failure was reported.
    writer: Option<JoinHandle<Result<Written, SnapshotError>>>,
    generation: Generation,
    workplace: Workplace,
    permit: OwnedSemaphorePermit,
}

const ENDED: SnapshotError = SnapshotError::Damaged("it went on after it had failed");

struct Written {
    header: Header,
    files: Vec<PathBuf>,
}

impl SnapshotSink {
    pub(in crate::store) async fn open(store: &Arc<Inner>, group: Arc<Group>) -> Result<Self, SnapshotError> {
        let permit = Arc::clone(&store.receipts).acquire_owned().await.expect("the semaphore is never closed");
        let generation = group.machine().reserve();
        let path = store.engine.incoming().join(format!("{}-{}", group.id, generation.0));
        fs::create_dir_all(&path).map_err(|error| SnapshotError::Files(error.to_string()))?;
        let workplace = Workplace(path.clone());
        let (frames, mut queue) = mpsc::channel::<Bytes>(WRITE_BEHIND);
        let options = store.engine.options.clone();
        let writer = tokio::task::spawn_blocking(move || {
            let table = options.family(keys::STATE, None);
            let prefix = keys::state_prefix(group.id, generation);
            let mut files = Files::new(&path, &table, prefix, options.snapshot_file_bytes);
            let mut sequence = Sequence::of(group.id);
            while let Some(bytes) = queue.blocking_recv() {
                sequence.take(&bytes, |key, value| files.put(key, value))?;
            }
            let header = sequence.finish()?;
            Ok(Written { header, files: files.finish()? })
        });
        Ok(Self { frames, writer: Some(writer), generation, workplace, permit })
    }

    /// Takes the next frame; waits for the disk.
    ///
    /// # Errors
    /// [`SnapshotError`] when this or an earlier frame is damaged or can't be stored; the sink is then useless.
    pub async fn write(&mut self, frame: Bytes) -> Result<(), SnapshotError> {
        if self.frames.send(frame).await.is_ok() {
            return Ok(());
        }
        // The thread ends before the frames do only when it failed.
        self.outcome().await.and(Err(ENDED))
    }

    async fn outcome(&mut self) -> Result<Written, SnapshotError> {
        let writer = self.writer.take().ok_or(ENDED)?;
        writer.await.map_err(|error| SnapshotError::Files(format!("the writing thread ended: {error}")))?
    }

    /// Ends the snapshot, once every frame was written.
    ///
    /// # Errors
    /// [`SnapshotError`] when something is missing or wrong.
    pub async fn finish(mut self) -> Result<ReceivedSnapshot, SnapshotError> {
        // Closes the queue, so that the thread comes to its end.
        self.frames = mpsc::channel(1).0;
        let Written { header, files } = self.outcome().await?;
        let Self { generation, workplace, permit, .. } = self;
        Ok(ReceivedSnapshot { header, generation, files, workplace, permit })
    }
}

/// Sorted files in the making.
struct Files<'a> {
    directory: &'a Path,
    options: &'a Options,
    prefix: [u8; keys::STATE_PREFIX],
    size: u64,
    open: Option<SstFileWriter<'a>>,
    done: Vec<PathBuf>,
    last: Option<Vec<u8>>,
}

fn failed(error: &rocksdb::Error) -> SnapshotError {
    SnapshotError::Files(error.to_string())
}

impl<'a> Files<'a> {
    fn new(directory: &'a Path, options: &'a Options, prefix: [u8; keys::STATE_PREFIX], size: u64) -> Self {
        Self { directory, options, prefix, size, open: None, done: Vec::new(), last: None }
    }

    fn put(&mut self, key: &[u8], value: &[u8]) -> Result<(), SnapshotError> {
        let full = [&self.prefix[..], key].concat();
        // Also across files, where the database would not notice.
        if self.last.as_ref().is_some_and(|last| *last >= full) {
            return Err(SnapshotError::Damaged("its rows are out of order"));
        }
        let file = if let Some(file) = &mut self.open {
            file
        } else {
            let path = self.directory.join(format!("{:06}.sst", self.done.len()));
            let file = SstFileWriter::create(self.options);
            file.open(&path).map_err(|error| failed(&error))?;
            self.done.push(path);
            self.open.insert(file)
        };
        file.put(&full, value).map_err(|error| failed(&error))?;
        let full_up = file.file_size() >= self.size;
        self.last = Some(full);
        if full_up { self.close() } else { Ok(()) }
    }

    fn close(&mut self) -> Result<(), SnapshotError> {
        match self.open.take() {
            Some(mut file) => file.finish().map_err(|error| failed(&error)),
            None => Ok(()),
        }
    }

    fn finish(mut self) -> Result<Vec<PathBuf>, SnapshotError> {
        self.close()?;
        Ok(self.done)
    }
}
