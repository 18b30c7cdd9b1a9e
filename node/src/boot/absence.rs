//! Nodes that do not answer.
//!
//! Owns: for how long each node has been silent, as the meta group's leader hears them; and which of them is to be given up,
//! or taken for one that is there again.
//! Must not know: how nodes are heard, or how their replicas are made anew elsewhere.
//! Invariants: pure; a leader that is new waits the whole time anew, so that a node is given up late rather than early; none
//! is given up while its replicas would have nowhere to go.

use messenger_proto::ids::NodeId;
use messenger_proto::meta::{ChangeNode, ClusterState, NodeState};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// After so long nothing begins to move to a node that does not answer.
const SILENT_AFTER: Duration = Duration::from_secs(10);

/// When each node was last heard of.
#[derive(Debug, Default)]
pub(super) struct Absence {
    heard: BTreeMap<NodeId, Instant>,
}

impl Absence {
    /// Takes note of who was heard just now; of the others the time runs from the first look.
    pub(super) fn look(&mut self, record: &ClusterState, heard: &BTreeSet<NodeId>, now: Instant) {
        let is_of_it = |id: &NodeId| record.node(*id).is_some_and(|node| node.state != NodeState::Removed);
        self.heard.retain(|id, _| is_of_it(id));
        for node in record.nodes.iter().filter(|node| is_of_it(&node.id)) {
            let last = self.heard.entry(node.id).or_insert(now);
            if heard.contains(&node.id) {
                *last = now;
            }
        }
    }

    /// Nothing is known any more.
    pub(super) fn forget(&mut self) {
        self.heard.clear();
    }

    /// Those that nothing should begin to move to.
    pub(super) fn silent(&self, now: Instant) -> BTreeSet<NodeId> {
        self.silent_for(SILENT_AFTER, now).collect()
    }

    fn silent_for(&self, time: Duration, now: Instant) -> impl Iterator<Item = NodeId> {
        self.heard.iter().filter(move |(_, last)| now.duration_since(**last) >= time).map(|(node, _)| *node)
    }

    /// A node to be taken for one that is there again, or to be given up after `replace_after` of silence; `None` of that
    /// for never.
    pub(super) fn change(
        &self,
        record: &ClusterState,
        replace_after: Option<Duration>,
        now: Instant,
    ) -> Option<ChangeNode> {
        let change = |node, state| ChangeNode { node, state, fewer_replicas: false };
        let in_state = |state| record.nodes.iter().filter(move |node| node.state == state).map(|node| node.id);
        let silent = self.silent(now);
        let back = in_state(NodeState::Absent).find(|id| self.heard.contains_key(id) && !silent.contains(id));
        if let Some(node) = back.filter(|id| self.heard.get(id) == Some(&now)) {
            return Some(change(node, NodeState::Active));
        }
        let gone: BTreeSet<NodeId> = self.silent_for(replace_after?, now).collect();
        let room = in_state(NodeState::Active).count() > record.replication as usize;
        let lost = in_state(NodeState::Active).find(|id| gone.contains(id)).filter(|_| room);
        lost.map(|node| change(node, NodeState::Absent))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cluster_state;

    const AFTER: Duration = Duration::from_mins(10);

    fn record(states: &[NodeState], replication: u32) -> ClusterState {
        let mut record = cluster_state();
        let model = record.nodes[0].clone();
        record.nodes = (1..)
            .zip(states)
            .map(|(id, state)| messenger_proto::meta::NodeInfo { id: NodeId(id), state: *state, ..model.clone() })
            .collect();
        record.replication = replication;
        record
    }

    fn ids(ids: &[u64]) -> BTreeSet<NodeId> {
        ids.iter().copied().map(NodeId).collect()
    }

    fn changed(change: Option<ChangeNode>) -> Option<(u64, NodeState)> {
        change.map(|change| (change.node.0, change.state))
    }

    #[test]
    fn a_node_is_given_up_after_its_time_if_enough_are_left_and_comes_back() {
        let begun = Instant::now();
        let four = record(&[NodeState::Active; 4], 3);
        let mut absence = Absence::default();
        absence.look(&four, &ids(&[]), begun);
        let late = begun + AFTER;
        absence.look(&four, &ids(&[1, 2, 3]), late);
        assert_eq!(absence.silent(late), ids(&[4]));
        assert_eq!(changed(absence.change(&four, Some(AFTER), late)), Some((4, NodeState::Absent)));
        assert_eq!(changed(absence.change(&four, Some(AFTER * 2), late)), None, "not yet");
        assert_eq!(changed(absence.change(&four, None, late)), None, "never");
        let three = record(&[NodeState::Removed, NodeState::Active, NodeState::Active, NodeState::Active], 3);
        assert_eq!(changed(absence.change(&three, Some(AFTER), late)), None, "there is nowhere to go");
        let given_up = record(&[NodeState::Active, NodeState::Active, NodeState::Active, NodeState::Absent], 3);
        assert_eq!(changed(absence.change(&given_up, Some(AFTER), late)), None);
        absence.look(&given_up, &ids(&[1, 2, 3, 4]), late);
        assert_eq!(changed(absence.change(&given_up, Some(AFTER), late)), Some((4, NodeState::Active)));
    }

    #[test]
    fn a_new_leader_waits_anew_and_an_old_node_is_no_news() {
        let begun = Instant::now();
        let four = record(&[NodeState::Active; 4], 3);
        let mut absence = Absence::default();
        absence.look(&four, &ids(&[]), begun);
        absence.forget();
        absence.look(&four, &ids(&[]), begun + AFTER);
        assert_eq!(changed(absence.change(&four, Some(AFTER), begun + AFTER)), None);
        let given_up = record(&[NodeState::Active, NodeState::Active, NodeState::Active, NodeState::Absent], 3);
        let later = begun + AFTER + Duration::from_secs(1);
        absence.look(&given_up, &ids(&[1, 2, 3]), later);
        assert_eq!(changed(absence.change(&given_up, Some(AFTER), later)), None, "it was not heard of");
    }
}
