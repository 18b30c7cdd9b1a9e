//! Putting answers together.
//!
//! Owns: the headers of a success, and taking the expected shape off a shard's answer.
//! Must not know: what was asked.

use super::GatewayState;
use super::etag::EntityTag;
use super::held::Holding;
use crate::api::error::ApiError;
use axum::body::Body;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use messenger_proto::command::{MessageReply, PinsReply, Reply, ReplyBody, ThreadReply};
use messenger_proto::query::Answer;
use serde::Serialize;

/// A JSON answer of about `size` bytes to a question.
///
/// # Errors
/// [`messenger_proto::error::ErrorCode::Overloaded`] when too many large answers wait to be taken.
pub(super) fn json(
    state: &GatewayState,
    status: StatusCode,
    view: &impl Serialize,
    size: usize,
) -> Result<Response, ApiError> {
    Ok(response(status, state.admission().answer(written(view, size)?)?))
}

/// The same with an `ETag`, and 304 without a body for a client that has it already.
///
/// # Errors
/// As for [`json`].
pub(super) fn json_tagged(
    state: &GatewayState,
    asked: &HeaderMap,
    view: &impl Serialize,
    size: usize,
) -> Result<Response, ApiError> {
    let bytes = written(view, size)?;
    let tag = EntityTag::of(&bytes);
    let mut response = if tag.is_held(asked) {
        StatusCode::NOT_MODIFIED.into_response()
    } else {
        response(StatusCode::OK, state.admission().answer(bytes)?)
    };
    if let Some(value) = tag.header() {
        response.headers_mut().insert(header::ETAG, value);
    }
    Ok(response)
}

/// A JSON answer of about `size` bytes to a command. It was carried out, so it is said, however much waits to be taken.
pub(super) fn json_done(
    state: &GatewayState,
    status: StatusCode,
    view: &impl Serialize,
    size: usize,
) -> Result<Response, ApiError> {
    Ok(response(status, state.admission().answer_done(written(view, size)?)))
}

fn written(view: &impl Serialize, size: usize) -> Result<Vec<u8>, ApiError> {
    let mut bytes = Vec::with_capacity(size);
    serde_json::to_writer(&mut bytes, view).map_err(|error| ApiError::internal(format!("unwritable: {error}")))?;
    Ok(bytes)
}

fn response(status: StatusCode, (bytes, holding): (Bytes, Option<Holding>)) -> Response {
    let mut response = Response::new(Body::from(bytes));
    if let Some(holding) = holding {
        response.extensions_mut().insert(holding);
    }
    *response.status_mut() = status;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    response
}

/// Success with nothing to say.
pub(super) fn no_content() -> Response {
    StatusCode::NO_CONTENT.into_response()
}

/// The answer to OPTIONS.
pub(crate) fn options(allow: &'static str) -> Response {
    (StatusCode::NO_CONTENT, [(header::ALLOW, HeaderValue::from_static(allow))]).into_response()
}

/// Says where the thing that was made is found.
pub(super) fn located(mut response: Response, path: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(path) {
        response.headers_mut().insert(header::LOCATION, value);
    }
    response
}

/// Says whether the answer is a repeat of the first one.
pub(super) fn replayed(mut response: Response, replayed: bool) -> Response {
    if replayed {
        response.headers_mut().insert("idempotent-replayed", HeaderValue::from_static("true"));
    }
    response
}

/// The thread that a command answers with.
pub(super) fn thread_of(reply: Reply) -> Result<ThreadReply, ApiError> {
    match reply.body {
        ReplyBody::Thread(reply) => Ok(reply),
        _ => Err(ApiError::internal("a thread was expected of a command")),
    }
}

/// The message that a command answers with.
pub(super) fn message_of(reply: Reply) -> Result<MessageReply, ApiError> {
    match reply.body {
        ReplyBody::Message(reply) => Ok(reply),
        _ => Err(ApiError::internal("a message was expected of a command")),
    }
}

/// The pins that a command answers with.
pub(super) fn pins_of(reply: Reply) -> Result<PinsReply, ApiError> {
    match reply.body {
        ReplyBody::Pins(reply) => Ok(reply),
        _ => Err(ApiError::internal("pins were expected of a command")),
    }
}

/// The answer is of another kind than the question.
pub(super) fn unexpected(answer: &Answer) -> ApiError {
    let kind = match answer {
        Answer::Thread(_) => "thread",
        Answer::Message(_) => "message",
        Answer::Pins(_) => "pins",
        Answer::Recipients(_) => "recipients",
        Answer::Messages(_) => "messages",
        Answer::UserThreads(_) => "user threads",
        Answer::Privacy(_) => "privacy",
        Answer::Blocks(_) => "blocks",
        Answer::Room(_) => "room",
        Answer::Activity(_) => "activity",
        Answer::Summaries(_) => "summaries",
        Answer::Resume(_) => "resume",
        Answer::Devices(_) => "devices",
        Answer::KeyCounts(_) => "key counts",
        Answer::DeviceStatus(_) => "device status",
        Answer::Suspension(_) => "a suspension",
        Answer::Reports(_) => "reports",
        Answer::ClusterState(_) => "cluster state",
    };
    ApiError::internal(format!("a query was answered with {kind}"))
}
