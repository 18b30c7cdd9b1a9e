//! How calls and streams reach a node.
//!
//! Owns: the trait the process implements over its own groups and its links to peers, and its type-erased form.
//! Must not know: which node leads a shard, retries.
//! Invariants: `NotSent` is said only when the other side surely never saw the request.

use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::rpc::{InterestChange, ShardOutcome, ShardRequest, StreamItem};
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use tokio::sync::mpsc;
use tokio::time::Instant;

/// Why a call has no outcome.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum CallError {
    /// The request surely had no effect.
    #[error("not sent: {0}")]
    NotSent(String),
    /// The request may have had effects.
    #[error("answer lost: {0}")]
    Lost(String),
}

/// An open subscription to a shard at one node: what the subscriber wants to hear goes in, the stream comes out. It is
/// over when the receiver ends.
pub type ShardStream = (mpsc::Sender<InterestChange>, mpsc::Receiver<StreamItem>);

/// Reaches any node, this one included.
pub trait ShardTransport: Send + Sync + 'static {
    /// This node.
    fn local(&self) -> NodeId;

    /// Carries requests to a node; one result per request, in order. All are answered together, so slow company delays
    /// an answer. Nothing needs to be answered after `deadline`; each request carries the time that is left of it.
    /// Dropping the future gives up on the answers only.
    fn call(
        &self,
        node: NodeId,
        requests: Vec<ShardRequest>,
        deadline: Instant,
    ) -> impl Future<Output = Vec<Result<ShardOutcome, CallError>>> + Send;

    /// Subscribes to a shard's stream at a node that holds a replica; both channels are bounded.
    fn open(&self, node: NodeId, shard: ShardId) -> impl Future<Output = Result<ShardStream, CallError>> + Send;
}

impl<T: ShardTransport> ShardTransport for Arc<T> {
    fn local(&self) -> NodeId {
        T::local(self)
    }
    fn call(
        &self,
        node: NodeId,
        requests: Vec<ShardRequest>,
        deadline: Instant,
    ) -> impl Future<Output = Vec<Result<ShardOutcome, CallError>>> + Send {
        T::call(self, node, requests, deadline)
    }
    fn open(&self, node: NodeId, shard: ShardId) -> impl Future<Output = Result<ShardStream, CallError>> + Send {
        T::open(self, node, shard)
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A [`ShardTransport`] behind a pointer, so that [`crate::Router`] has no type parameter.
pub(crate) trait DynTransport: Send + Sync + 'static {
    fn local(&self) -> NodeId;
    fn call(
        &self,
        node: NodeId,
        requests: Vec<ShardRequest>,
        deadline: Instant,
    ) -> Boxed<'_, Vec<Result<ShardOutcome, CallError>>>;
    fn open(&self, node: NodeId, shard: ShardId) -> Boxed<'_, Result<ShardStream, CallError>>;
}

impl<T: ShardTransport> DynTransport for T {
    fn local(&self) -> NodeId {
        ShardTransport::local(self)
    }
    fn call(
        &self,
        node: NodeId,
        requests: Vec<ShardRequest>,
        deadline: Instant,
    ) -> Boxed<'_, Vec<Result<ShardOutcome, CallError>>> {
        Box::pin(ShardTransport::call(self, node, requests, deadline))
    }
    fn open(&self, node: NodeId, shard: ShardId) -> Boxed<'_, Result<ShardStream, CallError>> {
        Box::pin(ShardTransport::open(self, node, shard))
    }
}
