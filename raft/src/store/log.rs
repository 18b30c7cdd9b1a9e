//! A group's log, as the consensus library wants it.
//!
//! Owns: the library's storage trait over [`Group`], the writer and the database.
//! Must not know: what entries hold.
//! Invariants: entries are readable once `append` returns; a read is of one state of the log, never a mix of two.

use super::entries::{read_stored, weight};
use super::error::StoreError;
use super::group::Group;
use super::writer::Task;
use super::{Inner, IoFlushed, LogId, Vote};
use crate::entry::Entry;
use crate::types::TypeConfig;
use futures_util::stream::{self, Stream, TryStreamExt};
use openraft::storage::{LogState, RaftLogReader, RaftLogStorage};
use std::fmt::Debug;
use std::io;
use std::ops::{Bound, Range, RangeBounds};
use std::sync::Arc;
use tokio::sync::oneshot;

/// Reads that may be disturbed by truncations in a row before something must be wrong.
const READ_ATTEMPTS: usize = 8;

/// The log and vote of one group; cheap to clone, and its own reader.
#[derive(Clone)]
pub struct LogStore {
    pub(super) store: Arc<Inner>,
    pub(super) group: Arc<Group>,
}

impl LogStore {
    /// The entries of `range` that the log has, from the first on until `limit` bytes are reached.
    async fn read(&self, range: Range<u64>, limit: usize) -> Result<Vec<Entry>, StoreError> {
        for _ in 0..READ_ATTEMPTS {
            let plan = self.group.log().plan(range.clone(), limit);
            if plan.stored.is_empty() {
                return Ok(plan.cached);
            }
            let wanted = plan.stored.clone();
            let (store, group, stored) = (Arc::clone(&self.store), self.group.id, plan.stored);
            let read = move || read_stored(&store.engine, group, &stored, limit);
            let mut entries = tokio::task::spawn_blocking(read)
                .await
                .map_err(|error| StoreError::Read(format!("the reading thread ended: {error}")))??;
            // Truncated or purged meanwhile: what was read may be of another state than what was cached.
            if self.group.log().version() != plan.version {
                continue;
            }
            let bytes: usize = entries.iter().map(weight).sum();
            let expected = wanted.start..wanted.start + entries.len() as u64;
            let contiguous = entries.iter().map(|entry| entry.log_id.index).eq(expected.clone());
            let complete = expected.end == wanted.end;
            if !contiguous || (!complete && (entries.is_empty() || limit == usize::MAX)) {
                let message = format!("the log of group {} has a hole in {wanted:?}", self.group.id);
                return Err(StoreError::Corrupt(message));
            }
            if complete && bytes < limit {
                entries.extend(plan.cached);
            }
            return Ok(entries);
        }
        Err(StoreError::Read(format!("the log of group {} keeps changing", self.group.id)))
    }

    /// The log position at `index`, if the log has an entry there.
    pub(super) async fn position(&self, index: u64) -> Result<Option<LogId>, StoreError> {
        let entries = self.read(index..index.saturating_add(1), usize::MAX).await?;
        Ok(entries.first().map(|entry| entry.log_id))
    }

    async fn answered(&self, answer: oneshot::Receiver<Result<(), StoreError>>) -> Result<(), StoreError> {
        match answer.await {
            Ok(result) => result,
            Err(_) => Err(self.store.engine.fatal.raised().await),
        }
    }

    /// Hands over a task and waits until it is on disk.
    pub(super) async fn carry_out(
        &self,
        hand_over: impl FnOnce(&Arc<Group>, super::writer::Permit, super::writer::Done) -> Result<(), StoreError>,
    ) -> Result<(), StoreError> {
        let (done, answer) = oneshot::channel();
        let permit = self.store.writer.admit(0).await;
        hand_over(&self.group, permit, done)?;
        self.answered(answer).await
    }
}

fn indexes(range: &impl RangeBounds<u64>) -> Range<u64> {
    let start = match range.start_bound() {
        Bound::Included(start) => *start,
        Bound::Excluded(start) => start.saturating_add(1),
        Bound::Unbounded => 0,
    };
    let end = match range.end_bound() {
        Bound::Included(end) => end.saturating_add(1),
        Bound::Excluded(end) => *end,
        Bound::Unbounded => u64::MAX,
    };
    start..end
}

impl RaftLogReader<TypeConfig> for LogStore {
    async fn try_get_log_entries<RB>(&mut self, range: RB) -> Result<Vec<Entry>, io::Error>
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        Ok(self.read(indexes(&range), usize::MAX).await?)
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.group.log().vote)
    }

    async fn limited_get_log_entries(&mut self, start: u64, end: u64) -> Result<Vec<Entry>, io::Error> {
        Ok(self.read(start..end, self.store.engine.options.read_bytes).await?)
    }

    async fn entries_stream<RB>(&mut self, range: RB) -> impl Stream<Item = Result<Entry, io::Error>> + Send
    where
        RB: RangeBounds<u64> + Clone + Debug + Send,
    {
        let limit = self.store.engine.options.read_bytes;
        let chunks = stream::try_unfold((self.clone(), indexes(&range)), move |(log, rest)| async move {
            let entries = log.read(rest.clone(), limit).await?;
            let next = entries.last().map(|last| last.log_id.index + 1);
            Ok::<_, io::Error>(next.map(|next| (stream::iter(entries.into_iter().map(Ok)), (log, next..rest.end))))
        });
        Box::pin(chunks.try_flatten())
    }
}

impl RaftLogStorage<TypeConfig> for LogStore {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let log = self.group.log();
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: log.last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        let vote = *vote;
        let writer = &self.store.writer;
        self.carry_out(|group, permit, done| group.hand_over(writer, permit, Task::Vote { vote, done })).await?;
        Ok(())
    }

    /// Remembered, and written with the next entries: it only spares work after a restart.
    async fn save_committed(&mut self, committed: Option<LogId>) -> Result<(), io::Error> {
        self.group.log().committed = committed;
        Ok(())
    }

    async fn read_committed(&mut self) -> Result<Option<LogId>, io::Error> {
        Ok(self.group.log().committed)
    }

    async fn append<I>(&mut self, entries: I, callback: IoFlushed) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        let entries: Vec<Entry> = entries.into_iter().collect();
        let permit = self.store.writer.admit(entries.iter().map(weight).sum()).await;
        Ok(self.group.append(&self.store.writer, permit, entries, callback)?)
    }

    /// Returns before it is on disk: whatever the group writes next is written after it.
    async fn truncate_after(&mut self, last_log_id: Option<LogId>) -> Result<(), io::Error> {
        let permit = self.store.writer.admit(0).await;
        Ok(self.group.truncate_after(&self.store.writer, permit, last_log_id)?)
    }

    /// Returns before it is on disk: losing it only means to purge again.
    async fn purge(&mut self, log_id: LogId) -> Result<(), io::Error> {
        let permit = self.store.writer.admit(0).await;
        Ok(self.group.purge(&self.store.writer, permit, log_id)?)
    }
}
