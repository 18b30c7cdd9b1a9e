//! Users and devices that may not use the cluster.
//!
//! Owns: what an operator's switch does, and what is said of it.
//! Must not know: tokens, sockets; others end them by what is said here.
//! Invariants: what is suspended stays so until it is lifted, and since when it was suspended first; a user of whom nothing
//! is suspended has no row. Nothing else changes: its threads go on, and messages to it are kept.

use super::apply::Outcome;
use super::rows::suspension::SuspensionKey;
use super::rows::{self};
use super::step::{Step, Stop, refuse};
use super::tables::{TableError, Tables};
use messenger_proto::error::ErrorCode;
use messenger_proto::event::Event;
use messenger_proto::ids::UserId;
use messenger_proto::limits::SUSPENDED_DEVICES_MAX;
use messenger_proto::moderation::{Suspend, SuspendedDevice, SuspensionEvent, SuspensionState};

/// Throws the switch.
pub(crate) fn set<T: Tables>(step: &mut Step<'_, T>, op: &Suspend) -> Result<Outcome, Stop> {
    let key = SuspensionKey { user: op.user.clone() };
    let stored = step.get(&key)?.unwrap_or_default();
    let mut state = stored.clone();
    let known = |suspended: &SuspendedDevice| op.device.as_ref() == Some(&suspended.device);
    match (&op.device, op.suspended) {
        (None, true) => state.since = state.since.or(Some(step.now)),
        (None, false) => state.since = None,
        (Some(_), true) if state.devices.iter().any(known) => {}
        (Some(_), true) if state.devices.len() >= SUSPENDED_DEVICES_MAX => {
            return refuse(ErrorCode::Conflict, "64 devices of the user are suspended; suspend the user");
        }
        (Some(device), true) => {
            state.devices.push(SuspendedDevice { device: device.clone(), since: step.now });
            state.devices.sort_unstable_by(|a, b| a.device.cmp(&b.device));
        }
        (Some(_), false) => state.devices.retain(|suspended| !known(suspended)),
    }
    if state == SuspensionState::default() {
        if state != stored {
            step.delete(&key);
        }
    } else if state != stored {
        step.put(&key, &state);
    }
    if op.suspended {
        // Also when it was suspended before: whoever missed that hears of it now.
        step.emit_event(Event::Suspension(SuspensionEvent { user: op.user.clone(), device: op.device.clone() }));
    }
    Ok(Outcome::done(None))
}

/// What of a user is suspended.
pub(crate) fn of(tables: &impl Tables, user: &UserId) -> Result<SuspensionState, TableError> {
    Ok(rows::get(tables, &SuspensionKey { user: user.clone() })?.unwrap_or_default())
}
