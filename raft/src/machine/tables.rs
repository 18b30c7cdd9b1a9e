//! The rows a shard's state machine works on.
//!
//! Owns: the narrow view of storage that rules may use, and the overlay in which a pack's commands see each other.
//! Must not know: RocksDB, groups, files.
//! Invariants: keys are relative to the shard; an overlay changes nothing below it; equal writes in equal order give
//! equal digests.

use bytes::Bytes;
use std::collections::BTreeMap;
use std::ops::{Bound, ControlFlow};
use xxhash_rust::xxh3::xxh3_64_with_seed;

/// Storage failed; fatal to the node.
#[derive(Debug, thiserror::Error)]
#[error("state tables: {0}")]
pub struct TableError(pub String);

/// Which way a scan goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// Ascending keys.
    Forward,
    /// Descending keys.
    Backward,
}

/// What a scan calls for every row.
pub type Visit<'a> = &'a mut dyn FnMut(&[u8], &[u8]) -> ControlFlow<()>;

/// An ordered map of rows.
pub trait Tables {
    /// The row at `key`.
    ///
    /// # Errors
    /// [`TableError`] when storage fails.
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError>;

    /// Calls `visit` for the rows of `from..to` in the given direction until it breaks.
    ///
    /// # Errors
    /// [`TableError`] when storage fails.
    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: Visit<'_>) -> Result<(), TableError>;
}

/// Rows in memory.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MemoryTables(pub BTreeMap<Vec<u8>, Bytes>);

impl MemoryTables {
    /// Takes an overlay's writes.
    pub fn absorb(&mut self, writes: Writes) {
        for (key, value) in writes {
            match value {
                Some(value) => self.0.insert(key, value),
                None => self.0.remove(&key),
            };
        }
    }
}

impl Tables for MemoryTables {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        Ok(self.0.get(key).cloned())
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: Visit<'_>) -> Result<(), TableError> {
        if from >= to {
            return Ok(());
        }
        let mut range = self.0.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        loop {
            let row = match direction {
                Direction::Forward => range.next(),
                Direction::Backward => range.next_back(),
            };
            match row {
                Some((key, value)) if visit(key, value).is_continue() => {}
                _ => return Ok(()),
            }
        }
    }
}

/// Rows put (`Some`) or deleted (`None`), in key order.
pub type Writes = BTreeMap<Vec<u8>, Option<Bytes>>;

/// Writes not yet stored, over the rows that are.
#[derive(Debug)]
pub struct Overlay<'a, T: Tables> {
    base: &'a T,
    writes: Writes,
    digest: Option<u64>,
}

impl<'a, T: Tables> Overlay<'a, T> {
    /// An overlay without writes, and without a digest.
    pub fn new(base: &'a T) -> Self {
        Self { base, writes: Writes::new(), digest: None }
    }

    /// An overlay without writes, whose digest continues an earlier one.
    #[must_use]
    pub fn with_digest(base: &'a T, digest: u64) -> Self {
        Self { base, writes: Writes::new(), digest: Some(digest) }
    }

    /// A hash chained over all that was put, deleted and [marked](Self::mark), in order; 0 of an overlay without one.
    #[must_use]
    pub fn digest(&self) -> u64 {
        self.digest.unwrap_or(0)
    }

    fn chain(&mut self, link: impl FnOnce(u64) -> u64) {
        self.digest = self.digest.map(link);
    }

    /// Chains something that is no row into the digest.
    pub fn mark(&mut self, mark: &[u8]) {
        self.chain(|digest| xxh3_64_with_seed(mark, !digest));
    }

    /// Puts a row.
    pub fn put(&mut self, key: Vec<u8>, value: Vec<u8>) {
        self.put_bytes(key, value.into());
    }

    fn put_bytes(&mut self, key: Vec<u8>, value: Bytes) {
        self.chain(|digest| xxh3_64_with_seed(&value, xxh3_64_with_seed(&key, digest)));
        self.writes.insert(key, Some(value));
    }

    /// Deletes a row.
    pub fn delete(&mut self, key: Vec<u8>) {
        self.chain(|digest| !xxh3_64_with_seed(&key, digest));
        self.writes.insert(key, None);
    }

    /// Takes the writes of an overlay over this one.
    pub fn absorb(&mut self, writes: Writes) {
        for (key, value) in writes {
            match value {
                Some(value) => self.put_bytes(key, value),
                None => self.delete(key),
            }
        }
    }

