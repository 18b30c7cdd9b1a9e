//! An operator's switch for users and devices.
//!
//! Owns: `GET /admin/users/{id}`, and suspending and lifting that, of a user or of one device.
//! Must not know: what follows from it in sockets and requests; they ask, or hear of it by the user's stream.
//! Invariants: a change is answered once it is committed and every node that can be reached asks anew; it is recorded,
//! whether it was carried out or not. Who changes something says who it is in a header, which no page in an operator's
//! browser can set for another origin.

use super::Office;
use super::answer::{Problem, json};
use crate::audit::{Ending, Kind, Pending, Record, Target};
use crate::gateway::error::{ApiError, FieldError};
use crate::gateway::idempotency::Origin;
use crate::gateway::serve::PeerAddress;
use crate::gateway::time::Rfc3339;
use crate::gateway::trace::TraceId;
use axum::extract::{MatchedPath, RawPathParams, State};
use axum::http::HeaderMap;
use axum::response::Response;
use messenger_proto::command::{Command, Op};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{DeviceId, UserId};
use messenger_proto::moderation::{Suspend, SuspensionQuery, SuspensionState};
use messenger_proto::query::{Answer, Query};
use messenger_proto::slot::Slot;
use serde::Serialize;
use std::str::FromStr;
use std::sync::Arc;

/// Says which operator it is.
const OPERATOR: &str = "x-operator";

#[derive(Serialize)]
struct View<'a> {
    user_id: &'a str,
    suspended: bool,
    since: Option<Rfc3339>,
    /// Those that are suspended by themselves.
    devices: Vec<DeviceView<'a>>,
}

#[derive(Serialize)]
struct DeviceView<'a> {
    device_id: &'a str,
    since: Rfc3339,
}

fn view(user: &UserId, state: &SuspensionState) -> Result<Response, Problem> {
    let devices = state.devices.iter().map(|it| DeviceView { device_id: it.device.as_str(), since: Rfc3339(it.since) });
    json(&View {
        user_id: user.as_str(),
        suspended: state.since.is_some(),
        since: state.since.map(Rfc3339),
        devices: devices.collect(),
    })
}

fn param<T: FromStr>(params: &RawPathParams, name: &str) -> Result<Option<T>, Problem> {
    let text = params.iter().find(|(param, _)| *param == name).map(|(_, text)| text);
    let read = text.map(str::parse).transpose();
    read.map_err(|_| ApiError::field(name, "must be an id").into())
}

fn user_of(params: &RawPathParams) -> Result<UserId, Problem> {
    param(params, "user_id")?.ok_or_else(|| ApiError::internal("a route without a user").into())
}

/// `GET /admin/users/{id}`
pub(super) async fn show(State(office): State<Arc<Office>>, params: RawPathParams) -> Result<Response, Problem> {
    let user = user_of(&params)?;
    view(&user, &state_of(&office, &user).await?)
}

async fn state_of(office: &Office, user: &UserId) -> Result<SuspensionState, Problem> {
    let query = Query::Suspension(SuspensionQuery { user: user.clone() });
    match office.router.query(Slot::of_user(user), query, Office::deadline()).await? {
        Answer::Suspension(state) => Ok(state),
        _ => Err(ApiError::internal("a question about a suspension was answered with something else").into()),
    }
}

/// What a change comes with.
pub(super) struct Change {
    route: &'static str,
    params: RawPathParams,
    headers: HeaderMap,
    peer: Option<PeerAddress>,
}

impl<S: Send + Sync> axum::extract::FromRequestParts<S> for Change {
    type Rejection = Problem;
    async fn from_request_parts(parts: &mut axum::http::request::Parts, state: &S) -> Result<Self, Problem> {
        let unreadable = || Problem(ApiError::new(ErrorCode::InvalidRequest, "The path is not UTF-8."));
        let route = parts.extensions.get::<MatchedPath>().map_or("", |path| route_of(path.as_str()));
        let peer = parts.extensions.get::<PeerAddress>().copied();
        let params = RawPathParams::from_request_parts(parts, state).await.map_err(|_| unreadable())?;
        Ok(Self { route, params, headers: parts.headers.clone(), peer })
    }
}

/// A route's text as records name it.
fn route_of(path: &str) -> &'static str {
    const ROUTES: [&str; 4] = [
        "/admin/users/{user_id}/suspend",
        "/admin/users/{user_id}/unsuspend",
        "/admin/users/{user_id}/devices/{device_id}/suspend",
        "/admin/users/{user_id}/devices/{device_id}/unsuspend",
    ];
    ROUTES.into_iter().find(|route| *route == path).unwrap_or_default()
}

/// Which operator it is, in its own words.
fn operator(headers: &HeaderMap) -> Result<String, Problem> {
    let name = headers.get(OPERATOR).and_then(|value| value.to_str().ok());
    // A name is as long as a user's at most, and of the same characters.
    if let Some(Ok(name)) = name.map(UserId::new) {
        return Ok(name.to_string());
    }
    let complaint = "must say who you are: 1-64 of A-Z a-z 0-9 _ . ~ -";
    Err(ApiError::fields(vec![FieldError::new("X-Operator", complaint)]).into())
}

/// `POST /admin/users/{id}/suspend`, and of a device.
pub(super) async fn suspend(State(office): State<Arc<Office>>, change: Change) -> Result<Response, Problem> {
    switch(&office, &change, true).await
}

/// `POST /admin/users/{id}/unsuspend`, and of a device.
pub(super) async fn unsuspend(State(office): State<Arc<Office>>, change: Change) -> Result<Response, Problem> {
    switch(&office, &change, false).await
}

async fn switch(office: &Office, change: &Change, suspended: bool) -> Result<Response, Problem> {
    let (user, device): (UserId, Option<DeviceId>) = (user_of(&change.params)?, param(&change.params, "device_id")?);
    let operator = operator(&change.headers);
    let pending = Pending::new(
        &office.audit,
        Record {
            at: office.now(),
            kind: Kind::Operator,
            who: None,
            operator: operator.as_ref().ok().cloned(),
            address: change.peer.map(|peer| peer.0),
            method: "POST",
            route: change.route,
            trace: TraceId::of(&change.headers),
            payload: None,
            target: Target { user: Some(user.clone()), device: device.clone(), ..Target::default() },
            ending: Ending::default(),
        },
    );
    let done = match operator {
        Ok(_) => carry_out(office, &user, device, suspended).await,
        Err(problem) => Err(problem),
    };
    let ending = done.as_ref().map_or_else(|problem| Ending::refused(problem.0.code()), |_| Ending::done(200));
    pending.end(office.now(), ending, |_| {});
    view(&user, &done?)
}

async fn carry_out(
    office: &Office,
    user: &UserId,
    device: Option<DeviceId>,
    suspended: bool,
) -> Result<SuspensionState, Problem> {
    let origin = Origin::minted();
    let op = Op::Suspend(Suspend { user: user.clone(), device, suspended });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op };
    let done = office.router.command(Slot::of_user(user), command, Office::deadline()).await;
    // Whether or not it is known to be done: what nodes know of the user is out of date.
    office.revocations.forget_user_everywhere(user).await;
    done?;
    state_of(office, user).await
}
