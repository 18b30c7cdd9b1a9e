//! What a leader does about who belongs to its group.
//!
//! Owns: carrying out the next step of each group that this node leads.
//! Must not know: which step that is (see [`crate::group::members`] and [`crate::group::council`]), or how a placement is
//! computed.
//! Invariants: nothing is remembered between two looks: the record says what should be, the group what is, and so any
//! leader goes on where another one was stopped; a step that takes too long is waited for no longer, not undone.

use super::Host;
use crate::group::members::{self, Step};
use crate::group::replica::Replica;
use crate::group::{council, proposer};
use crate::store::StateMachine;
use crate::types::{GroupId, META_GROUP};
use futures_util::future::join_all;
use messenger_proto::ids::NodeId;
use messenger_proto::meta::ClusterState;
use openraft::{BasicNode, ChangeMembers};
use std::collections::BTreeSet;
use std::time::Duration;
use tokio::time::timeout;

/// How long a look waits for a step.
const STEP_WITHIN: Duration = Duration::from_secs(5);

impl Host {
    /// Whether some shard that is led here is not, by the record as this node knows it, where it should be.
    #[must_use]
    pub fn must_steer(&self) -> bool {
        let record = self.record().borrow().clone();
        let shards = self.replicas().into_iter().filter(|replica| replica.group() != META_GROUP && replica.leads());
        shards.into_iter().any(|replica| next(self.node(), &record, &replica).is_some())
    }

    /// Takes the next step of the meta group, if it is led here.
    pub async fn steer_meta(&self) {
        let record = self.record().borrow().clone();
        self.steer(&record, |group| group == META_GROUP).await;
    }

    /// Takes the next step of every shard that is led here, as far as there is one; `record` is the one in force, as a
    /// look at an older one could take back what was done since.
    pub async fn steer_shards(&self, record: &ClusterState) {
        self.steer(record, |group| group != META_GROUP).await;
    }

    async fn steer(&self, record: &ClusterState, wanted: impl Fn(GroupId) -> bool) {
        if record.epoch == 0 {
            return;
        }
        let led = self.replicas().into_iter().filter(|replica| wanted(replica.group()) && replica.leads());
        let steps = led.filter_map(|replica| Some((next(self.node(), record, &replica)?, replica)));
        join_all(steps.map(|(step, replica)| take(record, replica, step))).await;
    }
}

fn next(this: NodeId, record: &ClusterState, replica: &Replica) -> Option<Step> {
    let (now, known) = replica.members();
    if let Some(shard) = replica.group().shard() {
        let placed = record.shards.get(shard.0 as usize)?;
        return members::next(this, &placed.replicas.iter().copied().collect(), &BTreeSet::new(), &now, &known);
    }
    let level = known.iter().filter(|follower| members::level(this, follower)).map(|follower| follower.node);
    let (voters, followers) = council::choose(record, &now.voters, &level.collect());
    members::next(this, &voters, &followers, &now, &known)
}

async fn take(record: &ClusterState, replica: Replica, step: Step) {
    let group = replica.group();
    tracing::info!(%group, ?step, "changing who belongs to the group");
    let raft = replica.raft();
    let taken = async {
        match step {
            Step::HandOver(to) => {
                replica.transfer(to).await;
                Ok(())
            }
            Step::Learn(node) => learn(record, raft, node).await,
            Step::Vote { voters, retain } => change(raft, ChangeMembers::ReplaceAllVoters(ids(&voters)), retain).await,
            Step::Forget(nodes) => change(raft, ChangeMembers::RemoveNodes(ids(&nodes)), true).await,
        }
    };
    match timeout(STEP_WITHIN, taken).await {
        Ok(Ok(())) => {}
        // As when another one is under way, or leadership just went: the next look sees.
        Ok(Err(why)) => tracing::info!(%group, why, "the group did not change"),
        Err(_) => tracing::warn!(%group, "changing who belongs to the group takes long"),
    }
}

fn ids(nodes: &BTreeSet<NodeId>) -> BTreeSet<u64> {
    nodes.iter().map(|node| node.0).collect()
}

async fn learn(record: &ClusterState, raft: &proposer::Raft<StateMachine>, node: NodeId) -> Result<(), String> {
    let Some(info) = record.node(node) else { return Err(format!("node {node} is not in the record")) };
    let added = raft.add_learner(node.0, BasicNode::new(&info.peer_addr), false).await;
    added.map(drop).map_err(|error| error.to_string())
}

async fn change(
    raft: &proposer::Raft<StateMachine>,
    members: ChangeMembers<u64, BasicNode>,
    retain: bool,
) -> Result<(), String> {
    raft.change_membership(members, retain).await.map(drop).map_err(|error| error.to_string())
}