    /// The writes so far.
    #[must_use]
    pub fn writes(&self) -> &Writes {
        &self.writes
    }

    /// Ends the overlay.
    #[must_use]
    pub fn into_writes(self) -> Writes {
        self.writes
    }
}

impl<T: Tables> Tables for Overlay<'_, T> {
    fn get(&self, key: &[u8]) -> Result<Option<Bytes>, TableError> {
        match self.writes.get(key) {
            Some(value) => Ok(value.clone()),
            None => self.base.get(key),
        }
    }

    fn scan(&self, from: &[u8], to: &[u8], direction: Direction, visit: Visit<'_>) -> Result<(), TableError> {
        if from >= to {
            return Ok(());
        }
        let own = self.writes.range::<[u8], _>((Bound::Included(from), Bound::Excluded(to)));
        let own = own.map(|(key, value)| (key.as_slice(), value.as_ref()));
        let base = |visit: Visit<'_>| self.base.scan(from, to, direction, visit);
        match direction {
            Direction::Forward => scan_over(own, direction, base, visit),
            Direction::Backward => scan_over(own.rev(), direction, base, visit),
        }
    }
}

/// A row put (`Some`) or deleted (`None`).
pub(crate) type Write<'a> = (&'a [u8], Option<&'a Bytes>);

/// Visits the rows that `base` scans as if `own` had been written over them; both come in `direction`.
pub(crate) fn scan_over<'a>(
    own: impl Iterator<Item = Write<'a>>,
    direction: Direction,
    base: impl FnOnce(Visit<'_>) -> Result<(), TableError>,
    visit: Visit<'_>,
) -> Result<(), TableError> {
    let mut own = own.peekable();
    let follows = |a: &[u8], b: &[u8]| match direction {
        Direction::Forward => a > b,
        Direction::Backward => a < b,
    };
    let mut stopped = false;
    base(&mut |key, value| {
        while let Some((own_key, own_value)) = own.next_if(|(own_key, _)| !follows(own_key, key)) {
            if let Some(own_value) = own_value
                && visit(own_key, own_value).is_break()
            {
                stopped = true;
                return ControlFlow::Break(());
            }
            if own_key == key {
                return ControlFlow::Continue(());
            }
        }
        let flow = visit(key, value);
        stopped = flow.is_break();
        flow
    })?;
    while let (false, Some((own_key, own_value))) = (stopped, own.next()) {
        if let Some(own_value) = own_value {
            stopped = visit(own_key, own_value).is_break();
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn rows(
        tables: &impl Tables,
        from: &[u8],
        to: &[u8],
        direction: Direction,
        limit: usize,
    ) -> Vec<(Vec<u8>, Vec<u8>)> {
        let mut rows = Vec::new();
        tables
            .scan(from, to, direction, &mut |key, value| {
                rows.push((key.to_vec(), value.to_vec()));
                if rows.len() < limit { ControlFlow::Continue(()) } else { ControlFlow::Break(()) }
            })
            .unwrap();
        rows
    }

    proptest! {
        #[test]
        fn an_overlay_reads_as_if_it_were_stored(
            base in proptest::collection::btree_map(proptest::collection::vec(0u8..4, 0..3), any::<u8>(), 0..20),
            writes in proptest::collection::vec((proptest::collection::vec(0u8..4, 0..3), any::<Option<u8>>()), 0..20),
            from in proptest::collection::vec(0u8..4, 0..3),
            to in proptest::collection::vec(0u8..4, 0..3),
            backward in any::<bool>(),
            limit in 1usize..8,
        ) {
            let mut stored = MemoryTables(base.into_iter().map(|(key, value)| (key, Bytes::from(vec![value]))).collect());
            let below = stored.clone();
            let mut overlay = Overlay::new(&below);
            for (key, value) in writes {
                match value {
                    Some(value) => overlay.put(key, vec![value]),
                    None => overlay.delete(key),
                }
            }
            let direction = if backward { Direction::Backward } else { Direction::Forward };
            let seen = rows(&overlay, &from, &to, direction, limit);
            let gets: Vec<_> = (0u8..4).map(|byte| overlay.get(&[byte]).unwrap()).collect();
            stored.absorb(overlay.into_writes());
            prop_assert_eq!(seen, rows(&stored, &from, &to, direction, limit));
            for (byte, got) in (0u8..4).zip(gets) {
                prop_assert_eq!(got, stored.get(&[byte]).unwrap());
            }
        }
    }
}
