//! Where buckets are kept.
//!
//! Owns: the map from keys to buckets, in shards of a lock each, and whose bucket is forgotten when there are too many.
//! Must not know: what a key stands for.
//! Invariants: memory is bounded by the number of keys; an operation holds one of [`SHARDS`] locks, for as long as a look-up
//! and some arithmetic take. Where there are more keys than room, the one of [`SAMPLE`] in turn that would be full again
//! the soonest is forgotten, and starts full: whoever has used much is remembered longest, so a crowd of new keys only
//! pushes out those that hardly asked for anything.

use super::bucket::{Bucket, Quota, Verdict};
use messenger_proto::ids::Millis;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Locks: enough that threads hardly ever meet at one.
const SHARDS: usize = 64;
/// Keys looked at to find one to forget.
const SAMPLE: usize = 8;

/// A keyed hash of whom a bucket belongs to.
pub(super) type Key = u128;

/// The buckets.
#[derive(Debug)]
pub(super) struct Book {
    shards: Box<[Mutex<Shard>]>,
    keys_per_shard: usize,
}

#[derive(Debug, Default)]
struct Shard {
    /// Where a key's bucket lies.
    places: HashMap<Key, u32>,
    kept: Vec<Kept>,
    /// Where the search for one to forget goes on.
    hand: usize,
}

#[derive(Debug)]
struct Kept {
    key: Key,
    bucket: Bucket,
    full_at: u64,
}

impl Book {
    /// Room for about so many keys.
    pub(super) fn new(keys: u32) -> Self {
        let keys_per_shard = (keys as usize).div_ceil(SHARDS).max(1);
        Self { shards: (0..SHARDS).map(|_| Mutex::default()).collect(), keys_per_shard }
    }

    fn shard(&self, key: Key) -> MutexGuard<'_, Shard> {
        // The remainder is below the number of shards.
        let shard = &self.shards[(key % SHARDS as u128) as usize];
        shard.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes a token from a key's bucket.
    pub(super) fn take(&self, key: Key, quota: Quota, now: Millis) -> Verdict {
        let mut shard = self.shard(key);
        let kept = shard.find_or_make(key, self.keys_per_shard);
        let (bucket, verdict) = quota.take(kept.bucket, now);
        kept.bucket = bucket;
        kept.full_at = now.0.saturating_add(verdict.full_in_ms);
        verdict
    }

    /// What is in a key's bucket.
    pub(super) fn look(&self, key: Key, quota: Quota, now: Millis) -> Verdict {
        let shard = self.shard(key);
        let bucket = shard.find(key).map_or_else(Bucket::default, |kept| kept.bucket);
        quota.look(bucket, now)
    }

    /// Gives a token back.
    pub(super) fn give_back(&self, key: Key, quota: Quota) {
        let mut shard = self.shard(key);
        let place = shard.places.get(&key).copied();
        if let Some(kept) = place.and_then(|place| shard.kept.get_mut(place as usize)) {
            kept.bucket = quota.give_back(kept.bucket);
        }
    }

    #[cfg(test)]
    fn keys(&self) -> usize {
        self.shards.iter().map(|shard| shard.lock().unwrap().kept.len()).sum()
    }
}

impl Shard {
    fn find(&self, key: Key) -> Option<&Kept> {
        self.places.get(&key).and_then(|place| self.kept.get(*place as usize))
    }

    fn find_or_make(&mut self, key: Key, keys_max: usize) -> &mut Kept {
        let new = || Kept { key, bucket: Bucket::default(), full_at: 0 };
        let victim = if self.kept.len() < keys_max { None } else { self.victim(key) };
        let place = match (self.places.entry(key), victim) {
            (Entry::Occupied(entry), _) => *entry.get() as usize,
            (Entry::Vacant(entry), None) => {
                // At most as many as a configuration's u32 counts.
                entry.insert(self.kept.len() as u32);
                self.kept.push(new());
                self.kept.len() - 1
            }
            (Entry::Vacant(entry), Some(victim)) => {
                entry.insert(victim as u32);
                let forgotten = std::mem::replace(&mut self.kept[victim], new());
                self.places.remove(&forgotten.key);
                victim
            }
        };
        // A place in the map is one in the list.
        &mut self.kept[place]
    }

