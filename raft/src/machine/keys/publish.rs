//! Publishing keys.
//!
//! Owns: what a publication replaces, adds and leaves, and who may still publish.
//! Must not know: how the keys came.
//! Invariants: a publication is carried out whole or not at all; done again it changes nothing but its time.

use super::{counts, pool, tell};
use crate::machine::apply::Outcome;
use crate::machine::profile;
use crate::machine::rows::dedupe::{DeviceRef, Reference};
use crate::machine::rows::device::{DeviceKey, DeviceRow, Pool};
use crate::machine::rows::device_past::{DevicePastKey, DevicePastRow};
use crate::machine::rows::devices::DevicesKey;
use crate::machine::step::{Step, Stop, refuse};
use crate::machine::tables::Tables;
use messenger_proto::command::{Reply, ReplyBody};
use messenger_proto::error::ErrorCode;
use messenger_proto::keys::{KeyKind, Prekey, PublishKeys, PublishedKeys};
use messenger_proto::limits::{CURVE_KEY_MAX, FORMER_REGISTRATIONS_MAX, PQ_KEY_MAX, PREKEYS_PER_PUT, USER_DEVICES_MAX};

/// Takes a publication.
pub(crate) fn publish<T: Tables>(step: &mut Step<'_, T>, op: &PublishKeys) -> Result<Outcome, Stop> {
    check_bounds(&op.keys)?;
    let past_key = DevicePastKey { user: op.user.clone(), device: op.device.clone() };
    let past = step.get(&past_key)?;
    if past.as_ref().and_then(|past| past.revoked_at).is_some_and(|at| op.issued_at <= at) {
        return refuse(ErrorCode::DeviceRevoked, "the device was deleted after its token was issued");
    }
    if past.as_ref().is_some_and(|past| past.registrations.contains(&op.keys.registration)) {
        return refuse(ErrorCode::StaleRegistration, "the device gave this registration_id up; it needs a new one");
    }
    let key = DeviceKey { user: op.user.clone(), device: op.device.clone() };
    let known = step.get(&key)?;
    if known.is_none() {
        enter(step, op, past.is_some())?;
    }
    let list_changed = known
        .as_ref()
        .is_none_or(|row| row.registration != op.keys.registration || row.identity_key != op.keys.identity_key);
    let former = match known {
        Some(row) if row.registration == op.keys.registration => Some(row),
        Some(row) => {
            give_up(step, &key, &row)?;
            let mut past = past.unwrap_or_default();
            retire(&mut past, &row);
            step.put(&past_key, &past);
            None
        }
        None => None,
    };
    let mut row = renewed(former, &op.keys);
    row.updated_at = step.now;
    for (kind, keys) in [(KeyKind::OneTime, &op.keys.one_time), (KeyKind::PqOneTime, &op.keys.pq_one_time)] {
        pool::add(step, &key, kind, pool::of(&mut row, kind), keys)?;
    }
    step.put(&key, &row);
    let barrier = if list_changed {
        tell(step, &op.user, &op.device, false);
        profile::changed(step, &op.user, profile::Change::Devices)?
    } else {
        profile::outstanding(step, &op.user)?
    };
    Ok(Outcome {
        reply: Reply { replayed: false, body: ReplyBody::KeyCounts(counts(&row)), barrier: barrier.clone() },
        reference: Some(Reference::Device(DeviceRef { user: key.user, device: key.device, barrier })),
    })
}

/// Counts a new device, or one that was deleted and comes back.
fn enter<T: Tables>(step: &mut Step<'_, T>, op: &PublishKeys, has_past: bool) -> Result<(), Stop> {
    let key = DevicesKey { user: op.user.clone() };
    let mut row = step.get(&key)?.unwrap_or_default();
    if row.devices as usize >= USER_DEVICES_MAX {
        return refuse(ErrorCode::TooManyDevices, "a user has at most 32 devices with keys");
    }
    row.devices = row.devices.saturating_add(1);
    row.deleted = row.deleted.saturating_sub(u32::from(has_past));
    step.put(&key, &row);
    Ok(())
}

/// The row of the device, less its pools' news; what a publication leaves out stays.
fn renewed(former: Option<DeviceRow>, keys: &PublishedKeys) -> DeviceRow {
    let (last_resort, pq_last_resort, one_time, pq_one_time) = match former {
        Some(row) => (row.last_resort, row.pq_last_resort, row.one_time, row.pq_one_time),
        None => (None, None, Pool::default(), Pool::default()),
    };
    DeviceRow {
        registration: keys.registration,
        identity_key: keys.identity_key.clone(),
        signed_prekey: keys.signed_prekey.clone(),
        last_resort: keys.last_resort.clone().or(last_resort),
        pq_last_resort: keys.pq_last_resort.clone().or(pq_last_resort),
        updated_at: messenger_proto::ids::Millis(0),
        one_time,
        pq_one_time,
    }
}

/// Drops the one-time keys of a registration.
pub(super) fn give_up<T: Tables>(step: &mut Step<'_, T>, key: &DeviceKey, row: &DeviceRow) -> Result<(), Stop> {
    pool::drop_all(step, key, KeyKind::OneTime, &row.one_time)?;
    pool::drop_all(step, key, KeyKind::PqOneTime, &row.pq_one_time)
}

/// Remembers the registration of a device as one that it gave up.
pub(super) fn retire(past: &mut DevicePastRow, row: &DeviceRow) {
    if past.registrations.len() >= FORMER_REGISTRATIONS_MAX {
        past.registrations.remove(0);
    }
    past.registrations.push(row.registration);
}

fn check_bounds(keys: &PublishedKeys) -> Result<(), Stop> {
    let curve = |key: &Prekey| is_within(&key.public_key, CURVE_KEY_MAX) && signature_fits(key);
    let pq = |key: &Prekey| is_within(&key.public_key, PQ_KEY_MAX) && signature_fits(key);
    let lists_fit = keys.one_time.len() <= PREKEYS_PER_PUT && keys.pq_one_time.len() <= PREKEYS_PER_PUT;
    let curves_fit = keys.one_time.iter().chain(&keys.last_resort).chain([&keys.signed_prekey]).all(curve);
    let pqs_fit = keys.pq_one_time.iter().chain(&keys.pq_last_resort).all(pq);
    if lists_fit && curves_fit && pqs_fit && is_within(&keys.identity_key, CURVE_KEY_MAX) {
        return Ok(());
    }
    refuse(ErrorCode::InvalidRequest, "the keys are too many or too long")
}

fn is_within(bytes: &[u8], max: usize) -> bool {
    (1..=max).contains(&bytes.len())
}

fn signature_fits(key: &Prekey) -> bool {
    key.signature.as_ref().is_none_or(|signature| is_within(signature, PQ_KEY_MAX))
}
