//! Changing messages that were sent.
//!
//! Owns: `PATCH` and `DELETE /v1/messages/{id}`; `POST /v1/messages/{id}/reactions` and `DELETE …/reactions/{emoji}`.
//! Must not know: who may change a message, and until when; the thread's shard does.

use super::GatewayState;
use super::envelopes::{Content, allow_mismatch};
use super::extract::{EMOJI, MessagePath, ReactionPath, Writer, idempotency_key, json_body};
use super::idempotency::{BodyHash, Origin, PostPath};
use super::input::{Object, text};
use super::respond::{json_done, message_of, no_content, replayed};
use crate::api::error::ApiError;
use crate::api::view::MessageView;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::command::{Command, DeleteMessage, EditMessage, Op, React};
use messenger_proto::emoji::Emoji;

/// `PATCH /v1/messages/{id}`
pub(super) async fn edit(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    path: MessagePath,
    request: Request,
) -> Result<Response, ApiError> {
    let allowed = allow_mismatch(request.uri());
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let id = path.beside(&mut object);
    let allowed = object.beside(allowed).unwrap_or_default();
    let content = Content::take(&mut object);
    object.finish()?;
    let asked = id.zip(content).ok_or_else(|| ApiError::internal("a body without errors was not read"));
    let (id, content) = asked?;
    // Decoded, the body is not needed while the shard works.
    drop(body);
    let origin = Origin::minted();
    let (ciphertext, envelopes) = content.into_parts(allowed);
    let (actor, device) = (actor.user.clone(), Some(actor.device.clone()));
    let op = Op::EditMessage(EditMessage { id, actor, ciphertext, envelopes, device });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op };
    let message = message_of(state.router().command(id.slot(), command, state.deadline()).await?)?.message;
    json_done(&state, StatusCode::OK, &MessageView::of(&message), MessageView::size_hint(&message))
}

/// `DELETE /v1/messages/{id}`
pub(super) async fn delete(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    path: MessagePath,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let origin = Origin::minted();
    let op = Op::DeleteMessage(DeleteMessage { id, actor: actor.user.clone() });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op };
    state.router().command(id.slot(), command, state.deadline()).await?;
    Ok(no_content())
}

/// `POST /v1/messages/{id}/reactions`
pub(super) async fn react(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    path: MessagePath,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers());
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let id = path.beside(&mut object);
    let emoji = object.required("emoji", |value| Emoji::new(&text(value)?).map_err(|_| EMOJI.into()));
    let key = object.beside(key).flatten();
    object.finish()?;
    let asked = id.zip(emoji).ok_or_else(|| ApiError::internal("a body without errors was not read"));
    let (id, emoji) = asked?;
    let mut hash = BodyHash::new("reaction");
    hash.bytes(emoji.as_str().as_bytes());
    let origin = Origin::of(&actor.user, PostPath::Reactions(id), key.as_ref());
    let op =
        Op::React(React { id, actor: actor.user.clone(), emoji, present: true, device: Some(actor.device.clone()) });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: hash.finish(), op };
    let reply = state.router().command(id.slot(), command, state.deadline()).await?;
    let was_replayed = reply.replayed;
    let message = message_of(reply)?.message;
    let size = MessageView::size_hint(&message);
    Ok(replayed(json_done(&state, StatusCode::OK, &MessageView::of(&message), size)?, was_replayed))
}

/// `DELETE /v1/messages/{id}/reactions/{emoji}`
pub(super) async fn unreact(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    ReactionPath(id, emoji): ReactionPath,
) -> Result<Response, ApiError> {
    let origin = Origin::minted();
    let op =
        Op::React(React { id, actor: actor.user.clone(), emoji, present: false, device: Some(actor.device.clone()) });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op };
    state.router().command(id.slot(), command, state.deadline()).await?;
    Ok(no_content())
}
