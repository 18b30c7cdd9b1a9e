//! Numbers that are never stored again.
//!
//! Owns: a set of numbers as ranges, and what becomes of it when there are too many.
//! Must not know: what the numbers are of.
//! Invariants: ranges are in order and apart from each other; a number that was added stays for ever. There are at most
//! [`SPENT_RANGES_MAX`]: beyond it, the two that are closest become one, with the numbers between them, which are so
//! passed over when they are published later. Whoever counts up never has more than a few.

use crate::machine::rows::device::SpentRange;
use messenger_proto::ids::KeyId;
use messenger_proto::limits::SPENT_RANGES_MAX;

/// Whether a number is in the set.
pub(crate) fn contains(ranges: &[SpentRange], id: KeyId) -> bool {
    let after = ranges.partition_point(|range| range.first <= id);
    after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|range| id <= range.last)
}

/// Adds a number.
pub(crate) fn add(ranges: &mut Vec<SpentRange>, id: KeyId) {
    if contains(ranges, id) {
        return;
    }
    let at = ranges.partition_point(|range| range.first <= id);
    ranges.insert(at, SpentRange { first: id, last: id });
    join_if(ranges, at, |gap| gap == 0);
    if let Some(before) = at.checked_sub(1) {
        join_if(ranges, before, |gap| gap == 0);
    }
    if ranges.len() > SPENT_RANGES_MAX {
        let closest = (0..ranges.len().saturating_sub(1)).min_by_key(|at| gap_after(ranges, *at));
        if let Some(closest) = closest {
            join_if(ranges, closest, |_| true);
        }
    }
}

/// Numbers between a range and the next one.
fn gap_after(ranges: &[SpentRange], at: usize) -> Option<u64> {
    let (range, next) = (ranges.get(at)?, ranges.get(at + 1)?);
    Some(next.first.0.saturating_sub(range.last.0).saturating_sub(1))
}

fn join_if(ranges: &mut Vec<SpentRange>, at: usize, joins: impl Fn(u64) -> bool) {
    if gap_after(ranges, at).is_some_and(joins) {
        let next = ranges.remove(at + 1);
        if let Some(range) = ranges.get_mut(at) {
            range.last = next.last;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeSet;

    fn number() -> impl Strategy<Value = u64> {
        prop_oneof![4 => 0u64..40, 1 => any::<u64>(), 1 => Just(u64::MAX)]
    }

    proptest! {
        #[test]
        fn what_was_added_stays_and_few_others_are_there(ids in proptest::collection::vec(number(), 0..400)) {
            let (mut ranges, mut model) = (Vec::new(), BTreeSet::new());
            for id in ids {
                add(&mut ranges, KeyId(id));
                model.insert(id);
                prop_assert!(ranges.len() <= SPENT_RANGES_MAX);
            }
            for pair in ranges.windows(2) {
                prop_assert!(pair[0].last.0 + 1 < pair[1].first.0, "{pair:?}");
            }
            prop_assert!(model.iter().all(|id| contains(&ranges, KeyId(*id))));
            if model.len() <= SPENT_RANGES_MAX {
                let exact: u128 = ranges.iter().map(|range| u128::from(range.last.0 - range.first.0) + 1).sum();
                prop_assert_eq!(exact, model.len() as u128);
            }
        }
    }

    #[test]
    fn beyond_the_bound_the_closest_are_joined() {
        let mut ranges = Vec::new();
        for n in 0..SPENT_RANGES_MAX as u64 {
            add(&mut ranges, KeyId(n * 100));
        }
        add(&mut ranges, KeyId(550));
        assert_eq!(ranges.len(), SPENT_RANGES_MAX);
        assert!(contains(&ranges, KeyId(520)) && !contains(&ranges, KeyId(570)) && contains(&ranges, KeyId(550)));
    }
}
