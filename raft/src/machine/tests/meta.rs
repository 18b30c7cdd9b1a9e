//! Tests of the cluster's record.

use super::*;
use crate::machine::meta;
use messenger_proto::ids::{ClusterId, LogIndex, NodeId, ShardId, StoreId};
use messenger_proto::meta::{
    ChangeMoves, ChangeNode, CheckIn, ClusterState, JoinNode, MetaCommand, NodeInfo, NodeState, ReplacePlacement,
    ShardPlacement,
};
use messenger_proto::query::ClusterStateQuery;

struct Meta(MemoryTables);

impl Meta {
    fn run(&mut self, command: MetaCommand) -> CommandResult {
        self.op(Op::Meta(command))
    }

    fn op(&mut self, op: Op) -> CommandResult {
        let command = Command { id: CommandId([0; 16]), retention: Retention::None, body_hash: 0, op };
        let mut overlay = Overlay::new(&self.0);
        let pack = Pack { stamp: Millis(5), commands: vec![command] };
        let mut applied = meta::apply(&mut overlay, LogIndex(1), &pack).unwrap();
        let writes = overlay.into_writes();
        self.0.absorb(writes);
        assert!(applied.events.is_empty());
        applied.results.remove(0)
    }

    fn state(&self) -> Result<ClusterState, Refusal> {
        match meta::answer(&self.0, &Query::ClusterState(ClusterStateQuery {})).unwrap()? {
            Answer::ClusterState(state) => Ok(state),
            other => panic!("{other:?}"),
        }
    }
}

fn node(id: u64) -> NodeInfo {
    let addr = format!("127.0.0.1:{id}");
    NodeInfo {
        id: NodeId(id),
        zone: "a".into(),
        client_addr: addr.clone(),
        peer_addr: addr.clone(),
        admin_addr: addr,
        state: NodeState::Active,
        store: None,
    }
}

fn placement(shard: u32, replicas: &[u64]) -> ShardPlacement {
    let replicas: Vec<_> = replicas.iter().copied().map(NodeId).collect();
    ShardPlacement { shard: ShardId(shard), first_members: replicas.clone(), replicas, moved: false, held: false }
}

fn cluster(id: u8) -> ClusterState {
    ClusterState {
        cluster: ClusterId([id; 16]),
        epoch: 0,
        secret: Bytes::from(vec![3; 32]),
        nodes: vec![node(1), node(2)],
        shards: vec![placement(0, &[1]), placement(1, &[2])],
        replication: 1,
        wished: 0,
        moves_paused: false,
    }
}

fn code(result: CommandResult) -> ErrorCode {
    result.unwrap_err().code
}

#[test]
fn a_cluster_is_made_once() {
    let mut meta = Meta(MemoryTables::default());
    assert_eq!(meta.state().unwrap_err().code, ErrorCode::NotFound);
    let unordered = ClusterState { shards: vec![placement(1, &[1])], ..cluster(1) };
    assert_eq!(code(meta.run(MetaCommand::Bootstrap(unordered))), ErrorCode::InvalidRequest);
    let no_secret = ClusterState { secret: Bytes::new(), ..cluster(1) };
    assert_eq!(code(meta.run(MetaCommand::Bootstrap(no_secret))), ErrorCode::InvalidRequest);
    assert!(!meta.run(MetaCommand::Bootstrap(cluster(1))).unwrap().replayed);
    assert!(meta.run(MetaCommand::Bootstrap(cluster(1))).unwrap().replayed);
    assert_eq!(code(meta.run(MetaCommand::Bootstrap(cluster(2)))), ErrorCode::Conflict);
    assert_eq!(meta.state().unwrap(), ClusterState { epoch: 1, ..cluster(1) });
}

#[test]
fn a_node_keeps_its_data_directory() {
    let mut meta = Meta(MemoryTables::default());
    let check_in = |node, store| MetaCommand::CheckIn(CheckIn { node: NodeId(node), store: StoreId([store; 16]) });
    assert_eq!(code(meta.run(check_in(1, 1))), ErrorCode::NotFound);
    meta.run(MetaCommand::Bootstrap(cluster(1))).unwrap();
    assert!(!meta.run(check_in(1, 1)).unwrap().replayed);
    assert!(meta.run(check_in(1, 1)).unwrap().replayed);
    assert_eq!(code(meta.run(check_in(1, 2))), ErrorCode::Conflict);
    assert_eq!(code(meta.run(check_in(9, 2))), ErrorCode::NotFound);
    let state = meta.state().unwrap();
    assert_eq!((state.epoch, state.nodes[0].store), (2, Some(StoreId([1; 16]))));
}

