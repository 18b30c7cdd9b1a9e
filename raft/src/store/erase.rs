//! Bytes that are overwritten, and leave the disk.
//!
//! Owns: the order of steps after which files of the database no longer hold what older versions of some rows said.
//! Must not know: what the rows say, or who wants them gone.
//! Invariants: what is still wanted stays; the steps may be cut off anywhere and be done again.
//!
//! 1. every family's rows in memory go to files, so that the write-ahead log holds nothing and is deleted;
//! 2. the groups' logs, which no longer hold the entries, and the rows' places are compacted down to the last level.

use super::engine::Engine;
use super::error::StoreError;
use super::keys;
use crate::types::GroupId;
use rocksdb::{BottommostLevelCompaction, CompactOptions, FlushOptions};
use std::ops::Range;

/// The rows of a group whose older versions are to leave the disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Erased {
    /// Every row.
    All,
    /// Those whose keys are in these ranges.
    Ranges(Vec<Range<Vec<u8>>>),
}

impl Engine {
    /// Rids the disk of all that groups have deleted.
    pub(crate) fn reclaim(&self, groups: &[GroupId]) -> Result<(), StoreError> {
        self.flush()?;
        for group in groups {
            let (from, to) = (group.0.to_be_bytes(), keys::log_end(*group));
            self.compact(keys::LOG, &from, &to);
            self.compact(keys::STATE, &from, &to);
        }
        Ok(())
    }

    /// What is in memory goes to files.
    fn flush(&self) -> Result<(), StoreError> {
        self.fatal.check()?;
        let families = [keys::LOG, keys::META, keys::STATE].map(|name| self.family(name));
        let mut wait = FlushOptions::default();
        wait.set_wait(true);
        self.db().flush_cfs_opt(&families, &wait).map_err(|error| self.fatal.raise("storing rows", error.as_ref()))
    }

    /// A part of a family goes to its last level.
    fn compact(&self, family: &str, from: &[u8], to: &[u8]) {
        let mut options = CompactOptions::default();
        options.set_exclusive_manual_compaction(false);
        options.set_bottommost_level_compaction(BottommostLevelCompaction::Force);
        self.db().compact_range_cf_opt(self.family(family), Some(from), Some(to), &options);
    }

    /// Rids the disk of older versions of rows, and of log entries that were purged.
    pub(crate) fn erase(&self, groups: &[(GroupId, Erased)]) -> Result<(), StoreError> {
        self.flush()?;
        let compact = |family: &str, from: &[u8], to: &[u8]| self.compact(family, from, to);
        for (group, erased) in groups {
            compact(keys::LOG, &keys::log(*group, 0), &keys::log_end(*group));
            let prefix = keys::state_prefix(*group, self.applied(*group)?.generation);
            let full = |key: &[u8]| [&prefix[..], key].concat();
            match erased {
                Erased::All => compact(keys::STATE, &prefix, &keys::successor(&prefix)),
                Erased::Ranges(ranges) => {
                    for range in ranges {
                        compact(keys::STATE, &full(&range.start), &full(&range.end));
                    }
                }
            }
        }
        Ok(())
    }
}
