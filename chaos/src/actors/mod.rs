//! Who does more during a run than send and listen.
//!
//! Owns: one file per kind of part, each with its stage, its actors and what nodes say of it in the end.
//! Must not know: faults, or what is right.

mod audience;
pub mod blocker;
pub mod chair;
pub mod changer;
pub mod reader;
pub mod sealer;
pub mod taker;

pub use self::audience::Audience;

use crate::history::{Clock, Record, Thread};
use crate::workload::Seed;
use messenger_tests::cluster::Cluster;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

/// Everybody who does more than send and listen.
pub struct Cast {
    changers: changer::Changers,
    takers: taker::Takers,
    readers: reader::Readers,
    blockers: blocker::Blockers,
    chairs: chair::Chairs,
    sealers: sealer::Sealers,
}

impl Cast {
    /// Sets each part's stage and begins; `threads` are of all `users`.
    pub async fn start(stage: &Stage, users: &[String], threads: &Arc<[Thread]>) -> Self {
        Self {
            changers: changer::Changers::start(stage, users).await,
            takers: taker::Takers::start(stage).await,
            blockers: blocker::Blockers::start(stage).await,
            chairs: chair::Chairs::start(stage).await,
            sealers: sealer::Sealers::start(stage).await,
            readers: reader::Readers::start(stage, users, threads),
        }
    }

    /// Waits until all is done, and notes every node's word of it.
    pub async fn finish(self, stage: &Stage, record: &mut Record) {
        record.changes = self.changers.finish(stage).await;
        record.keys = self.takers.finish(stage).await;
        record.receipts = self.readers.finish(stage).await;
        record.blocks = self.blockers.finish(stage).await;
        record.members = self.chairs.finish(stage).await;
        record.envelopes = self.sealers.finish(stage).await;
    }
}

/// Acknowledged messages without which a run means nothing.
pub const LOAD_MIN: usize = 150;
/// How long a run may go on for them after its last fault.
const LOAD_WITHIN: Duration = Duration::from_secs(30);

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
    acknowledged: Arc<AtomicUsize>,
}

impl Stage {
    /// The stage of a run that begins.
    #[must_use]
    pub fn new(cluster: &Arc<Cluster>, seed: Seed, clock: Clock) -> Self {
        Self { cluster: cluster.clone(), seed, clock, stop: Arc::default(), acknowledged: Arc::default() }
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

    /// Counts a message that was acknowledged to a sender.
    pub fn count(&self) {
        self.acknowledged.fetch_add(1, Ordering::Relaxed);
    }

    /// Waits until the run means something, which takes longer on a busy machine; no longer than that may take.
    pub async fn wait_for_some(&self) {
        let deadline = tokio::time::Instant::now() + LOAD_WITHIN;
        while self.acknowledged.load(Ordering::Relaxed) < LOAD_MIN && tokio::time::Instant::now() < deadline {
            self.breathe().await;
        }
    }

    /// Between two things that one actor does, so that it is a load beside the senders and not instead of them.
    pub async fn breathe(&self) {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
}
