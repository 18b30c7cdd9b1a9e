//! Rows that were read lately, kept in memory for the one who writes them.
//!
//! Owns: a bounded cache in front of the database for a group's applying task.
//! Must not know: what rows mean.
//! Invariants: a row here is what the database holds, in the generation it is kept for; only rows that exist are kept;
//! a group's are bounded by count, some 2 MiB at the very most, and a large row is not kept at all.

use super::keys::Generation;
use bytes::Bytes;
use lru::LruCache;
use std::num::NonZeroUsize;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Rows per group. Those that every command of a busy thread reads are its counters and its sender's membership.
const ROWS: NonZeroUsize = NonZeroUsize::new(2_048).unwrap();
/// Larger rows are read from the database each time.
const ROW_BYTES: usize = 1_024;

/// A group's hot rows.
pub(crate) struct HotRows(Mutex<Kept>);

struct Kept {
    generation: Generation,
    rows: LruCache<Vec<u8>, Bytes>,
}

impl HotRows {
    pub(crate) fn new() -> Self {
        // Grows with use: an idle group keeps nothing.
        let rows = LruCache::unbounded();
        Self(Mutex::new(Kept { generation: Generation::FIRST, rows }))
    }

    /// The rows kept for a generation; those of another one are gone.
    fn of(&self, generation: Generation) -> MutexGuard<'_, Kept> {
        // A panic in here leaves at worst a row that is not kept.
        let mut kept = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.generation != generation {
            kept.rows.clear();
            kept.generation = generation;
        }
        kept
    }

    pub(crate) fn get(&self, generation: Generation, key: &[u8]) -> Option<Bytes> {
        self.of(generation).rows.get(key).cloned()
    }

    /// Keeps a row that was just read.
    pub(crate) fn keep(&self, generation: Generation, key: &[u8], row: &Bytes) {
        if row.len() > ROW_BYTES {
            return;
        }
        let rows = &mut self.of(generation).rows;
        rows.put(key.to_vec(), row.clone());
        while rows.len() > ROWS.get() {
            rows.pop_lru();
        }
    }

    /// Takes note of rows that were written; those that nobody read lately are not kept.
    pub(crate) fn written<'w>(
        &self,
        generation: Generation,
        writes: impl Iterator<Item = (&'w [u8], Option<&'w Bytes>)>,
    ) {
        let rows = &mut self.of(generation).rows;
        for (key, value) in writes {
            match (rows.peek_mut(key), value) {
                (None, _) => {}
                (Some(row), Some(value)) if value.len() <= ROW_BYTES => *row = value.clone(),
                (Some(_), _) => drop(rows.pop(key)),
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(text: &'static str) -> Bytes {
        Bytes::from_static(text.as_bytes())
    }

    #[test]
    fn what_was_read_follows_what_is_written() {
        let (hot, at) = (HotRows::new(), Generation::FIRST);
        hot.keep(at, b"a", &row("1"));
        hot.keep(at, b"b", &row("1"));
        let two = row("2");
        hot.written(at, [(&b"a"[..], Some(&two)), (b"b", None), (b"c", Some(&two))].into_iter());
        assert_eq!(hot.get(at, b"a"), Some(two));
        assert_eq!(hot.get(at, b"b"), None);
        assert_eq!(hot.get(at, b"c"), None, "written, and not read");
    }

    #[test]
    fn a_row_that_grew_too_large_is_forgotten() {
        let (hot, at) = (HotRows::new(), Generation::FIRST);
        hot.keep(at, b"a", &row("1"));
        let large = Bytes::from(vec![0; ROW_BYTES + 1]);
        hot.written(at, [(&b"a"[..], Some(&large))].into_iter());
        hot.keep(at, b"b", &large);
        assert_eq!((hot.get(at, b"a"), hot.get(at, b"b")), (None, None));
    }

    #[test]
    fn another_generation_has_other_rows() {
        let hot = HotRows::new();
        hot.keep(Generation::FIRST, b"a", &row("1"));
        assert_eq!(hot.get(Generation(7), b"a"), None);
        assert_eq!(hot.get(Generation::FIRST, b"a"), None, "and never comes back");
    }

    #[test]
    fn the_ones_read_longest_ago_go_first() {
        let (hot, at) = (HotRows::new(), Generation::FIRST);
        for number in 0..=ROWS.get() as u64 {
            hot.keep(at, &number.to_be_bytes(), &row("1"));
            hot.get(at, &0_u64.to_be_bytes());
        }
        assert!(hot.get(at, &0_u64.to_be_bytes()).is_some());
        assert_eq!(hot.get(at, &1_u64.to_be_bytes()), None);
    }
}
