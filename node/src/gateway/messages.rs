//! Sending messages, looking at one, and marking them as read.
//!
//! Owns: `POST /v1/threads/{id}/messages`, `GET /v1/messages/{id}` and its recipients, `POST /v1/threads/{id}/read`.
//! Must not know: who may send or see; the thread's shard does.
//! Invariants: a send is answered as the contract's table says: a repeated key replays, a repeated `client_seq` does not.

use super::GatewayState;
use super::audited::Told;
use super::envelopes::allow_mismatch;
use super::extract::{IDEMPOTENCY_KEY, MessagePath, Reader, ThreadPath, Writer, idempotency_key, json_body};
use super::idempotency::{BodyHash, Origin, PostPath};
use super::input::Object;
use super::respond::{json, json_done, located, message_of, no_content, replayed, unexpected};
use super::send::{SendRequest, message_id};
use crate::api::error::{ApiError, FieldError};
use crate::api::view::{MessageView, RecipientView};
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::command::{Command, MarkRead, Op};
use messenger_proto::error::ErrorCode;
use messenger_proto::query::{Answer, MessageQuery, Query, RecipientsQuery};
use messenger_proto::slot::Slot;
use serde::Serialize;

/// `POST /v1/threads/{id}/messages`
pub(super) async fn send(
    State(state): State<GatewayState>,
    Writer(sender): Writer,
    path: ThreadPath,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers())
        .and_then(|key| key.ok_or_else(|| FieldError::new(IDEMPOTENCY_KEY, "is required")));
    let key_is_missing = !super::extract::has_idempotency_key(request.headers());
    let allowed = allow_mismatch(request.uri());
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let thread = path.beside(&mut object);
    let allowed = object.beside(allowed).unwrap_or_default();
    let message = SendRequest::take(&mut object).zip(thread);
    let ((message, thread), key) = match (object.finish(), message, key) {
        (Ok(()), Some(message), Ok(key)) => (message, key),
        (Ok(()), _, Err(error)) if key_is_missing => {
            let what = ApiError::new(ErrorCode::IdempotencyKeyRequired, "A send needs an Idempotency-Key of its own.");
            return Err(what.with_fields(vec![error]));
        }
        (Ok(()), _, Err(error)) => return Err(ApiError::fields(vec![error])),
        (Err(errors), _, Err(error)) => return Err(errors.and_field(error)),
        (Err(errors), _, Ok(_)) => return Err(errors),
        (Ok(()), None, Ok(_)) => return Err(ApiError::internal("a body without errors was not read")),
    };
    // Decoded and hashed, the body is not needed while the shard works.
    drop(body);
    let origin = Origin::keyed(&sender.user, PostPath::Messages(thread), &key);
    let command = message.allowing_mismatch(allowed).into_command(thread, &sender, origin);
    let reply = state.router().command(Slot::of_thread(thread), command, state.deadline()).await?;
    let was_replayed = reply.replayed;
    let reply = message_of(reply)?;
    if reply.duplicate {
        return Err(ApiError::duplicate(reply.message));
    }
    let size = MessageView::size_hint(&reply.message);
    let mut response = json_done(&state, StatusCode::ACCEPTED, &MessageView::of(&reply.message), size)?;
    let recipients = reply.message.receipts.as_ref().map(|receipts| receipts.of);
    response.extensions_mut().insert(Told { message: Some(reply.message.id), recipients, report: None });
    Ok(replayed(located(response, &format!("/v1/messages/{}", reply.message.id)), was_replayed))
}

/// `GET /v1/messages/{id}`
pub(super) async fn one(
    State(state): State<GatewayState>,
    Reader(viewer): Reader,
    path: MessagePath,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let query = Query::Message(MessageQuery { id, viewer: viewer.user.clone(), device: viewer.device.clone() });
    match state.router().query(id.slot(), query, state.deadline()).await? {
        Answer::Message(message) => {
            json(&state, StatusCode::OK, &MessageView::of(&message), MessageView::size_hint(&message))
        }
        other => Err(unexpected(&other)),
    }
}

#[derive(Serialize)]
struct RecipientsView<'a> {
    recipients: Vec<RecipientView<'a>>,
}

/// `GET /v1/messages/{id}/recipients`
pub(super) async fn recipients(
    State(state): State<GatewayState>,
    Reader(viewer): Reader,
    path: MessagePath,
) -> Result<Response, ApiError> {
    let id = path.id()?;
    let query = Query::Recipients(RecipientsQuery { id, viewer: viewer.user.clone() });
    match state.router().query(id.slot(), query, state.deadline()).await? {
        Answer::Recipients(answer) => {
            let recipients: Vec<_> = answer.recipients.iter().map(RecipientView::of).collect();
            let size = 32 + 192 * recipients.len();
            json(&state, StatusCode::OK, &RecipientsView { recipients }, size)
        }
        other => Err(unexpected(&other)),
    }
}

/// `POST /v1/threads/{id}/read`
pub(super) async fn read(
    State(state): State<GatewayState>,
    Writer(reader): Writer,
    path: ThreadPath,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers());
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let thread = path.beside(&mut object);
    let up_to = object.required("up_to_msg_id", message_id);
    let key = object.beside(key).flatten();
    object.finish()?;
    let read = thread.zip(up_to).ok_or_else(|| ApiError::internal("a body without errors was not read"));
    let (thread, up_to) = read?;
    let mut hash = BodyHash::new("read");
    hash.bytes(&up_to.0.to_be_bytes());
    let origin = Origin::of(&reader.user, PostPath::Read(thread), key.as_ref());
    let op = Op::MarkRead(MarkRead { thread, user: reader.user.clone(), up_to });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: hash.finish(), op };
    let reply = state.router().command(Slot::of_thread(thread), command, state.deadline()).await?;
    Ok(replayed(no_content(), reply.replayed))
}
