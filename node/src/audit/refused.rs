//! How many refused writes are recorded one by one.
//!
//! Owns: the count of a second, by address, and what is said of those beyond.
//! Must not know: files, what was refused.
//! Invariants: of a second at most [`ADDRESS_MAX`] of an address and [`SECOND_MAX`] in all are recorded, and at most
//! [`TOLD_MAX`] lines say how many more there were: whoever has a node refuse its requests can't fill a disk with it. What
//! is remembered is of one second, and of [`ADDRESSES_MAX`] addresses.

use super::record::Note;
use std::collections::HashMap;
use std::net::IpAddr;

/// Refused writes of an address that are recorded within a second.
pub const ADDRESS_MAX: u32 = 10;
/// And of all addresses.
pub const SECOND_MAX: u32 = 100;
/// Lines that say how many more there were in a second.
const TOLD_MAX: usize = 8;
/// Addresses that are counted apart.
const ADDRESSES_MAX: usize = 1_024;

#[derive(Debug, Default)]
struct Count {
    kept: u32,
    beyond: u64,
}

/// The count of a second.
#[derive(Debug, Default)]
pub struct Sampler {
    second: u64,
    kept: u32,
    addresses: HashMap<Option<IpAddr>, Count>,
    others: u64,
}

impl Sampler {
    /// Whether a refused write is recorded; [`Sampler::turn`] comes first.
    pub fn admit(&mut self, address: Option<IpAddr>) -> bool {
        if self.addresses.len() >= ADDRESSES_MAX && !self.addresses.contains_key(&address) {
            self.others += 1;
            return false;
        }
        let count = self.addresses.entry(address).or_default();
        if count.kept < ADDRESS_MAX && self.kept < SECOND_MAX {
            count.kept += 1;
            self.kept += 1;
            return true;
        }
        count.beyond += 1;
        false
    }

    /// Some were not recorded, and it is not known from where.
    pub fn beyond(&mut self, count: u64) {
        self.others += count;
    }

    /// Ends a second when another has begun: what is to be said of it, the most first.
    pub fn turn(&mut self, second: u64) -> Vec<Note> {
        if second == self.second {
            return Vec::new();
        }
        let ended = std::mem::take(self);
        self.second = second;
        let mut beyond: Vec<_> =
            ended.addresses.into_iter().map(|(address, count)| (count.beyond, address)).filter(|it| it.0 > 0).collect();
        beyond.sort_unstable_by(|a, b| b.cmp(a));
        let rest = ended.others + beyond.iter().skip(TOLD_MAX - 1).map(|it| it.0).sum::<u64>();
        let named = beyond.into_iter().take(TOLD_MAX - 1);
        let mut notes: Vec<Note> = named.map(|(count, address)| Note::Refused { address, count }).collect();
        if rest > 0 {
            notes.push(Note::Refused { address: None, count: rest });
        }
        notes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn address(n: u32) -> IpAddr {
        IpAddr::from(n.to_be_bytes())
    }

    fn count(notes: &[Note]) -> u64 {
        notes.iter().map(|note| if let Note::Refused { count, .. } = note { *count } else { 0 }).sum()
    }

    #[test]
    fn an_address_beyond_its_share_leaves_others_theirs() {
        let mut sampler = Sampler::default();
        assert!(sampler.turn(1).is_empty());
        let kept = (0..1_000).filter(|_| sampler.admit(Some(address(1)))).count();
        assert_eq!(kept, ADDRESS_MAX as usize);
        assert!(sampler.admit(Some(address(2))));
        assert!(sampler.turn(1).is_empty(), "the second goes on");
        let notes = sampler.turn(2);
        assert!(
            matches!(notes.as_slice(), [Note::Refused { address, count: 990 }] if *address == Some(self::address(1)))
        );
        assert!(sampler.admit(Some(address(1))), "a second of its own");
    }

    proptest! {
        #[test]
        fn each_is_recorded_or_counted_and_both_are_bounded(from in prop::collection::vec(0_u32..3_000, 0..5_000)) {
            let mut sampler = Sampler::default();
            sampler.turn(1);
            let kept = from.iter().filter(|from| sampler.admit(Some(address(**from)))).count();
            let notes = sampler.turn(2);
            prop_assert!(kept <= SECOND_MAX as usize && notes.len() <= TOLD_MAX);
            prop_assert_eq!(kept as u64 + count(&notes), from.len() as u64);
        }
    }
}
