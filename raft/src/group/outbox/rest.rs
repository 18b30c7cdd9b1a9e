//! How often a shard is tried that does not answer.
//!
//! Owns: for each shard that failed, when it may be tried again.
//! Must not know: rows, how a shard is reached.
//! Invariants: the pause doubles with every try that fails, up to [`PAUSE_MAX`], and one answer ends it; failures of
//! tries that were under way together count as one; a shard that rests is tried by one row at a time.

use messenger_proto::ids::ShardId;
use std::collections::{HashMap, HashSet};
use std::time::Duration;
use tokio::time::Instant;

/// Pause after a first failure.
pub(super) const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Longest pause between two tries.
pub(super) const PAUSE_MAX: Duration = Duration::from_secs(1);

/// Where a row is to go; `None` while nobody knows.
pub(super) type Target = Option<ShardId>;

/// Whether a row may go now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Turn {
    /// Its target answers, as far as is known.
    Go,
    /// Its target has rested; this row may try it, alone.
    Probe,
    /// Its target rests.
    Wait,
}

#[derive(Debug)]
struct Rest {
    until: Instant,
    pause: Duration,
    probing: bool,
}

/// The shards that do not answer; as many as the cluster has at most.
#[derive(Debug, Default)]
pub(super) struct Rests(HashMap<Target, Rest>);

impl Rests {
    /// Whether a row for `target` may go.
    pub(super) fn turn(&self, target: Target, now: Instant) -> Turn {
        match self.0.get(&target) {
            None => Turn::Go,
            Some(rest) if rest.probing || rest.until > now => Turn::Wait,
            Some(_) => Turn::Probe,
        }
    }

    /// A row goes to a target that has rested.
    pub(super) fn probing(&mut self, target: Target) {
        if let Some(rest) = self.0.get_mut(&target) {
            rest.probing = true;
        }
    }

    /// A row did not arrive; `probe` tells whether it was the only one under way.
    pub(super) fn failed(&mut self, target: Target, probe: bool, now: Instant) {
        let first = Rest { until: now + PAUSE_MIN, pause: PAUSE_MIN, probing: false };
        let rest = self.0.entry(target).or_insert(first);
        if probe {
            rest.pause = (rest.pause * 2).min(PAUSE_MAX);
            rest.until = now + rest.pause;
            rest.probing = false;
        }
    }

    /// A row arrived: the target answers.
    pub(super) fn arrived(&mut self, target: Target) {
        self.0.remove(&target);
    }

    /// Forgets targets that no row is for any more.
    pub(super) fn keep(&mut self, wanted: &HashSet<Target>) {
        self.0.retain(|target, rest| rest.probing || wanted.contains(target));
    }

    /// When the next target may be tried again that is not being tried.
    pub(super) fn next(&self) -> Option<Instant> {
        self.0.values().filter(|rest| !rest.probing).map(|rest| rest.until).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEAD: Target = Some(ShardId(1));
    const ALIVE: Target = Some(ShardId(2));

    #[test]
    fn a_target_that_fails_is_tried_ever_more_rarely_and_holds_back_no_other() {
        let (mut rests, mut now) = (Rests::default(), Instant::now());
        let begun = now;
        assert_eq!(rests.turn(DEAD, now), Turn::Go);
        rests.failed(DEAD, false, now);
        let mut pauses = Vec::new();
        for _ in 0..8 {
            let until = rests.next().unwrap();
            assert_eq!(rests.turn(DEAD, now), Turn::Wait);
            assert_eq!(rests.turn(ALIVE, now), Turn::Go);
            pauses.push((until - now).as_millis());
            now = until;
            assert_eq!(rests.turn(DEAD, now), Turn::Probe);
            rests.probing(DEAD);
            assert_eq!((rests.turn(DEAD, now), rests.next()), (Turn::Wait, None), "one at a time");
            rests.failed(DEAD, true, now);
        }
        assert_eq!(pauses, [20, 40, 80, 160, 320, 640, 1_000, 1_000]);
        assert!(now > begun);
        rests.arrived(DEAD);
        assert_eq!((rests.turn(DEAD, now), rests.next()), (Turn::Go, None));
    }

    #[test]
    fn a_target_without_rows_is_forgotten_unless_one_is_under_way() {
        let (mut rests, now) = (Rests::default(), Instant::now());
        rests.failed(DEAD, false, now);
        rests.failed(ALIVE, false, now);
        rests.probing(ALIVE);
        rests.keep(&HashSet::new());
        assert_eq!((rests.turn(DEAD, now), rests.turn(ALIVE, now)), (Turn::Go, Turn::Wait));
        rests.failed(DEAD, false, now);
        rests.keep(&HashSet::from([DEAD]));
        assert_eq!(rests.turn(DEAD, now), Turn::Wait);
    }

    #[test]
    fn what_fails_together_fails_once() {
        let (mut rests, now) = (Rests::default(), Instant::now());
        for _ in 0..32 {
            rests.failed(DEAD, false, now);
        }
        assert_eq!(rests.next(), Some(now + PAUSE_MIN));
        rests.probing(DEAD);
        rests.failed(DEAD, false, now);
        assert_eq!(rests.next(), None, "a straggler does not end the probe");
    }
}
