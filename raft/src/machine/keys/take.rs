//! Taking keys.
//!
//! Owns: what is handed out of a user's devices, and what a repeat is answered.
//! Must not know: how often anyone may take.
//! Invariants: a device gives one key of each kind or, where none is left, its last resort of that kind; one that can
//! give neither of either kind is exhausted, and loses nothing; when all are, nothing happens at all.

use super::{devices, pool};
use crate::machine::apply::Outcome;
use crate::machine::rows::bundles::BundlesKey;
use crate::machine::rows::dedupe::Reference;
use crate::machine::rows::device::{DeviceKey, DeviceRow};
use crate::machine::rows::{self, Nothing};
use crate::machine::step::{Step, Stop, refuse};
use crate::machine::tables::Tables;
use messenger_proto::command::{Command, Reply, ReplyBody, Retention};
use messenger_proto::error::ErrorCode;
use messenger_proto::event::Event;
use messenger_proto::keys::{Bundle, Bundles, KeyKind, OfferedKey, Prekey, PrekeysLow, TakePrekeys};
use messenger_proto::limits::PREKEYS_LOW;

/// Takes keys.
pub(crate) fn take<T: Tables>(step: &mut Step<'_, T>, op: &TakePrekeys, command: &Command) -> Result<Outcome, Stop> {
    let mut found = devices(&step.rows, &op.user)?;
    if let Some(device) = &op.device {
        found.retain(|(key, _)| key.device == *device);
    }
    if found.is_empty() {
        return refuse(ErrorCode::NotFound, "the user has published no keys there");
    }
    let mut bundles = Bundles { devices: Vec::new(), exhausted: Vec::new() };
    for (key, row) in found {
        if (&key.user, &key.device) == (&op.taker, &op.taker_device) {
            continue;
        }
        match from_device(step, &key, row)? {
            Some(bundle) => bundles.devices.push(bundle),
            None => bundles.exhausted.push(key.device),
        }
    }
    if bundles.devices.is_empty() && !bundles.exhausted.is_empty() {
        return refuse(ErrorCode::PrekeysExhausted, "no device of the user has keys left; it has to publish new ones");
    }
    if command.retention != Retention::None {
        step.put(&BundlesKey { command: command.id }, &bundles);
    }
    Ok(Outcome {
        reply: Reply { replayed: false, body: ReplyBody::Bundles(bundles), barrier: None },
        reference: Some(Reference::Bundles(Nothing {})),
    })
}

/// What the command took when it was carried out.
pub(crate) fn replay<T: Tables>(step: &Step<'_, T>, command: &Command) -> Result<ReplyBody, Stop> {
    Ok(ReplyBody::Bundles(rows::expect(&step.rows, &BundlesKey { command: command.id })?))
}

fn from_device<T: Tables>(step: &mut Step<'_, T>, key: &DeviceKey, mut row: DeviceRow) -> Result<Option<Bundle>, Stop> {
    let before = low(&row);
    let one_time = pool::hand_out(step, key, KeyKind::OneTime, &mut row.one_time)?;
    let pq = pool::hand_out(step, key, KeyKind::PqOneTime, &mut row.pq_one_time)?;
    let taken = one_time.is_some() || pq.is_some();
    let one_time = offered(one_time, row.last_resort.as_ref());
    let pq = offered(pq, row.pq_last_resort.as_ref());
    if one_time.is_none() && pq.is_none() {
        return Ok(None);
    }
    if taken {
        step.put(key, &row);
    }
    if let (None, Some(remaining)) = (before, low(&row)) {
        let event = PrekeysLow { user: key.user.clone(), device: key.device.clone(), remaining };
        step.emit_event(Event::PrekeysLow(event));
    }
    Ok(Some(Bundle {
        device: key.device.clone(),
        registration: row.registration,
        identity_key: row.identity_key,
        signed_prekey: row.signed_prekey,
        one_time,
        pq,
    }))
}

fn offered(taken: Option<Prekey>, last_resort: Option<&Prekey>) -> Option<OfferedKey> {
    let one_time = taken.map(|key| OfferedKey { key, last_resort: false });
    one_time.or_else(|| last_resort.map(|key| OfferedKey { key: key.clone(), last_resort: true }))
}

/// How many keys are left of the kind that has the fewest, if those are few; a device that never had a post-quantum key
/// is not asked for any.
pub(super) fn low(row: &DeviceRow) -> Option<u32> {
    let pq = row.pq_one_time.used.then_some(row.pq_one_time.stored);
    let fewest = pq.map_or(row.one_time.stored, |pq| pq.min(row.one_time.stored));
    (fewest < PREKEYS_LOW).then_some(fewest)
}
