//! How much work the router takes on.
//!
//! Owns: the count and the bytes of calls in hand, from their arrival to their answer, pauses between attempts included.
//! Must not know: what the calls are.
//! Invariants: neither bound is exceeded but by a single call larger than all of the bytes; what was taken is given back
//! however the call ends.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// Bounds of what a router holds in memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Calls in hand at most.
    pub calls: usize,
    /// Bytes of calls in hand at most, about.
    pub call_bytes: usize,
    /// Events one subscription holds for a slow consumer at most.
    pub subscription_events: usize,
    /// Bytes of events one subscription holds for a slow consumer at most, about.
    pub subscription_bytes: usize,
}

impl Default for Limits {
    /// Enough for a second and a half of failover at full load on a small machine.
    fn default() -> Self {
        Self { calls: 65_536, call_bytes: 128 << 20, subscription_events: 1_024, subscription_bytes: 2 << 20 }
    }
}

/// Counts calls in hand.
#[derive(Debug)]
pub(crate) struct Gate {
    calls: AtomicUsize,
    bytes: AtomicUsize,
    limits: Limits,
}

impl Gate {
    pub(crate) fn new(limits: Limits) -> Arc<Self> {
        Arc::new(Self { calls: AtomicUsize::new(0), bytes: AtomicUsize::new(0), limits })
    }

    /// Room for `calls` of `bytes` in all, until the pass is dropped; `None` when there is none.
    pub(crate) fn admit(self: &Arc<Self>, calls: usize, bytes: usize) -> Option<Pass> {
        // The pass gives both back, also when one of them turns out to be too much.
        let pass = Pass { gate: Arc::clone(self), calls, bytes };
        let before = self.calls.fetch_add(calls, Ordering::Relaxed);
        let bytes_before = self.bytes.fetch_add(bytes, Ordering::Relaxed);
        let fits = (before + calls <= self.limits.calls || before == 0)
            && (bytes_before + bytes <= self.limits.call_bytes || bytes_before == 0);
        fits.then_some(pass)
    }
}

/// A call's place; given back on drop.
#[derive(Debug)]
pub(crate) struct Pass {
    gate: Arc<Gate>,
    calls: usize,
    bytes: usize,
}

impl Drop for Pass {
    fn drop(&mut self) {
        self.gate.calls.fetch_sub(self.calls, Ordering::Relaxed);
        self.gate.bytes.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gate(calls: usize, call_bytes: usize) -> Arc<Gate> {
        Gate::new(Limits { calls, call_bytes, ..Limits::default() })
    }

    #[test]
    fn both_bounds_hold_and_places_come_back() {
        let gate = gate(2, 100);
        let (first, second) = (gate.admit(1, 40), gate.admit(1, 40));
        assert!(first.is_some() && second.is_some());
        assert!(gate.admit(1, 1).is_none(), "too many calls");
        drop(first);
        assert!(gate.admit(1, 61).is_none(), "too many bytes");
        assert!(gate.admit(1, 60).is_some(), "what was refused took nothing");
    }

    #[test]
    fn a_call_larger_than_the_bound_passes_alone() {
        let gate = gate(10, 100);
        let huge = gate.admit(1, 500);
        assert!(huge.is_some());
        assert!(gate.admit(1, 1).is_none());
        drop(huge);
        assert!(gate.admit(1, 1).is_some());
    }
}
