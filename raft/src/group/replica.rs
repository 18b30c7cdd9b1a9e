//! One replica of one group.
//!
//! Owns: the consensus handle and the tasks around it: proposer, read gate, tail, outbox.
//! Must not know: which groups the node should have, or who calls.
//! Invariants: a call is answered by a leader only; an answer whose outbox rows are still under way waits for them, up
//! to the caller's deadline, and is unknown after it.

use super::balance::Voter;
use super::members::Members;
use super::outbox::{CrossShard, Outbox};
use super::outcome::{Lost, Proposed};
use super::proposer::{Admission, Proposer, Raft};
use super::reads::{ReadGate, Readable};
use super::restraint::Restraint;
use super::tail::{Subscriber, Tail};
use super::timer::Timer;
use crate::clock::HybridClock;
use crate::machine;
use crate::machine::tables::TableError;
use crate::store::{GroupReader, StateMachine, Store};
use crate::transport::Links;
use crate::types::{GroupId, META_GROUP, TypeConfig};
use messenger_proto::command::{Command, CommandResult, Reply};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{LogIndex, NodeId, Term};
use messenger_proto::query::{Query, QueryResult};
use messenger_proto::rpc::{
    GroupMembers, InterestChange, LearnerLag, Redirect, ReplicaRole, ReplicaStatus, ShardOutcome, StreamItem,
};
use openraft::{Instant as _, RaftMetrics, ServerState, async_runtime::watch::WatchReceiver};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, timeout_at};

/// What an answer needs to reach its caller, who counts the leader as lost when none came in time.
const ANSWER_TAKES: Duration = Duration::from_millis(100);

/// A replica; cheap to clone.
#[derive(Clone)]
pub struct Replica {
    group: GroupId,
    raft: Raft<StateMachine>,
    proposer: Proposer,
    gate: ReadGate,
    tail: Tail,
    outbox: Outbox,
    reader: GroupReader,
    clock: HybridClock,
    store: Store,
    restraint: Restraint,
    has_stopped: Arc<AtomicBool>,
    /// Dropped to stop the tasks.
    stop: Arc<watch::Sender<()>>,
}

/// What a replica is made of.
pub struct Parts {
    /// The group.
    pub group: GroupId,
    /// Its consensus handle.
    pub raft: Raft<StateMachine>,
    /// What it may say, if it was destroyed here before.
    pub restraint: Restraint,
    /// Its rows.
    pub reader: GroupReader,
    /// Where its events go.
    pub tail: Tail,
    /// Its rows for other shards.
    pub outbox: Outbox,
    /// Its messages that disappear.
    pub timer: Timer,
    /// The node's clock.
    pub clock: HybridClock,
    /// The node's bound on waiting commands.
    pub admission: Admission,
    /// The way to other shards.
    pub cross: Arc<dyn CrossShard>,
    /// The way to its other replicas.
    pub links: Links,
    /// Where it is kept; told when its consensus core ends by itself.
    pub store: Store,
}

impl Replica {
    /// Starts a replica's tasks on the current runtime.
    #[must_use]
    pub fn start(parts: Parts) -> Self {
        let Parts { group, raft, restraint, reader, tail, outbox, timer, clock, admission, cross, links, store } =
            parts;
        let proposer = Proposer::spawn(raft.clone(), clock.clone(), admission);
        let gate = ReadGate::spawn(raft.clone(), group, links);
        let (stop, stopped) = watch::channel(());
        let stop = Arc::new(stop);
        let has_stopped = Arc::default();
        let replica = Self {
            group,
            raft,
            proposer,
            gate,
            tail,
            outbox,
            reader,
            clock,
            store: store.clone(),
            restraint,
            has_stopped,
            stop,
        };
        tokio::spawn(replica.outbox_task(cross, stopped.clone()));
        tokio::spawn(replica.timer_task(timer.clone(), stopped.clone()));
        tokio::spawn(replica.core_task(store, timer, stopped));
        replica
    }

    fn outbox_task(
        &self,
        cross: Arc<dyn CrossShard>,
        mut stopped: watch::Receiver<()>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let raft = self.raft.clone();
        let leads = move || raft.is_leader();
        let stopped = async move {
            // A value or the sender's end: both mean stop.
            let _ = stopped.changed().await;
        };
        self.outbox.clone().work(self.proposer.clone(), cross, leads, stopped)
    }

