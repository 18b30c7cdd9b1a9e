//! Whom a user keeps away.
//!
//! Owns: `GET /v1/users/me/blocks`, `PUT` and `DELETE /v1/users/me/blocks/{user_id}`.
//! Must not know: what a block does to messages, and where; the shards do.
//! Invariants: once a change is answered, every message accepted later is sent by it; whoever shows typing and presence
//! here and on other nodes is told of it before. Anybody may be kept away, whether or not there is such a user; nobody is
//! told of a block who shares no thread with who made it.

use super::GatewayState;
use super::extract::{Reader, UserPath, Writer};
use super::idempotency::Origin;
use super::presence::share_a_thread;
use super::respond::{json, no_content, unexpected};
use crate::api::error::ApiError;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::command::{Command, Op, SetBlock};
use messenger_proto::ephemeral::{BlockChange, Ephemeral};
use messenger_proto::ids::UserId;
use messenger_proto::query::{Answer, BlocksQuery, Query};
use messenger_proto::slot::Slot;
use serde::Serialize;

#[derive(Serialize)]
struct View<'a> {
    blocks: Vec<&'a str>,
}

/// `GET /v1/users/me/blocks`
pub(super) async fn list(State(state): State<GatewayState>, Reader(viewer): Reader) -> Result<Response, ApiError> {
    let (slot, query) = (Slot::of_user(&viewer.user), blocks_of(&viewer.user));
    let users = match state.router().query(slot, query, state.deadline()).await? {
        Answer::Blocks(answer) => answer.users,
        other => return Err(unexpected(&other)),
    };
    let blocks: Vec<&str> = users.iter().map(UserId::as_str).collect();
    let size = 16 + blocks.iter().map(|user| user.len() + 3).sum::<usize>();
    json(&state, StatusCode::OK, &View { blocks }, size)
}

fn blocks_of(user: &UserId) -> Query {
    Query::Blocks(BlocksQuery { user: user.clone() })
}

/// `PUT /v1/users/me/blocks/{user_id}`
pub(super) async fn add(state: State<GatewayState>, actor: Writer, path: UserPath) -> Result<Response, ApiError> {
    set(state, actor, path, true).await
}

/// `DELETE /v1/users/me/blocks/{user_id}`
pub(super) async fn remove(state: State<GatewayState>, actor: Writer, path: UserPath) -> Result<Response, ApiError> {
    set(state, actor, path, false).await
}

async fn set(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    path: UserPath,
    present: bool,
) -> Result<Response, ApiError> {
    let (user, other) = (actor.user.clone(), path.id(&actor)?);
    if user == other {
        return Err(ApiError::field("user_id", "nobody keeps oneself away"));
    }
    let (origin, deadline) = (Origin::minted(), state.deadline());
    let op = Op::SetBlock(SetBlock { user: user.clone(), other: other.clone(), present });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op };
    let done = state.router().command(Slot::of_user(&user), command, deadline).await;
    // Whether or not it is known to be done. What is told goes by the list as it is now, and word of it may be overtaken by
    // word of another change, so the version goes with it.
    let (present, version) = match state.router().query(Slot::of_user(&user), blocks_of(&user), deadline).await {
        Ok(Answer::Blocks(list)) => (list.users.binary_search(&other).is_ok(), list.version),
        _ => (present, 0),
    };
    // Who shares no thread with the user was shown nothing to take back.
    let parted = present && share_a_thread(&state, &user, &other, deadline).await.unwrap_or(false);
    state.tell(&Ephemeral::Block(BlockChange { user, other, parted, version }));
    done?;
    Ok(no_content())
}
