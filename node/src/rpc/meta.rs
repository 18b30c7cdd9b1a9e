//! The way to the meta group.
//!
//! Owns: finding the meta group's leader, having it decide, and reading the record in force; making the cluster's record
//! once, and this node's check-in with its data directory.
//! Must not know: shards, or what a refusal means for the node.
//! Invariants: making the record and checking in are idempotent, so a death in between only repeats them.

use messenger_proto::command::{Command, Op, Retention};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{CommandId, NodeId, ShardId, StoreId};
use messenger_proto::meta::{CheckIn, ClusterState, MetaCommand, NodeState};
use messenger_proto::query::{Answer, ClusterStateQuery, Query};
use messenger_proto::rpc::{Redirect, ShardCall, ShardOutcome, ShardRequest};
use messenger_proto::wire::Wire;
use messenger_raft::group::host::Host;
use messenger_raft::transport::{Lane, Links, Method};
use messenger_raft::types::META_GROUP;
use std::time::Duration;
use tokio::time::{Instant, sleep, timeout_at};

/// One try's deadline.
const TRY_WITHIN: Duration = Duration::from_secs(2);
/// Between two questions of a node whether it is of the cluster still.
const ASK_EVERY: Duration = Duration::from_secs(3);
/// Between two tries.
const PAUSE: Duration = Duration::from_millis(100);

fn request(call: ShardCall) -> ShardRequest {
    ShardRequest { shard: ShardId(u32::MAX), deadline_ms: TRY_WITHIN.as_millis() as u32, call }
}

fn silent(code: ErrorCode) -> Refusal {
    Refusal::new(code, "the meta group has no leader that answers; try again shortly")
}

/// Calls to the meta group's leader, wherever it is; cheap to clone.
#[derive(Clone)]
pub struct MetaClient {
    host: Host,
    links: Links,
}

impl MetaClient {
    /// A client of this node.
    #[must_use]
    pub fn new(host: Host, links: Links) -> Self {
        Self { host, links }
    }

    /// Makes the cluster's record, unless there is one.
    ///
    /// # Errors
    /// The meta group's refusal, for another reason.
    pub async fn bootstrap(&self, first: ClusterState) -> Result<(), Refusal> {
        match self.until_decided(MetaCommand::Bootstrap(first)).await {
            Err(refusal) if refusal.code == ErrorCode::Conflict => Ok(()),
            decided => decided,
        }
    }

    /// Names the data directory this node runs on.
    ///
    /// # Errors
    /// A refusal when another one is registered under the node's id.
    pub async fn check_in(&self, node: NodeId, store: StoreId) -> Result<(), Refusal> {
        self.until_decided(MetaCommand::CheckIn(CheckIn { node, store })).await
    }

    /// Has the meta group decide by `deadline`.
    ///
    /// # Errors
    /// Its refusal; or that nothing is known of the outcome.
    pub async fn decide(&self, command: MetaCommand, deadline: Instant) -> Result<(), Refusal> {
        timeout_at(deadline, self.until_decided(command))
            .await
            .unwrap_or_else(|_| Err(silent(ErrorCode::OutcomeUnknown)))
    }

    /// The record as it is, and not only as this node knows it.
    ///
    /// # Errors
    /// A refusal when there is none yet, or nobody knew by `deadline`.
    pub async fn record(&self, deadline: Instant) -> Result<ClusterState, Refusal> {
        let request = request(ShardCall::Query(Query::ClusterState(ClusterStateQuery {})));
        let asking = async {
            loop {
                match self.attempt(&request).await {
                    Some(ShardOutcome::Answer(Answer::ClusterState(state))) => return Ok(state),
                    Some(ShardOutcome::Refused(refusal)) if !refusal.code.retryable() => return Err(refusal),
                    _ => sleep(PAUSE).await,
                }
            }
        };
        timeout_at(deadline, asking).await.unwrap_or_else(|_| Err(silent(ErrorCode::Unavailable)))
    }

    /// Resolves, with the reason, once the cluster does not take this node for one of its own any more. A node that was
    /// removed may never hear so by the record, as its part in the meta group ends with it: so it asks now and then.
    pub async fn disowned(&self) -> String {
        loop {
            sleep(ASK_EVERY).await;
            let record = self.record(Instant::now() + TRY_WITHIN).await;
            let state = record.ok().and_then(|record| record.node(self.host.node()).map(|node| node.state));
            if state == Some(NodeState::Removed) {
                return "the node was removed".into();
            }
        }
    }

    /// [`MetaClient::record`] of a node that starts and can't go on without; it may take until a majority of nodes is up.
    ///
    /// # Errors
    /// A refusal when there is none.
    pub async fn known_record(&self) -> Result<ClusterState, Refusal> {
        loop {
            match self.record(Instant::now() + TRY_WITHIN).await {
                Err(refusal) if refusal.code.retryable() => {}
                known => return known,
            }
        }
    }

    /// Tries until the meta group decided; it may take until a majority of nodes is up.
    async fn until_decided(&self, command: MetaCommand) -> Result<(), Refusal> {
        let id = CommandId(rand::random());
        let command = Command { id, retention: Retention::None, body_hash: 0, op: Op::Meta(command) };
        let request = request(ShardCall::Command(command));
        loop {
            match self.attempt(&request).await {
                Some(ShardOutcome::Reply(_)) => return Ok(()),
                Some(ShardOutcome::Refused(refusal)) if !refusal.code.retryable() => return Err(refusal),
                _ => sleep(PAUSE).await,
            }
        }
    }

    async fn attempt(&self, request: &ShardRequest) -> Option<ShardOutcome> {
        // Whoever was removed while it was away hears of no leader any more; others may still say who it is.
        let any = || {
            let connected = self.links.connected();
            connected.get(rand::random_range(0..connected.len().max(1))).copied()
        };
        let first = self.host.group(META_GROUP)?.leader().or_else(any)?;
        match self.call(first, request).await {
            None => self.call(any()?, request).await,
            Some(ShardOutcome::Redirect(Redirect { leader: Some(leader) })) if leader != first => {
                self.call(leader, request).await
            }
            outcome => outcome,
        }
    }

    async fn call(&self, node: NodeId, request: &ShardRequest) -> Option<ShardOutcome> {
        if node == self.host.node() {
            return self.host.call(META_GROUP, request).await.ok();
        }
        let deadline = Instant::now() + TRY_WITHIN;
        let body = request.to_wire().into();
        let bytes = self.links.call(node, Lane::Calls, Method::Admin, META_GROUP, body, deadline).await.ok()?;
        ShardOutcome::decode_from(bytes).ok()
    }
}
