//! Acknowledgements on their way to one shard.
//!
//! Owns: what waits, what it is joined with, and when it is due.
//! Must not know: tokio, the router, sockets.
//! Invariants: one entry per thread and device, whatever was acknowledged in between; a delivery is due soon, a mere
//! position later; entries are bounded, and what is turned away is only told to the device again.

use messenger_proto::command::Acknowledgement;
use messenger_proto::ids::{DeviceId, Position, Seq, ThreadId, UserId};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a delivery waits for company.
pub(super) const DELIVERY_LINGER: Duration = Duration::from_millis(50);
/// How long a position waits, unless a delivery of its device takes it along.
pub(super) const POSITION_LINGER: Duration = Duration::from_secs(4);
/// Entries per shard at most.
pub(super) const ENTRIES_MAX: usize = 65_536;
/// Entries of one command at most: some 200 KiB.
pub(super) const BATCH_MAX: usize = 2_048;

/// A device in a thread.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(super) struct Key {
    /// The thread.
    pub thread: ThreadId,
    /// The device's user.
    pub user: UserId,
    /// The device.
    pub device: DeviceId,
}

#[derive(Debug, Clone, Copy)]
struct Entry {
    delivered: Seq,
    position: Option<Position>,
    due: Instant,
}

/// What waits for one shard.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<Key, Entry>,
    /// No entry is due before; `None` when there is none.
    next: Option<Instant>,
}

impl Book {
    /// Notes what a device took. Whether there was room.
    pub(super) fn note(&mut self, key: Key, delivered: Seq, position: Option<Position>, now: Instant) -> bool {
        let linger = if delivered > Seq(0) { DELIVERY_LINGER } else { POSITION_LINGER };
        self.merge(key, Entry { delivered, position, due: now + linger })
    }

    fn merge(&mut self, key: Key, new: Entry) -> bool {
        let full = self.entries.len() >= ENTRIES_MAX;
        match self.entries.entry(key) {
            std::collections::hash_map::Entry::Vacant(_) if full => return false,
            std::collections::hash_map::Entry::Vacant(vacant) => drop(vacant.insert(new)),
            std::collections::hash_map::Entry::Occupied(mut occupied) => {
                let entry = occupied.get_mut();
                entry.delivered = entry.delivered.max(new.delivered);
                entry.position = match (entry.position, new.position) {
                    (Some(old), Some(new)) => Some(if new.rev > old.rev { new } else { old }),
                    (old, new) => old.or(new),
                };
                entry.due = entry.due.min(new.due);
            }
        }
        self.next = Some(self.next.map_or(new.due, |next| next.min(new.due)));
        true
    }

    /// Makes an entry due: its device is leaving.
    pub(super) fn hasten(&mut self, key: &Key, now: Instant) {
        if let Some(entry) = self.entries.get_mut(key) {
            entry.due = entry.due.min(now);
            self.next = Some(self.next.map_or(entry.due, |next| next.min(entry.due)));
        }
    }

    /// Makes every entry due.
    pub(super) fn hasten_all(&mut self, now: Instant) {
        for entry in self.entries.values_mut() {
            entry.due = entry.due.min(now);
        }
        self.next = self.entries.values().map(|entry| entry.due).min();
    }

    /// When something is due next.
    #[must_use]
    pub(super) fn due(&self) -> Option<Instant> {
        self.next
    }

    /// Takes what is due, up to [`BATCH_MAX`].
    pub(super) fn take(&mut self, now: Instant) -> Vec<Acknowledgement> {
        if self.next.is_none_or(|next| next > now) {
            return Vec::new();
        }
        let mut left = BATCH_MAX;
        let taken = self.entries.extract_if(|_, entry| {
            let take = left > 0 && entry.due <= now;
            left -= usize::from(take);
            take
        });
        let taken = taken.map(|(Key { thread, user, device }, entry)| {
            let Entry { delivered, position, .. } = entry;
            Acknowledgement { thread, user, device, delivered, position }
        });
        let batch = taken.collect();
        self.next = self.entries.values().map(|entry| entry.due).min();
        if self.entries.is_empty() {
            self.entries.shrink_to(64);
        }
        batch
    }

