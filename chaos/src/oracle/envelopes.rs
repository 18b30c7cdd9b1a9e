//! Each device is shown its own letter of every acknowledged message, and nobody else's; what was refused for not
//! matching the devices is never shown; and it is refused if and only if it does not match.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.
//! Invariants: exact; a message that overlaps a new registration in time may match either.

use crate::history::changes::What;
use crate::history::envelopes::{Envelopes, Opened, Registration, Sealed};
use crate::history::{Fate, Outcome, Record};
use std::collections::{BTreeMap, BTreeSet};

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let record = &record.envelopes;
    let mut broken = Vec::new();
    let devices: BTreeSet<&String> = record.sends.iter().flat_map(|send| send.letters.keys()).collect();
    for device in devices {
        broken.extend(shown(record, device).into_iter().map(|what| format!("{device}: {what}")));
    }
    for send in &record.sends {
        let (surely, perhaps) = matches(record, send);
        let fits = match send.outcome {
            Outcome::Accepted { .. } => perhaps,
            Outcome::Refused => !surely,
            Outcome::Unknown => true,
        };
        if !fits {
            broken.push(format!("it surely matches: {surely}, may match: {perhaps}: {send:?}"));
        }
    }
    broken
}

/// Whether the registrations of a message surely matched all the time, and whether they may have at some.
fn matches(record: &Envelopes, send: &Sealed) -> (bool, bool) {
    let (mut surely, mut perhaps) = (true, true);
    for (device, letter) in &send.letters {
        let tried = record.registrations.iter().filter(|one| one.device == *device);
        let mut may = vec![1];
        for registration in tried.filter(|one| one.began < send.ended && !matches!(one.fate, Fate::Refused(_))) {
            let Registration { id, ended, fate, .. } = registration;
            if *fate == Fate::Acknowledged && *ended < send.began {
                may = vec![*id];
            } else {
                may.push(*id);
            }
        }
        surely &= may == [letter.registration];
        perhaps &= may.contains(&letter.registration);
    }
    (surely, perhaps)
}

/// What a device is shown and should not be, or the other way round.
fn shown(record: &Envelopes, device: &String) -> Vec<String> {
    let mut broken = Vec::new();
    let letters: BTreeMap<&str, &Sealed> = record
        .sends
        .iter()
        .filter_map(|send| send.letters.get(device).map(|letter| (letter.body.as_str(), send)))
        .collect();
    let Some(told) = record.told.get(device).and_then(|nodes| nodes.values().next()) else {
        return vec!["no node tells it anything".to_owned()];
    };
    if record.told.get(device).is_some_and(|nodes| nodes.values().any(|other| other != told)) {
        broken.push("the nodes tell it different things".to_owned());
    }
    let heard = record.heard.get(device).into_iter().flatten();
    let mut before: Option<(u32, u64)> = None;
    let mut opened: Vec<Opened> = Vec::new();
    for event in heard {
        if before.is_some_and(|(connection, seq)| connection == event.connection && seq >= event.seq) {
            broken.push(format!("heard out of order: {event:?}"));
        }
        before = Some((event.connection, event.seq));
        if let What::Message { id, body, .. } = &event.what {
            opened.push(Opened { id: id.clone(), body: body.clone() });
        }
    }
    for one in &opened {
        if !told.contains(one) {
            broken.push(format!("heard {one:?}, which no node tells"));
        }
    }
    for one in told.iter().filter(|one| !opened.contains(one)) {
        broken.push(format!("never heard {one:?}"));
    }
    let mut numbers: BTreeSet<u64> = BTreeSet::new();
    let mut ids: BTreeSet<&str> = BTreeSet::new();
    for one in told {
        let send = one.body.as_deref().and_then(|body| letters.get(body));
        let fits = send.is_some_and(|send| match &send.outcome {
            Outcome::Accepted { id, .. } => *id == one.id,
            Outcome::Refused => false,
            Outcome::Unknown => true,
        });
        if !fits || !ids.insert(&one.id) || send.is_some_and(|send| !numbers.insert(send.client_seq)) {
            broken.push(format!("is told {one:?}, which was {send:?}"));
        }
    }
    for send in &record.sends {
        if let Outcome::Accepted { id, .. } = &send.outcome
            && !ids.contains(id.as_str())
        {
            broken.push(format!("is not told {send:?}"));
        }
    }
    broken
}
