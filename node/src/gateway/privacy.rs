//! What a user shows of itself to others.
//!
//! Owns: `GET` and `PUT /v1/users/me/privacy`.
//! Must not know: what follows from it; whoever shows presence asks.
//! Invariants: once it is answered, nothing is told of a user that hides; who acts on the setting is told that it changed.

use super::GatewayState;
use super::extract::{Reader, Writer, json_body};
use super::idempotency::{BodyHash, Origin};
use super::input::{Object, text};
use super::respond::{json, json_done, unexpected};
use crate::api::error::ApiError;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::command::{Command, Op, SetPrivacy};
use messenger_proto::ephemeral::{Ephemeral, PrivacyChange};
use messenger_proto::ids::UserId;
use messenger_proto::model::PresenceAudience;
use messenger_proto::query::{Answer, PrivacyQuery, Query};
use messenger_proto::slot::Slot;
use serde::Serialize;
use tokio::time::Instant;

#[derive(Serialize)]
struct View {
    presence: &'static str,
}

const SIZE: usize = 32;

/// Whether a user shows its presence to nobody, or keeps the viewer away, if there is one.
pub(super) async fn hides(
    state: &GatewayState,
    user: &UserId,
    viewer: Option<&UserId>,
    deadline: Instant,
) -> Result<bool, ApiError> {
    let query = Query::Privacy(PrivacyQuery { users: vec![user.clone()], viewer: viewer.cloned() });
    match state.router().query(Slot::of_user(user), query, deadline).await? {
        Answer::Privacy(answer) => Ok(!answer.hidden.is_empty()),
        other => Err(unexpected(&other)),
    }
}

/// `GET /v1/users/me/privacy`
pub(super) async fn one(State(state): State<GatewayState>, Reader(viewer): Reader) -> Result<Response, ApiError> {
    let hides = hides(&state, &viewer.user, None, state.deadline()).await?;
    let presence = if hides { PresenceAudience::Nobody } else { PresenceAudience::Everyone };
    json(&state, StatusCode::OK, &View { presence: presence.as_str() }, SIZE)
}

/// `PUT /v1/users/me/privacy`
pub(super) async fn set(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    request: Request,
) -> Result<Response, ApiError> {
    let body = json_body(&state, request).await?;
    let mut object = Object::parse(&body)?;
    let presence = object.required("presence", |value| {
        PresenceAudience::parse(&text(value)?).ok_or_else(|| "must be everyone or nobody".into())
    });
    object.finish()?;
    let presence = presence.ok_or_else(|| ApiError::internal("a body without errors was not read"))?;
    let mut hash = BodyHash::new("privacy");
    hash.bytes(presence.as_str().as_bytes());
    let origin = Origin::minted();
    let user = actor.user.clone();
    let op = Op::SetPrivacy(SetPrivacy { user: user.clone(), presence });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: hash.finish(), op };
    state.router().command(Slot::of_user(&user), command, state.deadline()).await?;
    state.tell(&Ephemeral::Privacy(PrivacyChange { user }));
    json_done(&state, StatusCode::OK, &View { presence: presence.as_str() }, SIZE)
}
