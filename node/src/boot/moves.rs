//! Where replicas live, while the cluster changes.
//!
//! Owns: this node's part in moves: its leaders change their groups, its replicas come and go; and, while it leads the meta
//! group, the next change of the placement, and of what a silent node is taken for.
//! Must not know: the rules (see [`messenger_router::placement::plan`] and [`messenger_raft::group::members`]).
//! Invariants: nothing is kept in memory that matters: the record says what should be, the groups say what is. A replica
//! ends only after its group's leader, sure that it leads, and the record in force both said that it has no part any
//! more, and it was stopped before they were asked.

use super::BootError;
use super::absence::Absence;
use crate::rpc::meta::MetaClient;
use crate::rpc::observed::observed;
use crate::rpc::transport::NodeTransport;
use futures_util::future::join_all;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::{ClusterState, MetaCommand, NodeState, ReplacePlacement};
use messenger_proto::rpc::{GroupMembers, MembersQuery, NodeCall, NodeStatus, StatusQuery};
use messenger_proto::wire::Wire;
use messenger_raft::group::balance::Voter;
use messenger_raft::group::host::Host;
use messenger_raft::group::replica::Replica;
use messenger_raft::types::META_GROUP;
use messenger_router::placement::plan::{self, Caps, Observed};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, timeout};

/// Between two looks at what is to be done here.
const LOOK_EVERY: Duration = Duration::from_millis(250);
/// Between two steps of the placement.
const PLAN_EVERY: Duration = Duration::from_millis(500);
/// How long another node may take to answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// A node that was silent for longer was not heard of.
const SILENCE_MAX_MS: u64 = 2_000;
/// How long the meta group may take.
const META_WITHIN: Duration = Duration::from_secs(2);

/// This node's part in moves; cheap to clone.
#[derive(Clone)]
pub struct Moves {
    /// Its groups.
    pub host: Host,
    /// The way to every node.
    pub transport: NodeTransport,
    /// The way to the record in force.
    pub meta: MetaClient,
    /// How many shards may be on the move.
    pub caps: Caps,
    /// After how long of silence a node is given up; never without.
    pub replace_after: Option<Duration>,
}

