//! Nodes that come to a cluster, and go.
//!
//! Owns: which of them are taken in, under which id; when one may drain, and when it may be removed.
//! Must not know: how they ask, or what they are given to hold.
//! Invariants: an id is given to one data directory and never to another, also after its node was removed; no two nodes
//! that were not removed have an address in common; only a node that drains, or was given up, and holds nothing by the
//! placement is removed, and never comes back; none is given up whose replicas have nowhere to go; asking again changes nothing.

use super::super::step::{Step, Stop, refuse};
use super::super::tables::{TableError, Tables};
use super::{done, record, save};
use messenger_proto::command::Reply;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{NodeId, StoreId};
use messenger_proto::limits::{ADDRESS_MAX, NODES_MAX, ZONE_MAX};
use messenger_proto::meta::{ChangeMoves, ChangeNode, ClusterState, JoinNode, NodeInfo, NodeState};

/// Takes a node in, or finds it there.
pub(super) fn join<T: Tables>(step: &mut Step<'_, T>, op: &JoinNode) -> Result<Reply, Stop> {
    let mut state = record(step)?;
    if state.cluster != op.cluster {
        return refuse(ErrorCode::Conflict, "this is another cluster than the one that the node is configured for");
    }
    check(op)?;
    if let Some(known) = state.node_on(op.store) {
        if known.state == NodeState::Removed {
            return refuse(ErrorCode::Conflict, "the node was removed; to come back, it needs an empty data directory");
        }
        if known.addresses() == op.addresses() && known.zone == op.zone {
            return Ok(Reply { replayed: true, ..done() });
        }
    }
    if let Some((address, node)) = taken(&state, op) {
        let advice = "if that is gone for good, remove it first";
        return refuse(ErrorCode::Conflict, &format!("address {address} belongs to node {node} already; {advice}"));
    }
    let NodeInfo { id, state: kept, .. } = match state.node_on(op.store) {
        Some(known) => known.clone(),
        None => newcomer(&state, op.store)?,
    };
    let node = NodeInfo {
        id,
        zone: op.zone.clone(),
        client_addr: op.client_addr.clone(),
        peer_addr: op.peer_addr.clone(),
        admin_addr: op.admin_addr.clone(),
        state: kept,
        store: Some(op.store),
    };
    state.nodes.retain(|node| node.id != id);
    state.nodes.push(node);
    state.nodes.sort_by_key(|node| node.id);
    save(step, state)
}

/// Has a node drain, or stay after all, or go.
pub(super) fn change<T: Tables>(step: &mut Step<'_, T>, op: &ChangeNode) -> Result<Reply, Stop> {
    let mut state = record(step)?;
    let Some(node) = state.node(op.node).cloned() else {
        return refuse(ErrorCode::InvalidRequest, "there is no such node");
    };
    match (node.state, op.state) {
        (now, wanted) if now == wanted => return Ok(Reply { replayed: true, ..done() }),
        (NodeState::Removed, _) => return refuse(ErrorCode::Conflict, "the node was removed, for good"),
        (NodeState::Active, NodeState::Removed) => {
            return refuse(ErrorCode::Conflict, "the node does not drain; drain it first");
        }
        (NodeState::Draining, NodeState::Absent) => return refuse(ErrorCode::Conflict, "the node drains already"),
        (NodeState::Active, _) => may_drain(&state, op)?,
        (NodeState::Draining | NodeState::Absent, NodeState::Removed) => holds_nothing(&state, op.node)?,
        (NodeState::Draining | NodeState::Absent, _) => {}
    }
    for listed in state.nodes.iter_mut().filter(|listed| listed.id == op.node) {
        listed.state = op.state;
    }
    save(step, state)
}

fn may_drain(state: &ClusterState, op: &ChangeNode) -> Result<(), Stop> {
    let stays = |node: &&NodeInfo| node.state == NodeState::Active && node.id != op.node;
    let left = state.nodes.iter().filter(stays).count();
    let replicas = state.replication as usize;
    if left == 0 {
        return refuse(ErrorCode::Conflict, "it is the last active node; another one must join first");
    }
    if left < replicas && !op.fewer_replicas {
        let detail = format!(
            "{left} active nodes would be left for {replicas} replicas of each shard: have another node join first, or \
             agree to fewer replicas"
        );
        return refuse(ErrorCode::Conflict, &detail);
    }
    Ok(())
}

fn holds_nothing(state: &ClusterState, node: NodeId) -> Result<(), Stop> {
    match state.shards.iter().filter(|placed| placed.replicas.contains(&node)).count() {
        0 => Ok(()),
        held => refuse(
            ErrorCode::Conflict,
            &format!("{held} shards still have replicas on the node; they move away as it drains"),
        ),
    }
}

/// Lets shards move, or not.
pub(super) fn moves<T: Tables>(step: &mut Step<'_, T>, op: &ChangeMoves) -> Result<Reply, Stop> {
    let mut state = record(step)?;
    if state.moves_paused == op.paused {
        return Ok(Reply { replayed: true, ..done() });
    }
    state.moves_paused = op.paused;
    save(step, state)
}

fn check(op: &JoinNode) -> Result<(), Stop> {
    let [client, peer, admin] = op.addresses();
    let lengths = op.addresses().iter().all(|address| (1..=ADDRESS_MAX).contains(&address.len()));
    if !lengths || op.zone.len() > ZONE_MAX {
        return refuse(ErrorCode::InvalidRequest, "a node has three addresses, and a zone of at most 64 bytes");
    }
    if client == peer || peer == admin || admin == client {
        return refuse(ErrorCode::InvalidRequest, "the three addresses of a node differ");
    }
    Ok(())
}

/// An address that another living node has.
fn taken<'a>(state: &ClusterState, op: &'a JoinNode) -> Option<(&'a str, NodeId)> {
    let others = state.nodes.iter().filter(|node| node.state != NodeState::Removed && node.store != Some(op.store));
    let mut clashes = others.flat_map(|node| {
        let theirs = op.addresses().into_iter().filter(|address| node.addresses().contains(address));
        theirs.map(|address| (address, node.id))
    });
    clashes.next()
}

/// A node with the id after the highest one ever given.
fn newcomer(state: &ClusterState, store: StoreId) -> Result<NodeInfo, Stop> {
    if state.nodes.len() >= NODES_MAX {
        return refuse(ErrorCode::Conflict, "the cluster lists as many nodes as it can");
    }
    let highest = state.nodes.iter().map(|node| node.id.0).max().unwrap_or(0);
    let id = highest.checked_add(1).ok_or_else(|| TableError("corrupt node id".into()))?;
    Ok(NodeInfo {
        id: NodeId(id),
        zone: String::new(),
        client_addr: String::new(),
        peer_addr: String::new(),
        admin_addr: String::new(),
        state: NodeState::Active,
        store: Some(store),
    })
}
