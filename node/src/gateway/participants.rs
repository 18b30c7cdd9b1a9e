//! Who is in a thread.
//!
//! Owns: `POST /v1/threads/{id}/participants` and `DELETE /v1/threads/{id}/participants/{uid}`.
//! Must not know: who may change it; the thread's shard does.

use super::GatewayState;
use super::extract::{MemberPath, ThreadPath, Writer, idempotency_key, json_body};
use super::idempotency::{BodyHash, Origin, PostPath};
use super::input::Object;
use super::respond::{no_content, replayed, thread_of};
use super::threads::{USER_LIST_MAX, answer_done, check_room, user_id, without_repeats};
use crate::api::error::ApiError;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::command::{AddParticipants, Command, Op, RemoveParticipant};
use messenger_proto::ids::UserId;
use messenger_proto::slot::Slot;

/// `POST /v1/threads/{id}/participants`
pub(super) async fn add(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    path: ThreadPath,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers());
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let named = object.required_list("user_ids", USER_LIST_MAX, user_id).unwrap_or_default();
    if named.is_empty() && object.complaints() == 0 {
        object.complain("user_ids", "must name someone");
    }
    let thread = path.beside(&mut object);
    let key = object.beside(key).flatten();
    object.finish()?;
    let thread = thread.ok_or_else(|| ApiError::internal("a path without errors was not read"))?;
    let mut hash = BodyHash::new("participants");
    hash.list(named.iter().map(UserId::as_str));
    let origin = Origin::of(&actor.user, PostPath::Participants(thread), key.as_ref());
    let users = without_repeats(&named, None);
    let deadline = state.deadline();
    check_room(&state, users.iter(), thread, false, deadline).await?;
    let op = Op::AddParticipants(AddParticipants { thread, actor: actor.user.clone(), users });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: hash.finish(), op };
    let reply = state.router().command(Slot::of_thread(thread), command, deadline).await?;
    let was_replayed = reply.replayed;
    Ok(replayed(answer_done(&state, StatusCode::OK, &thread_of(reply)?.thread)?, was_replayed))
}

/// `DELETE /v1/threads/{id}/participants/{uid}`
pub(super) async fn remove(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    MemberPath(thread, user): MemberPath,
) -> Result<Response, ApiError> {
    let origin = Origin::minted();
    let op = Op::RemoveParticipant(RemoveParticipant { thread, actor: actor.user.clone(), user });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op };
    state.router().command(Slot::of_thread(thread), command, state.deadline()).await?;
    Ok(no_content())
}
