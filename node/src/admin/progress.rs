//! How far moves are, and how long they may still take.
//!
//! Owns: one row for each shard on the move, from what leaders say; the estimate, from how it went between two looks.
//! Must not know: why a shard moves, or how it is shown.
//! Invariants: pure but for the instants it is given; an estimate is told only where something was seen to get less, or to
//! be sent; what is remembered is bounded by the shards on the move.

use crate::operator_api::{MoveRow, MoveStep};
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::ClusterState;
use messenger_proto::rpc::{NodeStatus, ReplicaStatus, SendingSnapshot};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// The leader of a shard's group that is the newest anyone knows, and its node.
fn leader(answers: &BTreeMap<NodeId, NodeStatus>, shard: ShardId) -> Option<(NodeId, &ReplicaStatus)> {
    let all = answers.iter().flat_map(|(node, status)| status.replicas.iter().map(move |replica| (*node, replica)));
    let leading = all.filter(|(_, replica)| replica.shard == Some(shard) && replica.members.is_some());
    leading.max_by_key(|(_, replica)| replica.term)
}

/// The shards on the move whose leaders answered.
pub(super) fn moves(record: &ClusterState, answers: &BTreeMap<NodeId, NodeStatus>) -> Vec<MoveRow> {
    let row = |shard: ShardId, wanted: &BTreeSet<NodeId>| {
        let (node, replica) = leader(answers, shard)?;
        let members = replica.members.as_ref()?;
        let voters: BTreeSet<NodeId> = members.voters.iter().copied().collect();
        if voters == *wanted && !members.joint && members.learners.is_empty() {
            return None;
        }
        let comes: Vec<NodeId> = wanted.difference(&voters).copied().collect();
        let from: Vec<u64> = voters.difference(wanted).map(|node| node.0).collect();
        let lags = replica.learners.iter().filter(|learner| comes.contains(&learner.node));
        let entries_left = lags.map(|learner| learner.entries).max();
        let sending = answers.get(&node).and_then(|status| status.sending.as_ref()).filter(|it| it.shard == shard);
        let step = match (members.joint, entries_left, sending) {
            (true, ..) => MoveStep::Switches,
            (_, _, Some(_)) => MoveStep::Copies,
            (_, Some(_), _) => MoveStep::CatchesUp,
            (_, None, _) if comes.is_empty() => MoveStep::Ends,
            _ => MoveStep::Begins,
        };
        let bytes_left = sending.map(|it| it.whole.saturating_sub(it.sent));
        let to = comes.iter().map(|node| node.0).collect();
        let estimate_s = sending.and_then(estimate);
        Some(MoveRow { shard: shard.0, from, to, step, entries_left, bytes_left, estimate_s })
    };
    let of =
        |placed: &messenger_proto::meta::ShardPlacement| row(placed.shard, &placed.replicas.iter().copied().collect());
    record.shards.iter().filter_map(of).collect()
}

/// Seconds until a snapshot has gone, if it goes on as it did.
fn estimate(sending: &SendingSnapshot) -> Option<u64> {
    let left = u128::from(sending.whole.saturating_sub(sending.sent));
    let left_ms = (left * u128::from(sending.elapsed_ms)).checked_div(u128::from(sending.sent))?;
    Some(u64::try_from(left_ms.div_ceil(1_000)).unwrap_or(u64::MAX))
}

/// Between two looks that are compared, at least.
const APART: Duration = Duration::from_millis(500);
/// What was seen longer ago says nothing.
const FRESH: Duration = Duration::from_mins(1);

/// What was seen of the shards on the move.
#[derive(Debug, Default)]
pub(super) struct Pace(BTreeMap<u32, (Instant, u64)>);

impl Pace {
    /// Adds estimates to rows, from what was seen before, and takes note of what is seen now.
    pub(super) fn estimate(&mut self, rows: Vec<MoveRow>, now: Instant) -> Vec<MoveRow> {
        let on_the_move: BTreeSet<u32> = rows.iter().map(|row| row.shard).collect();
        self.0.retain(|shard, (at, _)| on_the_move.contains(shard) && now.duration_since(*at) <= FRESH);
        rows.into_iter().map(|row| self.one(row, now)).collect()
    }

