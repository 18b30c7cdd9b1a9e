//! ② Calls to the leader of a shard.
//!
//! Owns: the router's handle, and the loop of one call: find whom to ask, try, judge, pause, until an outcome or the
//! deadline.
//! Must not know: what commands and queries mean, how they travel.
//! Invariants: a command is tried again under the same id; one attempt of a call is under way at a time; calls are one
//! to a request, since a request's answers come together and a fast one would wait for a slow one (links to peers batch
//! below the transport).

use crate::admission::{Gate, Limits, Pass};
use crate::directory::{Directory, RouteCell};
use crate::effort::{AttemptResult, Effort, Verdict};
use crate::metric_names as names;
use crate::subscribe::{self, Interest, Subscription};
use crate::transport::{CallError, DynTransport, ShardTransport};
use crate::weight;
use messenger_proto::command::{Command, CommandResult};
use messenger_proto::ephemeral::{PresenceAnswer, PresenceCall};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::ClusterState;
use messenger_proto::query::{Query, QueryResult};
use messenger_proto::rpc::{SessionCall, SessionOutcome, ShardCall, ShardOutcome, ShardRequest};
use messenger_proto::slot::Slot;
use std::sync::Arc;
use tokio::sync::watch;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The way to every shard; a cheap handle to clone.
#[derive(Clone)]
pub struct Router {
    shared: Arc<Shared>,
}

/// What the clones of a router share.
pub(crate) struct Shared {
    pub(crate) transport: Arc<dyn DynTransport>,
    pub(crate) directory: Directory,
    gate: Arc<Gate>,
    limits: Limits,
}

impl Router {
    /// A router over a transport; placement is followed as the watch changes.
    #[must_use]
    pub fn new(transport: impl ShardTransport, cluster: watch::Receiver<Arc<ClusterState>>) -> Self {
        Self::with_limits(transport, cluster, Limits::default())
    }

    /// [`Router::new`] with other bounds of memory.
    #[must_use]
    pub fn with_limits(
        transport: impl ShardTransport,
        cluster: watch::Receiver<Arc<ClusterState>>,
        limits: Limits,
    ) -> Self {
        let (transport, directory) = (Arc::new(transport), Directory::new(cluster));
        Self { shared: Arc::new(Shared { transport, directory, gate: Gate::new(limits), limits }) }
    }

    /// The shard that owns a slot; shard 0 while the cluster has none.
    #[must_use]
    pub fn shard_of(&self, slot: Slot) -> ShardId {
        self.shared.directory.shard_of(slot)
    }

    /// Who leads a shard, as far as this node knows.
    #[must_use]
    pub fn leader_of(&self, shard: ShardId) -> Option<NodeId> {
        self.shared.directory.route(shard)?.leader()
    }

    /// Has the slot's shard carry out a command, once however often it is tried.
    ///
    /// # Errors
    /// The shard's refusal; `overloaded` when it was not tried; at the deadline `unavailable` if it surely had no
    /// effect, else `outcome_unknown`.
    pub async fn command(&self, slot: Slot, command: Command, deadline: Instant) -> CommandResult {
        match self.shared.forward(slot, ShardCall::Command(command), deadline).await? {
            ShardOutcome::Reply(reply) => Ok(reply),
            _ => Err(mismatch()),
        }
    }

    /// Asks the leader of the slot's shard.
    ///
    /// # Errors
    /// The shard's refusal; `overloaded`, or `unavailable` at the deadline.
    pub async fn query(&self, slot: Slot, query: Query, deadline: Instant) -> QueryResult {
        match self.shared.forward(slot, ShardCall::Query(query), deadline).await? {
            ShardOutcome::Answer(answer) => Ok(answer),
            _ => Err(mismatch()),
        }
    }

    /// Asks many shards with one call per node where possible; answers stand in the order asked.
    pub async fn scatter(&self, queries: Vec<(ShardId, Query)>, deadline: Instant) -> Vec<QueryResult> {
        self.shared.scatter(queries, deadline).await
    }

    /// Tells the leader of a user's shard about a connection.
    ///
    /// # Errors
    /// As [`Router::command`].
    pub async fn session(&self, slot: Slot, call: SessionCall, deadline: Instant) -> Result<SessionOutcome, Refusal> {
        match self.shared.forward(slot, ShardCall::Session(call), deadline).await? {
            ShardOutcome::Session(outcome) => Ok(outcome),
            _ => Err(mismatch()),
        }
    }

    /// Asks the leader of a user's shard who is there.
    ///
    /// # Errors
    /// As [`Router::query`].
    pub async fn presence(
        &self,
        shard: ShardId,
        call: PresenceCall,
        deadline: Instant,
    ) -> Result<PresenceAnswer, Refusal> {
        match self.shared.forward_to(shard, ShardCall::Presence(call), deadline).await? {
            ShardOutcome::Presence(answer) => Ok(answer),
            _ => Err(mismatch()),
        }
    }

