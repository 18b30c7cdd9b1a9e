//! Questions about devices.
//!
//! Owns: the list of a user's devices, what one has in store, and whether it may speak.
//! Must not know: who asks.
//! Invariants: a question takes no keys.

use super::{counts, devices, take};
use crate::machine::rows::device::DeviceKey;
use crate::machine::rows::device_past::DevicePastKey;
use crate::machine::rows::{self};
use crate::machine::step::{Stop, refuse};
use crate::machine::suspension;
use crate::machine::tables::Tables;
use messenger_proto::error::ErrorCode;
use messenger_proto::keys::{
    DeviceInfo, DeviceStatus, DeviceStatusQuery, DevicesAnswer, DevicesQuery, KeyCounts, KeyCountsQuery,
};

/// A user's devices.
pub(crate) fn list(tables: &impl Tables, query: &DevicesQuery) -> Result<DevicesAnswer, Stop> {
    let devices = devices(tables, &query.user)?.into_iter().map(|(key, row)| DeviceInfo {
        device: key.device,
        registration: row.registration,
        updated_at: row.updated_at,
    });
    Ok(DevicesAnswer { devices: devices.collect() })
}

/// What a device has in store.
pub(crate) fn in_store(tables: &impl Tables, query: &KeyCountsQuery) -> Result<KeyCounts, Stop> {
    let key = DeviceKey { user: query.user.clone(), device: query.device.clone() };
    match rows::get(tables, &key)? {
        Some(row) => Ok(counts(&row)),
        None => refuse(ErrorCode::NotFound, "the device has published no keys"),
    }
}

/// Whether a device may speak, and whether it runs out of keys.
pub(crate) fn status(tables: &impl Tables, query: &DeviceStatusQuery) -> Result<DeviceStatus, Stop> {
    let (user, device) = (query.user.clone(), query.device.clone());
    let past = rows::get(tables, &DevicePastKey { user: user.clone(), device: device.clone() })?;
    let suspended = suspension::of(tables, &user)?.covers(&device);
    let row = rows::get(tables, &DeviceKey { user, device })?;
    let low = row.as_ref().and_then(take::low);
    Ok(DeviceStatus { revoked_at: past.and_then(|past| past.revoked_at), low, suspended })
}
