//! Sending a snapshot.
//!
//! Owns: reading a group's rows out of one frozen view, as frames.
//! Must not know: who receives them.
//! Invariants: one at a time per node; memory is bounded by a few frames; what the view holds back from reclamation is
//! let go as soon as the source is dropped; frames leave no faster than the configured rate.

use super::frame::{self, End, Frame, Header, Rows};
use crate::snapshot::SnapshotError;
use crate::store::keys::STATE_PREFIX;
use crate::store::tables::{GroupTables, RowHash};
use crate::store::{Inner, SnapshotMeta};
use crate::types::{GroupId, TypeConfig};
use bytes::Bytes;
use openraft::type_config::alias::LeaderIdOf;
use std::sync::{Arc, PoisonError};
use std::time::Duration;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio::time::Instant;

/// Frames read ahead of the network.
const READ_AHEAD: usize = 2;

/// A group of this node whose rows can be sent.
#[derive(Clone)]
pub struct LocalSnapshot {
    store: Arc<Inner>,
    group: GroupId,
}

impl LocalSnapshot {
    pub(in crate::store) fn new(store: Arc<Inner>, group: GroupId) -> Self {
        Self { store, group }
    }

    /// Freezes the rows as they are now and begins to read them; waits while another snapshot is being sent.
    ///
    /// `leader` is the one on whose behalf they are sent: effects of a newer one must not travel under its name.
    ///
    /// # Errors
    /// [`SnapshotError`].
    pub async fn open(&self, leader: LeaderIdOf<TypeConfig>) -> Result<SnapshotSource, SnapshotError> {
        let source = self.open_any().await?;
        match source.meta.last_log_id {
            Some(at) if at.leader_id > leader => Err(SnapshotError::LeaderChanged),
            _ => Ok(source),
        }
    }

    pub(super) async fn open_any(&self) -> Result<SnapshotSource, SnapshotError> {
        let permit = Arc::clone(&self.store.sends).acquire_owned().await.expect("the semaphore is never closed");
        let (frames, mut received) = mpsc::channel(READ_AHEAD);
        let (store, group) = (Arc::clone(&self.store), self.group);
        tokio::task::spawn_blocking(move || {
            if let Err(error) = read(&store, group, &frames) {
                // The receiver may be gone, and then nobody wants to know.
                let _ = frames.blocking_send(Err(error));
            }
        });
        let first = received.recv().await.ok_or(SnapshotError::Damaged("the reading thread ended"))??;
        let Frame::Header(header) = frame::decode(&first, 0)? else {
            return Err(SnapshotError::Damaged("no header"));
        };
        let rate = self.store.engine.options.snapshot_bytes_per_second.max(1);
        let generation = self.store.engine.applied(self.group)?.generation;
        let whole = self.store.engine.row_bytes(self.group, generation);
        let progress = SnapshotProgress { group: self.group, sent: 0, whole, begun: Instant::now() };
        let mut source = SnapshotSource {
            meta: header.meta,
            first: Some(first),
            frames: received,
            rate,
            progress,
            store: Arc::clone(&self.store),
            _permit: permit,
        };
        source.moved(0);
        Ok(source)
    }
}

/// How far a snapshot is on its way.
#[derive(Debug, Clone, Copy)]
pub struct SnapshotProgress {
    /// Of which group.
    pub group: GroupId,
    /// Bytes that have gone.
    pub sent: u64,
    /// Bytes of the rows on disk: about as many will go, more if they are stored well compressed.
    pub whole: u64,
    /// When it began.
    pub begun: Instant,
}

/// The frames of a snapshot, in order.
pub struct SnapshotSource {
    meta: SnapshotMeta,
    first: Option<Bytes>,
    frames: mpsc::Receiver<Result<Bytes, SnapshotError>>,
    rate: u64,
    progress: SnapshotProgress,
    store: Arc<Inner>,
    _permit: OwnedSemaphorePermit,
}

impl SnapshotSource {
    /// What the rows cover: what the receiver must announce to its consensus core.
    #[must_use]
    pub fn meta(&self) -> &SnapshotMeta {
        &self.meta
    }

    /// The next frame, at the configured pace; `None` after the last.
    ///
    /// # Errors
    /// [`SnapshotError`] when reading failed.
    pub async fn next(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        let due = Duration::from_micros(self.progress.sent.saturating_mul(1_000_000) / self.rate);
        tokio::time::sleep_until(self.progress.begun + due).await;
        let frame = match self.first.take() {
            Some(first) => Some(first),
            None => self.frames.recv().await.transpose()?,
        };
        self.moved(frame.as_ref().map_or(0, |frame| frame.len() as u64));
        Ok(frame)
    }

    fn moved(&mut self, bytes: u64) {
        self.progress.sent += bytes;
        *self.store.sending.lock().unwrap_or_else(PoisonError::into_inner) = Some(self.progress);
    }
}

impl Drop for SnapshotSource {
    fn drop(&mut self) {
        // Before the permit goes, and another one begins.
        *self.store.sending.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

type Frames = mpsc::Sender<Result<Bytes, SnapshotError>>;

fn read(store: &Inner, group: GroupId, frames: &Frames) -> Result<(), SnapshotError> {
    let view = GroupTables::new(&store.engine, group);
    let row = view.row()?;
    let meta = SnapshotMeta { last_log_id: row.log_id, last_membership: view.membership()? };
    let mut number = 0;
    // False once nobody listens.
    let mut send = |frame: &Frame| {
        let sent = frames.blocking_send(Ok(frame::encode(frame, number))).is_ok();
        number += 1;
        sent
    };
    let header = Header { group: group.0, meta, digest: row.digest };
    if !send(&Frame::Header(Box::new(header))) {
        return Ok(());
    }
    let limit = store.engine.options.snapshot_frame_bytes;
    let (mut hash, mut count, mut buf) = (RowHash::default(), 0, Vec::with_capacity(limit));
    let mut rows = view.rows()?;
    rows.seek_to_first();
    while let Some((key, value)) = rows.item() {
        let key = &key[STATE_PREFIX..];
        hash.add(key, value);
        count += 1;
        frame::push_row(key, value, &mut buf);
        if buf.len() >= limit && !send(&Frame::Rows(Rows(std::mem::take(&mut buf).into()))) {
            return Ok(());
        }
        rows.next();
    }
    rows.status().map_err(|error| crate::store::engine::read_error(&error))?;
    if !buf.is_empty() && !send(&Frame::Rows(Rows(buf.into()))) {
        return Ok(());
    }
    send(&Frame::End(End { rows: count, hash: hash.finish() }));
    Ok(())
}
