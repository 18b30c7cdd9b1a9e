//! How long to wait before trying again.
//!
//! Owns: exponential pauses with jitter, pure given a source of randomness.
//! Must not know: what is tried.
//! Invariants: a pause never exceeds the ceiling; after as many failures as there are servers the pauses grow.

use std::time::Duration;

/// The bounds of a [`Backoff`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Pause {
    /// The first pause, before jitter.
    pub first: Duration,
    /// No pause is longer.
    pub ceiling: Duration,
}

impl Default for Pause {
    fn default() -> Self {
        Self { first: Duration::from_millis(50), ceiling: Duration::from_secs(3) }
    }
}

/// Counts failures and names the pause after each.
#[derive(Debug, Clone)]
pub struct Backoff {
    pause: Pause,
    free: u32,
    failures: u32,
}

impl Backoff {
    /// `free` is how many failures get only the first pause: one per server, so that a failover is quick.
    #[must_use]
    pub fn new(pause: Pause, free: usize) -> Self {
        Self { pause, free: u32::try_from(free).unwrap_or(u32::MAX), failures: 0 }
    }

    /// Counts a failure and answers how long to wait; `unit` is uniform in `0.0..1.0`.
    pub fn next(&mut self, unit: f64) -> Duration {
        let doublings = self.failures.saturating_sub(self.free.saturating_sub(1)).min(16);
        self.failures = self.failures.saturating_add(1);
        let base = self.pause.first.saturating_mul(1 << doublings).min(self.pause.ceiling);
        // Half fixed, half random: clients that failed together do not come back together.
        base.mul_f64(0.5 + unit.clamp(0.0, 1.0) / 2.0)
    }

    /// [`Backoff::next`] with the thread's own randomness.
    pub fn next_random(&mut self) -> Duration {
        self.next(rand::random::<f64>())
    }

    /// Forgets the failures.
    pub fn reset(&mut self) {
        self.failures = 0;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn pauses_double_after_each_server_had_its_turn() {
        let pause = Pause { first: Duration::from_millis(100), ceiling: Duration::from_secs(1) };
        let mut backoff = Backoff::new(pause, 3);
        let millis: Vec<_> = (0..8).map(|_| backoff.next(1.0).as_millis()).collect();
        assert_eq!(millis, [100, 100, 100, 200, 400, 800, 1000, 1000]);
        backoff.reset();
        assert_eq!(backoff.next(0.0).as_millis(), 50);
    }

    proptest! {
        #[test]
        fn a_pause_stays_between_half_and_whole(unit in 0.0..1.0f64, failures in 0usize..200) {
            let pause = Pause::default();
            let mut backoff = Backoff::new(pause, 1);
            for _ in 0..failures {
                backoff.next(unit);
            }
            let next = backoff.next(unit);
            prop_assert!(next >= pause.first / 2 && next <= pause.ceiling);
        }
    }
}
