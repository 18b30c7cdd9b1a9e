//! The state machine of the meta group: the cluster's record.
//!
//! Owns: what may change the record, and its epoch.
//! Must not know: how a placement is computed or carried out.
//! Invariants: the record is made once; its epoch grows by one with every change; a command that finds its change
//! already made succeeds, so that a retry whose first answer was lost is no error.

mod nodes;

use super::apply::Applied;
use super::rows::cluster::ClusterKey;
use super::rows::{self};
use super::step::{Step, Stop, refuse, run_one};
use super::tables::{Overlay, TableError, Tables};
use messenger_proto::command::{Done, Op, Pack, Reply, ReplyBody};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{LogIndex, ShardId};
use messenger_proto::meta::{CheckIn, ClusterState, MetaCommand, NodeState, ReplacePlacement, ShardPlacement};
use messenger_proto::query::{Answer, Query, QueryResult};

/// Bytes of the cluster's secret.
const SECRET_BYTES: usize = 32;

/// Applies the log entry at `index`; there are no events.
///
/// # Errors
/// [`TableError`] when storage fails or the record is corrupt.
pub fn apply(tables: &mut Overlay<'_, impl Tables>, index: LogIndex, pack: &Pack) -> Result<Applied, TableError> {
    let mut applied = Applied::default();
    for command in &pack.commands {
        let result = run_one(tables, pack.stamp, &mut applied.events, |step| match &command.op {
            Op::Meta(MetaCommand::Bootstrap(state)) => bootstrap(step, state),
            Op::Meta(MetaCommand::CheckIn(check_in)) => self::check_in(step, check_in),
            Op::Meta(MetaCommand::Replace(replace)) => self::replace(step, replace),
            Op::Meta(MetaCommand::Join(join)) => nodes::join(step, join),
            Op::Meta(MetaCommand::Change(change)) => nodes::change(step, change),
            Op::Meta(MetaCommand::Moves(moves)) => nodes::moves(step, moves),
            _ => refuse(ErrorCode::Internal, "the meta group keeps no threads"),
        });
        let fail = |TableError(error)| TableError(format!("applying meta log entry {index}: {error}"));
        applied.results.push(result.map_err(fail)?);
    }
    Ok(applied)
}

/// Answers [`Query::ClusterState`]; `not_found` before the bootstrap.
///
/// # Errors
/// [`TableError`] when storage fails or the record is corrupt.
pub fn answer(tables: &impl Tables, query: &Query) -> Result<QueryResult, TableError> {
    Ok(match query {
        Query::ClusterState(_) => match rows::get(tables, &ClusterKey)? {
            Some(state) => Ok(Answer::ClusterState(state)),
            None => Err(Refusal::new(ErrorCode::NotFound, "there is no cluster yet")),
        },
        _ => Err(Refusal::new(ErrorCode::Internal, "the meta group keeps no threads")),
    })
}

fn done() -> Reply {
    Reply { replayed: false, body: ReplyBody::Done(Done {}), barrier: None }
}

fn in_order(shards: &[ShardPlacement]) -> bool {
    !shards.is_empty() && (0u32..).zip(shards).all(|(number, placement)| placement.shard == ShardId(number))
}

fn bootstrap<T: Tables>(step: &mut Step<'_, T>, state: &ClusterState) -> Result<Reply, Stop> {
    match step.get(&ClusterKey)? {
        Some(known) if known.cluster == state.cluster => return Ok(Reply { replayed: true, ..done() }),
        Some(_) => return refuse(ErrorCode::Conflict, "the cluster exists"),
        None => {}
    }
    if state.secret.len() != SECRET_BYTES || state.nodes.is_empty() || !in_order(&state.shards) {
        return refuse(ErrorCode::InvalidRequest, "a cluster has a secret of 32 bytes, nodes, and shards in order");
    }
    step.put(&ClusterKey, &ClusterState { epoch: 1, ..state.clone() });
    Ok(done())
}

/// The record, to be changed.
fn record<T: Tables>(step: &Step<'_, T>) -> Result<ClusterState, Stop> {
    match step.get(&ClusterKey)? {
        Some(state) => Ok(state),
        None => refuse(ErrorCode::NotFound, "there is no cluster yet"),
    }
}

fn save<T: Tables>(step: &mut Step<'_, T>, mut state: ClusterState) -> Result<Reply, Stop> {
    let epoch = state.epoch.checked_add(1);
    state.epoch = epoch.ok_or_else(|| TableError("corrupt epoch".into()))?;
    step.put(&ClusterKey, &state);
    Ok(done())
}

fn check_in<T: Tables>(step: &mut Step<'_, T>, op: &CheckIn) -> Result<Reply, Stop> {
    let mut state = record(step)?;
    let Some(node) = state.nodes.iter_mut().find(|node| node.id == op.node) else {
        return refuse(ErrorCode::NotFound, "the node is not of this cluster");
    };
    match node.store {
        _ if node.state == NodeState::Removed => refuse(ErrorCode::Conflict, "the node was removed"),
        Some(store) if store == op.store => Ok(Reply { replayed: true, ..done() }),
        Some(_) => refuse(ErrorCode::Conflict, "the node is registered with another data directory"),
        None => {
            node.store = Some(op.store);
            save(step, state)
        }
    }
}

/// A shard's new place. Who was first stays known, and that it moved once is never forgotten: a replica that comes back
/// empty must not take itself for a first one.
fn placed(new: &ShardPlacement, old: &ShardPlacement) -> ShardPlacement {
    let mut members: Vec<_> = old.first_members.clone();
    let mut replicas: Vec<_> = new.replicas.clone();
    members.sort_unstable();
    replicas.sort_unstable();
    let moved = old.moved || new.moved || members != replicas;
    ShardPlacement { first_members: old.first_members.clone(), moved, ..new.clone() }
}

fn replace<T: Tables>(step: &mut Step<'_, T>, op: &ReplacePlacement) -> Result<Reply, Stop> {
    let mut state = record(step)?;
    let replication = op.replication == 0 || op.replication == state.replication;
    let there = |(new, old): (&ShardPlacement, &ShardPlacement)| {
        new.shard == old.shard && new.replicas == old.replicas && new.held == old.held
    };
    let shards = state.shards.len() == op.shards.len() && op.shards.iter().zip(&state.shards).all(there);
    let same = state.nodes == op.nodes && shards && replication;
    if same && op.based_on.checked_add(1) == Some(state.epoch) {
        return Ok(Reply { replayed: true, ..done() });
    }
    if op.based_on != state.epoch {
        return refuse(ErrorCode::Conflict, "the record has changed since");
    }
    if op.nodes.is_empty() || !in_order(&op.shards) || op.shards.len() != state.shards.len() {
        return refuse(ErrorCode::InvalidRequest, "the shards of a cluster are fixed, and some node holds them");
    }
    if state.wished == 0 {
        state.wished = state.replication;
    }
    if op.replication > 0 {
        state.replication = op.replication;
    }
    state.nodes.clone_from(&op.nodes);
    state.shards = op.shards.iter().zip(&state.shards).map(|(new, old)| placed(new, old)).collect();
    save(step, state)
}
