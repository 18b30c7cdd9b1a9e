//! Nodes that go.
//!
//! Owns: having a node drain, or stay after all; replacing one; removing one.
//! Must not know: how replicas move away.
//! Invariants: a node is removed only when it holds nothing by the record, every shard's leader says that its group does
//! without it, and it does not decide over the record; who can't say so is taken for one that counts on it.

use super::Office;
use super::answer::{Asked, Problem, json};
use super::recorded::Named;
use super::status::standing;
use super::users::param;
use crate::api::error::ApiError;
use crate::operator_api::NodeChanged;
use crate::rpc::observed::observed;
use axum::extract::{RawPathParams, State};
use axum::http::Uri;
use axum::response::Response;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::{ChangeNode, ClusterState, MetaCommand, NodeInfo, NodeState};
use messenger_proto::rpc::{NodeCall, NodeStatus, StatusQuery};
use messenger_router::placement::plan::Observed;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Shards that are named, of those in the way.
const NAMED_MAX: usize = 8;

fn node_of(params: &RawPathParams) -> Result<NodeId, Problem> {
    let id: Option<u64> = param(params, "node_id")?;
    id.map(NodeId).ok_or_else(|| ApiError::internal("a route without a node").into())
}

/// Takes a node to a state, and says how it stands.
async fn take(office: &Office, node: NodeId, state: NodeState, fewer_replicas: bool) -> Result<NodeChanged, Problem> {
    let (deadline, change) = (Office::deadline(), ChangeNode { node, state, fewer_replicas });
    office.meta.decide(MetaCommand::Change(change), deadline).await?;
    let record = office.meta.record(deadline).await?;
    let state = record.node(node).map_or(state, |node| node.state);
    let shards = record.shards.iter().filter(|placed| placed.replicas.contains(&node)).count();
    Ok(NodeChanged { node_id: node.0, state: standing(state), shards })
}

/// `POST /admin/nodes/{node_id}/drain`
pub(super) async fn drain(
    State(office): State<Arc<Office>>,
    _: Named,
    uri: Uri,
    params: RawPathParams,
) -> Result<Response, Problem> {
    let mut asked = Asked::of(&uri)?;
    let fewer = asked.take("fewer_replicas", "must be true or false", |text| text.parse().ok()).unwrap_or(false);
    asked.finish()?;
    json(&take(&office, node_of(&params)?, NodeState::Draining, fewer).await?)
}

/// `POST /admin/nodes/{node_id}/undrain`
pub(super) async fn undrain(
    State(office): State<Arc<Office>>,
    _: Named,
    params: RawPathParams,
) -> Result<Response, Problem> {
    json(&take(&office, node_of(&params)?, NodeState::Active, false).await?)
}

/// `POST /admin/nodes/{node_id}/replace`
pub(super) async fn replace(
    State(office): State<Arc<Office>>,
    _: Named,
    uri: Uri,
    params: RawPathParams,
) -> Result<Response, Problem> {
    let mut asked = Asked::of(&uri)?;
    let with: Option<u64> = asked.id("with");
    asked.finish()?;
    let node = node_of(&params)?;
    let record = office.meta.record(Office::deadline()).await?;
    if let Some(why) = with.and_then(|with| unfit(&record, node, NodeId(with))) {
        return Err(ApiError::new(ErrorCode::Conflict, why).into());
    }
    json(&take(&office, node, NodeState::Draining, false).await?)
}

/// Why what a node holds can't go to another one.
fn unfit(record: &ClusterState, node: NodeId, with: NodeId) -> Option<String> {
    let fit = record.node(with).is_some_and(|with| with.state == NodeState::Active);
    if node == with || !fit {
        return Some(format!(
            "node {with} can't take its place: name another node that is active, or have one join first"
        ));
    }
    let held = |id: NodeId| record.shards.iter().filter(|placed| placed.replicas.contains(&id)).count();
    let least = record.nodes.iter().filter(|other| other.state == NodeState::Active && other.id != node);
    let least = least.min_by_key(|other| held(other.id))?;
    (held(with) > held(least.id)).then(|| {
        format!(
            "node {with} holds {} shards, and node {} only {}: replicas go to whoever holds the least, so name that one, or none",
            held(with),
            least.id,
            held(least.id)
        )
    })
}

/// `POST /admin/nodes/{node_id}/remove`
pub(super) async fn remove(
    State(office): State<Arc<Office>>,
    _: Named,
    params: RawPathParams,
) -> Result<Response, Problem> {
    let node = node_of(&params)?;
    let record = office.meta.record(Office::deadline()).await?;
    let goes = |node: &NodeInfo| matches!(node.state, NodeState::Draining | NodeState::Absent);
    let goes = record.node(node).is_some_and(goes);
    // The meta group says what else is wrong.
    if goes && let Some(why) = in_the_way(&office, &record, node).await {
        return Err(ApiError::new(ErrorCode::Conflict, why).into());
    }
    json(&take(&office, node, NodeState::Removed, false).await?)
}

