//! Each device is told of every event of a thread in order, edits, deletions and reactions included; the events add up to
//! what nodes tell in the end, and so does what the device has made of them.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.
//! Invariants: exact. Numbers have no holes, so a device that heard them in a row heard all; an event that is told again
//! names what the message says by then.

use crate::history::changes::{Changes, Event, Standing, Told, What};
use crate::history::{Fate, Record, Thread};
use std::collections::{BTreeMap, BTreeSet};

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let record = &record.changes;
    let mut broken = Vec::new();
    let mut known: BTreeMap<&Thread, BTreeMap<u64, What>> = BTreeMap::new();
    for ((ear, thread), heard) in &record.heard {
        let (Some(first), Some(told)) = (record.threads.get(thread), record.last_told(thread)) else {
            broken.push(format!("no node told of {thread}"));
            continue;
        };
        // What came before anybody spoke, the thread's own making, is replayed at will.
        let heard: Vec<&Event> = heard.iter().filter(|event| event.seq > *first).collect();
        let mut found = holes(&heard, *first, told.last_seq);
        let known = known.entry(thread).or_default();
        for event in &heard {
            let what = lasting(&event.what);
            let other = known.entry(event.seq).or_insert_with(|| what.clone());
            if *other != what {
                found.push(format!("number {} is {what:?}, and {other:?} elsewhere", event.seq));
            }
        }
        found.extend(views(&heard, told));
        broken.extend(found.into_iter().map(|what| format!("{}/{} in {thread}: {what}", ear.user, ear.device)));
    }
    for (thread, events) in known {
        let told = record.last_told(thread).map_or(&[][..], |told| &told.messages);
        broken.extend(sums(&events, record, told).into_iter().map(|what| format!("{thread}: {what}")));
    }
    broken
}

/// What of an event is the same whenever it is told.
fn lasting(what: &What) -> What {
    match what.clone() {
        What::Message { id, .. } => What::Message { id, body: None, deleted: false },
        What::Edit { id, .. } => What::Edit { id, body: None },
        other => other,
    }
}

/// Numbers that a device did not hear in a row, up to the last.
fn holes(heard: &[&Event], first: u64, last: u64) -> Vec<String> {
    let mut broken = Vec::new();
    let mut fresh = first + 1;
    let mut before: Option<&Event> = None;
    for event in heard {
        match before.filter(|before| before.connection == event.connection) {
            Some(before) if event.seq != before.seq + 1 => {
                broken.push(format!("{} follows {} on one connection", event.seq, before.seq));
            }
            None if event.seq > fresh => {
                broken.push(format!("connection {} begins at {}, {fresh} was due", event.connection, event.seq));
            }
            _ => {}
        }
        fresh = fresh.max(event.seq + 1);
        before = Some(event);
    }
    if fresh != last + 1 {
        broken.push(format!("heard up to {}, the thread goes to {last}", fresh - 1));
    }
    broken
}

/// What a device made of what it heard, message by message, where that is not what nodes tell.
fn views(heard: &[&Event], told: &Told) -> Vec<String> {
    let mut views: BTreeMap<&str, (Option<&str>, bool)> = BTreeMap::new();
    for event in heard {
        match &event.what {
            What::Message { id, body, deleted } => drop(views.insert(id, (body.as_deref(), *deleted))),
            What::Edit { id, body } => views.entry(id).or_default().0 = body.as_deref(),
            What::Delete { id } => drop(views.insert(id, (None, true))),
            What::Reaction { .. } | What::Thread(_) => {}
        }
    }
    let mut broken = Vec::new();
    for standing in &told.messages {
        let view = views.remove(standing.id.as_str());
        if view != Some((standing.body.as_deref(), standing.deleted)) {
            broken.push(format!("the device has {view:?} of {standing:?}"));
        }
    }
    broken.extend(views.into_keys().map(|id| format!("the device has {id}, which no node tells of")));
    broken
}

/// What happened to one message, going by the events.
#[derive(Default)]
struct Life<'a> {
    seq: u64,
    edits: usize,
    ended: bool,
    /// What is there, of all emoji that came and did not go.
    reactions: BTreeSet<(&'a str, &'a str)>,
}

/// Where the events don't add up to the messages.
fn sums(events: &BTreeMap<u64, What>, changes: &Changes, told: &[Standing]) -> Vec<String> {
    let mut broken = Vec::new();
    let mut lives: BTreeMap<&str, Life> = BTreeMap::new();
    for (seq, what) in events {
        let (What::Message { id, .. } | What::Edit { id, .. } | What::Delete { id } | What::Reaction { id, .. }) = what
        else {
            broken.push(format!("nobody changed the thread itself, yet number {seq} is {what:?}"));
            continue;
        };
        let life = lives.entry(id).or_default();
        let fits = !life.ended
            && match what {
                What::Message { .. } => std::mem::replace(&mut life.seq, *seq) == 0,
                _ if life.seq == 0 => false,
                What::Delete { .. } => {
                    life.ended = true;
                    life.reactions.clear();
                    true
                }
                What::Reaction { emoji, by, present: true, .. } => life.reactions.insert((emoji, by)),
                What::Reaction { emoji, by, present: false, .. } => {
                    life.reactions.remove(&(emoji.as_str(), by.as_str()))
                }
                _ => {
                    life.edits += 1;
                    true
                }
            };
        if !fits {
            broken.push(format!("number {seq} cannot be {what:?} after what came before it"));
        }
    }
    for standing in told {
        let life = lives.remove(standing.id.as_str()).unwrap_or_default();
        let reactions = standing.reactions.iter().map(|(emoji, by)| (emoji.as_str(), by.as_str())).collect();
        let same = (life.seq, life.ended, &life.reactions) == (standing.seq, standing.deleted, &reactions);
        let edits = |fate| changes.edits_of(&standing.id).filter(|change| change.fate == fate).count();
        let surely = edits(Fate::Acknowledged);
        let counted = (surely..=surely + edits(Fate::Unknown)).contains(&life.edits);
        if !same || !counted || (!standing.deleted && standing.edited != (life.edits > 0)) {
            let Life { seq, edits, ended, reactions } = life;
            broken.push(format!(
                "number {seq}, {edits} edits, end {ended}, {reactions:?}: that makes something else than {standing:?}"
            ));
        }
    }
    broken
}
