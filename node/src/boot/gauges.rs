//! What operators watch of a node over time.
//!
//! Owns: the gauges of its replicas, its disk and its readiness, and that counters that alerts are about exist from the start.
//! Must not know: who reads them, or what they are called.

use crate::metric_names::{
    ACKS_WRITTEN, AUDIT_LOST, CLUSTER_NODES, DISK_FREE_BYTES, ENTRIES_BEHIND_MAX, FRAMES_REFUSED, LEADERLESS,
    MOVES_PAUSED, READY, REPLICAS, ROLE, SHORT_OF_DISK,
};
use crate::readiness::Readiness;
use messenger_proto::meta::NodeState;
use messenger_proto::rpc::{ReplicaRole, ReplicaStatus};
use messenger_raft::group::host::Host;
use messenger_raft::group::replica::Replica;
use metrics::{counter, gauge};
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_secs(5);

const ROLES: [(&str, ReplicaRole); 5] = [
    ("leader", ReplicaRole::Leader),
    ("follower", ReplicaRole::Follower),
    ("candidate", ReplicaRole::Candidate),
    ("learner", ReplicaRole::Learner),
    ("stopped", ReplicaRole::Stopped),
];

/// Counters that alerts and dashboards are about, and that are counted elsewhere: one that was never counted would not be
/// there, and nobody could tell that from a name that is wrong.
const FROM_THE_START: [&str; 3] = [AUDIT_LOST, ACKS_WRITTEN, FRAMES_REFUSED];

/// What the replicas of a node come to.
#[derive(Debug, PartialEq, Eq)]
struct Sum {
    /// As in [`ROLES`].
    by_role: [u32; ROLES.len()],
    leaderless: u32,
    behind: u64,
}

fn sum(replicas: &[ReplicaStatus]) -> Sum {
    let count = |role: &ReplicaRole| replicas.iter().filter(|replica| replica.role == *role).count() as u32;
    Sum {
        by_role: ROLES.map(|(_, role)| count(&role)),
        leaderless: replicas.iter().filter(|replica| replica.leader.is_none()).count() as u32,
        behind: replicas.iter().map(|replica| replica.last.0.saturating_sub(replica.applied.0)).max().unwrap_or(0),
    }
}

#[expect(clippy::cast_precision_loss, reason = "far below 2^52")]
fn large(value: u64) -> f64 {
    value as f64
}

fn show(host: &Host, readiness: &Readiness) {
    gauge!(READY).set(u8::from(readiness.why_not().is_none()));
    gauge!(SHORT_OF_DISK).set(u8::from(host.short_of_disk()));
    let statuses: Vec<ReplicaStatus> = host.replicas().iter().map(Replica::status).collect();
    let Sum { by_role, leaderless, behind } = sum(&statuses);
    for ((role, _), count) in ROLES.iter().zip(by_role) {
        gauge!(REPLICAS, ROLE => *role).set(count);
    }
    gauge!(LEADERLESS).set(leaderless);
    gauge!(ENTRIES_BEHIND_MAX).set(large(behind));
    let record = host.record();
    let record = record.borrow();
    let present = record.nodes.iter().filter(|node| node.state != NodeState::Removed);
    gauge!(CLUSTER_NODES).set(present.count() as u32);
    gauge!(MOVES_PAUSED).set(u8::from(record.moves_paused));
}

/// Looks for as long as its task runs.
pub(super) async fn follow(host: Host, readiness: Readiness) {
    for name in FROM_THE_START {
        counter!(name).increment(0);
    }
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        show(&host, &readiness);
        let looked = host.clone();
        // A disk in trouble may take its time.
        let free = tokio::task::spawn_blocking(move || looked.disk_free_bytes()).await;
        if let Ok(Some(free)) = free {
            gauge!(DISK_FREE_BYTES).set(large(free));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::{LogIndex, NodeId, Term};

    #[test]
    fn replicas_are_counted_by_what_they_are() {
        let replica = |role, leader: Option<u64>, applied, last| ReplicaStatus {
            shard: None,
            role,
            leader: leader.map(NodeId),
            term: Term(1),
            applied: LogIndex(applied),
            last: LogIndex(last),
            digest: None,
            learners: vec![],
            members: None,
        };
        let replicas = [
            replica(ReplicaRole::Leader, Some(1), 9, 10),
            replica(ReplicaRole::Follower, Some(2), 3, 10),
            replica(ReplicaRole::Candidate, None, 12, 10),
            replica(ReplicaRole::Follower, None, 0, 0),
        ];
        assert_eq!(sum(&replicas), Sum { by_role: [1, 2, 1, 0, 0], leaderless: 2, behind: 7 });
        assert_eq!(sum(&[]), Sum { by_role: [0; 5], leaderless: 0, behind: 0 });
    }
}
