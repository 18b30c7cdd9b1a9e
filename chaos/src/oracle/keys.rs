//! A one-time key is handed out at most once, as it was published; a repeat under the same key is given the same; and a
//! device is said to have none only when all it had published are accounted for.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.
//! Invariants: exact but for requests of unknown outcome, each of which may have taken one key of each device it asked.

use crate::history::keys::{Answer, Key, Keys, Taking};
use crate::history::{Fate, Record, Tick};
use std::collections::{BTreeMap, BTreeSet};

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let record = &record.keys;
    let mut broken = handed_out(record);
    broken.extend(repeats(record));
    for (device, last_resort) in &record.devices {
        let ledger = Ledger::of(record, device, *last_resort);
        broken.extend(ledger.false_alarms(record));
        broken.extend(ledger.miscounts(record));
    }
    broken
}

/// Whether a request asks a device.
fn asks(taking: &Taking, device: &str) -> bool {
    taking.device.as_deref().is_none_or(|asked| asked == device)
}

/// Keys that nobody published, that two were given, or that are not of a device that was asked.
fn handed_out(record: &Keys) -> Vec<String> {
    let mut broken = Vec::new();
    let published: BTreeSet<(&str, &Key)> =
        record.published().flat_map(|one| one.keys.iter().map(|key| (one.device.as_str(), key))).collect();
    let mut given: BTreeMap<(&str, u64), &Taking> = BTreeMap::new();
    for taking in &record.takings {
        let Answer::Given { keys, exhausted } = &taking.answer else { continue };
        let mut told: Vec<&str> = keys.keys().chain(exhausted).map(String::as_str).collect();
        told.sort_unstable();
        let asked: Vec<&str> = record.devices.keys().map(String::as_str).filter(|own| asks(taking, own)).collect();
        if told != asked {
            broken.push(format!("asked of {asked:?}, told of {told:?}: {taking:?}"));
        }
        for (device, key) in keys {
            if record.devices.get(device).is_some_and(|last_resort| *last_resort == Some(key.0)) {
                continue;
            }
            if !published.contains(&(device.as_str(), key)) {
                broken.push(format!("{device} never published {key:?}: {taking:?}"));
            }
            if let Some(other) = given.insert((device, key.0), taking) {
                broken.push(format!("key {} of {device} was handed out twice: {other:?} and {taking:?}", key.0));
            }
        }
    }
    broken
}

/// Repeats that were not given what the request was given the first time.
fn repeats(record: &Keys) -> Vec<String> {
    let first: BTreeMap<(&str, &str), &Answer> =
        record.takings.iter().map(|taking| ((taking.by.as_str(), taking.under.as_str()), &taking.answer)).collect();
    let wrong = |repeat: &&Taking| {
        let silent = matches!(repeat.answer, Answer::Unknown | Answer::Refused);
        !silent && first.get(&(repeat.by.as_str(), repeat.under.as_str())) != Some(&&repeat.answer)
    };
    record.repeats.iter().filter(wrong).map(|repeat| format!("the first time it was not so: {repeat:?}")).collect()
}

/// What is known of one device's keys.
struct Ledger<'a> {
    device: &'a str,
    /// Since when each key was surely there to be taken.
    surely: BTreeMap<u64, Tick>,
    /// All that may ever have been there.
    perhaps: BTreeSet<u64>,
    /// When the request began that was given each key.
    given: BTreeMap<u64, Tick>,
    /// When each request began that may have been given one, and nobody knows.
    unknown: Vec<Tick>,
    last_resort: Option<u64>,
}

impl<'a> Ledger<'a> {
    fn of(record: &'a Keys, device: &'a str, last_resort: Option<u64>) -> Self {
        let (surely, perhaps, given, unknown) = (BTreeMap::new(), BTreeSet::new(), BTreeMap::new(), Vec::new());
        let mut ledger = Self { device, surely, perhaps, given, unknown, last_resort };
        for publication in record.published().filter(|one| one.device == device) {
            for (id, _) in &publication.keys {
                if publication.fate == Fate::Acknowledged {
                    let since = ledger.surely.entry(*id).or_insert(publication.ended);
                    *since = (*since).min(publication.ended);
                }
                ledger.perhaps.insert(*id);
            }
        }
        for taking in record.takings.iter().filter(|taking| asks(taking, device)) {
            match &taking.answer {
                Answer::Given { keys, .. } => {
                    if let Some((id, _)) = keys.get(device).filter(|(id, _)| Some(*id) != last_resort) {
                        ledger.given.insert(*id, taking.began);
                    }
                }
                // An attempt before the last may have been the one to find something.
                Answer::Exhausted | Answer::Unknown if taking.doubted => ledger.unknown.push(taking.began),
                _ => {}
            }
        }
        ledger
    }

    /// Requests that were told the device had no one-time key, when some were surely there throughout.
    fn false_alarms(&self, record: &Keys) -> Vec<String> {
        let mut broken = Vec::new();
        for taking in record.takings.iter().filter(|taking| asks(taking, self.device)) {
            let empty = match &taking.answer {
                Answer::Given { keys, .. } => keys.get(self.device).is_none_or(|(id, _)| Some(*id) == self.last_resort),
                Answer::Exhausted => true,
                Answer::Refused | Answer::Unknown => false,
            };
            if !empty {
                continue;
            }
            let there = self.surely.iter().filter(|(_, since)| **since < taking.began);
            let taken = |id: &u64| self.given.get(id).is_some_and(|began| *began < taking.ended);
            let left = there.filter(|(id, _)| !taken(id)).count();
            let unknown = self.unknown.iter().filter(|began| **began < taking.ended).count();
            if left > unknown {
                broken.push(format!("{} had {left} keys, {unknown} of them perhaps taken: {taking:?}", self.device));
            }
            // One that has a last resort gives it.
            if self.last_resort.is_some()
                && !matches!(&taking.answer, Answer::Given { keys, .. } if keys.contains_key(self.device))
            {
                broken.push(format!("{} has a last resort: {taking:?}", self.device));
            }
        }
        broken
    }

    /// Nodes that count another number of keys than were left when they were asked.
    fn miscounts(&self, record: &Keys) -> Vec<String> {
        let mut broken = Vec::new();
        let nodes = record.left.get(self.device);
        let counts: BTreeSet<u32> = nodes.into_iter().flat_map(BTreeMap::values).copied().collect();
        let before = |began: &Tick| *began < record.counted;
        let given: BTreeSet<u64> = self.given.iter().filter(|(_, began)| before(began)).map(|(id, _)| *id).collect();
        let most = self.perhaps.difference(&given).count();
        let surely = self.surely.keys().filter(|id| !given.contains(id)).count();
        let least = surely.saturating_sub(self.unknown.iter().filter(|began| before(began)).count());
        let fits = |count: &u32| usize::try_from(*count).is_ok_and(|count| (least..=most).contains(&count));
        if counts.len() != 1 || !counts.iter().all(fits) {
            broken.push(format!("{} has {least} to {most} keys left, nodes tell {nodes:?}", self.device));
        }
        broken
    }
}