#[test]
fn a_placement_is_replaced_by_who_saw_the_last_one() {
    let mut meta = Meta(MemoryTables::default());
    meta.run(MetaCommand::Bootstrap(cluster(1))).unwrap();
    let replace = |based_on, shards: Vec<ShardPlacement>| {
        MetaCommand::Replace(ReplacePlacement {
            based_on,
            nodes: vec![node(1), node(2), node(3)],
            shards,
            replication: 0,
        })
    };
    let moved = || vec![placement(0, &[3]), placement(1, &[2])];
    assert_eq!(code(meta.run(replace(1, vec![placement(0, &[3])]))), ErrorCode::InvalidRequest);
    assert!(!meta.run(replace(1, moved())).unwrap().replayed);
    assert!(meta.run(replace(1, moved())).unwrap().replayed, "its first answer was lost");
    assert_eq!(code(meta.run(replace(1, vec![placement(0, &[1]), placement(1, &[1])]))), ErrorCode::Conflict);
    let state = meta.state().unwrap();
    let places: Vec<_> = state.shards.iter().map(|placed| (placed.replicas.clone(), placed.moved)).collect();
    assert_eq!(places, [(vec![NodeId(3)], true), (vec![NodeId(2)], false)]);
    assert_eq!((state.epoch, state.nodes.len(), state.replication, state.wished), (2, 3, 1, 1));

    // Back where it began it is no first replica all the same; and who the first were stays known.
    let back = ReplacePlacement { based_on: 2, nodes: state.nodes, shards: cluster(1).shards, replication: 3 };
    meta.run(MetaCommand::Replace(back)).unwrap();
    let state = meta.state().unwrap();
    assert!(state.shards[0].moved && !state.shards[1].moved);
    assert_eq!((state.shards[0].first_members.clone(), state.replication), (vec![NodeId(1)], 3));
}

fn newcomer(store: u8, port: u16) -> JoinNode {
    JoinNode {
        cluster: ClusterId([1; 16]),
        store: StoreId([store; 16]),
        zone: "b".into(),
        client_addr: format!("10.0.0.1:{port}"),
        peer_addr: format!("10.0.0.2:{port}"),
        admin_addr: format!("10.0.0.3:{port}"),
    }
}

#[test]
fn a_new_node_is_given_an_id_of_its_own_however_often_it_asks() {
    let mut meta = Meta(MemoryTables::default());
    assert_eq!(code(meta.run(MetaCommand::Join(newcomer(1, 1)))), ErrorCode::NotFound);
    meta.run(MetaCommand::Bootstrap(cluster(1))).unwrap();
    assert!(!meta.run(MetaCommand::Join(newcomer(1, 1))).unwrap().replayed);
    assert!(meta.run(MetaCommand::Join(newcomer(1, 1))).unwrap().replayed, "its first answer was lost");
    meta.run(MetaCommand::Join(newcomer(2, 2))).unwrap();
    let moved = newcomer(1, 7);
    meta.run(MetaCommand::Join(moved.clone())).unwrap();
    let state = meta.state().unwrap();
    let ids: Vec<_> = state.nodes.iter().map(|node| node.id.0).collect();
    assert_eq!((ids, state.epoch), (vec![1, 2, 3, 4], 4));
    let first = state.node_on(StoreId([1; 16])).unwrap();
    assert_eq!((first.id, first.addresses(), first.state), (NodeId(3), moved.addresses(), NodeState::Active));
}

#[test]
fn a_node_is_not_taken_in_for_another_cluster_or_in_anothers_place() {
    let mut meta = Meta(MemoryTables::default());
    meta.run(MetaCommand::Bootstrap(cluster(1))).unwrap();
    let elsewhere = JoinNode { cluster: ClusterId([2; 16]), ..newcomer(1, 1) };
    assert_eq!(code(meta.run(MetaCommand::Join(elsewhere))), ErrorCode::Conflict);
    let once = JoinNode { peer_addr: "10.0.0.1:1".into(), ..newcomer(1, 1) };
    assert_eq!(code(meta.run(MetaCommand::Join(once))), ErrorCode::InvalidRequest);
    let nowhere = JoinNode { admin_addr: String::new(), ..newcomer(1, 1) };
    assert_eq!(code(meta.run(MetaCommand::Join(nowhere))), ErrorCode::InvalidRequest);
    let anywhere = JoinNode { zone: "z".repeat(65), ..newcomer(1, 1) };
    assert_eq!(code(meta.run(MetaCommand::Join(anywhere))), ErrorCode::InvalidRequest);
    meta.run(MetaCommand::Join(newcomer(1, 1))).unwrap();
    // Also another of its addresses, and also one that an operator calls.
    let in_place = JoinNode { client_addr: "10.0.0.3:1".into(), ..newcomer(2, 2) };
    let refused = meta.run(MetaCommand::Join(in_place.clone())).unwrap_err();
    assert!(refused.code == ErrorCode::Conflict && refused.detail.contains("node 3"), "{refused:?}");
    assert_eq!(meta.state().unwrap().nodes.len(), 3);

    // Of a removed one its address is free again, and its id and its directory are not.
    let state = meta.state().unwrap();
    let mut nodes = state.nodes;
    nodes[2].state = NodeState::Removed;
    let (based_on, shards) = (state.epoch, state.shards);
    meta.run(MetaCommand::Replace(ReplacePlacement { based_on, nodes, shards, replication: 0 })).unwrap();
    assert_eq!(code(meta.run(MetaCommand::Join(newcomer(1, 1)))), ErrorCode::Conflict);
    meta.run(MetaCommand::Join(in_place)).unwrap();
    assert_eq!(meta.state().unwrap().node_on(StoreId([2; 16])).unwrap().id, NodeId(4));
}

