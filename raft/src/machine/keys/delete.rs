//! Deleting devices.
//!
//! Owns: what goes with a device, and what is remembered of it.
//! Must not know: tokens, sockets; others end them by what is remembered here.
//! Invariants: a device may be deleted whether or not it published keys, and as often as one likes: what counts is the
//! last time. Deletions of a user are remembered up to a bound, the last ones.

use super::publish::{give_up, retire};
use super::{devices, tell};
use crate::machine::apply::Outcome;
use crate::machine::profile;
use crate::machine::rows::device::DeviceKey;
use crate::machine::rows::device_past::DevicePastKey;
use crate::machine::rows::devices::DevicesKey;
use crate::machine::rows::key::KeyWriter;
use crate::machine::rows::{self};
use crate::machine::step::{Step, Stop};
use crate::machine::tables::{Direction, Tables};
use messenger_proto::ids::UserId;
use messenger_proto::keys::DeleteDevice;
use messenger_proto::limits::DELETED_DEVICES_MAX;
use std::collections::BTreeSet;

/// Deletes a device.
pub(crate) fn delete<T: Tables>(step: &mut Step<'_, T>, op: &DeleteDevice) -> Result<Outcome, Stop> {
    let key = DeviceKey { user: op.user.clone(), device: op.device.clone() };
    let past_key = DevicePastKey { user: op.user.clone(), device: op.device.clone() };
    let past = step.get(&past_key)?;
    let known = step.get(&key)?;
    let is_new = past.is_none();
    let mut past = past.unwrap_or_default();
    past.revoked_at = Some(step.now);
    let counts_key = DevicesKey { user: op.user.clone() };
    let mut counts = step.get(&counts_key)?.unwrap_or_default();
    if let Some(row) = &known {
        give_up(step, &key, row)?;
        retire(&mut past, row);
        step.delete(&key);
        counts.devices = counts.devices.saturating_sub(1);
    }
    if known.is_some() || is_new {
        counts.deleted = counts.deleted.saturating_add(1);
    }
    step.put(&past_key, &past);
    if counts.deleted as usize > DELETED_DEVICES_MAX {
        forget_oldest(step, &op.user)?;
        counts.deleted = counts.deleted.saturating_sub(1);
    }
    step.put(&counts_key, &counts);
    tell(step, &op.user, &op.device, true);
    let barrier = match known {
        Some(_) => profile::changed(step, &op.user, profile::Change::Devices)?,
        None => profile::outstanding(step, &op.user)?,
    };
    Ok(Outcome::done(barrier))
}

/// Forgets the device that was deleted first, of those that did not come back.
fn forget_oldest<T: Tables>(step: &mut Step<'_, T>, user: &UserId) -> Result<(), Stop> {
    let present: BTreeSet<_> = devices(&step.rows, user)?.into_iter().map(|(key, _)| key.device).collect();
    let mut all = KeyWriter::of::<DevicePastKey>();
    let range = all.slotted_user(user).range();
    let pasts = rows::collect::<DevicePastKey>(&step.rows, &range, Direction::Forward, usize::MAX)?;
    let gone = pasts.into_iter().filter(|(key, _)| !present.contains(&key.device));
    if let Some((key, _)) = gone.min_by_key(|(_, past)| past.revoked_at) {
        step.delete(&key);
    }
    Ok(())
}
