//! How the cluster is.
//!
//! Owns: asking each node of its own replicas, and putting together what all say.
//! Must not know: how it is shown.
//! Invariants: a node that doesn't answer within the bound is listed as unreachable, and delays nobody longer.

use super::progress::{self, Pace};
use crate::operator_api::{
    ClusterStatus, MetaRow, MoveRow, MovesRow, NodeRow, NodeStanding, ReplicaRow, Role, ShardRow,
};
use crate::readiness::Readiness;
use crate::rpc::handler::NodeHandler;
use crate::rpc::observed::observed;
use crate::rpc::transport::NodeTransport;
use futures_util::future::join_all;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::{ClusterState, NodeInfo, NodeState};
use messenger_proto::rpc::{NodeCall, NodeStatus, ReplicaRole, ReplicaStatus, StatusQuery};
use messenger_proto::slot::SlotMap;
use messenger_proto::wire::Wire;
use messenger_router::placement::plan::{self, Progress};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, timeout};

/// How long a node may take to answer.
const WITHIN: Duration = Duration::from_secs(1);

/// Where cluster status comes from.
pub struct StatusSource {
    handler: NodeHandler,
    transport: NodeTransport,
    readiness: Readiness,
    pace: Mutex<Pace>,
}

impl StatusSource {
    /// A source over this node and its links.
    #[must_use]
    pub fn new(handler: NodeHandler, transport: NodeTransport, readiness: Readiness) -> Self {
        Self { handler, transport, readiness, pace: Mutex::default() }
    }

    /// Why this node isn't ready, if so.
    #[must_use]
    pub fn why_not_ready(&self) -> Option<&'static str> {
        self.readiness.why_not()
    }

    /// Asks every node and puts the answers together.
    pub async fn collect(&self) -> ClusterStatus {
        let record = self.handler.host().record().borrow().clone();
        let ask = |node: &NodeInfo| {
            let id = node.id;
            async move { (id, self.ask(id).await) }
        };
        let answers: BTreeMap<NodeId, NodeStatus> = join_all(record.nodes.iter().map(ask))
            .await
            .into_iter()
            .filter_map(|(id, answer)| answer.map(|answer| (id, answer)))
            .collect();
        let (from, seen) = (Arc::clone(&record), observed(answers.values().cloned()));
        // A placement of thousands of shards takes its time.
        let progress = tokio::task::spawn_blocking(move || match plan::target(&from) {
            Ok(Some(target)) => plan::progress(&from, &target, &seen),
            Ok(None) | Err(_) => Progress::default(),
        });
        let under_way = progress::moves(&record, &answers);
        let under_way = self.pace.lock().unwrap_or_else(PoisonError::into_inner).estimate(under_way, Instant::now());
        assemble(&record, &answers, progress.await.unwrap_or_default(), under_way)
    }

    async fn ask(&self, node: NodeId) -> Option<NodeStatus> {
        let call = self.transport.tell(node, NodeCall::Status(StatusQuery {}));
        let bytes = timeout(WITHIN, call).await.ok()?.ok()?;
        NodeStatus::decode_from(bytes).ok()
    }
}

fn assemble(
    record: &ClusterState,
    answers: &BTreeMap<NodeId, NodeStatus>,
    progress: Progress,
    under_way: Vec<MoveRow>,
) -> ClusterStatus {
    let nodes = record.nodes.iter().map(|node| node_row(node, answers.get(&node.id))).collect();
    let map = SlotMap::new(record.shards.len() as u32);
    let present = record.nodes.iter().filter(|node| node.state != NodeState::Removed);
    let meta = MetaRow {
        leader: leader(answers, None),
        replicas: present.map(|node| replica_row(node.id, replica_of(answers, node.id, None))).collect(),
    };
    let shards = record.shards.iter().map(|placed| {
        let of = |node: &NodeId| replica_of(answers, *node, Some(placed.shard));
        let slots = map.map_or(0..0, |map| map.slots_of(placed.shard));
        ShardRow {
            id: placed.shard.0,
            slots: [slots.start, slots.end.saturating_sub(1)],
            leader: leader(answers, Some(placed.shard)),
            replicas: placed.replicas.iter().map(|node| replica_row(*node, of(node))).collect(),
        }
    });
    let Progress { in_flight, to_move } = progress;
    let not_spread = plan::not_spread(record).into_iter().map(|shard| shard.0).collect();
    let moves = MovesRow { paused: record.moves_paused, in_flight, to_move, shards: under_way, not_spread };
    ClusterStatus { nodes, meta, moves, shards: shards.collect() }
}

fn replica_of(answers: &BTreeMap<NodeId, NodeStatus>, node: NodeId, shard: Option<ShardId>) -> Option<&ReplicaStatus> {
    answers.get(&node)?.replicas.iter().find(|replica| replica.shard == shard)
}

