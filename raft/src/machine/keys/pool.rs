//! A device's one-time keys of one kind.
//!
//! Owns: storing, handing out and dropping them, and the counts that go with it.
//! Must not know: who publishes or takes.
//! Invariants: `stored` is the number of rows; a key that is handed out is spent in the same step.

use super::spent;
use crate::machine::rows::device::{DeviceKey, DeviceRow, Pool};
use crate::machine::rows::prekey::{PrekeyKey, PrekeyRow};
use crate::machine::rows::{self};
use crate::machine::step::{Step, Stop, refuse};
use crate::machine::tables::{Direction, Tables};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::KeyId;
use messenger_proto::keys::{KeyKind, Prekey};
use messenger_proto::limits::PREKEYS_STORED_MAX;

/// The pool of a kind.
pub(super) fn of(row: &mut DeviceRow, kind: KeyKind) -> &mut Pool {
    match kind {
        KeyKind::OneTime => &mut row.one_time,
        KeyKind::PqOneTime => &mut row.pq_one_time,
    }
}

fn place(device: &DeviceKey, kind: KeyKind, id: KeyId) -> PrekeyKey {
    PrekeyKey { user: device.user.clone(), device: device.device.clone(), kind, id }
}

/// Stores keys, but for those that are there or were handed out.
pub(super) fn add<T: Tables>(
    step: &mut Step<'_, T>,
    device: &DeviceKey,
    kind: KeyKind,
    pool: &mut Pool,
    keys: &[Prekey],
) -> Result<(), Stop> {
    for key in keys {
        let place = place(device, kind, key.id);
        match step.get(&place)? {
            Some(row) if row.public_key == key.public_key => continue,
            Some(_) => {
                let detail = format!("another {} key has the key_id {}", kind.as_str(), key.id);
                return refuse(ErrorCode::KeyConflict, &detail);
            }
            None if spent::contains(&pool.spent, key.id) => continue,
            None => {}
        }
        pool.from = if pool.stored == 0 { key.id } else { pool.from.min(key.id) };
        pool.stored = pool.stored.saturating_add(1);
        pool.used = true;
        step.put(&place, &PrekeyRow { public_key: key.public_key.clone(), signature: key.signature.clone() });
    }
    if pool.stored as usize > PREKEYS_STORED_MAX {
        return refuse(ErrorCode::TooManyPrekeys, "a device stores at most 1,000 one-time keys of a kind");
    }
    Ok(())
}

/// Hands the key with the lowest number out, for ever.
pub(super) fn hand_out<T: Tables>(
    step: &mut Step<'_, T>,
    device: &DeviceKey,
    kind: KeyKind,
    pool: &mut Pool,
) -> Result<Option<Prekey>, Stop> {
    if pool.stored == 0 {
        return Ok(None);
    }
    let range = PrekeyKey::since(&device.user, &device.device, kind, pool.from);
    let first = rows::collect::<PrekeyKey>(&step.rows, &range, Direction::Forward, 1)?.pop();
    let Some((place, PrekeyRow { public_key, signature })) = first else { return Ok(None) };
    step.delete(&place);
    spent::add(&mut pool.spent, place.id);
    pool.stored = pool.stored.saturating_sub(1);
    pool.from = place.id;
    Ok(Some(Prekey { id: place.id, public_key, signature }))
}

/// Drops all keys that are left.
pub(super) fn drop_all<T: Tables>(
    step: &mut Step<'_, T>,
    device: &DeviceKey,
    kind: KeyKind,
    pool: &Pool,
) -> Result<(), Stop> {
    let range = PrekeyKey::since(&device.user, &device.device, kind, pool.from);
    for (place, _) in rows::collect::<PrekeyKey>(&step.rows, &range, Direction::Forward, pool.stored as usize)? {
        step.delete(&place);
    }
    Ok(())
}