    fn one(&mut self, mut row: MoveRow, now: Instant) -> MoveRow {
        let Some(left) = row.entries_left else { return row };
        let (at, before) = *self.0.entry(row.shard).or_insert((now, left));
        let apart = now.duration_since(at);
        if row.estimate_s.is_none() && before > left && !apart.is_zero() {
            let ms = u128::from(left) * apart.as_millis() / u128::from(before - left);
            row.estimate_s = Some(u64::try_from(ms.div_ceil(1_000)).unwrap_or(u64::MAX));
        }
        if apart >= APART {
            self.0.insert(row.shard, (now, left));
        }
        row
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cluster_state;
    use messenger_proto::ids::{LogIndex, Term};
    use messenger_proto::rpc::{GroupMembers, LearnerLag, ReplicaRole};

    fn says(members: GroupMembers, lag: Option<u64>, sending: Option<SendingSnapshot>) -> BTreeMap<NodeId, NodeStatus> {
        let replica = ReplicaStatus {
            shard: Some(ShardId(0)),
            role: ReplicaRole::Leader,
            leader: Some(NodeId(1)),
            term: Term(1),
            applied: LogIndex(7),
            last: LogIndex(9),
            digest: None,
            members: Some(members),
            learners: lag.into_iter().map(|entries| LearnerLag { node: NodeId(2), entries }).collect(),
        };
        let (node, replicas) = (NodeId(1), vec![replica]);
        let status = NodeStatus { node, ready: true, replicas, short_of_disk: false, draining: false, sending };
        [(NodeId(1), status)].into()
    }

    fn members(voters: &[u64], learners: &[u64], joint: bool) -> GroupMembers {
        let ids = |of: &[u64]| of.iter().copied().map(NodeId).collect();
        GroupMembers { voters: ids(voters), learners: ids(learners), joint }
    }

    #[test]
    fn each_step_of_a_move_is_told() {
        let mut record = cluster_state();
        record.shards.truncate(1);
        assert_eq!(moves(&record, &says(members(&[1], &[], false), None, None)), []);
        record.shards[0].replicas = vec![NodeId(2)];
        let row = |answers: &BTreeMap<_, _>| moves(&record, answers).pop().unwrap();
        let begins = row(&says(members(&[1], &[], false), None, None));
        assert_eq!((begins.step, begins.from, begins.to), (MoveStep::Begins, vec![1], vec![2]));
        let sending = SendingSnapshot { shard: ShardId(0), sent: 250, whole: 1_000, elapsed_ms: 2_000 };
        let copies = row(&says(members(&[1], &[2], false), Some(9), Some(sending)));
        assert_eq!((copies.step, copies.bytes_left, copies.estimate_s), (MoveStep::Copies, Some(750), Some(6)));
        let elsewhere = SendingSnapshot { shard: ShardId(1), sent: 0, whole: 1, elapsed_ms: 0 };
        let catches_up = row(&says(members(&[1], &[2], false), Some(9), Some(elsewhere)));
        assert_eq!(
            (catches_up.step, catches_up.entries_left, catches_up.estimate_s),
            (MoveStep::CatchesUp, Some(9), None)
        );
        assert_eq!(row(&says(members(&[1, 2], &[], true), None, None)).step, MoveStep::Switches);
        assert_eq!(row(&says(members(&[2], &[1], false), None, None)).step, MoveStep::Ends);
        assert_eq!(moves(&record, &BTreeMap::new()), [], "nobody who knows answers");
    }

    #[test]
    fn what_gets_less_is_estimated_and_nothing_else() {
        let begun = Instant::now();
        let row = |entries| MoveRow {
            shard: 3,
            from: vec![],
            to: vec![],
            step: MoveStep::CatchesUp,
            entries_left: Some(entries),
            bytes_left: None,
            estimate_s: None,
        };
        let mut pace = Pace::default();
        let mut look =
            |entries, seconds| pace.estimate(vec![row(entries)], begun + Duration::from_secs(seconds))[0].estimate_s;
        assert_eq!(look(1_000, 0), None);
        assert_eq!(look(900, 1), Some(9));
        assert_eq!(look(950, 2), None);
        assert_eq!(look(750, 4), Some(8));
        assert_eq!(look(10, 200), None, "too long ago");
        pace.estimate(vec![], begun);
        assert!(pace.0.is_empty());
    }
}