    /// The nodes of the cluster, this one included, as far as it knows.
    #[must_use]
    pub fn nodes(&self) -> Vec<NodeId> {
        self.shared.directory.nodes()
    }

    /// Subscribes to a shard's stream; to be called within a Tokio runtime. Ends when the [`Subscription`] is dropped.
    #[must_use]
    pub fn subscribe(&self, shard: ShardId) -> (Interest, Subscription) {
        subscribe::start(Arc::clone(&self.shared), shard, self.shared.limits)
    }
}

/// An answer of another kind than the call.
pub(crate) fn mismatch() -> Refusal {
    Refusal::new(ErrorCode::Internal, "the shard gave an answer of another kind")
}

/// Counts a refusal that is the router's own.
fn refuse(refusal: Refusal) -> Refusal {
    metrics::counter!(names::REFUSALS, names::CODE => refusal.code.as_str()).increment(1);
    refusal
}

impl Shared {
    async fn forward(&self, slot: Slot, call: ShardCall, deadline: Instant) -> Result<ShardOutcome, Refusal> {
        let _pass = self.admit(1, weight::of_call(&call))?;
        let effort = Effort::new(&call, deadline);
        if !self.directory.ready(deadline).await {
            return Err(refuse(effort.give_up()));
        }
        self.persist(self.directory.shard_of(slot), &call, effort).await
    }

    /// [`Shared::forward`] for a caller that knows the shard, and so the cluster has some.
    async fn forward_to(&self, shard: ShardId, call: ShardCall, deadline: Instant) -> Result<ShardOutcome, Refusal> {
        let _pass = self.admit(1, weight::of_call(&call))?;
        let effort = Effort::new(&call, deadline);
        self.persist(shard, &call, effort).await
    }

    /// Room for calls.
    pub(crate) fn admit(&self, calls: usize, bytes: usize) -> Result<Pass, Refusal> {
        let refusal = || refuse(Refusal::new(ErrorCode::Overloaded, "this node has too many requests in hand"));
        self.gate.admit(calls, bytes).ok_or_else(refusal)
    }

    /// Tries until there is an outcome or no time left.
    pub(crate) async fn persist(
        &self,
        shard: ShardId,
        call: &ShardCall,
        mut effort: Effort,
    ) -> Result<ShardOutcome, Refusal> {
        loop {
            let Some((route, node)) = self.target(shard, &effort).await else {
                return Err(refuse(effort.give_up()));
            };
            let sent_at = Instant::now();
            let Some(until) = effort.begin(sent_at) else {
                return Err(refuse(effort.give_up()));
            };
            let result = self.attempt(node, shard, call, until).await;
            if let Verdict::Done(outcome) = settle(&mut effort, &route, node, sent_at, result) {
                return outcome;
            }
        }
    }

    /// Where to make the next attempt, and when: returns once it is time.
    async fn target(&self, shard: ShardId, effort: &Effort) -> Option<(Arc<RouteCell>, NodeId)> {
        if let Some(then) = effort.not_before() {
            sleep_until(then.min(effort.deadline())).await;
        }
        // Looked up every time, since this is what picks up a changed placement.
        let route = self.directory.route(shard)?;
        let node = route.target(effort.deadline()).await?;
        Some((route, node))
    }

    async fn attempt(&self, node: NodeId, shard: ShardId, call: &ShardCall, until: Instant) -> AttemptResult {
        let requests = vec![request(shard, call.clone(), until)];
        let no_answer = || Err(CallError::Lost("no answer".into()));
        match timeout_at(until, self.transport.call(node, requests, until)).await {
            Ok(mut results) => results.pop().unwrap_or_else(no_answer),
            Err(_) => no_answer(),
        }
    }
}

/// A request that may take until then.
pub(crate) fn request(shard: ShardId, call: ShardCall, until: Instant) -> ShardRequest {
    let remaining = until.saturating_duration_since(Instant::now()).as_millis();
    ShardRequest { shard, deadline_ms: u32::try_from(remaining).unwrap_or(u32::MAX).max(1), call }
}

/// Draws the conclusions from an attempt.
pub(crate) fn settle(
    effort: &mut Effort,
    route: &RouteCell,
    node: NodeId,
    sent_at: Instant,
    result: AttemptResult,
) -> Verdict {
    if let Err(error) = &result {
        tracing::debug!(%node, %error, "shard call failed");
    }
    let (verdict, lesson) = effort.judge(result, Instant::now(), rand::random());
    route.learn(node, lesson, sent_at);
    if let Verdict::Again(reason) = verdict {
        metrics::counter!(names::RETRIES, names::REASON => reason).increment(1);
    }
    verdict
}
