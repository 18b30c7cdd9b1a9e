//! How the cluster is.
//!
//! Owns: the JSON of `cluster status`, put together from what each node says of its own replicas.
//! Must not know: how it is shown.
//! Invariants: a node that doesn't answer within the bound is listed as unreachable, and delays nobody longer.

use crate::readiness::Readiness;
use crate::rpc::handler::NodeHandler;
use crate::rpc::observed::observed;
use crate::rpc::transport::NodeTransport;
use futures_util::future::join_all;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::meta::{ClusterState, NodeInfo, NodeState};
use messenger_proto::rpc::{NodeCall, NodeStatus, ReplicaStatus, StatusQuery};
use messenger_proto::slot::SlotMap;
use messenger_proto::wire::Wire;
use messenger_router::placement::plan::{self, Progress};
use serde::Serialize;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;
use tokio::time::timeout;

/// How long a node may take to answer.
const WITHIN: Duration = Duration::from_secs(1);

/// The cluster, as `cluster status --output json` prints it.
#[derive(Debug, Serialize)]
pub struct ClusterStatus {
    /// In order of id.
    pub nodes: Vec<NodeRow>,
    /// The group that keeps the cluster's record.
    pub meta: MetaRow,
    /// What is to be moved.
    pub moves: MovesRow,
    /// In order of id.
    pub shards: Vec<ShardRow>,
}

/// What is to be moved.
#[derive(Debug, Serialize)]
pub struct MovesRow {
    /// No shard begins to move until an operator says so.
    pub paused: bool,
    /// Shards whose group is not, or not known to be, what the record says.
    pub in_flight: usize,
    /// Replicas that should be where none is yet.
    pub to_move: usize,
}

/// The meta group.
#[derive(Debug, Serialize)]
pub struct MetaRow {
    /// The node that leads it, by the highest term anyone knows.
    pub leader: Option<u64>,
    /// One per node that was not removed; of the learners none decides.
    pub replicas: Vec<ReplicaRow>,
}

/// A node.
#[derive(Debug, Serialize)]
pub struct NodeRow {
    /// From 1.
    pub id: u64,
    /// What fails together with it.
    pub zone: String,
    /// For clients.
    pub client_addr: String,
    /// For other nodes.
    pub peer_addr: String,
    /// For operators.
    pub admin_addr: String,
    /// `active`, `draining`, `removed`, `starting` (it isn't ready) or `unreachable`.
    pub state: String,
    /// Its disk is almost full: it takes no commands, and leads only what nobody else can.
    pub short_of_disk: bool,
}

/// A shard.
#[derive(Debug, Serialize)]
pub struct ShardRow {
    /// From 0.
    pub id: u32,
    /// First and last slot.
    pub slots: [u16; 2],
    /// The node that leads it, by the highest term anyone knows.
    pub leader: Option<u64>,
    /// In order of preference.
    pub replicas: Vec<ReplicaRow>,
}

/// A replica.
#[derive(Debug, Serialize)]
pub struct ReplicaRow {
    /// Where.
    pub node: u64,
    /// `leader`, `follower`, `candidate`, `learner`, `stopped` or `unknown`.
    pub role: String,
    /// Index of the last entry applied; absent while the node doesn't answer.
    pub applied: Option<u64>,
    /// All that was applied up to there, chained: 16 hexadecimal digits. Replicas of a shard that have applied the same
    /// index and differ here have drifted apart. Absent with `applied`.
    pub digest: Option<String>,
}

/// Where cluster status comes from.
pub struct StatusSource {
    handler: NodeHandler,
    transport: NodeTransport,
    readiness: Readiness,
}

impl StatusSource {
    /// A source over this node and its links.
    #[must_use]
    pub fn new(handler: NodeHandler, transport: NodeTransport, readiness: Readiness) -> Self {
        Self { handler, transport, readiness }
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
        assemble(&record, &answers, progress.await.unwrap_or_default())
    }

    async fn ask(&self, node: NodeId) -> Option<NodeStatus> {
        let call = self.transport.tell(node, NodeCall::Status(StatusQuery {}));
        let bytes = timeout(WITHIN, call).await.ok()?.ok()?;
        NodeStatus::decode_from(bytes).ok()
    }
}

fn assemble(record: &ClusterState, answers: &BTreeMap<NodeId, NodeStatus>, progress: Progress) -> ClusterStatus {
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
    let moves = MovesRow { paused: record.moves_paused, in_flight, to_move };
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
        _ if node.state == NodeState::Removed => NodeState::Removed.as_str(),
        None => "unreachable",
        Some(answer) if answer.draining => "draining",
        Some(answer) if !answer.ready => "starting",
        Some(_) => node.state.as_str(),
    };
    NodeRow {
        id: node.id.0,
        zone: node.zone.clone(),
        client_addr: node.client_addr.clone(),
        peer_addr: node.peer_addr.clone(),
        admin_addr: node.admin_addr.clone(),
        state: state.into(),
        short_of_disk: answer.is_some_and(|answer| answer.short_of_disk),
    }
}

fn replica_row(node: NodeId, replica: Option<&ReplicaStatus>) -> ReplicaRow {
    ReplicaRow {
        node: node.0,
        role: replica.map_or("unknown", |replica| replica.role.as_str()).into(),
        applied: replica.map(|replica| replica.applied.0),
        digest: replica.and_then(|replica| replica.digest).map(|digest| format!("{digest:016x}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::{LogIndex, Term};
    use messenger_proto::meta::ShardPlacement;
    use messenger_proto::rpc::ReplicaRole;

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
            };
            let (node, draining) = (NodeId(id), id == 2);
            let (ready, replicas) = (!draining, vec![replica]);
            (node, NodeStatus { node, ready, replicas, short_of_disk: id == 1, draining })
        };
        let answers = [says(1, 4, 1, ReplicaRole::Leader), says(2, 5, 2, ReplicaRole::Leader)].into();
        let status = assemble(&record, &answers, Progress { in_flight: 1, to_move: 2 });
        assert_eq!((status.moves.in_flight, status.moves.to_move, status.moves.paused), (1, 2, false));
        assert_eq!(status.shards[0].leader, Some(2));
        assert_eq!(status.shards[0].slots, [0, 16_383]);
        let told: Vec<_> = status.nodes.iter().map(|node| (node.state.as_str(), node.short_of_disk)).collect();
        assert_eq!(told, [("active", true), ("draining", false), ("unreachable", false)]);
        assert_eq!(status.shards[0].replicas[2].role, "unknown");
        let digests: Vec<_> = status.shards[0].replicas.iter().map(|replica| replica.digest.as_deref()).collect();
        assert_eq!(digests, [Some("00000000000000ab"), Some("00000000000000ab"), None]);
    }
}
