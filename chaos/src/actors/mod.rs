//! Who does more during a run than send and listen.
//!
//! Owns: one file per kind of part, each with its stage, its actors and what nodes say of it in the end.
//! Must not know: faults, or what is right.

pub mod changer;

use crate::history::Clock;
use crate::workload::Seed;
use messenger_tests::cluster::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

/// What every actor of a run has in common.
#[derive(Clone)]
pub struct Stage {
    /// Where it plays.
    pub cluster: Arc<Cluster>,
    /// What it does.
    pub seed: Seed,
    /// The run's clock.
    pub clock: Clock,
    stop: Arc<AtomicBool>,
}

impl Stage {
    /// The stage of a run that begins.
    #[must_use]
    pub fn new(cluster: &Arc<Cluster>, seed: Seed, clock: Clock) -> Self {
        Self { cluster: cluster.clone(), seed, clock, stop: Arc::default() }
    }

    /// Tells all actors that the load ends.
    pub fn stop(&self) {
        self.stop.store(true, Ordering::Relaxed);
    }

    /// Whether the load goes on.
    #[must_use]
    pub fn goes_on(&self) -> bool {
        !self.stop.load(Ordering::Relaxed)
    }

    /// The flag itself.
    #[must_use]
    pub fn flag(&self) -> Arc<AtomicBool> {
        self.stop.clone()
    }

    /// Between two things that one actor does, so that it is a load beside the senders and not instead of them.
    pub async fn breathe(&self) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