    /// Where the key to forget lies, if `key` is a new one.
    fn victim(&mut self, key: Key) -> Option<usize> {
        if self.places.contains_key(&key) {
            return None;
        }
        let (start, count) = (self.hand, self.kept.len());
        self.hand = (start + SAMPLE) % count;
        (start..start + SAMPLE).map(|place| place % count).min_by_key(|place| self.kept[*place].full_at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn keys_have_buckets_of_their_own() {
        let (book, quota) = (Book::new(1_000), Quota::new(2, 10).unwrap());
        let take = |key: Key| book.take(key, quota, Millis(7)).granted;
        assert_eq!([take(1), take(1), take(1), take(2)], [true, true, false, true]);
        assert_eq!(book.look(1, quota, Millis(7)).wait_ms, 5_000);
        book.give_back(1, quota);
        assert_eq!([take(1), take(1)], [true, false]);
        assert_eq!(book.look(3, quota, Millis(7)).remaining, 2, "nobody asked yet");
        book.give_back(3, quota);
    }

    #[test]
    fn a_crowd_of_new_keys_takes_bounded_room_and_frees_nobody() {
        let (book, quota) = (Book::new(1_024), Quota::new(10, 60).unwrap());
        let greedy: Vec<Key> = (0..64).collect();
        for key in &greedy {
            while book.take(*key, quota, Millis(0)).granted {}
        }
        for key in 1_000..50_000 {
            book.take(key, quota, Millis(1));
        }
        assert_eq!(book.keys(), 1_024);
        for key in greedy {
            assert!(!book.take(key, quota, Millis(2)).granted, "{key} is remembered");
        }
    }

    #[test]
    fn those_that_are_full_again_make_room() {
        let (book, quota) = (Book::new(64), Quota::new(1, 1).unwrap());
        for key in 0..64 {
            assert!(book.take(key, quota, Millis(0)).granted);
        }
        // One a shard: the newcomer is kept, whoever was there is forgotten.
        assert!(book.take(64, quota, Millis(5_000)).granted);
        assert!(!book.take(64, quota, Millis(5_000)).granted);
        assert_eq!(book.keys(), 64);
    }

    proptest! {
        #[test]
        fn with_room_for_all_it_is_as_if_each_had_one_alone(takes in proptest::collection::vec((0_u128..200, 0_u64..50), 1..300)) {
            let (book, quota) = (Book::new(64 * 200), Quota::new(3, 1).unwrap());
            let (mut model, mut now) = (HashMap::new(), 0);
            for (key, pause) in takes {
                now += pause;
                let bucket = model.entry(key).or_insert_with(Bucket::default);
                let (next, verdict) = quota.take(*bucket, Millis(now));
                *bucket = next;
                prop_assert_eq!(book.take(key, quota, Millis(now)), verdict);
            }
        }

        #[test]
        fn places_and_keys_agree(takes in proptest::collection::vec(0_u128..400, 1..400), room in 1_u32..300) {
            let (book, quota) = (Book::new(room), Quota::new(3, 1).unwrap());
            for key in takes {
                book.take(key, quota, Millis(0));
            }
            prop_assert!(book.keys() <= (room as usize).div_ceil(SHARDS) * SHARDS);
            for shard in &book.shards {
                let shard = shard.lock().unwrap();
                prop_assert_eq!(shard.places.len(), shard.kept.len());
                for (place, kept) in (0..).zip(&shard.kept) {
                    prop_assert_eq!(shard.places.get(&kept.key), Some(&place));
                }
            }
        }
    }
}
