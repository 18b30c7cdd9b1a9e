//! The metrics of this crate.
//!
//! Owns: names, units, labels and descriptions.
//! Must not know: who records them.

use metrics::{Unit, describe_counter, describe_gauge, describe_histogram};

/// HTTP requests answered. Label: [`STATUS`].
pub const HTTP_REQUESTS: &str = "messenger_http_requests_total";
/// Time from a request's head to its answer's.
pub const HTTP_REQUEST_SECONDS: &str = "messenger_http_request_seconds";
/// Requests and frames refused because of a limit. Labels: [`CLASS`], [`SCOPE`].
pub const RATE_LIMITED: &str = "messenger_rate_limited_total";
/// Records of writes that came into no log.
pub const AUDIT_LOST: &str = "messenger_audit_lost_total";
/// Clients' frames that were answered with an error.
pub const FRAMES_REFUSED: &str = "messenger_frames_refused_total";
/// Realtime connections closed by the node. Label: [`CODE`].
pub const SOCKETS_CLOSED: &str = "messenger_sockets_closed_total";
/// Times that a session did not take its mail and was sent back to storage.
pub const MAIL_DROPPED: &str = "messenger_mail_dropped_total";
/// Typing and presence that was not passed on. Label: [`WHERE`].
pub const EPHEMERAL_DROPPED: &str = "messenger_ephemeral_dropped_total";
/// Acknowledgements written to shards.
pub const ACKS_WRITTEN: &str = "messenger_acks_written_total";
/// Acknowledgements that were not kept; devices send them again.
pub const ACKS_DROPPED: &str = "messenger_acks_dropped_total";
/// Sessions registered at the shards that are led here.
pub const REGISTERED_SESSIONS: &str = "messenger_registered_sessions";
/// Users whose presence is known at the shards that are led here.
pub const USERS_PRESENT: &str = "messenger_users_present";
/// 1 while the node takes requests.
pub const READY: &str = "messenger_ready";
/// 1 while it takes no commands for want of disk.
pub const SHORT_OF_DISK: &str = "messenger_short_of_disk";
/// Bytes left on the disk with the data directory.
pub const DISK_FREE_BYTES: &str = "messenger_disk_free_bytes";
/// Groups with a replica here. Label: [`ROLE`].
pub const REPLICAS: &str = "messenger_replicas";
/// Of those, the ones that know no leader.
pub const LEADERLESS: &str = "messenger_replicas_without_leader";
/// Entries that are in the logs here and not applied yet, at the replica with the most of them.
pub const ENTRIES_BEHIND_MAX: &str = "messenger_replica_entries_behind_max";
/// Nodes of the cluster's record that were not removed.
pub const CLUSTER_NODES: &str = "messenger_cluster_nodes";
/// 1 while an operator lets no shard begin to move.
pub const MOVES_PAUSED: &str = "messenger_moves_paused";

/// Until when a certificate is good, in seconds since the Unix epoch. Label: [`LISTENER`].
pub const CERTIFICATE_EXPIRES: &str = "messenger_tls_certificate_expires_timestamp_seconds";

/// The hundreds of an HTTP status, as `2xx`.
pub const STATUS: &str = "status";
/// What kind of request a limit is for.
pub const CLASS: &str = "class";
/// Whom a limit is for.
pub const SCOPE: &str = "scope";
/// A close code of the client contract.
pub const CODE: &str = "code";
/// `client`, `admin` or `peer`.
pub const LISTENER: &str = "listener";
/// `queue`, `heard` or `mailbox`.
pub const WHERE: &str = "where";
/// What a replica is in its group: `leader`, `follower`, `candidate`, `learner` or `stopped`.
pub const ROLE: &str = "role";

/// Describes the metrics of a node, those of its parts too, to the recorder; once per process.
pub fn describe() {
    messenger_router::metric_names::describe();
    messenger_raft::metric_names::describe();
    describe_counter!(HTTP_REQUESTS, Unit::Count, "HTTP requests answered, by status class");
    describe_histogram!(HTTP_REQUEST_SECONDS, Unit::Seconds, "Time from a request's head to its answer's");
    describe_counter!(RATE_LIMITED, Unit::Count, "Requests and frames over a limit, by class and whom it is for");
    describe_counter!(AUDIT_LOST, Unit::Count, "Records of writes that came into no audit log");
    describe_counter!(FRAMES_REFUSED, Unit::Count, "Clients' frames answered with an error");
    describe_counter!(SOCKETS_CLOSED, Unit::Count, "Realtime connections closed by the node, by close code");
    describe_counter!(MAIL_DROPPED, Unit::Count, "Times a session was behind and sent back to storage");
    describe_counter!(EPHEMERAL_DROPPED, Unit::Count, "Typing and presence not passed on, by where");
    describe_counter!(ACKS_WRITTEN, Unit::Count, "Acknowledgements written to shards");
    describe_counter!(ACKS_DROPPED, Unit::Count, "Acknowledgements not kept, for want of room");
    describe_gauge!(REGISTERED_SESSIONS, Unit::Count, "Sessions registered at the shards led here");
    describe_gauge!(CERTIFICATE_EXPIRES, Unit::Seconds, "Until when a certificate is good, by listener");
    describe_gauge!(USERS_PRESENT, Unit::Count, "Users whose presence is known at the shards led here");
    describe_gauge!(READY, Unit::Count, "1 while the node takes requests");
    describe_gauge!(SHORT_OF_DISK, Unit::Count, "1 while the node takes no commands for want of disk");
    describe_gauge!(DISK_FREE_BYTES, Unit::Bytes, "Bytes left on the disk with the data directory");
    describe_gauge!(REPLICAS, Unit::Count, "Replicas of groups on this node, by role");
    describe_gauge!(LEADERLESS, Unit::Count, "Replicas on this node that know no leader");
    describe_gauge!(ENTRIES_BEHIND_MAX, Unit::Count, "Entries logged and not applied yet, at the replica with most");
    describe_gauge!(CLUSTER_NODES, Unit::Count, "Nodes of the cluster, as this node knows it");
    describe_gauge!(MOVES_PAUSED, Unit::Count, "1 while an operator lets no shard begin to move");
}

#[cfg(test)]
mod tests {
    use super::*;
    use metrics_exporter_prometheus::PrometheusBuilder;

    /// Every name in a file of names.
    fn names(source: &str) -> impl Iterator<Item = &str> {
        source.split('"').filter(|text| text.starts_with("messenger_") && !text.contains(' '))
    }

    #[test]
    fn every_metric_is_described() {
        let files = [
            include_str!("metric_names.rs"),
            include_str!("../../router/src/metric_names.rs"),
            include_str!("../../raft/src/metric_names.rs"),
        ];
        let all: Vec<&'static str> = files.into_iter().flat_map(names).filter(|name| *name != "messenger_").collect();
        assert!(all.len() >= 29, "{all:?}");
        let recorder = PrometheusBuilder::new().build_recorder();
        metrics::with_local_recorder(&recorder, || {
            describe();
            for name in &all {
                // Of whatever kind; what is described keeps its description.
                metrics::gauge!(*name).set(1);
            }
        });
        let shown = recorder.handle().render();
        for name in all {
            assert!(shown.contains(&format!("# HELP {name} ")), "{name}: {shown}");
        }
    }
}
