//! Changing messages that were sent.
//!
//! Owns: `PATCH` and `DELETE /v1/messages/{id}`.
//! Must not know: who may change a message, and until when; the thread's shard does.

use super::GatewayState;
use super::error::ApiError;
use super::extract::{MessagePath, Writer, json_body};
use super::idempotency::Origin;
use super::input::Object;
use super::respond::{json_done, message_of, no_content};
use super::send::take_ciphertext;
use super::view::MessageView;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::command::{Command, DeleteMessage, EditMessage, Op};

/// `PATCH /v1/messages/{id}`
pub(super) async fn edit(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    path: MessagePath,
    request: Request,
) -> Result<Response, ApiError> {
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let id = path.beside(&mut object);
    let ciphertext = take_ciphertext(&mut object);
    object.finish()?;
    let asked = id.zip(ciphertext).ok_or_else(|| ApiError::internal("a body without errors was not read"));
    let (id, ciphertext) = asked?;
    // Decoded, the body is not needed while the shard works.
    drop(body);
    let origin = Origin::minted();
    let op = Op::EditMessage(EditMessage { id, actor: actor.user.clone(), ciphertext });
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