/// Why a node that drains can't be removed yet.
async fn in_the_way(office: &Office, record: &ClusterState, node: NodeId) -> Option<String> {
    let (answers, _) = office.ask_all::<NodeStatus>(|_| NodeCall::Status(StatusQuery {})).await;
    let answers: Vec<NodeStatus> = answers.into_iter().map(|(_, status)| status).collect();
    let leads = answers.iter().flat_map(|status| &status.replicas).filter(|replica| replica.shard.is_none());
    let council = leads.filter_map(|replica| Some((replica.term, replica.members.as_ref()?))).max_by_key(|it| it.0);
    let decides = council.is_none_or(|(_, members)| members.joint || members.voters.contains(&node));
    why_not(record, node, &observed(answers.into_iter()), decides)
}

fn why_not(
    record: &ClusterState,
    node: NodeId,
    observed: &BTreeMap<ShardId, Observed>,
    decides: bool,
) -> Option<String> {
    let shards = |wanted: &dyn Fn(ShardId, bool) -> bool| {
        let placed = record.shards.iter().filter(|placed| wanted(placed.shard, placed.replicas.contains(&node)));
        placed.map(|placed| placed.shard).collect::<Vec<_>>()
    };
    let counts =
        |shard| observed.get(&shard).is_some_and(|seen| seen.voters.contains(&node) || seen.learners.contains(&node));
    let held = shards(&|shard, placed| placed || counts(shard));
    if !held.is_empty() {
        let paused = if record.moves_paused { "; moves are paused: resume them" } else { "" };
        return Some(format!(
            "shards {} still have replicas on the node; wait until they have moved{paused}",
            some(&held)
        ));
    }
    let silent = shards(&|shard, _| !observed.contains_key(&shard));
    if !silent.is_empty() {
        let what = "have no leader that answers, and may count on the node; start the nodes that are down";
        return Some(format!("shards {} {what}", some(&silent)));
    }
    decides.then(|| "the node still decides over the cluster's record; wait until another one does".to_owned())
}

fn some(shards: &[ShardId]) -> String {
    let named: Vec<String> = shards.iter().take(NAMED_MAX).map(|shard| shard.0.to_string()).collect();
    let rest = shards.len() - named.len();
    let more = if rest > 0 { format!(" and {rest} more") } else { String::new() };
    format!("{}{more}", named.join(", "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::cluster_state;

    #[test]
    fn what_a_node_holds_goes_where_there_is_least() {
        let mut record = cluster_state();
        let model = record.nodes[0].clone();
        record.nodes.extend([2, 3].map(|id| NodeInfo { id: NodeId(id), ..model.clone() }));
        let why = |record: &ClusterState, with| unfit(record, NodeId(1), NodeId(with));
        assert_eq!(why(&record, 2), None);
        assert!(why(&record, 1).is_some_and(|why| why.contains("another node")));
        assert!(why(&record, 9).is_some_and(|why| why.contains("join first")));
        record.shards[0].replicas = vec![NodeId(2)];
        assert!(why(&record, 2).is_some_and(|why| why.contains("node 3 only 0")));
        record.nodes[1].state = NodeState::Draining;
        assert!(why(&record, 2).is_some() && why(&record, 3).is_none());
    }

    #[test]
    fn a_node_goes_only_when_nothing_counts_on_it() {
        let mut record = cluster_state();
        record.shards.truncate(2);
        let seen = |voters: &[u64], learners: &[u64]| Observed {
            voters: voters.iter().copied().map(NodeId).collect(),
            learners: learners.iter().copied().map(NodeId).collect(),
            joint: false,
        };
        let groups = |second: Observed| BTreeMap::from([(ShardId(0), seen(&[1], &[])), (ShardId(1), second)]);
        let why = |node, observed: &BTreeMap<_, _>, decides| why_not(&record, NodeId(node), observed, decides);
        assert_eq!(why(2, &groups(seen(&[1], &[])), false), None);
        assert!(why(1, &groups(seen(&[2], &[])), false).is_some_and(|why| why.contains("shards 0, 1 still")));
        assert!(why(2, &groups(seen(&[1, 2], &[])), false).is_some_and(|why| why.contains("shards 1 still")));
        assert!(why(2, &groups(seen(&[1], &[2])), false).is_some_and(|why| why.contains("shards 1 still")));
        let silent = BTreeMap::from([(ShardId(0), seen(&[1], &[]))]);
        assert!(why(2, &silent, false).is_some_and(|why| why.contains("shards 1 have no leader")));
        assert!(why(2, &groups(seen(&[1], &[])), true).is_some_and(|why| why.contains("record")));
        let many: Vec<ShardId> = (0..20).map(ShardId).collect();
        assert_eq!(some(&many), "0, 1, 2, 3, 4, 5, 6, 7 and 12 more");
    }
}
