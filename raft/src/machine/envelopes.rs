//! Messages whose every device has a ciphertext of its own.
//!
//! Owns: whether envelopes are for the devices that the members have, storing them, and whose one is shown.
//! Must not know: what a ciphertext says; how the devices became known here.
//! Invariants: envelopes are held against the devices known when the command is applied, so no order of a device's coming
//! and a message leaves a device out unnoticed; whoever looks is shown the one of the device it looks from, or none; they
//! go with what the message said.

use super::rows::envelopes::{EnvelopesKey, EnvelopesRow, StoredEnvelope, of_message};
use super::rows::key::KeyWriter;
use super::rows::member_devices::MemberDevicesKey;
use super::rows::message::MessageKey;
use super::rows::{self};
use super::step::{Step, Stop, refuse, refuse_field};
use super::tables::{Direction, TableError, Tables};
use messenger_proto::envelope::{DeviceMismatch, DeviceName, Envelope, Enveloped, Envelopes};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{DeviceId, RegistrationId, ThreadId, UserId};
use messenger_proto::limits::{CIPHERTEXT_MAX, ENVELOPES_BYTES_MAX, ENVELOPES_MAX};
use messenger_proto::model::Message;
use std::collections::{BTreeMap, BTreeSet};

/// Who looks, and from which device; a device that is not known has no envelopes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Viewer<'a> {
    pub(crate) user: &'a UserId,
    pub(crate) device: Option<&'a DeviceId>,
}

/// The envelopes that are to be stored, in order of user and device; refused when they are not as they should be.
pub(crate) fn check<T: Tables>(
    step: &Step<'_, T>,
    thread: ThreadId,
    sender: Viewer<'_>,
    envelopes: &Envelopes,
) -> Result<Vec<Envelope>, Stop> {
    check_sizes(&envelopes.list)?;
    let mut sealed = sorted(&envelopes.list);
    if sealed.windows(2).any(|pair| pair[0].user == pair[1].user && pair[0].device == pair[1].device) {
        return refuse_field("envelopes", "has at most one envelope for a device");
    }
    let expected = expected(&step.rows, thread, sender)?;
    if envelopes.allow_mismatch {
        sealed.retain(|envelope| expected.contains_key(&envelope.name()));
        return Ok(sealed);
    }
    let mismatch = compare(&expected, &envelopes.list);
    if mismatch.is_none() {
        return Ok(sealed);
    }
    let refusal = Refusal::new(ErrorCode::DeviceMismatch, "the participants have other devices by now");
    Err(Stop::Refused(Refusal { mismatch: Some(Box::new(mismatch)), ..refusal }))
}

fn check_sizes(envelopes: &[Envelope]) -> Result<(), Stop> {
    if envelopes.iter().any(|envelope| envelope.ciphertext.len() > CIPHERTEXT_MAX) {
        return refuse(ErrorCode::CiphertextTooLarge, "a ciphertext has at most 65536 bytes");
    }
    if envelopes.iter().map(|envelope| envelope.ciphertext.len()).sum::<usize>() > ENVELOPES_BYTES_MAX {
        return refuse(ErrorCode::CiphertextTooLarge, "the envelopes have at most 1048576 bytes in all");
    }
    if envelopes.len() > ENVELOPES_MAX {
        return refuse_field("envelopes", "are too many");
    }
    Ok(())
}

/// In order of user and device, without what only the check needs.
fn sorted(envelopes: &[Envelope]) -> Vec<Envelope> {
    let mut sealed: Vec<Envelope> = envelopes.to_vec();
    for envelope in &mut sealed {
        envelope.registration = None;
    }
    sealed.sort_by(|a, b| (&a.user, &a.device).cmp(&(&b.user, &b.device)));
    sealed
}

/// The devices of all who are in the thread, but for the one that sends.
fn expected(
    tables: &impl Tables,
    thread: ThreadId,
    sender: Viewer<'_>,
) -> Result<BTreeMap<DeviceName, RegistrationId>, TableError> {
    let range = KeyWriter::of::<MemberDevicesKey>().thread(thread).range();
    let mut expected = BTreeMap::new();
    for (key, row) in rows::collect::<MemberDevicesKey>(tables, &range, Direction::Forward, usize::MAX)? {
        for device in row.devices {
            if key.user != *sender.user || Some(&device.device) != sender.device {
                expected.insert(DeviceName { user: key.user.clone(), device: device.device }, device.registration);
            }
        }
    }
    Ok(expected)
}

