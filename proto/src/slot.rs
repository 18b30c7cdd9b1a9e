//! Key slots: the fixed hash space between keys and shards.
//!
//! Owns: `slot = xxh3_64(key bytes) mod 16384` and the even split of slots over shards.
//! Must not know: nodes or replicas; adding or removing a node moves no key.
//! Invariants: the hash is pinned by a golden test; every slot belongs to exactly one shard.

use crate::ids::{MessageId, ShardId, ThreadId, UserId};
use std::ops::Range;

/// Number of slots; part of the message id layout (14 bits).
pub const SLOT_COUNT: u16 = 16_384;

/// A key slot, `0..16384`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Slot(u16);

impl Slot {
    /// The slot of a key.
    #[must_use]
    pub fn of(key: &[u8]) -> Self {
        // The remainder is below 2^14.
        Self((xxhash_rust::xxh3::xxh3_64(key) % u64::from(SLOT_COUNT)) as u16)
    }

    /// The slot of a thread's data.
    #[must_use]
    pub fn of_thread(thread: ThreadId) -> Self {
        Self::of(&thread.0)
    }

    /// The slot of a user's data.
    #[must_use]
    pub fn of_user(user: &UserId) -> Self {
        Self::of(user.as_str().as_bytes())
    }

    /// The slot of the thread that a message belongs to.
    #[must_use]
    pub fn of_message(id: MessageId) -> Self {
        id.slot()
    }

    /// Takes the low 14 bits.
    #[must_use]
    pub fn from_low_bits(bits: u16) -> Self {
        Self(bits % SLOT_COUNT)
    }

    /// The slot's number.
    #[must_use]
    pub fn get(self) -> u16 {
        self.0
    }
}

/// The slots of each shard: contiguous ranges whose sizes differ by at most one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SlotMap {
    shards: u32,
}

impl SlotMap {
    /// A map for `shards` shards; `None` unless it is `1..=16384`.
    #[must_use]
    pub fn new(shards: u32) -> Option<Self> {
        (1..=u32::from(SLOT_COUNT)).contains(&shards).then_some(Self { shards })
    }

    /// The shard that owns a slot.
    #[must_use]
    pub fn shard_of(self, slot: Slot) -> ShardId {
        ShardId(u32::from(slot.0) * self.shards / u32::from(SLOT_COUNT))
    }

    /// The slots a shard owns; empty for a shard that does not exist.
    #[must_use]
    pub fn slots_of(self, shard: ShardId) -> Range<u16> {
        let first = |shard: u32| {
            let slots = u64::from(SLOT_COUNT);
            // At most 16384, since `shard <= shards`.
            (u64::from(shard) * slots).div_ceil(u64::from(self.shards)) as u16
        };
        if shard.0 >= self.shards { 0..0 } else { first(shard.0)..first(shard.0 + 1) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hash_is_pinned() {
        // Changing any of these orphans every stored key.
        assert_eq!(Slot::of(b"").get(), 5_314);
        assert_eq!(Slot::of(b"alice").get(), 5_808);
        assert_eq!(Slot::of(&[7; 16]).get(), 2_675);
    }

    #[test]
    fn every_slot_has_one_shard_and_ranges_are_even() {
        for shards in [1, 3, 16, 64, 1000, 16_384] {
            let map = SlotMap::new(shards).unwrap();
            let mut next = 0;
            for shard in 0..shards {
                let range = map.slots_of(ShardId(shard));
                assert_eq!(range.start, next, "shard {shard} of {shards}");
                let even = u32::from(SLOT_COUNT) / shards;
                assert!((even..=even + 1).contains(&u32::from(range.end - range.start)));
                for slot in range.clone() {
                    assert_eq!(map.shard_of(Slot(slot)), ShardId(shard));
                }
                next = range.end;
            }
            assert_eq!(next, SLOT_COUNT);
        }
        assert!(SlotMap::new(0).is_none() && SlotMap::new(16_385).is_none());
    }
}
