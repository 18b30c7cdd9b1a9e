//! A user's devices.
//!
//! Owns: `GET /v1/users/{id}/devices` and `DELETE /v1/users/me/devices/{device_id}`; telling others of a change.
//! Must not know: what is kept of a device; the user's shard does.
//! Invariants: telling others never delays an answer, and is bounded: one command per shard and so many threads, within
//! one deadline; what is lost on the way is not told again.

use super::GatewayState;
use super::error::ApiError;
use super::extract::{DevicePath, Reader, UserPath, Writer};
use super::idempotency::Origin;
use super::respond::{json, no_content, unexpected};
use super::time::Rfc3339;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::command::{Command, Op, Retention};
use messenger_proto::ids::{Millis, ShardId, ThreadId, UserId};
use messenger_proto::keys::{AnnounceDevices, DeleteDevice, DeviceInfo, DevicesQuery};
use messenger_proto::limits::ANNOUNCED_THREADS_MAX;
use messenger_proto::query::{Answer, Query, UserThreadsQuery};
use messenger_proto::slot::Slot;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::time::Instant;

/// How long telling others of a change may take.
const ANNOUNCE_TIME: Duration = Duration::from_secs(30);

#[derive(Serialize)]
struct DeviceView<'a> {
    device_id: &'a str,
    registration_id: u64,
    updated_at: Rfc3339,
}

impl<'a> DeviceView<'a> {
    fn of(info: &'a DeviceInfo) -> Self {
        let updated_at = Rfc3339(info.updated_at);
        Self { device_id: info.device.as_str(), registration_id: info.registration.0, updated_at }
    }
}

#[derive(Serialize)]
struct DevicesView<'a> {
    devices: Vec<DeviceView<'a>>,
}

/// `GET /v1/users/{id}/devices`
pub(super) async fn list(
    State(state): State<GatewayState>,
    Reader(viewer): Reader,
    path: UserPath,
) -> Result<Response, ApiError> {
    let user = path.id(&viewer)?;
    let devices = of_user(&state, user).await?;
    let view = DevicesView { devices: devices.iter().map(DeviceView::of).collect() };
    json(&state, StatusCode::OK, &view, 16 + 192 * devices.len())
}

/// A user's devices, taking nothing.
pub(super) async fn of_user(state: &GatewayState, user: UserId) -> Result<Vec<DeviceInfo>, ApiError> {
    let slot = Slot::of_user(&user);
    match state.router().query(slot, Query::Devices(DevicesQuery { user }), state.deadline()).await? {
        Answer::Devices(answer) => Ok(answer.devices),
        other => Err(unexpected(&other)),
    }
}

/// `DELETE /v1/users/me/devices/{device_id}`
pub(super) async fn delete(
    State(state): State<GatewayState>,
    Writer(actor): Writer,
    path: DevicePath,
) -> Result<Response, ApiError> {
    let device = path.id()?;
    let origin = Origin::minted();
    let op = Op::DeleteDevice(DeleteDevice { user: actor.user.clone(), device: device.clone() });
    let command = Command { id: origin.id, retention: origin.retention, body_hash: 0, op };
    let done = state.router().command(Slot::of_user(&actor.user), command, state.deadline()).await;
    // Whether or not it is known to be done: what is known of the device is out of date.
    state.revocations().forget_everywhere(&actor.user, &device).await;
    if done.as_ref().map_or_else(|refusal| refusal.code.may_have_had_effects(), |_| true) {
        announce(&state, &actor.user, state.now());
    }
    done?;
    Ok(no_content())
}

/// Tells those who share a thread with a user that its devices changed.
pub(super) fn announce(state: &GatewayState, user: &UserId, at: Millis) {
    let (state, user) = (state.clone(), user.clone());
    tokio::spawn(async move {
        if let Err(error) = tell_threads(&state, &user, at).await {
            tracing::debug!(code = error.code().as_str(), "a change of devices was not told to all");
        }
    });
}

async fn tell_threads(state: &GatewayState, user: &UserId, at: Millis) -> Result<(), ApiError> {
    let deadline = Instant::now() + ANNOUNCE_TIME;
    let query = Query::UserThreads(UserThreadsQuery { user: user.clone(), left_since: None });
    let threads = match state.router().query(Slot::of_user(user), query, deadline).await? {
        Answer::UserThreads(answer) => answer.threads,
        other => return Err(unexpected(&other)),
    };
    let mut shards: BTreeMap<ShardId, Vec<ThreadId>> = BTreeMap::new();
    for row in threads {
        shards.entry(state.router().shard_of(Slot::of_thread(row.thread))).or_default().push(row.thread);
    }
    for threads in shards.values().flat_map(|threads| threads.chunks(ANNOUNCED_THREADS_MAX)) {
        let Some(first) = threads.first() else { continue };
        let op = Op::AnnounceDevices(AnnounceDevices { user: user.clone(), threads: threads.to_vec(), at });
        let command = Command { id: Origin::minted().id, retention: Retention::None, body_hash: 0, op };
        state.router().command(Slot::of_thread(*first), command, deadline).await?;
    }
    Ok(())
}
