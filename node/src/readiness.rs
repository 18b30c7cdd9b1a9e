//! Whether the node takes requests, and what it waits for.
//!
//! Owns: the node's phase between start and end.
//! Must not know: who asks, or what makes a node ready or drains it.
//! Invariants: a node that drains never becomes ready again.

use std::sync::Arc;
use tokio::sync::watch;

/// Whether a node takes requests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// Not yet.
    Starting,
    /// It does.
    Ready,
    /// No more: its leaders move away and it will end.
    Draining,
}

#[derive(Debug)]
struct Shared {
    phase: watch::Sender<Phase>,
    waits_for: watch::Sender<&'static str>,
}

/// A node's readiness; cheap to clone.
#[derive(Debug, Clone)]
pub struct Readiness(Arc<Shared>);

impl Default for Readiness {
    fn default() -> Self {
        let (phase, waits_for) = (watch::Sender::new(Phase::Starting), watch::Sender::new("the node is starting"));
        Self(Arc::new(Shared { phase, waits_for }))
    }
}

impl Readiness {
    /// Follows the phase.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<Phase> {
        self.0.phase.subscribe()
    }

    /// Still starting, and what it waits for.
    pub fn waiting(&self, what: &'static str) {
        tracing::info!("waiting: {what}");
        self.0.waits_for.send_replace(what);
    }

    /// Ready, unless it drains already.
    pub fn ready(&self) {
        self.0.phase.send_if_modified(|phase| {
            let starting = *phase == Phase::Starting;
            if starting {
                *phase = Phase::Ready;
            }
            starting
        });
    }

    /// On its way out, for good.
    pub fn draining(&self) {
        self.0.phase.send_replace(Phase::Draining);
    }

    /// Whether it is on its way out.
    #[must_use]
    pub fn is_draining(&self) -> bool {
        *self.0.phase.borrow() == Phase::Draining
    }

    /// Why requests should go elsewhere, if so.
    #[must_use]
    pub fn why_not(&self) -> Option<&'static str> {
        match *self.0.phase.borrow() {
            Phase::Starting => Some(*self.0.waits_for.borrow()),
            Phase::Ready => None,
            Phase::Draining => Some("the node is draining"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_draining_node_never_becomes_ready_again() {
        let readiness = Readiness::default();
        readiness.waiting("a leader");
        assert_eq!(readiness.why_not(), Some("a leader"));
        readiness.ready();
        assert_eq!(readiness.why_not(), None);
        readiness.draining();
        readiness.ready();
        assert!(readiness.why_not().is_some());
        assert_eq!(*readiness.subscribe().borrow(), Phase::Draining);
    }
}