impl Moves {
    /// Changes the groups that are led here, as long as the node lives.
    pub async fn steer(&self) {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            self.host.steer_meta().await;
            if self.host.must_steer()
                && let Some(record) = self.record().await
            {
                self.host.steer_shards(&record).await;
            }
        }
    }

    /// Has replicas come and go here, as long as the node lives.
    ///
    /// # Errors
    /// [`BootError`] when storage fails.
    pub async fn settle(&self) -> Result<(), BootError> {
        let mut tick = interval(LOOK_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tick.tick().await;
            let record = self.host.record().borrow().clone();
            let placed = placed_on(&record, self.host.node());
            for shard in &placed {
                if self.host.shard(*shard).is_none() {
                    tracing::info!(%shard, "a replica begins here, with nothing yet");
                    self.host.start_shard(*shard).await?;
                }
            }
            for replica in self.host.replicas() {
                let Some(shard) = replica.group().shard().filter(|shard| !placed.contains(shard)) else { continue };
                if self.has_no_part(&record, shard).await {
                    self.host.retire(shard, self.surely_has_no_part(shard)).await?;
                }
            }
        }
    }

    async fn record(&self) -> Option<ClusterState> {
        self.meta.record(Instant::now() + META_WITHIN).await.ok()
    }

    /// Whether a shard's leader says that this node is no member of its group.
    async fn has_no_part(&self, record: &ClusterState, shard: ShardId) -> bool {
        let this = self.host.node();
        let present = record.nodes.iter().filter(|node| node.state != NodeState::Removed && node.id != this);
        let ask = |node: NodeId| async move { self.ask(node, NodeCall::Members(MembersQuery { shard })).await };
        let answers: Vec<Option<GroupMembers>> = join_all(present.map(|node| ask(node.id))).await;
        let mut answers = answers.into_iter().flatten().peekable();
        answers.peek().is_some()
            && answers.all(|members| !members.voters.contains(&this) && !members.learners.contains(&this))
    }

    /// The same, and by the record in force it should not be one either.
    async fn surely_has_no_part(&self, shard: ShardId) -> bool {
        let Some(record) = self.record().await else { return false };
        !placed_on(&record, self.host.node()).contains(&shard) && self.has_no_part(&record, shard).await
    }

    async fn ask<T: Wire>(&self, node: NodeId, call: NodeCall) -> Option<T> {
        let answer = timeout(ANSWER_WITHIN, self.transport.tell(node, call)).await;
        T::decode_from(answer.ok()?.ok()?).ok()
    }

    /// Changes the placement step by step, whenever this node leads the meta group.
    pub async fn plan(&self) {
        let mut tick = interval(PLAN_EVERY);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // The epoch at which nothing was left to do: what should be follows from the record alone.
        let mut done = 0;
        let mut absence = Absence::default();
        loop {
            tick.tick().await;
            let record = self.host.record().borrow().clone();
            let Some(heard) = self.heard() else {
                absence.forget();
                continue;
            };
            let now = Instant::now();
            absence.look(&record, &heard, now);
            if let Some(change) = absence.change(&record, self.replace_after, now) {
                let (node, state) = (change.node, change.state.as_str());
                tracing::warn!(%node, state, "a node's silence changes what it is taken for");
                self.decide(MetaCommand::Change(change)).await;
            } else if record.epoch != done && self.step(&record, &absence.silent(now)).await {
                done = record.epoch;
            }
        }
    }

    /// Who answers this node as the meta group's leader, itself among them; `None` if it is not.
    fn heard(&self) -> Option<BTreeSet<NodeId>> {
        let meta = self.host.group(META_GROUP).filter(Replica::leads)?;
        let answered = |node: &Voter| node.silence_ms.is_some_and(|silence| silence <= SILENCE_MAX_MS);
        let (_, known) = meta.members();
        let others = known.iter().filter(|node| answered(node)).map(|node| node.node);
        Some(others.chain([self.host.node()]).collect())
    }

    async fn decide(&self, command: MetaCommand) {
        if let Err(refusal) = self.meta.decide(command, Instant::now() + META_WITHIN).await {
            // As when the record has changed since: the next look sees.
            tracing::info!(why = refusal.detail, "the record was not changed");
        }
    }

    /// Takes the next step; whether all is where it should be.
    async fn step(&self, record: &Arc<ClusterState>, silent: &BTreeSet<NodeId>) -> bool {
        let from = Arc::clone(record);
        let target = match tokio::task::spawn_blocking(move || plan::target(&from)).await {
            Ok(Ok(Some(target))) => target,
            Ok(Ok(None)) | Err(_) => return false,
            Ok(Err(error)) => {
                tracing::error!(%error, "no placement can be computed");
                return true;
            }
        };
        if plan::is_reached(record, &target) {
            return true;
        }
        let observed = self.observe(record).await;
        let Some(plan) = plan::next(record, &target, &observed, silent, self.caps) else { return false };
        let (based_on, nodes) = (record.epoch, record.nodes.clone());
        let replace = ReplacePlacement { based_on, nodes, shards: plan.shards, replication: plan.replication };
        self.decide(MetaCommand::Replace(replace)).await;
        false
    }

    /// What the leaders say of their groups.
    async fn observe(&self, record: &ClusterState) -> BTreeMap<ShardId, Observed> {
        let present = record.nodes.iter().filter(|node| node.state != NodeState::Removed);
        let ask = |node: NodeId| async move { self.ask(node, NodeCall::Status(StatusQuery {})).await };
        let answers: Vec<Option<NodeStatus>> = join_all(present.map(|node| ask(node.id))).await;
        observed(answers.into_iter().flatten())
    }
}

/// The shards that should have a replica on a node.
fn placed_on(record: &ClusterState, node: NodeId) -> BTreeSet<ShardId> {
    record.shards.iter().filter(|placed| placed.replicas.contains(&node)).map(|placed| placed.shard).collect()
}
