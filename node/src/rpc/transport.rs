//! ② The router's way to every node.
//!
//! Owns: the choice between this node's own groups and a link to another, and what a failed link says about effects.
//! Must not know: who leads.
//! Invariants: a call that may have left is never reported as not sent.

use super::handler::NodeHandler;
use bytes::Bytes;
use futures_util::future::join_all;
use messenger_proto::error::{ErrorCode, Refusal};
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
        if node == self.node {
            Ok(self.handler.shard_call(request).await)
        } else {
            self.remote(node, request, deadline).await
        }
    }

    async fn remote(&self, node: NodeId, request: ShardRequest, deadline: Instant) -> Result<ShardOutcome, CallError> {
        let group = GroupId::of_shard(request.shard);
        let answer = self.links.call(node, Lane::Calls, Method::Shard, group, request.to_wire().into(), deadline).await;
        outcome_of(node, answer)
    }

    /// Has a node carry out a call to itself, at most once; answers with what it says.
    ///
    /// # Errors
    /// [`CallError`] when it may not have heard.
    pub async fn tell(&self, node: NodeId, call: NodeCall) -> Result<Bytes, CallError> {
        if node == self.node {
            return Ok(self.handler.node_call(call).await);
        }
        let deadline = Instant::now() + NODE_CALL_WITHIN;
        let answer =
            self.links.call(node, Lane::Calls, Method::Node, META_GROUP, call.to_wire().into(), deadline).await;
        answer.map_err(|error| CallError::Lost(error.to_string()))
    }
}

/// What a call over a link came to.
fn outcome_of(node: NodeId, answer: Result<Bytes, LinkError>) -> Result<ShardOutcome, CallError> {
    match answer {
        Ok(bytes) => {
            ShardOutcome::decode_from(bytes).map_err(|error| CallError::Lost(format!("unreadable answer: {error}")))
        }
        // The node lives, and may lead: nobody should look elsewhere because of this.
        Err(LinkError::Busy(_)) => {
            let detail = format!("too much is under way at node {node}; try again shortly");
            Ok(ShardOutcome::Refused(Refusal::new(ErrorCode::Overloaded, detail)))
        }
        Err(error @ (LinkError::NotSent(_) | LinkError::Refused(_))) => Err(CallError::NotSent(error.to_string())),
        Err(error @ LinkError::Lost(_)) => Err(CallError::Lost(error.to_string())),
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failed_link_says_what_it_means_for_effects() {
        let of = |answer| outcome_of(NodeId(2), answer);
        let unknown = ShardOutcome::Refused(Refusal::new(ErrorCode::OutcomeUnknown, "not all members' lists show it"));
        assert_eq!(of(Ok(unknown.to_wire().into())), Ok(unknown), "the node answered: it is not to be shunned");
        let busy = of(Err(LinkError::Busy("the lane is full".into())));
        assert!(matches!(busy, Ok(ShardOutcome::Refused(refusal)) if refusal.code == ErrorCode::Overloaded));
        assert!(matches!(of(Err(LinkError::NotSent(String::new()))), Err(CallError::NotSent(_))));
        assert!(matches!(of(Err(LinkError::Refused(String::new()))), Err(CallError::NotSent(_))));
        assert!(matches!(of(Err(LinkError::Lost(String::new()))), Err(CallError::Lost(_))));
        assert!(matches!(of(Ok(Bytes::from_static(b"?"))), Err(CallError::Lost(_))));
    }
}
