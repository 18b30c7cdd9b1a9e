//! Receipts never go back, what is read was delivered, and a mark that was acknowledged is there ever after, on every
//! node; nothing is read that nobody said to have read.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.
//! Invariants: exact. Ids grow along a thread's order, so they compare as marks do.

use crate::history::receipts::{Look, Marking, Place, Receipts, Stand};
use crate::history::{Fate, Record, Thread, Tick};
use std::collections::BTreeMap;

/// Beyond this, unread messages are not counted.
const UNREAD_MAX: usize = 999;

/// The marks that one user moved in one thread.
type Marks<'a> = BTreeMap<(&'a str, &'a str), Vec<&'a Marking>>;

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let receipts = &record.receipts;
    let mut marks: Marks = BTreeMap::new();
    for marking in &receipts.markings {
        marks.entry((&marking.by, &marking.thread)).or_default().push(marking);
    }
    let mut broken: Vec<String> = receipts.looks.iter().flat_map(|look| misfits(look, &marks)).collect();
    broken.extend(returns(receipts));
    broken.extend(retold(receipts));
    for ((user, thread), nodes) in &receipts.places {
        let marks = marks.get(&(user.as_str(), thread.as_str())).map_or(&[][..], Vec::as_slice);
        broken.extend(misplaced(record, (user, thread), nodes, marks));
    }
    let unplaced =
        marks.keys().filter(|(by, thread)| !receipts.places.contains_key(&((*by).to_owned(), (*thread).to_owned())));
    broken.extend(unplaced.map(|(by, thread)| format!("no node tells {by}'s place in {thread}")));
    broken
}

/// How far a state is; `None` of one that nothing here leads to.
fn rank(state: &str) -> Option<u8> {
    ["SENT", "DELIVERED", "READ"].iter().position(|known| *known == state).and_then(|rank| u8::try_from(rank).ok())
}

/// Recipients whose state does not fit its times, or what was said to be read before and meanwhile.
fn misfits(look: &Look, marks: &Marks) -> Vec<String> {
    let mut broken = Vec::new();
    for stand in &look.stands {
        let Stand { recipient, state, delivered_at, read_at } = stand;
        let times = match state.as_str() {
            "SENT" => delivered_at.is_none() && read_at.is_none(),
            "DELIVERED" => delivered_at.is_some() && read_at.is_none(),
            "READ" => delivered_at.is_some() && delivered_at <= read_at,
            _ => false,
        };
        let marks = marks.get(&(recipient.as_str(), look.thread.as_str())).map_or(&[][..], Vec::as_slice);
        let mut covering = marks.iter().filter(|marking| marking.up_to >= look.message);
        let surely = |marking: &&&Marking| marking.fate == Fate::Acknowledged && marking.ended < look.began;
        let perhaps = |marking: &&Marking| !matches!(marking.fate, Fate::Refused(_)) && marking.began < look.ended;
        let read = state == "READ";
        let due = covering.clone().find(surely).is_some_and(|_| !read);
        let groundless = read && !covering.any(perhaps);
        if !times || due || groundless {
            let (message, thread) = (&look.message, &look.thread);
            let why = if due { ", though it was read" } else { "" };
            broken.push(format!("{message} of {thread} at {:?} cannot be {stand:?}{why}", look.began));
        }
    }
    broken
}

/// Recipients that were further before, or at another time.
fn returns(receipts: &Receipts) -> Vec<String> {
    let mut seen: BTreeMap<(&str, &str), Vec<(&Look, &Stand)>> = BTreeMap::new();
    for look in &receipts.looks {
        for stand in &look.stands {
            seen.entry((&look.message, &stand.recipient)).or_default().push((look, stand));
        }
    }
    let mut broken = Vec::new();
    for ((message, recipient), mut looks) in seen {
        looks.sort_unstable_by_key(|(look, _)| look.ended);
        // By when they ended, each with the furthest so far.
        let mut furthest: Vec<(Tick, u8)> = Vec::new();
        let mut times: (Option<&str>, Option<&str>) = (None, None);
        for (look, stand) in &looks {
            let own = rank(&stand.state).unwrap_or(0);
            let before = furthest.partition_point(|(ended, _)| *ended < look.began);
            let due = before.checked_sub(1).map_or(0, |last| furthest[last].1);
            let same = |known: &mut Option<&str>, now: Option<&str>| known.is_none() || now.is_none() || *known == now;
            let (delivered_at, read_at) = (stand.delivered_at.as_deref(), stand.read_at.as_deref());
            if own < due || !same(&mut times.0, delivered_at) || !same(&mut times.1, read_at) {
                broken.push(format!("{message} went back for {recipient} to {stand:?} at {:?}", look.began));
            }
            times = (times.0.or(delivered_at), times.1.or(read_at));
            let so_far = furthest.last().map_or(0, |(_, rank)| *rank);
            furthest.push((look.ended, so_far.max(own)));
        }
    }
    broken
}

/// Receipts that a device was told on one connection after later ones.
fn retold(receipts: &Receipts) -> Vec<String> {
    let mut broken = Vec::new();
    for (ear, heard) in &receipts.heard {
        let mut marks: BTreeMap<(u32, &Thread, bool, &str), &str> = BTreeMap::new();
        for receipt in heard {
            let key = (receipt.connection, &receipt.thread, receipt.read, receipt.by.as_str());
            if let Some(before) = marks.insert(key, &receipt.up_to)
                && *before > *receipt.up_to
            {
                broken.push(format!("{}/{} heard {receipt:?} after {before}", ear.user, ear.device));
            }
        }
    }
    broken
}

/// Where a user's place is not where its marks have put it, or the nodes differ.
fn misplaced(
    record: &Record,
    (user, thread): (&str, &str),
    nodes: &BTreeMap<u16, Place>,
    marks: &[&Marking],
) -> Vec<String> {
    let mut broken = Vec::new();
    let acknowledged = marks.iter().filter(|marking| marking.fate == Fate::Acknowledged);
    let least = acknowledged.map(|marking| marking.up_to.as_str()).max();
    for (node, place) in nodes {
        let mark = place.last_read.as_deref();
        let tried =
            |mark: &str| marks.iter().any(|marking| marking.up_to == mark && !matches!(marking.fate, Fate::Refused(_)));
        if mark < least || mark.is_some_and(|mark| !tried(mark)) {
            broken.push(format!("{user} in {thread} on node {node} is at {mark:?}, {least:?} was acknowledged"));
        }
        let after = |id: &str| mark.is_none_or(|mark| id > mark);
        let history = record.history(thread).iter();
        let unread = history.filter(|stored| stored.origin.user != user && after(&stored.id)).count().min(UNREAD_MAX);
        if usize::try_from(place.unread) != Ok(unread) {
            broken.push(format!("{user} in {thread} on node {node} has {} unread, not {unread}", place.unread));
        }
    }
    let mut places = nodes.values();
    if let Some(first) = places.next()
        && let Some(other) = places.find(|other| *other != first)
    {
        broken.push(format!("nodes place {user} in {thread} at {first:?} and {other:?}"));
    }
    broken
}