    fn timer_task(&self, timer: Timer, mut stopped: watch::Receiver<()>) -> impl Future<Output = ()> + Send + use<> {
        let raft = self.raft.clone();
        let leads = move || raft.is_leader();
        let stopped = async move {
            // A value or the sender's end: both mean stop.
            let _ = stopped.changed().await;
        };
        timer.work(self.proposer.clone(), self.clock.clone(), leads, stopped)
    }

    /// A new leader looks at the outbox and the timers it inherited; and when the core ends by itself, by an error or a panic, the node
    /// must end too: it would go on without this replica, and nobody would know.
    fn core_task(
        &self,
        store: Store,
        timer: Timer,
        mut stopped: watch::Receiver<()>,
    ) -> impl Future<Output = ()> + Send + use<> {
        let mut metrics = self.raft.server_metrics();
        let (raft, group, outbox) = (self.raft.clone(), self.group, self.outbox.clone());
        async move {
            let follow = async {
                while metrics.changed().await.is_ok() {
                    if metrics.borrow_watched().state == ServerState::Leader {
                        outbox.wake();
                        timer.wake();
                    }
                }
            };
            tokio::select! {
                biased;
                // A value or the sender's end: both mean stop, and come before the core is told.
                _ = stopped.changed() => {}
                () = follow => {
                    let state = raft.metrics().borrow_watched().running_state.clone();
                    let why = state.err().map_or_else(|| "it panicked".to_owned(), |fatal| fatal.to_string());
                    store.fail(&format!("running group {group}"), &why);
                }
            }
        }
    }

    /// The group.
    #[must_use]
    pub fn group(&self) -> GroupId {
        self.group
    }

    /// The consensus handle, for the transport.
    #[must_use]
    pub fn raft(&self) -> &Raft<StateMachine> {
        &self.raft
    }

    /// The replica's rows, as far as it has applied.
    #[must_use]
    pub fn reader(&self) -> &GroupReader {
        &self.reader
    }

    /// Follows the replica's events from here on.
    #[must_use]
    pub fn subscribe(&self) -> Subscriber {
        self.tail.subscribe()
    }

    /// [`Replica::subscribe`] for a caller that has the channel for changes.
    #[must_use]
    pub fn follow(&self, changes: mpsc::Receiver<InterestChange>) -> mpsc::Receiver<StreamItem> {
        self.tail.follow(changes)
    }

    /// A look at the group's state here.
    #[must_use]
    pub fn metrics(&self) -> RaftMetrics<TypeConfig> {
        self.raft.metrics().borrow_watched().clone()
    }

    /// How this replica is.
    #[must_use]
    pub fn status(&self) -> ReplicaStatus {
        let metrics = self.metrics();
        let role = match metrics.state {
            ServerState::Leader => ReplicaRole::Leader,
            ServerState::Follower => ReplicaRole::Follower,
            ServerState::Candidate => ReplicaRole::Candidate,
            ServerState::Learner => ReplicaRole::Learner,
            ServerState::Shutdown => ReplicaRole::Stopped,
        };
        // Both of one moment, which the metrics may trail.
        let applied = self.store.applied(self.group);
        ReplicaStatus {
            shard: self.group.shard(),
            role,
            leader: metrics.current_leader.map(NodeId),
            term: Term(metrics.current_term),
            applied: applied.map_or(LogIndex(0), |applied| applied.index),
            last: LogIndex(metrics.last_log_index.unwrap_or(0)),
            digest: applied.map(|applied| applied.digest),
            members: if self.leads() { self.applied_members() } else { None },
            learners: if self.leads() { learners(&metrics) } else { Vec::new() },
        }
    }

    fn applied_members(&self) -> Option<GroupMembers> {
        let membership = self.store.membership(self.group)?;
        let Members { voters, learners, joint } = members_of(membership.membership());
        Some(GroupMembers { voters: voters.into_iter().collect(), learners: learners.into_iter().collect(), joint })
    }

    /// Who belongs to the group, as committed by now; `None` if this replica does not lead, or can't be sure of it.
    pub async fn confirmed_members(&self) -> Option<GroupMembers> {
        match self.gate.pass().await {
            Readable::Yes => self.applied_members(),
            Readable::NotLeader(_) | Readable::Overloaded => None,
        }
    }

