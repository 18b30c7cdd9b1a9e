//! On every node a reaction is there that was acknowledged and not taken back since; one that was taken back, or that
//! nobody tried to put on, is not; each user has each emoji on a message once.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.
//! Invariants: exact, because a user does nothing more with an emoji on a message once an outcome is unknown.

use crate::history::changes::Reacting;
use crate::history::{Fate, Record};
use std::collections::BTreeMap;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let record = &record.changes;
    let mut broken = Vec::new();
    let mut tried: BTreeMap<&str, BTreeMap<(&str, &str), Vec<&Reacting>>> = BTreeMap::new();
    for tries in &record.reactions {
        tried.entry(&tries.id).or_default().entry((&tries.emoji, &tries.by)).or_default().push(tries);
    }
    for (node, told) in record.told.values().flatten() {
        for standing in &told.messages {
            let mut times: BTreeMap<(&str, &str), u32> = BTreeMap::new();
            for (emoji, by) in &standing.reactions {
                *times.entry((emoji, by)).or_default() += 1;
            }
            let tried = tried.get(standing.id.as_str());
            for (reaction, tries) in tried.into_iter().flatten() {
                let found = times.remove(reaction).unwrap_or(0);
                if let Some(what) = wrong(tries, standing.deleted, found) {
                    broken.push(format!("{reaction:?} is {found} times on {} on node {node}: {what}", standing.id));
                }
            }
            for (reaction, found) in times {
                broken.push(format!("{reaction:?} is {found} times on {} on node {node}: nobody tried", standing.id));
            }
        }
    }
    broken
}

/// What is wrong with a reaction that is there so many times, if anything.
fn wrong(tries: &[&Reacting], deleted: bool, found: u32) -> Option<String> {
    if deleted {
        return (found > 0).then(|| "the message was deleted".to_owned());
    }
    let refused = |one: &&&Reacting| matches!(&one.fate, Fate::Refused(code) if code != "unavailable");
    if let Some(refused) = tries.iter().find(refused) {
        return Some(format!("the message is there, yet {refused:?}"));
    }
    let mut may = vec![false];
    for one in tries {
        match one.fate {
            Fate::Acknowledged => may = vec![one.present],
            Fate::Unknown => may.push(one.present),
            Fate::Refused(_) => {}
        }
    }
    let fits = found <= 1 && may.contains(&(found == 1));
    (!fits).then(|| format!("after {tries:?}"))
}
