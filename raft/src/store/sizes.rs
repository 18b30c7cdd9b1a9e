//! How many bytes a group's log holds.
//!
//! Owns: the running total of what was appended, and where in the log it passed each mebibyte.
//! Must not know: entries, the database.
//! Invariants: the total counts an entry until a mark at or after it is purged, so it is at most a mebibyte too high,
//! and what a truncation took; marks are ordered by index.

use std::collections::VecDeque;

/// Bytes between two marks.
const STEP: u64 = 1 << 20;

/// A log's size.
#[derive(Debug, Default)]
pub(crate) struct Sizes {
    /// Bytes ever appended.
    total: u64,
    /// Bytes purged.
    gone: u64,
    marks: VecDeque<Mark>,
}

/// With the entry at `index`, `total` bytes had been appended.
#[derive(Debug, Clone, Copy)]
struct Mark {
    index: u64,
    total: u64,
}

impl Sizes {
    /// A log that was found, of about so many bytes up to an entry.
    pub(crate) fn found(last: u64, bytes: u64) -> Self {
        Self { total: bytes, gone: 0, marks: VecDeque::from([Mark { index: last, total: bytes }]) }
    }

    pub(crate) fn appended(&mut self, index: u64, bytes: usize) {
        self.total += bytes as u64;
        if self.total - self.marks.back().map_or(self.gone, |mark| mark.total) >= STEP {
            self.marks.push_back(Mark { index, total: self.total });
        }
    }

    pub(crate) fn truncated(&mut self, end: u64) {
        while self.marks.pop_back_if(|mark| mark.index >= end).is_some() {}
    }

    pub(crate) fn purged(&mut self, upto: u64) {
        while let Some(mark) = self.marks.pop_front_if(|mark| mark.index <= upto) {
            self.gone = mark.total;
        }
    }

    /// Up to where the log is to be purged so that it holds no more than `keep` bytes; `None` while it does not.
    pub(crate) fn surplus(&self, keep: u64) -> Option<u64> {
        if self.total - self.gone <= keep {
            return None;
        }
        let beyond = self.marks.iter().take_while(|mark| self.total - mark.total >= keep / 2);
        beyond.last().map(|mark| mark.index)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEEP: u64 = 4 * STEP;

    fn appended(entries: u64) -> Sizes {
        let mut sizes = Sizes::default();
        for index in 0..entries {
            sizes.appended(index, STEP as usize / 4);
        }
        sizes
    }

    #[test]
    fn a_log_within_its_bound_stays() {
        assert_eq!(Sizes::default().surplus(KEEP), None);
        assert_eq!(appended(16).surplus(KEEP), None, "four mebibytes");
    }

    #[test]
    fn what_is_beyond_goes_to_half_the_bound() {
        let mut sizes = appended(17);
        let upto = sizes.surplus(KEEP).expect("it holds more");
        assert_eq!(upto, 7, "two mebibytes are left behind the eighth entry");
        sizes.purged(upto);
        assert_eq!(sizes.surplus(KEEP), None);
    }

    #[test]
    fn a_truncated_end_is_not_purged() {
        let mut sizes = appended(40);
        sizes.truncated(6);
        assert_eq!(sizes.surplus(KEEP), Some(3), "the last mark before the end");
        sizes.purged(3);
        for index in 6..12 {
            sizes.appended(index, STEP as usize);
        }
        assert!(sizes.surplus(KEEP).is_some_and(|upto| upto < 12));
    }

    #[test]
    fn what_was_found_goes_at_once_when_enough_follows() {
        let mut sizes = Sizes::found(99, 2 * KEEP);
        assert_eq!(sizes.surplus(KEEP), None, "nothing follows");
        for index in 100..102 {
            sizes.appended(index, STEP as usize);
        }
        assert_eq!(sizes.surplus(KEEP), Some(99));
    }
}
