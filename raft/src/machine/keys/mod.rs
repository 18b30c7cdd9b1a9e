//! Devices and their keys, kept by the user's shard.
//!
//! Owns: publishing keys, taking them, deleting devices, and what can be asked about either.
//! Must not know: what a key means, tokens, sockets.
//! Invariants: under one registration of a device a one-time key is handed out at most once ever, and its number never
//! stored again; a registration that was given up does not come back while it is remembered, so its numbers don't either.
//! What a command took stays beside it for as long as the command is remembered, and is what its repeat is answered.
//!
//! Everything is bounded: devices of a user, keys of a device, remembered deletions and registrations
//! ([`messenger_proto::limits`]). A command touches at most a device's keys.

mod delete;
mod pool;
mod publish;
pub(super) mod query;
pub(crate) mod spent;
mod take;

pub(super) use self::delete::delete;
pub(super) use self::publish::publish;
pub(super) use self::take::{replay, take};

use super::rows::device::{DeviceKey, DeviceRow};
use super::rows::key::KeyWriter;
use super::rows::{self};
use super::step::Step;
use super::tables::{Direction, TableError, Tables};
use messenger_proto::event::Event;
use messenger_proto::ids::{DeviceId, UserId};
use messenger_proto::keys::{DeviceEvent, KeyCounts};
use messenger_proto::limits::USER_DEVICES_MAX;

/// A user's devices that have keys published, in order of name.
pub(super) fn devices(tables: &impl Tables, user: &UserId) -> Result<Vec<(DeviceKey, DeviceRow)>, TableError> {
    let mut all = KeyWriter::of::<DeviceKey>();
    rows::collect::<DeviceKey>(tables, &all.slotted_user(user).range(), Direction::Forward, USER_DEVICES_MAX)
}

fn counts(row: &DeviceRow) -> KeyCounts {
    KeyCounts { one_time: row.one_time.stored, pq_one_time: row.pq_one_time.stored, updated_at: row.updated_at }
}

/// Tells the user's own devices that one of them changed.
fn tell<T: Tables>(step: &mut Step<'_, T>, user: &UserId, device: &DeviceId, deleted: bool) {
    let event = DeviceEvent { user: user.clone(), device: device.clone(), at: step.now, deleted };
    step.emit_event(Event::Device(event));
}