    /// Gives back what could not be written, to be tried again after a while.
    pub(super) fn give_back(&mut self, batch: Vec<Acknowledgement>, again: Instant) {
        for item in batch {
            let Acknowledgement { thread, user, device, delivered, position } = item;
            self.merge(Key { thread, user, device }, Entry { delivered, position, due: again });
        }
    }

    /// Whether nothing waits.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::Rev;

    fn key(n: u8) -> Key {
        let (user, device) = (UserId::new("u").unwrap(), DeviceId::new("d").unwrap());
        Key { thread: ThreadId([n; 16]), user, device }
    }

    #[allow(clippy::unnecessary_wraps)] // as it is used
    fn at(n: u64) -> Option<Position> {
        Some(Position { seq: Seq(n), rev: Rev(n) })
    }

    #[test]
    fn deliveries_are_joined_and_soon_due() {
        let (mut book, now) = (Book::default(), Instant::now());
        assert_eq!(book.due(), None);
        assert!(book.note(key(1), Seq(3), at(3), now));
        assert!(book.note(key(1), Seq(5), at(5), now + DELIVERY_LINGER / 2));
        assert!(book.note(key(1), Seq(4), at(4), now + DELIVERY_LINGER / 2));
        assert_eq!(book.due(), Some(now + DELIVERY_LINGER));
        assert!(book.take(now).is_empty());
        let batch = book.take(now + DELIVERY_LINGER);
        assert_eq!(batch.len(), 1);
        assert_eq!((batch[0].delivered, batch[0].position), (Seq(5), at(5)));
        assert_eq!((book.due(), book.is_empty()), (None, true));
    }

    #[test]
    fn a_position_waits_until_a_delivery_or_the_end_takes_it_along() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.note(key(1), Seq(0), at(1), now);
        book.note(key(2), Seq(0), at(2), now);
        book.note(key(3), Seq(0), at(3), now);
        assert!(book.take(now + DELIVERY_LINGER).is_empty());
        book.note(key(1), Seq(4), None, now);
        book.hasten(&key(2), now);
        let mut batch = book.take(now + DELIVERY_LINGER);
        batch.sort_by_key(|item| item.thread);
        let seen: Vec<_> = batch.iter().map(|item| (item.delivered, item.position)).collect();
        assert_eq!(seen, [(Seq(4), at(1)), (Seq(0), at(2))]);
        assert_eq!(book.due(), Some(now + POSITION_LINGER));
        assert_eq!(book.take(now + POSITION_LINGER).len(), 1);
    }

    #[test]
    fn what_failed_comes_again_joined_with_what_is_newer() {
        let (mut book, now) = (Book::default(), Instant::now());
        book.note(key(1), Seq(3), at(3), now);
        let batch = book.take(now + DELIVERY_LINGER);
        book.note(key(1), Seq(0), at(9), now);
        book.give_back(batch, now + Duration::from_millis(200));
        assert_eq!(book.due(), Some(now + Duration::from_millis(200)));
        let batch = book.take(now + Duration::from_millis(200));
        assert_eq!((batch[0].delivered, batch[0].position), (Seq(3), at(9)));
    }

    #[test]
    fn batches_and_the_book_are_bounded() {
        let (mut book, now) = (Book::default(), Instant::now());
        let keyed = |n: usize| {
            let mut thread = [0; 16];
            thread[..8].copy_from_slice(&n.to_be_bytes());
            Key { thread: ThreadId(thread), ..key(0) }
        };
        for n in 0..ENTRIES_MAX {
            assert!(book.note(keyed(n), Seq(1), None, now));
        }
        assert!(!book.note(keyed(ENTRIES_MAX), Seq(1), None, now));
        assert!(book.note(keyed(0), Seq(2), None, now), "what is there already is joined");
        let later = now + DELIVERY_LINGER;
        let mut total = 0;
        while !book.is_empty() {
            let batch = book.take(later);
            assert!((1..=BATCH_MAX).contains(&batch.len()));
            total += batch.len();
        }
        assert_eq!(total, ENTRIES_MAX);
    }
}
