//! A group's log in memory, and where the rest of it is.
//!
//! Owns: a group's log as its consensus core sees it: positions, vote, the entries not yet written and those recently
//! written; reading it all back after a start.
//! Must not know: who reads or writes, or when.
//! Invariants: `tail` is contiguous and ends at `last`; an entry leaves it only once it is in the database, so every
//! entry is readable from the moment it was appended; what is below `tail` is in the database and not about to change.

use super::codec;
use super::engine::{Engine, read_error};
use super::error::StoreError;
use super::keys::{self, Kind};
use super::sizes::Sizes;
use super::{LogId, Vote};
use crate::entry::{Entry, encoded_len};
use crate::types::GroupId;
use std::collections::VecDeque;
use std::ops::Range;

/// A group's writes to its log, numbered in the order in which they were submitted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Submission(pub u64);

/// Bytes an entry takes in memory besides its payload.
const ENTRY_OVERHEAD: usize = 128;

/// Bytes an entry takes in the queue and the cache.
pub(crate) fn weight(entry: &Entry) -> usize {
    ENTRY_OVERHEAD + encoded_len(entry)
}

struct Cached {
    entry: Entry,
    submission: Submission,
}

/// A group's log.
#[derive(Default)]
pub(crate) struct GroupLog {
    pub(crate) vote: Option<Vote>,
    /// Where the log ended that was destroyed here, if one was; see [`crate::group::restraint`].
    pub(crate) forgotten: Option<LogId>,
    pub(crate) committed: Option<LogId>,
    committed_written: Option<LogId>,
    pub(crate) purged: Option<LogId>,
    /// The last entry, or what was purged when there is none.
    pub(crate) last: Option<LogId>,
    /// Index of the first entry; meaningless when there is none.
    first: u64,
    tail: VecDeque<Cached>,
    sizes: Sizes,
    /// Counts truncations, so that a reader notices one.
    truncations: u64,
    pub(crate) submitted: Submission,
    pub(crate) written: Submission,
}

/// How to read a range of a log.
pub(crate) struct ReadPlan {
    /// To be read from the database.
    pub(crate) stored: Range<u64>,
    /// Follows `stored`.
    pub(crate) cached: Vec<Entry>,
    /// To compare with the log's once `stored` was read.
    pub(crate) version: (u64, Option<LogId>),
}

impl GroupLog {
    pub(crate) fn load(engine: &Engine, group: GroupId) -> Result<Self, StoreError> {
        let row = |kind| engine.get(keys::META, &keys::meta(group, kind));
        let position = |kind| row(kind)?.map(|row| codec::decode_log_id(&row)).transpose();
        let purged = position(Kind::Purged)?;
        let committed = position(Kind::Committed)?;
        let mut log = Self {
            vote: row(Kind::Vote)?.map(|row| codec::decode_vote(&row)).transpose()?,
            forgotten: position(Kind::Forgotten)?,
            committed,
            committed_written: committed,
            purged,
            last: purged,
            ..Self::default()
        };
        let from = purged.map_or(0, |id| id.index + 1);
        let mut iterator = engine.iterate(keys::LOG, keys::log(group, from).to_vec(), keys::log_end(group));
        iterator.seek_to_first();
        if let Some(key) = iterator.key() {
            log.first = keys::parse_log(key).ok_or_else(|| StoreError::Corrupt("a log key".into()))?.1;
            iterator.seek_to_last();
            let value = iterator.value().unwrap_or_default();
            let last = decode_entry(value)?.log_id;
            log.last = Some(last);
            log.sizes = Sizes::found(last.index, engine.log_bytes(group, from));
        }
        iterator.status().map_err(|error| read_error(&error))?;
        Ok(log)
    }

    fn end(&self) -> u64 {
        self.last.map_or(0, |id| id.index + 1)
    }

    fn is_empty(&self) -> bool {
        self.last == self.purged
    }

    /// Where the first entry is, or would be.
    fn start(&self) -> u64 {
        if self.is_empty() { self.end() } else { self.first }
    }

    fn tail_start(&self) -> u64 {
        self.end() - self.tail.len() as u64
    }

    fn position(&self, index: u64) -> Option<&Cached> {
        self.tail.get(usize::try_from(index.checked_sub(self.tail_start())?).ok()?)
    }

    pub(crate) fn append(&mut self, entries: &[Entry], submission: Submission) -> Result<(), StoreError> {
        for entry in entries {
            let index = entry.log_id.index;
            if self.is_empty() {
                self.first = index;
            }
            let follows = self.last.is_none_or(|last| index == last.index + 1);
            if !follows {
                return Err(StoreError::Misuse(format!("appending {index} after {}", self.end() - 1)));
            }
            self.last = Some(entry.log_id);
            self.sizes.appended(index, encoded_len(entry));
            self.tail.push_back(Cached { entry: entry.clone(), submission });
        }
        Ok(())
    }

    /// The indexes no longer there.
    pub(crate) fn truncate_after(&mut self, keep: Option<LogId>) -> Range<u64> {
        let old_end = self.end();
        let keep = keep.max(self.purged);
        let end = keep.map_or(0, |id| id.index + 1);
        if end >= old_end {
            return old_end..old_end;
        }
        self.tail.truncate(usize::try_from(end.saturating_sub(self.tail_start())).unwrap_or(usize::MAX));
        self.last = keep;
        self.sizes.truncated(end);
        self.truncations += 1;
        end..old_end
    }

