//! How long to wait before trying again.
//!
//! Owns: exponential pauses with jitter.
//! Must not know: what is tried. The random share is passed in, so that deciding stays pure.
//! Invariants: a pause is at least half of its step and at most `max`.

use std::time::Duration;

/// Growing pauses.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Pauses {
    /// The first step.
    pub(crate) min: Duration,
    /// No step is longer.
    pub(crate) max: Duration,
}

impl Pauses {
    /// The pause before attempt `nth` (from 0); `jitter` in `0.0..1.0` spreads it over the upper half of its step.
    pub(crate) fn nth(self, nth: u32, jitter: f64) -> Duration {
        let step = self.min.saturating_mul(1 << nth.min(16)).min(self.max);
        step.mul_f64(0.5 + 0.5 * jitter.clamp(0.0, 1.0))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn pauses_grow_within_their_bounds(nth in any::<u32>(), jitter in 0.0_f64..1.0) {
            let pauses = Pauses { min: Duration::from_millis(10), max: Duration::from_millis(100) };
            let pause = pauses.nth(nth, jitter);
            prop_assert!(pause >= pauses.min / 2 && pause <= pauses.max);
            prop_assert!(pauses.nth(nth.saturating_add(1), jitter) >= pause);
        }
    }
}
