//! How fast groups beat, elect and read.
//!
//! Owns: the timing of every group and its translation into the consensus library's configuration.
//! Must not know: which groups there are.
//! Invariants: `heartbeat + suppression + one tick < election minimum`, so that suppressing redundant heartbeats never
//! starts an election. A leader's death opens a write gap of about `election_max + U(election_min, election_max)`.

use openraft::{Config, ConfigError, SnapshotPolicy};
use std::time::Duration;

/// Entries a replica may lack beyond what the log surely holds before it is sent a snapshot instead.
const LAG_SLACK: u64 = 1_000;

/// The timing of a node's groups, and how much log they keep.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Timing {
    /// Between two heartbeats of an idle leader.
    pub heartbeat: Duration,
    /// A follower that answered within this is not sent another.
    pub suppression: Duration,
    /// Shortest time without a leader before an election.
    pub election_min: Duration,
    /// Longest time without a leader before an election, and the leader's lease.
    pub election_max: Duration,
    /// Entries between two snapshots. A snapshot is a note of the applied position, so taking one costs nothing; only
    /// what it covers can be purged from the log.
    pub snapshot_every: u64,
    /// Covered entries kept in the log all the same, so that a replica that was away briefly catches up from it.
    pub keep_entries: u64,
    /// Bytes of a group's log above which all but half of them go, however few entries that are.
    pub keep_bytes: u64,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            heartbeat: Duration::from_millis(240),
            suppression: Duration::from_millis(100),
            election_min: Duration::from_millis(400),
            election_max: Duration::from_millis(550),
            snapshot_every: 8_000,
            keep_entries: 8_000,
            keep_bytes: 64 << 20,
        }
    }
}

impl Timing {
    /// The library's configuration.
    ///
    /// # Errors
    /// [`ConfigError`] when the times contradict each other.
    pub fn to_config(self) -> Result<Config, ConfigError> {
        let ms = |duration: Duration| duration.as_millis() as u64;
        Config {
            cluster_name: "messenger".into(),
            heartbeat_interval: ms(self.heartbeat),
            heartbeat_min_interval: Some(ms(self.suppression)),
            election_timeout_min: ms(self.election_min),
            election_timeout_max: ms(self.election_max),
            enable_pre_vote: Some(true),
            // A restarted leader that went on in its old term would fill indexes anew that a crash took from its own log
            // and not from its followers': two entries with one log id. A new term tells them apart.
            enable_leader_restore: Some(false),
            quorum_loss_probe_interval: Some(3 * ms(self.election_max)),
            snapshot_policy: SnapshotPolicy::LogsSinceLast(self.snapshot_every),
            max_in_snapshot_log_to_keep: self.keep_entries,
            replication_lag_threshold: self.snapshot_every + self.keep_entries + LAG_SLACK,
            purge_batch_size: (self.keep_entries / 5).max(1),
            max_payload_entries: 256,
            install_snapshot_timeout: 600_000,
            ..Config::default()
        }
        .validate()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_consistent() {
        let timing = Timing::default();
        let tick = timing.heartbeat * 13 / 64;
        assert!(timing.heartbeat + timing.suppression + tick < timing.election_min);
        // What a leader's death costs at most, with as much again for split votes: within the goal of three seconds.
        assert!(2 * (timing.election_max + timing.election_max) < Duration::from_secs(3));
        let config = timing.to_config().unwrap();
        assert_eq!(config.enable_leader_restore, Some(false));
        assert_eq!(config.enable_pre_vote, Some(true));
        assert_eq!(config.heartbeat_min_interval, Some(100));
        assert!(config.quorum_loss_probe_interval.is_some_and(|probe| probe >= 2 * config.election_timeout_max));
        assert_eq!(config.purge_batch_size, timing.keep_entries / 5);
        let backwards = Timing { election_min: timing.election_max * 2, ..timing };
        assert!(backwards.to_config().is_err());
    }
}
