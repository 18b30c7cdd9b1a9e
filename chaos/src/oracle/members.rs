//! A group's members are those its acknowledged changes have made, a user's list of threads holds it if and only if the
//! user is one of them, and each is shown all that was sent while it was a member and nothing that was sent while it
//! was not.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.
//! Invariants: exact; a message that overlaps a change of the member in time may be on either side of it.

use crate::history::changes::What;
use crate::history::members::{Members, Seen};
use crate::history::{Fate, Outcome, Record, Tick};
use std::collections::BTreeSet;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let record = &record.members;
    let mut broken = Vec::new();
    let refused = |fate: &Fate| matches!(fate, Fate::Refused(code) if code != "unavailable");
    let refused = record.turns.iter().filter(|turn| refused(&turn.fate));
    broken.extend(refused.map(|turn| format!("nothing spoke against {turn:?}")));
    for sight in &record.sights {
        let may = may_be_in(record, &sight.user, Some(sight.began));
        if !may.contains(&sight.listed) {
            broken.push(format!("it may be {may:?} by then: {sight:?}"));
        }
    }
    for user in &record.users {
        broken.extend(memberships(record, user).into_iter().map(|what| format!("{user}: {what}")));
        broken.extend(messages(record, user).into_iter().map(|what| format!("{user}: {what}")));
    }
    broken
}

/// Whether a user may be a member at a time, or in the end.
fn may_be_in(record: &Members, user: &str, at: Option<Tick>) -> Vec<bool> {
    let mut may = vec![true];
    for turn in record.turns_of(user).take_while(|turn| at.is_none_or(|at| turn.ended <= at)) {
        match turn.fate {
            Fate::Acknowledged => may = vec![turn.add],
            Fate::Unknown => may.push(turn.add),
            Fate::Refused(_) => {}
        }
    }
    may
}

/// Where nodes don't agree on whether a user is a member, or its index doesn't with them.
fn memberships(record: &Members, user: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let may = may_be_in(record, user, None);
    let is_in: BTreeSet<bool> =
        record.participants.values().map(|all| all.iter().any(|participant| participant == user)).collect();
    if is_in.len() != 1 || !is_in.is_subset(&may.iter().copied().collect()) {
        broken.push(format!("is a member: {is_in:?}, may be {may:?}"));
    }
    let Some(nodes) = record.told.get(user).filter(|nodes| !nodes.is_empty()) else {
        broken.push("no node tells it anything".to_owned());
        return broken;
    };
    let first = nodes.values().next();
    for (node, seen) in nodes {
        let Seen { listed, history } = seen;
        if !is_in.contains(listed) || history.is_some() != *listed {
            let shown = history.is_some();
            broken
                .push(format!("is a member: {is_in:?}; on node {node} listed: {listed}, shown its messages: {shown}"));
        }
        if Some(seen) != first {
            broken.push(format!("node {node} tells it something else than the first"));
        }
    }
    broken
}

/// Messages that a user was shown and should not have been, or the other way round.
fn messages(record: &Members, user: &str) -> Vec<String> {
    let mut broken = Vec::new();
    let told = record.told.get(user).and_then(|nodes| nodes.values().next());
    let told = told.and_then(|seen| seen.history.as_ref());
    let mut heard: BTreeSet<&str> = BTreeSet::new();
    let mut before: Option<(u32, u64)> = None;
    for event in record.heard.get(user).into_iter().flatten() {
        if before.is_some_and(|(connection, seq)| connection == event.connection && seq >= event.seq) {
            broken.push(format!("heard out of order: {event:?}"));
        }
        before = Some((event.connection, event.seq));
        if let What::Message { id, .. } = &event.what {
            heard.insert(id);
        }
    }
    for send in &record.sends {
        let Outcome::Accepted { id, .. } = &send.outcome else { continue };
        let Some(was_in) = record.was_in(user, send) else { continue };
        if told.is_some_and(|told| told.contains(id) != was_in) {
            broken.push(format!("was a member: {was_in}, and the history says otherwise of {send:?}"));
        }
        if !was_in && heard.contains(id.as_str()) {
            broken.push(format!("was no member, and heard {send:?}"));
        }
    }
    let due = record.due(user).filter(|(id, _)| !heard.contains(id));
    broken.extend(due.map(|(id, seq)| format!("never heard {id}, number {seq}")));
    broken
}
