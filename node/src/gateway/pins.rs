//! Messages that stand out in their threads.
//!
//! Owns: `GET` and `POST /v1/threads/{id}/pins`, `DELETE …/pins/{message_id}`.
//! Must not know: who may pin, and how much; the thread's shard does.

use super::GatewayState;
use super::extract::{PinPath, Reader, ThreadPath, Writer, idempotency_key, json_body};
use super::idempotency::{BodyHash, Origin, PostPath};
use super::input::Object;
use super::respond::{json, json_done, no_content, pins_of, replayed, unexpected};
use super::send::message_id;
use crate::api::error::ApiError;
use crate::api::view::PinView;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::command::{Command, Op, PinMessage};
use messenger_proto::model::Pin;
use messenger_proto::query::{Answer, PinsQuery, Query};
use messenger_proto::slot::Slot;
use serde::Serialize;

#[derive(Serialize)]
struct Pins<'a> {
    pins: Vec<PinView<'a>>,
}

impl<'a> Pins<'a> {
    fn of(pins: &'a [Pin]) -> Self {
        Self { pins: pins.iter().map(PinView::of).collect() }
    }

    fn size_hint(&self) -> usize {
        16 + 160 * self.pins.len()
    }
}

/// `GET /v1/threads/{id}/pins`
pub(super) async fn list(
    State(state): State<GatewayState>,
    Reader(viewer): Reader,
    path: ThreadPath,
) -> Result<Response, ApiError> {
    let thread = path.id()?;
    let query = Query::Pins(PinsQuery { thread, viewer: viewer.user.clone() });
    match state.router().query(Slot::of_thread(thread), query, state.deadline()).await? {
        Answer::Pins(answer) => {
            let pins = Pins::of(&answer.pins);
            json(&state, StatusCode::OK, &pins, pins.size_hint())
        }
        other => Err(unexpected(&other)),
    }
}

/// `POST /v1/threads/{id}/pins`
pub(super) async fn pin(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    path: ThreadPath,
    request: Request,
) -> Result<Response, ApiError> {
    let key = idempotency_key(request.headers());
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let thread = path.beside(&mut object);
    let id = object.required("message_id", message_id);
    let key = object.beside(key).flatten();
    object.finish()?;
    let asked = thread.zip(id).ok_or_else(|| ApiError::internal("a body without errors was not read"));
    let (thread, id) = asked?;
    let mut hash = BodyHash::new("pin");
    hash.bytes(&id.0.to_be_bytes());
    let origin = Origin::of(&actor.user, PostPath::Pins(thread), key.as_ref());
    let op = Op::Pin(PinMessage { thread, id, actor: actor.user.clone(), present: true });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: hash.finish(), op };
    let reply = state.router().command(Slot::of_thread(thread), command, state.deadline()).await?;
    let was_replayed = reply.replayed;
    let reply = pins_of(reply)?;
    let pins = Pins::of(&reply.pins);
    Ok(replayed(json_done(&state, StatusCode::OK, &pins, pins.size_hint())?, was_replayed))
}

/// `DELETE /v1/threads/{id}/pins/{message_id}`
pub(super) async fn unpin(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    PinPath(thread, id): PinPath,
) -> Result<Response, ApiError> {
    let origin = Origin::minted();
    let op = Op::Pin(PinMessage { thread, id, actor: actor.user.clone(), present: false });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op };
    state.router().command(Slot::of_thread(thread), command, state.deadline()).await?;
    Ok(no_content())
}
