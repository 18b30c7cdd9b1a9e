//! How often somebody's typing is passed on.
//!
//! Owns: the rule of the interval: a start passes once per interval, and a stop at once, if a start passed before it.
//! Must not know: who types where; keys are the caller's.
//! Invariants: whatever comes, one start and one stop of a key pass per interval; at most `capacity` keys are remembered,
//! and of more than that at once, nothing passes.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// After this a start has run out at everyone who was shown it, and its stop is of no use.
const OVER: Duration = Duration::from_secs(6);

#[derive(Debug)]
struct Passed {
    since: Instant,
    stopped: bool,
}

/// What passed of late.
#[derive(Debug)]
pub(in crate::realtime) struct Gate<K> {
    interval: Duration,
    capacity: usize,
    passed: BTreeMap<K, Passed>,
}

impl<K: Ord> Gate<K> {
    /// A gate that passes a start per key and interval.
    pub(in crate::realtime) fn new(interval: Duration, capacity: usize) -> Self {
        Self { interval, capacity, passed: BTreeMap::new() }
    }

    /// Whether a start, or a stop, passes now.
    pub(in crate::realtime) fn passes(&mut self, key: K, stop: bool, now: Instant) -> bool {
        if let Some(passed) = self.passed.get_mut(&key) {
            let age = now.saturating_duration_since(passed.since);
            if stop {
                return age < OVER && !std::mem::replace(&mut passed.stopped, true);
            }
            let passes = age >= self.interval;
            if passes {
                *passed = Passed { since: now, stopped: false };
            }
            return passes;
        }
        if stop {
            return false;
        }
        if self.passed.len() >= self.capacity {
            self.passed.retain(|_, passed| now.saturating_duration_since(passed.since) < OVER);
        }
        let passes = self.passed.len() < self.capacity;
        if passes {
            self.passed.insert(key, Passed { since: now, stopped: false });
        }
        passes
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const INTERVAL: Duration = Duration::from_secs(3);

    #[test]
    fn a_start_passes_once_an_interval_and_its_stop_at_once() {
        let (mut gate, now) = (Gate::new(INTERVAL, 8), Instant::now());
        let mut at = |millis, key, stop| gate.passes(key, stop, now + Duration::from_millis(millis));
        assert!(!at(0, 1, true), "nothing to stop");
        assert!(at(0, 1, false) && at(10, 2, false));
        assert!(!at(2_999, 1, false));
        assert!(at(3_000, 1, false));
        assert!(at(3_100, 1, true) && !at(3_200, 1, true));
        assert!(!at(3_300, 1, false), "a stop opens no gate");
        assert!(at(6_000, 1, false));
        assert!(!at(12_000, 1, true), "it has run out by itself");
    }

    #[test]
    fn it_remembers_a_bounded_number_of_keys_and_forgets_old_ones() {
        let (mut gate, now) = (Gate::new(INTERVAL, 2), Instant::now());
        assert!(gate.passes(1, false, now) && gate.passes(2, false, now) && !gate.passes(3, false, now));
        assert!(gate.passes(3, false, now + OVER));
        assert_eq!(gate.passed.len(), 1);
    }

    proptest! {
        #[test]
        fn of_any_sequence_little_passes(steps in prop::collection::vec((0_u64..1_500, 0_u8..3, any::<bool>()), 1..80)) {
            let (mut gate, mut now) = (Gate::new(INTERVAL, 8), Instant::now());
            let mut starts: BTreeMap<u8, Instant> = BTreeMap::new();
            let mut stopped: BTreeMap<u8, bool> = BTreeMap::new();
            for (pause, key, stop) in steps {
                now += Duration::from_millis(pause);
                if !gate.passes(key, stop, now) {
                    continue;
                }
                if stop {
                    prop_assert_eq!(stopped.insert(key, true), Some(false));
                } else {
                    prop_assert!(starts.insert(key, now).is_none_or(|last| now - last >= INTERVAL));
                    stopped.insert(key, false);
                }
            }
        }
    }
}