    /// The indexes no longer there; `None` when it was purged before.
    pub(crate) fn purge(&mut self, upto: LogId) -> Option<Range<u64>> {
        if self.purged.is_some_and(|purged| purged.index >= upto.index) {
            return None;
        }
        let (start, end) = (self.start(), upto.index + 1);
        while self.tail.front().is_some_and(|cached| cached.entry.log_id.index <= upto.index) {
            self.tail.pop_front();
        }
        self.purged = Some(upto);
        self.sizes.purged(upto.index);
        if self.last.is_none_or(|last| last.index <= upto.index) {
            self.last = Some(upto);
        }
        self.first = start.max(end);
        Some(start.min(end)..end)
    }

    /// A snapshot at `at` takes the place of the log up to there; the indexes no longer there.
    ///
    /// `matches` says whether the log's entry at that position, if it has one, is the snapshot's. If not, nothing
    /// after it can be right either, and left behind a newer applied position it would never be resolved.
    pub(crate) fn cover(&mut self, at: LogId, matches: bool) -> Option<Range<u64>> {
        let (start, end) = (self.start(), self.end());
        if !matches {
            self.truncate_after(self.purged);
        }
        let gone = self.purge(at)?;
        Some(start..if matches { gone.end } else { gone.end.max(end) })
    }

    /// Up to where to purge so that no more than `keep` bytes are left; `None` while no more are there.
    pub(crate) fn surplus(&self, keep: u64) -> Option<u64> {
        self.sizes.surplus(keep)
    }

    /// Everything but the vote is forgotten, and where the log ended: this one, or one that was forgotten before it got as
    /// far again.
    pub(crate) fn forget(&mut self) {
        let Self { vote, forgotten, last, truncations, submitted, written, .. } = *self;
        let forgotten = forgotten.max(last);
        *self = Self { vote, forgotten, truncations: truncations + 1, submitted, written, ..Self::default() };
    }

    /// What to read for `range`; cached entries beyond `limit` bytes are left out, but never the first of all.
    pub(crate) fn plan(&self, range: Range<u64>, limit: usize) -> ReadPlan {
        let range = range.start.max(self.start())..range.end.min(self.end());
        let from = range.start.max(self.tail_start());
        let mut bytes = 0;
        let cached = (from..range.end)
            .map_while(|index| self.position(index))
            .take_while(|cached| {
                let first = bytes == 0;
                bytes += weight(&cached.entry);
                first || bytes <= limit
            })
            .map(|cached| cached.entry.clone())
            .collect();
        ReadPlan { stored: range.start..range.end.min(from), cached, version: self.version() }
    }

    /// Changes whenever entries go.
    pub(crate) fn version(&self) -> (u64, Option<LogId>) {
        (self.truncations, self.purged)
    }

    /// Whether the entry at `index` is in the queue and not yet written.
    pub(crate) fn is_pending(&self, index: u64) -> bool {
        self.position(index).is_some_and(|cached| cached.submission > self.written)
    }

    /// Drops cached entries up to an index, as far as that submission wrote them.
    pub(crate) fn evict(&mut self, index: u64, submission: Submission) {
        let submission = submission.min(self.written);
        let goes = |cached: &Cached| cached.entry.log_id.index <= index && cached.submission <= submission;
        while self.tail.front().is_some_and(goes) {
            self.tail.pop_front();
        }
    }

    /// The committed position, if it is news and covered by what is being written up to `index`.
    pub(crate) fn take_committed(&mut self, index: u64) -> Option<LogId> {
        let news = self.committed.filter(|id| Some(*id) > self.committed_written && id.index <= index)?;
        self.committed_written = Some(news);
        Some(news)
    }
}

fn decode_entry(value: &[u8]) -> Result<Entry, StoreError> {
    crate::entry::decode_entry(bytes::Bytes::copy_from_slice(value))
        .map_err(|error| StoreError::Corrupt(format!("a log entry can't be read: {error}")))
}

/// Reads entries from the database up to `limit` bytes, but at least one.
pub(crate) fn read_stored(
    engine: &Engine,
    group: GroupId,
    range: &Range<u64>,
    limit: usize,
) -> Result<Vec<Entry>, StoreError> {
    let (from, to) = (keys::log(group, range.start).to_vec(), keys::log(group, range.end).to_vec());
    let mut iterator = engine.iterate(keys::LOG, from, to);
    let mut entries = Vec::new();
    let mut bytes = 0;
    iterator.seek_to_first();
    while let Some((key, value)) = iterator.item() {
        let entry = decode_entry(value)?;
        if keys::parse_log(key) != Some((group, entry.log_id.index)) {
            return Err(StoreError::Corrupt(format!("entry {} of group {group} is misplaced", entry.log_id)));
        }
        bytes += weight(&entry);
        if bytes > limit && !entries.is_empty() {
            return Ok(entries);
        }
        entries.push(entry);
        iterator.next();
    }
    iterator.status().map_err(|error| read_error(&error))?;
    Ok(entries)
}
