//! An operator's switch for users and devices.
//!
//! Owns: `GET /admin/users/{id}`, and suspending and lifting that, of a user or of one device.
//! Must not know: what follows from it in sockets and requests; they ask, or hear of it by the user's stream.
//! Invariants: a change is answered once it is committed and every node that can be reached asks anew; who changes something
//! says who it is (see [`super::recorded`]).

use super::Office;
use super::answer::{Problem, json};
use super::recorded::Named;
use crate::api::error::ApiError;
use crate::api::time::Rfc3339;
use crate::gateway::idempotency::Origin;
use crate::operator_api::{SuspendedDevice, UserState};
use axum::extract::{RawPathParams, State};
use axum::response::Response;
use messenger_proto::command::{Command, Op};
use messenger_proto::ids::{DeviceId, Millis, UserId};
use messenger_proto::keys::DevicesQuery;
use messenger_proto::moderation::{Suspend, SuspensionQuery, SuspensionState};
use messenger_proto::query::{Answer, Query, UserThreadsQuery};
use messenger_proto::slot::Slot;
use std::str::FromStr;
use std::sync::Arc;

async fn view(office: &Office, user: &UserId) -> Result<Response, Problem> {
    let (state, known) = (state_of(office, user).await?, is_known(office, user).await?);
    let devices =
        state.devices.iter().map(|it| SuspendedDevice { device_id: it.device.to_string(), since: Rfc3339(it.since) });
    json(&UserState {
        user_id: user.to_string(),
        known,
        suspended: state.since.is_some(),
        since: state.since.map(Rfc3339),
        devices: devices.collect(),
    })
}

pub(super) fn param<T: FromStr>(params: &RawPathParams, name: &str) -> Result<Option<T>, Problem> {
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
    view(&office, &user).await
}

async fn state_of(office: &Office, user: &UserId) -> Result<SuspensionState, Problem> {
    let query = Query::Suspension(SuspensionQuery { user: user.clone() });
    match office.router.query(Slot::of_user(user), query, Office::deadline()).await? {
        Answer::Suspension(state) => Ok(state),
        _ => Err(ApiError::internal("a question about a suspension was answered with something else").into()),
    }
}

/// Users are there by being named, so any may be asked about; that nobody heard of one most likely is a slip.
async fn is_known(office: &Office, user: &UserId) -> Result<bool, Problem> {
    let (slot, deadline) = (Slot::of_user(user), Office::deadline());
    // All that it ever left, too.
    let threads = Query::UserThreads(UserThreadsQuery { user: user.clone(), left_since: Some(Millis(0)) });
    if let Answer::UserThreads(answer) = office.router.query(slot, threads, deadline).await?
        && !(answer.threads.is_empty() && answer.left.is_empty())
    {
        return Ok(true);
    }
    let devices = Query::Devices(DevicesQuery { user: user.clone() });
    let answer = office.router.query(slot, devices, deadline).await?;
    Ok(matches!(answer, Answer::Devices(answer) if !answer.devices.is_empty()))
}

/// `POST /admin/users/{id}/suspend`, and of a device.
pub(super) async fn suspend(
    State(office): State<Arc<Office>>,
    _: Named,
    params: RawPathParams,
) -> Result<Response, Problem> {
    switch(&office, &params, true).await
}

/// `POST /admin/users/{id}/unsuspend`, and of a device.
pub(super) async fn unsuspend(
    State(office): State<Arc<Office>>,
    _: Named,
    params: RawPathParams,
) -> Result<Response, Problem> {
    switch(&office, &params, false).await
}

async fn switch(office: &Office, params: &RawPathParams, suspended: bool) -> Result<Response, Problem> {
    let (user, device): (UserId, Option<DeviceId>) = (user_of(params)?, param(params, "device_id")?);
    carry_out(office, &user, device, suspended).await?;
    view(office, &user).await
}

async fn carry_out(office: &Office, user: &UserId, device: Option<DeviceId>, suspended: bool) -> Result<(), Problem> {
    let origin = Origin::minted();
    let op = Op::Suspend(Suspend { user: user.clone(), device, suspended });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op };
    let done = office.router.command(Slot::of_user(user), command, Office::deadline()).await;
    // Whether or not it is known to be done: what nodes know of the user is out of date.
    office.revocations.forget_user_everywhere(user).await;
    done?;
    Ok(())
}