    /// Whether anybody ever told this replica of its group.
    #[must_use]
    pub fn is_known(&self) -> bool {
        self.store.membership(self.group).is_some()
    }

    /// Whether this replica is one of those that decide, as far as it has applied. One that is not yet has no events to
    /// tell, perhaps for long.
    #[must_use]
    pub fn votes(&self) -> bool {
        let membership = self.store.membership(self.group);
        membership
            .is_some_and(|membership| membership.membership().voter_ids().any(|node| node == *self.raft.node_id()))
    }

    /// Who leads, as far as this replica knows.
    #[must_use]
    pub fn leader(&self) -> Option<NodeId> {
        self.raft.metrics().borrow_watched().current_leader.map(NodeId)
    }

    /// The term in which this replica leads, if it does.
    #[must_use]
    pub fn leading_term(&self) -> Option<Term> {
        let metrics = self.raft.metrics();
        let metrics = metrics.borrow_watched();
        // One look: a second one, behind a writer that waits for this one to end, would never end.
        (metrics.state == ServerState::Leader).then_some(Term(metrics.current_term))
    }

    /// Whether this replica leads.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.raft.is_leader()
    }

    /// What this leader knows of the group's voters.
    #[must_use]
    pub fn voters(&self) -> Vec<Voter> {
        let metrics = self.metrics();
        let voters = metrics.membership_config.membership().voter_ids().collect();
        known(&metrics, voters)
    }

    /// The group's membership as this leader works with it, and what it knows of each of its members.
    #[must_use]
    pub fn members(&self) -> (Members, Vec<Voter>) {
        let metrics = self.metrics();
        let membership = metrics.membership_config.membership();
        let all = membership.nodes().map(|(node, _)| *node).collect();
        (members_of(membership), known(&metrics, all))
    }

    /// Asks another voter to take over.
    pub async fn transfer(&self, to: NodeId) {
        if let Err(error) = self.raft.trigger().transfer_leader(to.0).await {
            tracing::warn!(group = %self.group, %to, %error, "leadership can't be handed over");
        }
    }

    /// ③ Carries out a command.
    ///
    /// # Errors
    /// [`Lost`] when it may have been carried out.
    pub async fn command(&self, command: &Command, deadline: Instant) -> Result<ShardOutcome, Lost> {
        match timeout_at(deadline, self.proposer.propose(command)).await {
            Err(_) => Err(Lost("the deadline passed before it was applied".into())),
            Ok(Err(lost)) => Err(lost),
            Ok(Ok(Proposed::NotLeader(leader))) => Ok(ShardOutcome::Redirect(Redirect { leader })),
            // A node that takes nothing, as its disk is almost full, still knows who does.
            Ok(Ok(Proposed::Overloaded)) if !self.leads() => {
                Ok(ShardOutcome::Redirect(Redirect { leader: self.leader() }))
            }
            Ok(Ok(Proposed::Overloaded)) => Ok(ShardOutcome::Refused(overloaded())),
            Ok(Ok(Proposed::Applied(result))) => self.settle(result, deadline).await,
        }
    }

    async fn settle(&self, result: CommandResult, deadline: Instant) -> Result<ShardOutcome, Lost> {
        let reply = match result {
            Ok(reply) => reply,
            Err(refusal) => return Ok(ShardOutcome::Refused(refusal)),
        };
        if let Reply { barrier: Some(barrier), .. } = &reply
            && timeout_at(deadline.checked_sub(ANSWER_TAKES).unwrap_or(deadline), self.outbox.passed(barrier))
                .await
                .is_err()
        {
            let detail = "it is stored, but not all members' thread lists show it yet";
            return Ok(ShardOutcome::Refused(Refusal::new(ErrorCode::OutcomeUnknown, detail)));
        }
        Ok(ShardOutcome::Reply(reply))
    }

    /// Answers a query.
    pub async fn query(&self, query: &Query, deadline: Instant) -> ShardOutcome {
        match timeout_at(deadline, self.gate.pass()).await {
            Err(_) => return ShardOutcome::Redirect(Redirect { leader: None }),
            Ok(Readable::NotLeader(leader)) => return ShardOutcome::Redirect(Redirect { leader }),
            Ok(Readable::Overloaded) => return ShardOutcome::Refused(overloaded()),
            Ok(Readable::Yes) => {}
        }
        let mut progress = self.outbox.progress();
        let limit = deadline.checked_sub(ANSWER_TAKES).unwrap_or(deadline);
        loop {
            progress.mark_unchanged();
            let (replica, query) = (self.clone(), query.clone());
            // Rows that are not in memory take the disk's time, and a page of them many times that.
            match tokio::task::spawn_blocking(move || replica.answer(query)).await {
                // What was read while it was being destroyed may be nothing.
                Ok(Ok(_)) if self.has_stopped.load(Ordering::Acquire) => {
                    return ShardOutcome::Redirect(Redirect { leader: None });
                }
                Ok(Ok(Some(Ok(answer)))) => return ShardOutcome::Answer(answer),
                Ok(Ok(Some(Err(refusal)))) => return ShardOutcome::Refused(refusal),
                Ok(Ok(None)) => self.outbox.wake(),
                Ok(Err(error)) => return self.unreadable(&error.to_string()),
                Err(error) => return self.unreadable(&error.to_string()),
            }
            if !matches!(timeout_at(limit, progress.changed()).await, Ok(Ok(()))) {
                return ShardOutcome::Refused(arriving());
            }
        }
    }

    /// `None` until what the query names may be shown to its user.
    fn answer(&self, query: Query) -> Result<Option<QueryResult>, TableError> {
        let view = self.reader.view();
        if self.group == META_GROUP {
            return machine::meta::answer(&view, &query).map(Some);
        }
        let query = machine::answerable(&view, query)?;
        query.map(|query| machine::answer(&view, &query, self.clock.now())).transpose()
    }

    fn unreadable(&self, why: &str) -> ShardOutcome {
        self.reader.fail("answering a query", why);
        ShardOutcome::Refused(Refusal::new(ErrorCode::Internal, "the shard's data can't be read"))
    }

    /// Whether it has again what it once had, if it was destroyed here before; see [`super::restraint`].
    #[must_use]
    pub fn is_whole(&self) -> bool {
        self.restraint.is_lifted(self.raft.metrics().borrow_watched().last_applied)
    }

    /// Whether it may stand for election, from now on; in vain while it is not whole.
    pub fn campaigns(&self, may: bool) {
        self.raft.runtime_config().elect(may && self.is_whole());
    }

    /// Stands for election now, unless a leader is known to be alive.
    pub async fn campaign(&self) {
        if self.is_whole()
            && let Err(error) = self.raft.trigger().elect(true).await
        {
            tracing::warn!(group = %self.group, %error, "no election could be started");
        }
    }

    /// Stops the replica's tasks and its consensus core.
    pub async fn stop(&self) {
        self.has_stopped.store(true, Ordering::Release);
        self.stop.send_replace(());
        self.tail.close();
        if let Err(error) = self.raft.shutdown().await {
            tracing::warn!(group = %self.group, %error, "the group did not stop cleanly");
        }
    }
}

