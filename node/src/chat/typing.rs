//! Telling others that the person types.
//!
//! Owns: when they are told, as the line is edited.
//! Must not know: terminals, connections.
//! Invariants: of a line that is being edited others are told once per interval at most, and once that it was sent or
//! emptied, if they were told of it; of commands they are told nothing.

use messenger_proto::limits::TYPING_INTERVAL;
use std::time::Duration;
use tokio::time::Instant;

/// Between two starts: nodes pass one on per [`TYPING_INTERVAL`], and of two on an uneven way the later may come too early.
const INTERVAL: Duration = TYPING_INTERVAL.saturating_add(Duration::from_millis(500));

/// What others were told.
#[derive(Debug, Default)]
pub(super) struct Typing {
    /// When, the last time.
    told_at: Option<Instant>,
    /// And they may still be shown it.
    is_shown: bool,
    /// The line is something to be said.
    is_said: bool,
}

impl Typing {
    /// The line was edited; `is_said` tells whether it now is something to be said. What others are to be told, if anything:
    /// whether it stopped.
    pub(super) fn edited(&mut self, is_said: bool, now: Instant) -> Option<bool> {
        if !is_said {
            return self.stopped();
        }
        self.is_said = true;
        if self.told_at.is_some_and(|told_at| now < told_at + INTERVAL) {
            return None;
        }
        (self.told_at, self.is_shown) = (Some(now), true);
        Some(false)
    }

    /// When others are to be told of a line that was begun too early after the last, if it still is there then.
    pub(super) fn due(&self) -> Option<Instant> {
        self.told_at.filter(|_| self.is_said && !self.is_shown).map(|told_at| told_at + INTERVAL)
    }

    /// The line was sent.
    pub(super) fn stopped(&mut self) -> Option<bool> {
        self.is_said = false;
        std::mem::take(&mut self.is_shown).then_some(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Whatever is typed when: starts keep their distance, and a stop follows a start, at once.
        #[test]
        fn others_are_told_in_measure(steps in prop::collection::vec((0u64..2_500, 0u8..3), 1..60)) {
            let (mut typing, mut now) = (Typing::default(), Instant::now());
            let (mut started, mut shown): (Option<Instant>, bool) = (None, false);
            for (pause, step) in steps {
                now += Duration::from_millis(pause);
                let told = match step {
                    0 => typing.stopped(),
                    step => typing.edited(step == 1, now),
                };
                let due = started.is_none_or(|started| now >= started + INTERVAL);
                let expected = if step == 1 { due.then_some(false) } else { shown.then_some(true) };
                prop_assert_eq!(told, expected);
                if let Some(stop) = told {
                    shown = !stop;
                    started = if stop { started } else { Some(now) };
                }
                // Nobody has to press another key for what had to wait.
                let waits = step == 1 && !shown;
                prop_assert_eq!(typing.due(), started.filter(|_| waits).map(|started| started + INTERVAL));
            }
        }
    }
}
