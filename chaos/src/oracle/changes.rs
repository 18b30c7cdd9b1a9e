//! On every node a message says what its last acknowledged edit says, or a later one of unknown outcome; one whose
//! deletion was acknowledged says nothing, and only what somebody tried to delete is deleted.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.
//! Invariants: exact, because a message's sender makes no further edit once the outcome of one is unknown.

use crate::history::changes::{Change, Changes, Deed, Standing};
use crate::history::{Fate, Origin, Outcome, Record, Send};
use std::collections::BTreeMap;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let record = &record.changes;
    let mut broken = Vec::new();
    let mut changes: BTreeMap<&str, Vec<&Change>> = BTreeMap::new();
    for change in &record.changes {
        changes.entry(&change.id).or_default().push(change);
    }
    let sends: BTreeMap<(&str, &Origin), &Send> =
        record.sends.iter().map(|send| ((send.thread.as_str(), &send.origin), send)).collect();
    for (thread, nodes) in &record.told {
        for (node, told) in nodes {
            for standing in &told.messages {
                let Some(send) = sends.get(&(thread.as_str(), &standing.origin)) else {
                    broken.push(format!("nobody sent {standing:?} of {thread}"));
                    continue;
                };
                let changes = changes.get(standing.id.as_str()).map_or(&[][..], Vec::as_slice);
                broken.extend(
                    wrong(send, changes, standing).map(|what| format!("{what}; node {node} tells {standing:?}")),
                );
            }
        }
    }
    broken.extend(missing(record));
    broken
}

/// What is wrong with a message, if anything.
fn wrong(send: &Send, changes: &[&Change], standing: &Standing) -> Option<String> {
    if send.outcome == Outcome::Refused {
        return Some("a refused message is stored".to_owned());
    }
    let deletions = || changes.iter().filter(|change| change.deed == Deed::Delete);
    let surely = deletions().any(|change| change.fate == Fate::Acknowledged);
    let perhaps = deletions().any(|change| change.fate == Fate::Unknown);
    match &standing.body {
        _ if standing.deleted && !surely && !perhaps => Some("nobody deleted it".to_owned()),
        Some(_) if standing.deleted => Some("it was deleted and says something".to_owned()),
        None if standing.deleted => None,
        _ if surely => Some("it was deleted, as was acknowledged".to_owned()),
        None => Some("it says nothing and was not deleted".to_owned()),
        Some(body) => {
            let may = may_say(send, changes);
            (!may.contains(&body.as_str())).then(|| format!("it may say one of {may:?}"))
        }
    }
}

/// What a message may say that is not deleted.
fn may_say<'a>(send: &'a Send, changes: &[&'a Change]) -> Vec<&'a str> {
    let mut may = vec![send.body.as_str()];
    for change in changes {
        match (&change.deed, &change.fate) {
            (Deed::Edit(body), Fate::Acknowledged) => may = vec![body],
            (Deed::Edit(body), Fate::Unknown) => may.push(body),
            _ => {}
        }
    }
    may
}

/// Acknowledged messages that are not there exactly once, as they were acknowledged, on every node; and nodes that
/// differ.
fn missing(record: &Changes) -> Vec<String> {
    let mut broken = Vec::new();
    for thread in record.threads.keys() {
        let Some(nodes) = record.told.get(thread).filter(|nodes| !nodes.is_empty()) else {
            broken.push(format!("no node told of {thread}"));
            continue;
        };
        let mut reference = None;
        for (node, told) in nodes {
            if *reference.get_or_insert(told) != told {
                broken.push(format!("node {node} tells {thread} unlike the first"));
            }
            let mut times: BTreeMap<(&str, u64, &Origin), u32> = BTreeMap::new();
            for standing in &told.messages {
                *times.entry((&standing.id, standing.seq, &standing.origin)).or_default() += 1;
            }
            for send in record.sends.iter().filter(|send| send.thread == *thread) {
                let Outcome::Accepted { id, seq } = &send.outcome else { continue };
                let found = times.get(&(id.as_str(), *seq, &send.origin)).copied().unwrap_or(0);
                if found != 1 {
                    broken.push(format!("node {node} tells {found} times of {send:?}"));
                }
            }
        }
    }
    broken
}
