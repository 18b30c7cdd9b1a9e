//! Moves of replicas and leaders, as operators see and change them.
//!
//! Owns: showing what is to move; pausing; cancelling a move, and having cancelled ones planned again; handing a shard's
//! leadership to another of its replicas.
//! Must not know: by which rules moves are planned, or how a group carries one out.
//! Invariants: a change is made to the record as it was read, or not at all; what is shown is what the planner would do,
//! computed by its own rule.

use super::Office;
use super::answer::{Asked, Problem, json};
use super::recorded::Named;
use super::users::param;
use crate::api::error::ApiError;
use crate::operator_api::{MoveState, MovesChanged, MovesPlan, PlannedMove, ShardChanged};
use crate::rpc::observed::observed;
use axum::extract::{RawPathParams, State};
use axum::http::Uri;
use axum::response::Response;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::{ChangeMoves, ClusterState, MetaCommand, NodeState, ReplacePlacement, ShardPlacement};
use messenger_proto::rpc::{NodeCall, NodeStatus, StatusQuery};
use messenger_router::placement::plan::{self, Observed};
use messenger_router::placement::prefer;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

fn ids<'a>(nodes: impl IntoIterator<Item = &'a NodeId>) -> Vec<u64> {
    nodes.into_iter().map(|node| node.0).collect()
}

fn conflict(why: String) -> Problem {
    ApiError::new(ErrorCode::Conflict, why).into()
}

fn shard_of(params: &RawPathParams) -> Result<ShardId, Problem> {
    let id: Option<u32> = param(params, "shard_id")?;
    id.map(ShardId).ok_or_else(|| ApiError::internal("a route without a shard").into())
}

async fn observe(office: &Office) -> BTreeMap<ShardId, Observed> {
    let (answers, _) = office.ask_all::<NodeStatus>(|_| NodeCall::Status(StatusQuery {})).await;
    observed(answers.into_iter().map(|(_, status)| status))
}

/// The moves from where groups are to where they should be in the end.
fn moves(record: &ClusterState, target: &plan::Plan, seen: &BTreeMap<ShardId, Observed>) -> Vec<PlannedMove> {
    let of = |(placed, wanted): (&ShardPlacement, &ShardPlacement)| {
        let group = seen.get(&placed.shard);
        let meant: BTreeSet<NodeId> = placed.replicas.iter().copied().collect();
        let from = group.map_or_else(|| meant.clone(), |group| group.voters.clone());
        let (state, to) = if plan::in_flight(placed, group) {
            (MoveState::UnderWay, meant)
        } else {
            let state = if plan::is_held(record, placed) { MoveState::Cancelled } else { MoveState::Waiting };
            (state, wanted.replicas.iter().copied().collect())
        };
        (from != to || state == MoveState::UnderWay).then(|| PlannedMove {
            shard: placed.shard.0,
            from: ids(&from),
            to: ids(&to),
            state,
        })
    };
    record.shards.iter().zip(&target.shards).filter_map(of).collect()
}

async fn view(office: &Office, record: ClusterState) -> Result<Response, Problem> {
    let seen = observe(office).await;
    let paused = record.moves_paused;
    // A placement of thousands of shards takes its time.
    let planned = tokio::task::spawn_blocking(move || match plan::target(&record) {
        Ok(Some(target)) => moves(&record, &target, &seen),
        Ok(None) | Err(_) => Vec::new(),
    });
    let moves = planned.await.map_err(|error| ApiError::internal(error.to_string()))?;
    json(&MovesPlan { paused, moves })
}

/// `GET /admin/moves`
pub(super) async fn planned(State(office): State<Arc<Office>>) -> Result<Response, Problem> {
    let record = office.meta.record(Office::deadline()).await?;
    view(&office, record).await
}

/// Puts shards in the place of a record's, unless it has changed since.
async fn replace(office: &Office, record: &ClusterState, shards: Vec<ShardPlacement>) -> Result<(), Problem> {
    if shards == record.shards {
        return Ok(());
    }
    let (based_on, nodes) = (record.epoch, record.nodes.clone());
    let replace = ReplacePlacement { based_on, nodes, shards, replication: 0 };
    office.meta.decide(MetaCommand::Replace(replace), Office::deadline()).await?;
    Ok(())
}

/// `POST /admin/moves/rebalance`
pub(super) async fn rebalance(State(office): State<Arc<Office>>, _: Named) -> Result<Response, Problem> {
    let record = office.meta.record(Office::deadline()).await?;
    let freed = record.shards.iter().map(|placed| ShardPlacement { held: false, ..placed.clone() });
    let shards: Vec<ShardPlacement> = freed.collect();
    replace(&office, &record, shards.clone()).await?;
    view(&office, ClusterState { shards, ..record }).await
}

/// `POST /admin/shards/{shard_id}/cancel`
pub(super) async fn cancel(
    State(office): State<Arc<Office>>,
    _: Named,
    params: RawPathParams,
) -> Result<Response, Problem> {
    let shard = shard_of(&params)?;
    let record = office.meta.record(Office::deadline()).await?;
    let seen = observe(&office).await;
    let stays = stay(&record, shard, seen.get(&shard)).map_err(conflict)?;
    let mut shards = record.shards.clone();
    shards.iter_mut().filter(|placed| placed.shard == shard).for_each(|placed| *placed = stays.clone());
    replace(&office, &record, shards).await?;
    json(&ShardChanged { shard: shard.0, replicas: ids(&stays.replicas) })
}

