//! ② The router's way to every node.
//!
//! Owns: the choice between this node's own groups and a link to another, and what a failed link says about effects.
//! Must not know: who leads.
//! Invariants: a call that may have left is never reported as not sent.

use super::handler::NodeHandler;
use bytes::Bytes;
use futures_util::future::join_all;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::rpc::{NodeCall, ShardOutcome, ShardRequest};
use messenger_proto::wire::Wire;
use messenger_raft::transport::{Lane, LinkError, Links, Method};
use messenger_raft::types::{GroupId, META_GROUP};
use messenger_router::{CallError, ShardStream, ShardTransport};
use std::time::Duration;
use tokio::time::Instant;

/// How long a call from one node to another, outside any client's request, may take.
const NODE_CALL_WITHIN: Duration = Duration::from_secs(2);

/// Reaches this node's groups directly and other nodes over their links.
#[derive(Clone)]
pub struct NodeTransport {
    node: NodeId,
    handler: NodeHandler,
    links: Links,
}

impl NodeTransport {
    /// The transport of a node.
    #[must_use]
    pub fn new(node: NodeId, handler: NodeHandler, links: Links) -> Self {
        Self { node, handler, links }
    }

    async fn one(&self, node: NodeId, request: ShardRequest, deadline: Instant) -> Result<ShardOutcome, CallError> {
        let outcome = match node == self.node {
            true => self.handler.shard_call(request).await,
            false => self.remote(node, request, deadline).await?,
        };
        match outcome {
            // The command's id makes another try safe, and there may be time for one.
            ShardOutcome::Refused(refusal) if refusal.code == ErrorCode::OutcomeUnknown => {
                Err(CallError::Lost(refusal.detail))
            }
            outcome => Ok(outcome),
        }
    }

    async fn remote(&self, node: NodeId, request: ShardRequest, deadline: Instant) -> Result<ShardOutcome, CallError> {
        let group = GroupId::of_shard(request.shard);
        let answer = self.links.call(node, Lane::Calls, Method::Shard, group, request.to_wire().into(), deadline).await;
        let bytes = answer.map_err(|error| match error {
            LinkError::NotSent(_) | LinkError::Refused(_) => CallError::NotSent(error.to_string()),
            LinkError::Lost(_) => CallError::Lost(error.to_string()),
        })?;
        ShardOutcome::decode_from(bytes).map_err(|error| CallError::Lost(format!("unreadable answer: {error}")))
    }

    /// Has a node carry out a call to itself, at most once; answers with what it says.
    ///
    /// # Errors
    /// [`CallError`] when it may not have heard.
    pub async fn tell(&self, node: NodeId, call: NodeCall) -> Result<Bytes, CallError> {
        if node == self.node {
            return Ok(self.handler.node_call(call));
        }
        let deadline = Instant::now() + NODE_CALL_WITHIN;
        let answer =
            self.links.call(node, Lane::Calls, Method::Node, META_GROUP, call.to_wire().into(), deadline).await;
        answer.map_err(|error| CallError::Lost(error.to_string()))
    }
}

impl ShardTransport for NodeTransport {
    fn local(&self) -> NodeId {
        self.node
    }

    async fn call(
        &self,
        node: NodeId,
        requests: Vec<ShardRequest>,
        deadline: Instant,
    ) -> Vec<Result<ShardOutcome, CallError>> {
        // The link strings together what waits, so calls made at once leave at once.
        join_all(requests.into_iter().map(|request| self.one(node, request, deadline))).await
    }

    async fn open(&self, node: NodeId, shard: ShardId) -> Result<ShardStream, CallError> {
        if node == self.node {
            let subscriber = self.handler.host().subscribe(shard);
            return subscriber.ok_or_else(|| CallError::NotSent(format!("shard {shard} has no replica here")));
        }
        self.links
            .subscribe(node, shard, Instant::now() + NODE_CALL_WITHIN)
            .await
            .map_err(|error| CallError::NotSent(error.to_string()))
    }
}