#[test]
fn a_node_goes_once_it_drained_and_holds_nothing() {
    let mut meta = Meta(MemoryTables::default());
    meta.run(MetaCommand::Bootstrap(ClusterState { replication: 1, ..cluster(1) })).unwrap();
    let change =
        |node, state, fewer_replicas| MetaCommand::Change(ChangeNode { node: NodeId(node), state, fewer_replicas });
    let (drain, stay, remove) = (NodeState::Draining, NodeState::Active, NodeState::Removed);
    assert_eq!(code(meta.run(change(9, drain, false))), ErrorCode::InvalidRequest);
    assert_eq!(code(meta.run(change(2, remove, false))), ErrorCode::Conflict, "it does not drain");
    meta.run(change(2, drain, false)).unwrap();
    assert!(meta.run(change(2, drain, false)).unwrap().replayed);
    assert_eq!(code(meta.run(change(1, drain, true))), ErrorCode::Conflict, "it is the last one");
    meta.run(change(2, stay, false)).unwrap();
    meta.run(change(2, drain, false)).unwrap();
    assert_eq!(code(meta.run(change(2, remove, true))), ErrorCode::Conflict, "it holds a shard");
    let state = meta.state().unwrap();
    let (nodes, shards) = (state.nodes, vec![placement(0, &[1]), placement(1, &[1])]);
    let replace = ReplacePlacement { based_on: state.epoch, nodes, shards, replication: 0 };
    meta.run(MetaCommand::Replace(replace)).unwrap();
    meta.run(change(2, remove, false)).unwrap();
    assert_eq!(code(meta.run(change(2, stay, false))), ErrorCode::Conflict);
    assert_eq!(meta.state().unwrap().nodes.len(), 2, "its id is not given again");

    let mut three = Meta(MemoryTables::default());
    let nodes = vec![node(1), node(2), node(3)];
    three.run(MetaCommand::Bootstrap(ClusterState { nodes, replication: 3, ..cluster(1) })).unwrap();
    assert_eq!(code(three.run(change(3, drain, false))), ErrorCode::Conflict, "two can't hold three replicas");
    three.run(change(3, drain, true)).unwrap();
}

#[test]
fn moves_are_paused_until_they_are_resumed() {
    let mut meta = Meta(MemoryTables::default());
    meta.run(MetaCommand::Bootstrap(cluster(1))).unwrap();
    assert!(meta.run(MetaCommand::Moves(ChangeMoves { paused: false })).unwrap().replayed);
    meta.run(MetaCommand::Moves(ChangeMoves { paused: true })).unwrap();
    assert!(meta.state().unwrap().moves_paused);
    meta.run(MetaCommand::Moves(ChangeMoves { paused: false })).unwrap();
    assert!(!meta.state().unwrap().moves_paused);
}

#[test]
fn shards_and_the_meta_group_keep_to_their_own() {
    let mut meta = Meta(MemoryTables::default());
    assert_eq!(code(meta.op(send(GROUP, "ann", 1))), ErrorCode::Internal);
    let mut shard = Shard::new();
    assert_eq!(shard.refused(Op::Meta(MetaCommand::Bootstrap(cluster(1)))), ErrorCode::Internal);
    assert_eq!(shard.ask(&Query::ClusterState(ClusterStateQuery {})).unwrap_err().code, ErrorCode::Internal);
}

#[test]
fn a_silent_node_is_given_up_only_when_enough_are_left_and_comes_back() {
    let mut meta = Meta(MemoryTables::default());
    let mut first = cluster(1);
    first.replication = 1;
    meta.run(MetaCommand::Bootstrap(first)).unwrap();
    let to = |node, state| MetaCommand::Change(ChangeNode { node: NodeId(node), state, fewer_replicas: false });
    meta.run(to(1, NodeState::Absent)).unwrap();
    assert!(meta.run(to(1, NodeState::Absent)).unwrap().replayed);
    let refused = meta.run(to(2, NodeState::Absent)).unwrap_err();
    assert!(refused.code == ErrorCode::Conflict && refused.detail.contains("last active"), "{refused:?}");
    let holds = meta.run(to(1, NodeState::Removed)).unwrap_err();
    assert!(holds.detail.contains("still have replicas"), "{holds:?}");
    meta.run(to(1, NodeState::Active)).unwrap();
    meta.run(to(1, NodeState::Draining)).unwrap();
    let drains = meta.run(to(1, NodeState::Absent)).unwrap_err();
    assert!(drains.detail.contains("drains already"), "{drains:?}");
}