/// The leader of a shard's group, or of the meta group.
fn leader(answers: &BTreeMap<NodeId, NodeStatus>, shard: Option<ShardId>) -> Option<u64> {
    let all = answers.values().flat_map(|status| &status.replicas).filter(|replica| replica.shard == shard);
    let newest = all.filter(|replica| replica.leader.is_some()).max_by_key(|replica| replica.term)?;
    newest.leader.map(|leader| leader.0)
}

fn node_row(node: &NodeInfo, answer: Option<&NodeStatus>) -> NodeRow {
    let state = match answer {
        _ if node.state == NodeState::Removed => NodeStanding::Removed,
        None if node.state == NodeState::Absent => NodeStanding::Absent,
        None => NodeStanding::Unreachable,
        Some(answer) if answer.draining => NodeStanding::Draining,
        Some(answer) if !answer.ready => NodeStanding::Starting,
        Some(_) => standing(node.state),
    };
    NodeRow {
        id: node.id.0,
        zone: node.zone.clone(),
        client_addr: node.client_addr.clone(),
        peer_addr: node.peer_addr.clone(),
        admin_addr: node.admin_addr.clone(),
        state,
        short_of_disk: answer.is_some_and(|answer| answer.short_of_disk),
    }
}

/// How a node stands by the record.
pub(super) fn standing(state: NodeState) -> NodeStanding {
    match state {
        NodeState::Active => NodeStanding::Active,
        NodeState::Draining => NodeStanding::Draining,
        NodeState::Removed => NodeStanding::Removed,
        NodeState::Absent => NodeStanding::Absent,
    }
}

fn role(role: ReplicaRole) -> Role {
    match role {
        ReplicaRole::Leader => Role::Leader,
        ReplicaRole::Follower => Role::Follower,
        ReplicaRole::Candidate => Role::Candidate,
        ReplicaRole::Learner => Role::Learner,
        ReplicaRole::Stopped => Role::Stopped,
    }
}

fn replica_row(node: NodeId, replica: Option<&ReplicaStatus>) -> ReplicaRow {
    ReplicaRow {
        node: node.0,
        role: replica.map_or(Role::Unknown, |replica| role(replica.role)),
        applied: replica.map(|replica| replica.applied.0),
        digest: replica.and_then(|replica| replica.digest).map(|digest| format!("{digest:016x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::{LogIndex, Term};
    use messenger_proto::meta::ShardPlacement;

    #[test]
    fn the_leader_is_the_newest_anyone_knows_and_silent_nodes_are_named() {
        let node = |id: u64| NodeInfo {
            id: NodeId(id),
            zone: String::new(),
            client_addr: String::new(),
            peer_addr: String::new(),
            admin_addr: String::new(),
            state: NodeState::Active,
            store: None,
        };
        let replicas = vec![NodeId(1), NodeId(2), NodeId(3)];
        let record = ClusterState {
            cluster: messenger_proto::ids::ClusterId([0; 16]),
            epoch: 1,
            secret: bytes::Bytes::new(),
            nodes: vec![node(1), node(2), node(3)],
            shards: vec![ShardPlacement {
                shard: ShardId(0),
                replicas: replicas.clone(),
                first_members: replicas,
                moved: false,
                held: false,
            }],
            replication: 3,
            wished: 3,
            moves_paused: false,
        };
        let says = |id: u64, term: u64, leader: u64, role: ReplicaRole| {
            let replica = ReplicaStatus {
                shard: Some(ShardId(0)),
                role,
                leader: Some(NodeId(leader)),
                term: Term(term),
                applied: LogIndex(7),
                last: LogIndex(9),
                digest: Some(0xab),
                members: None,
                learners: vec![],
            };
            let (node, draining) = (NodeId(id), id == 2);
            let (ready, replicas) = (!draining, vec![replica]);
            (node, NodeStatus { node, ready, replicas, short_of_disk: id == 1, draining, sending: None })
        };
        let answers = [says(1, 4, 1, ReplicaRole::Leader), says(2, 5, 2, ReplicaRole::Leader)].into();
        let status = assemble(&record, &answers, Progress { in_flight: 1, to_move: 2 }, vec![]);
        assert_eq!((status.moves.in_flight, status.moves.to_move, status.moves.paused), (1, 2, false));
        assert_eq!(status.shards[0].leader, Some(2));
        assert_eq!(status.shards[0].slots, [0, 16_383]);
        let told: Vec<_> = status.nodes.iter().map(|node| (node.state.as_str(), node.short_of_disk)).collect();
        assert_eq!(told, [("active", true), ("draining", false), ("unreachable", false)]);
        let given_up = NodeInfo { state: NodeState::Absent, ..node(3) };
        assert_eq!(node_row(&given_up, None).state, NodeStanding::Absent);
        assert_eq!(status.shards[0].replicas[2].role, Role::Unknown);
        let digests: Vec<_> = status.shards[0].replicas.iter().map(|replica| replica.digest.as_deref()).collect();
        assert_eq!(digests, [Some("00000000000000ab"), Some("00000000000000ab"), None]);
    }
}
