//! A user's devices.
//!
//! Owns: `GET /v1/users/{id}/devices` and `DELETE /v1/users/me/devices/{device_id}`.
//! Must not know: what is kept of a device, who is told of a change; the user's shard does.
//! Invariants: after a deletion no node believes what it knew of the device.

use super::GatewayState;
use super::extract::{DevicePath, Reader, UserPath, Writer};
use super::idempotency::Origin;
use super::respond::{json, no_content, unexpected};
use crate::api::error::ApiError;
use crate::api::time::Rfc3339;
use axum::extract::State;
use axum::http::StatusCode;
use axum::response::Response;
use messenger_proto::command::{Command, Op};
use messenger_proto::ids::UserId;
use messenger_proto::keys::{DeleteDevice, DeviceInfo, DevicesQuery};
use messenger_proto::query::{Answer, Query};
use messenger_proto::slot::Slot;
use serde::Serialize;

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
    done?;
    Ok(no_content())
}
