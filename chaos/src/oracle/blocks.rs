//! What was sent while a block was in force is never shown to the blocker, by no frame and no node, and has failed for it;
//! what was sent while none was is shown; and nobody else misses anything.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.
//! Invariants: exact; a message that overlaps a change in time may be on either side of it.

use crate::history::blocks::{Blocks, Shown, Turn};
use crate::history::changes::What;
use crate::history::{Fate, Outcome, Record, Send};
use std::collections::BTreeSet;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let record = &record.blocks;
    let mut broken = Vec::new();
    if record.sends.is_empty() {
        return broken;
    }
    for (who, shown) in [("the blocker", &record.blocker), ("the witness", &record.witness)] {
        broken.extend(differences(shown).into_iter().map(|what| format!("{who}: {what}")));
    }
    for send in &record.sends {
        let Outcome::Accepted { id, .. } = &send.outcome else { continue };
        if !shows(&record.witness, id) {
            broken.push(format!("the witness is not shown {send:?}"));
        }
        let shown = shows(&record.blocker, id);
        let near = send.origin.user != record.talker || is_surely_near(&record.turns, send);
        let away = send.origin.user == record.talker && is_surely_away(&record.turns, send);
        if (near && !shown) || (away && shown) {
            broken.push(format!("the blocker is shown: {shown}: {send:?} with {:?}", record.turns));
        }
        if send.origin.user == record.talker {
            let failed = record.states.get(id).map(|state| state == "FAILED");
            if failed != Some(!shown) {
                broken.push(format!("the blocker is shown: {shown}, failed: {failed:?}: {send:?}"));
            }
        }
    }
    broken.extend(lists(record));
    broken
}

fn shows(shown: &Shown, id: &String) -> bool {
    shown.told.values().next().is_some_and(|told| told.contains(id))
}

/// Whether a message was sent when a block had been acknowledged and nobody had thought of lifting it.
fn is_surely_away(turns: &[Turn], send: &Send) -> bool {
    let lifted = |after: &[Turn]| after.iter().any(|turn| !turn.on && turn.began < send.ended);
    turns.iter().enumerate().any(|(place, turn)| {
        turn.on && turn.fate == Fate::Acknowledged && turn.ended < send.began && !lifted(&turns[place..])
    })
}

/// Whether a message was sent when every block had been lifted, or nobody had thought of it.
fn is_surely_near(turns: &[Turn], send: &Send) -> bool {
    let lifted = |after: &[Turn]| {
        after.iter().any(|turn| !turn.on && turn.fate == Fate::Acknowledged && turn.ended < send.began)
    };
    turns.iter().enumerate().all(|(place, turn)| {
        let harmless = !turn.on || matches!(turn.fate, Fate::Refused(_));
        harmless || send.ended < turn.began || lifted(&turns[place..])
    })
}

/// Where nodes and frames show a member different things, or out of order.
fn differences(shown: &Shown) -> Vec<String> {
    let mut broken = Vec::new();
    let mut told = shown.told.values();
    let Some(first) = told.next() else { return vec!["no node tells anything".to_owned()] };
    if told.any(|other| other != first) {
        broken.push("the nodes show different things".to_owned());
    }
    let mut heard: BTreeSet<&str> = BTreeSet::new();
    let mut before: Option<(u32, u64)> = None;
    for event in &shown.heard {
        if before.is_some_and(|(connection, seq)| connection == event.connection && seq >= event.seq) {
            broken.push(format!("heard out of order: {event:?}"));
        }
        before = Some((event.connection, event.seq));
        if let What::Message { id, .. } = &event.what {
            heard.insert(id);
        }
    }
    let told: BTreeSet<&str> = first.iter().map(String::as_str).collect();
    broken.extend(heard.difference(&told).map(|id| format!("heard {id}, which no node shows")));
    broken.extend(told.difference(&heard).map(|id| format!("never heard {id}")));
    broken
}

/// Nodes whose list of whom the blocker keeps away is not what its last change made of it.
fn lists(record: &Blocks) -> Vec<String> {
    let mut may = vec![false];
    for turn in &record.turns {
        match turn.fate {
            Fate::Acknowledged => may = vec![turn.on],
            Fate::Unknown => may.push(turn.on),
            Fate::Refused(_) => {}
        }
    }
    let wrong = |list: &&Vec<String>| {
        let on = **list == [record.talker.clone()];
        !may.contains(&on) || (!on && !list.is_empty())
    };
    record.lists.values().filter(wrong).map(|list| format!("a node tells that {list:?} are kept away")).collect()
}
