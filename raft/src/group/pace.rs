//! When a group's next pack may leave.
//!
//! Most of a small pack's cost is that it is one more, so packs should be few. While one is under way the next gathers;
//! and once it is answered, callers that send one command after another are all about to send again. Leaving at once
//! would split them in two halves that take turns for good; a moment's patience brings them together. A caller on its
//! own, and whoever comes to an idle group, never waits.
//!
//! Owns: the rule.
//! Must not know: what is packed, how time passes.
//! Invariants: no command waits longer than [`PATIENCE`] while nothing is under way.

use std::time::{Duration, Instant};

/// Packs of one group between proposal and apply, as long as what waits is large. What is less waits for the one under
/// way.
const IN_FLIGHT: usize = 3;
/// Bytes of commands that are worth a pack of their own while another is under way.
const WORTH_A_PACK: usize = 64 * 1024;
/// How long commands may wait for others once the pack before them was answered.
const PATIENCE: Duration = Duration::from_millis(2);

/// What the next pack would be.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Gathering {
    pub(crate) commands: usize,
    pub(crate) bytes: usize,
}

/// What to do with it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Advice {
    /// It leaves.
    Go,
    /// It leaves then, or when more has come.
    WaitUntil(Instant),
    /// It waits for what is under way, or to be more.
    Wait,
}

/// The state of the rule.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    in_flight: usize,
    /// Commands in packs since nothing was under way.
    left: usize,
    /// Commands to wait for, and how long.
    expected: Option<(usize, Instant)>,
}

impl Pace {
    /// A pack of so many commands has left.
    pub(crate) fn left(&mut self, commands: usize) {
        self.in_flight += 1;
        self.left += commands;
    }

    /// A pack was answered, while so many commands wait.
    pub(crate) fn answered(&mut self, waiting: usize, now: Instant) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if self.in_flight == 0 {
            let answered = std::mem::take(&mut self.left);
            self.expected = Some((answered + waiting, now + PATIENCE));
        }
    }

    pub(crate) fn advise(&self, next: Gathering, now: Instant) -> Advice {
        match (self.in_flight, self.expected) {
            _ if next.commands == 0 => Advice::Wait,
            (0, Some((expected, until))) if next.bytes < WORTH_A_PACK && next.commands < expected && now < until => {
                Advice::WaitUntil(until)
            }
            (0, _) => Advice::Go,
            (1..IN_FLIGHT, _) if next.bytes >= WORTH_A_PACK => Advice::Go,
            _ => Advice::Wait,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(commands: usize, bytes: usize) -> Gathering {
        Gathering { commands, bytes }
    }

    #[test]
    fn whoever_comes_to_an_idle_group_never_waits() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        assert_eq!(pace.advise(of(0, 0), now), Advice::Wait);
        assert_eq!(pace.advise(of(1, 1), now), Advice::Go);
        pace.left(9);
        pace.answered(0, now);
        assert_eq!(pace.advise(of(1, 1), now + PATIENCE), Advice::Go);
    }

    #[test]
    fn a_caller_on_its_own_never_waits() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        for _ in 0..3 {
            assert_eq!(pace.advise(of(1, 1), now), Advice::Go);
            pace.left(1);
            pace.answered(0, now);
        }
    }

    #[test]
    fn those_answered_are_waited_for_with_those_behind_them() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.left(4);
        pace.answered(3, now);
        assert_eq!(pace.advise(of(3, 1), now), Advice::WaitUntil(now + PATIENCE));
        assert_eq!(pace.advise(of(6, 1), now), Advice::WaitUntil(now + PATIENCE));
        assert_eq!(pace.advise(of(7, 1), now), Advice::Go);
        assert_eq!(pace.advise(of(3, WORTH_A_PACK), now), Advice::Go, "large enough as it is");
        assert_eq!(pace.advise(of(3, 1), now + PATIENCE), Advice::Go, "they don't come");
    }

    #[test]
    fn behind_a_pack_under_way_only_a_large_one_leaves() {
        let (mut pace, now) = (Pace::default(), Instant::now());
        pace.left(1);
        assert_eq!(pace.advise(of(100, WORTH_A_PACK - 1), now), Advice::Wait);
        assert_eq!(pace.advise(of(1, WORTH_A_PACK), now), Advice::Go);
        pace.left(1);
        pace.left(1);
        assert_eq!(pace.advise(of(1, WORTH_A_PACK), now), Advice::Wait, "enough are under way");
        pace.answered(1, now);
        assert_eq!(pace.advise(of(1, 1), now), Advice::Wait);
    }
}