fn known(metrics: &RaftMetrics<TypeConfig>, nodes: Vec<u64>) -> Vec<Voter> {
    let last = metrics.last_log_index.unwrap_or(0);
    let one = |node: u64| {
        let matched = metrics.replication.as_ref().and_then(|all| Some(all.get(&node)?.as_ref()?.index())).unwrap_or(0);
        let answered = metrics.heartbeat.as_ref().and_then(|all| *all.get(&node)?);
        let silence_ms = answered.map(|at| at.elapsed().as_millis() as u64);
        Voter { node: NodeId(node), lag: last.saturating_sub(matched), silence_ms }
    };
    nodes.into_iter().map(one).collect()
}

fn learners(metrics: &RaftMetrics<TypeConfig>) -> Vec<LearnerLag> {
    let learners = metrics.membership_config.membership().learner_ids().collect();
    known(metrics, learners).into_iter().map(|it| LearnerLag { node: it.node, entries: it.lag }).collect()
}

fn members_of(membership: &openraft::Membership<u64, openraft::BasicNode>) -> Members {
    Members {
        voters: membership.voter_ids().map(NodeId).collect(),
        learners: membership.learner_ids().map(NodeId).collect(),
        joint: membership.get_joint_config().len() > 1,
    }
}

fn overloaded() -> Refusal {
    Refusal::new(ErrorCode::Overloaded, "too much is waiting at the shard's leader; try again shortly")
}

fn arriving() -> Refusal {
    Refusal::new(ErrorCode::Unavailable, "the thread does not know its new member yet; try again shortly")
}