/// A shard that stays where its group is.
fn stay(record: &ClusterState, shard: ShardId, seen: Option<&Observed>) -> Result<ShardPlacement, String> {
    let placed = record.shards.iter().find(|placed| placed.shard == shard);
    let placed = placed.ok_or_else(|| format!("there is no shard {shard}"))?;
    let Some(group) = seen else {
        return Err(format!("shard {shard} has no leader that answers, so nobody knows where it is; try again"));
    };
    if group.joint {
        return Err(format!("shard {shard} is about to arrive and can't be held back any more"));
    }
    let goes = |id: &&NodeId| record.node(**id).is_none_or(|node| node.state != NodeState::Active);
    if let Some(node) = group.voters.iter().find(goes) {
        return Err(format!(
            "shard {shard} moves away from node {node}, which drains or was given up; undrain that first"
        ));
    }
    let mut replicas: Vec<NodeId> = group.voters.iter().copied().collect();
    // Whoever was to lead still does, if it is there.
    let rank = |id: &NodeId| placed.replicas.iter().position(|listed| listed == id).unwrap_or(usize::MAX);
    replicas.sort_by_key(rank);
    Ok(ShardPlacement { replicas, held: true, ..placed.clone() })
}

/// `POST /admin/shards/{shard_id}/transfer`
pub(super) async fn transfer(
    State(office): State<Arc<Office>>,
    _: Named,
    uri: Uri,
    params: RawPathParams,
) -> Result<Response, Problem> {
    let shard = shard_of(&params)?;
    let mut asked = Asked::of(&uri)?;
    let to: Option<u64> = asked.id("to");
    asked.finish()?;
    let to = to.ok_or_else(|| ApiError::field("to", "must name the node that is to lead"))?;
    let record = Arc::new(office.meta.record(Office::deadline()).await?);
    let from = Arc::clone(&record);
    let wished = tokio::task::spawn_blocking(move || prefer::prefer(&from, shard, NodeId(to)));
    let wished = wished.await.map_err(|error| ApiError::internal(error.to_string()))?;
    let shards = wished.map_err(|error| conflict(error.to_string()))?;
    let replicas = shards.iter().find(|placed| placed.shard == shard).map(|placed| ids(&placed.replicas));
    replace(&office, &record, shards).await?;
    json(&ShardChanged { shard: shard.0, replicas: replicas.unwrap_or_default() })
}

/// `POST /admin/moves/pause`
pub(super) async fn pause(State(office): State<Arc<Office>>, _: Named) -> Result<Response, Problem> {
    switch(&office, true).await
}

/// `POST /admin/moves/resume`
pub(super) async fn resume(State(office): State<Arc<Office>>, _: Named) -> Result<Response, Problem> {
    switch(&office, false).await
}

async fn switch(office: &Office, paused: bool) -> Result<Response, Problem> {
    office.meta.decide(MetaCommand::Moves(ChangeMoves { paused }), Office::deadline()).await?;
    json(&MovesChanged { paused })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cluster_state;
    use messenger_proto::meta::NodeInfo;

    fn seen(voters: &[u64], joint: bool) -> Observed {
        Observed { voters: voters.iter().copied().map(NodeId).collect(), learners: BTreeSet::new(), joint }
    }

    /// Two shards, the first of which is on its way from node 1 to node 2.
    fn moving() -> ClusterState {
        let mut record = cluster_state();
        let model = record.nodes[0].clone();
        record.nodes.push(NodeInfo { id: NodeId(2), ..model });
        record.shards.truncate(2);
        record.shards[0].replicas = vec![NodeId(2)];
        record
    }

    #[test]
    fn a_move_is_cancelled_while_that_can_be() {
        let record = moving();
        let stays = stay(&record, ShardId(0), Some(&seen(&[1], false))).unwrap();
        assert_eq!((stays.replicas, stays.held), (vec![NodeId(1)], true));
        let why = |record: &ClusterState, shard, group: Option<Observed>| {
            stay(record, ShardId(shard), group.as_ref()).unwrap_err()
        };
        assert!(why(&record, 7, None).contains("no shard 7"));
        assert!(why(&record, 0, None).contains("no leader"));
        assert!(why(&record, 0, Some(seen(&[1], true))).contains("about to arrive"));
        let mut drains = record;
        drains.nodes[0].state = NodeState::Draining;
        assert!(why(&drains, 0, Some(seen(&[1], false))).contains("undrain"));
    }

    #[test]
    fn what_is_to_move_is_told_with_how_far_it_is() {
        let mut record = moving();
        let target = plan::Plan { shards: record.shards.clone(), replication: 1 };
        let groups = |first| BTreeMap::from([(ShardId(0), first), (ShardId(1), seen(&[1], false))]);
        let under_way = moves(&record, &target, &groups(seen(&[1], false)));
        assert_eq!(under_way, [PlannedMove { shard: 0, from: vec![1], to: vec![2], state: MoveState::UnderWay }]);
        assert_eq!(moves(&record, &target, &groups(seen(&[2], false))), []);
        record.shards[0].replicas = vec![NodeId(1)];
        let state = |record: &ClusterState| moves(record, &target, &groups(seen(&[1], false)))[0].state;
        assert_eq!(state(&record), MoveState::Waiting);
        record.shards[0].held = true;
        assert_eq!(state(&record), MoveState::Cancelled);
    }
}