fn compare(expected: &BTreeMap<DeviceName, RegistrationId>, envelopes: &[Envelope]) -> DeviceMismatch {
    let (mut given, mut extra, mut stale) = (BTreeSet::new(), BTreeSet::new(), BTreeSet::new());
    for envelope in envelopes {
        let name = envelope.name();
        match expected.get(&name) {
            None => {
                extra.insert(name.clone());
            }
            Some(registration) if envelope.registration.is_some_and(|meant| meant != *registration) => {
                stale.insert(name.clone());
            }
            Some(_) => {}
        }
        given.insert(name);
    }
    DeviceMismatch {
        missing: expected.keys().filter(|name| !given.contains(name)).cloned().collect(),
        extra: extra.into_iter().collect(),
        stale: stale.into_iter().collect(),
    }
}

/// Stores envelopes that are in order of user and device.
pub(crate) fn put<T: Tables>(step: &mut Step<'_, T>, key: MessageKey, envelopes: &[Envelope]) {
    for of_user in envelopes.chunk_by(|a, b| a.user == b.user) {
        let devices = of_user.iter().map(|envelope| StoredEnvelope {
            device: envelope.device.clone(),
            kind: envelope.kind.clone(),
            ciphertext: envelope.ciphertext.clone(),
        });
        let row = EnvelopesRow { devices: devices.collect() };
        step.put(&EnvelopesKey { thread: key.thread, seq: key.seq, user: of_user[0].user.clone() }, &row);
    }
}

/// Takes a message's envelopes away.
pub(crate) fn forget<T: Tables>(step: &mut Step<'_, T>, key: MessageKey) -> Result<(), TableError> {
    let rows = rows::collect::<EnvelopesKey>(&step.rows, &of_message(key), Direction::Forward, usize::MAX)?;
    for (key, _) in rows {
        step.delete(&key);
    }
    Ok(())
}

/// All of a message's envelopes, in order of user and device: for its event.
pub(crate) fn all(tables: &impl Tables, key: MessageKey) -> Result<Vec<Envelope>, TableError> {
    let mut envelopes = Vec::new();
    for (key, row) in rows::collect::<EnvelopesKey>(tables, &of_message(key), Direction::Forward, usize::MAX)? {
        envelopes.extend(row.devices.into_iter().map(|stored| Envelope {
            user: key.user.clone(),
            device: stored.device,
            registration: None,
            kind: stored.kind,
            ciphertext: stored.ciphertext,
        }));
    }
    Ok(envelopes)
}

/// Whether a message has these envelopes already.
pub(crate) fn same(tables: &impl Tables, key: MessageKey, envelopes: &Envelopes) -> Result<bool, TableError> {
    Ok(all(tables, key)? == sorted(&envelopes.list))
}

/// What a viewer has of a message that was sent in envelopes.
pub(crate) fn own(
    tables: &impl Tables,
    key: MessageKey,
    viewer: Viewer<'_>,
) -> Result<Option<StoredEnvelope>, TableError> {
    let Some(device) = viewer.device else { return Ok(None) };
    let key = EnvelopesKey { thread: key.thread, seq: key.seq, user: viewer.user.clone() };
    let row = rows::get(tables, &key)?.unwrap_or_default();
    Ok(row.devices.into_iter().find(|stored| stored.device == *device))
}

/// Puts into messages what the viewer has of those that were sent in envelopes.
pub(crate) fn open(tables: &impl Tables, viewer: Viewer<'_>, messages: &mut [Message]) -> Result<(), TableError> {
    for message in messages.iter_mut().filter(|message| message.enveloped.is_some()) {
        let key = MessageKey { thread: message.thread, seq: message.seq };
        if let Some(stored) = own(tables, key, viewer)? {
            message.ciphertext = Some(stored.ciphertext);
            message.enveloped = Some(Enveloped { kind: stored.kind });
        }
    }
    Ok(())
}
