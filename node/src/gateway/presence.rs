//! Whether a user is there.
//!
//! Owns: `GET /v1/users/{id}/presence`.
//! Must not know: what a status follows from; the user's shard leader does.
//! Invariants: only those who share a thread with a user are told how it is, and of the others nobody learns whether there
//! is such a user. What is read for that is the two users' lists of threads, which are bounded.

use super::GatewayState;
use super::extract::{Reader, UserPath};
use super::privacy::hides;
use super::respond::{json, unexpected};
use crate::api::error::ApiError;
use crate::api::view::PresenceView;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::ephemeral::{AskPresence, Presence, PresenceCall, PresenceStatus};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{ThreadId, UserId};
use messenger_proto::query::{Answer, Query, UserThreadsQuery};
use messenger_proto::slot::Slot;
use std::collections::BTreeSet;
use tokio::time::Instant;

/// `GET /v1/users/{id}/presence`
pub(super) async fn one(
    State(state): State<GatewayState>,
    Reader(viewer): Reader,
    path: UserPath,
) -> Result<Response, ApiError> {
    let user = path.id(&viewer)?;
    let deadline = state.deadline();
    if user != viewer.user && !share_a_thread(&state, &viewer.user, &user, deadline).await? {
        return Err(ApiError::new(ErrorCode::Forbidden, "Only those who share a thread with a user see its presence."));
    }
    if user != viewer.user && hidden(&state, &viewer.user, &user, deadline).await? {
        let detail = "Who hides its presence is shown nobody's, and it is shown to nobody; a block hides two users from each other.";
        return Err(ApiError::new(ErrorCode::PresenceHidden, detail));
    }
    let view = PresenceView::of(&presence(&state, user, deadline).await?);
    json(&state, StatusCode::OK, &view, 96)
}

/// Whether two users are in some thread together.
pub(super) async fn share_a_thread(
    state: &GatewayState,
    viewer: &UserId,
    user: &UserId,
    deadline: Instant,
) -> Result<bool, ApiError> {
    let (theirs, own) = tokio::try_join!(threads(state, user, deadline), threads(state, viewer, deadline))?;
    Ok(!theirs.is_disjoint(&own))
}

async fn hidden(state: &GatewayState, viewer: &UserId, user: &UserId, deadline: Instant) -> Result<bool, ApiError> {
    let (theirs, own) =
        tokio::try_join!(hides(state, user, Some(viewer), deadline), hides(state, viewer, Some(user), deadline))?;
    Ok(theirs || own)
}

async fn threads(state: &GatewayState, user: &UserId, deadline: Instant) -> Result<BTreeSet<ThreadId>, ApiError> {
    let query = Query::UserThreads(UserThreadsQuery { user: user.clone(), left_since: None });
    match state.router().query(Slot::of_user(user), query, deadline).await? {
        Answer::UserThreads(answer) => Ok(answer.threads.into_iter().map(|row| row.thread).collect()),
        other => Err(unexpected(&other)),
    }
}

async fn presence(state: &GatewayState, user: UserId, deadline: Instant) -> Result<Presence, ApiError> {
    let shard = state.router().shard_of(Slot::of_user(&user));
    let call = PresenceCall::Ask(AskPresence { users: vec![user.clone()] });
    let answer = state.router().presence(shard, call, deadline).await?;
    let unknown = || Presence { user, status: PresenceStatus::Offline, last_seen: None };
    Ok(answer.people.into_iter().next().unwrap_or_else(unknown))
}
