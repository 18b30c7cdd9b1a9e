//! The messages of a thread in the order of their latest changes.
//!
//! Owns: finding them from the thread's events, without an index: a message's row names its latest change, and an event
//! that is a change names its message.
//! Must not know: cursors' text form.
//! Invariants: a message in sight comes once, at its latest change or else where it was sent, wherever the viewer was when
//! it changed; pages that follow `next` give them all; a page looks at a bounded number of rows, so it may be short of its
//! limit, or empty, and yet not the last.

use super::super::rows::event::{EventKey, EventRow};
use super::super::rows::key::KeyWriter;
use super::super::rows::member::SeqRange;
use super::super::rows::message::{self, MessageKey};
use super::super::rows::{self};
use super::super::tables::{Direction, TableError, Tables};
use super::view::View;
use bytes::Bytes;
use messenger_proto::ids::Seq;
use messenger_proto::query::MessagesAnswer;
use std::collections::BTreeMap;
use std::ops::ControlFlow;

/// Rows of either kind that one page looks at.
const SCAN_MAX: usize = 2_000;

/// Up to `limit` messages whose latest change is after an event.
pub(crate) fn changed<T: Tables>(view: &View<'_, T>, after: Seq, limit: usize) -> Result<MessagesAnswer, TableError> {
    let range = SeqRange { first: Seq(after.0.saturating_add(1)), last: view.head.seq };
    if range.first > range.last {
        return Ok(MessagesAnswer { messages: Vec::new(), next: None });
    }
    let sent = unchanged(view, range, limit)?;
    let changes = changes(view, range, limit)?;
    // Beyond where either scan stopped, the other one's finds may not be the next.
    let known_to = [sent.stopped_at, changes.stopped_at].into_iter().flatten().min();
    let mut places: BTreeMap<Seq, Seq> = sent.places;
    places.extend(changes.places);
    if let Some(known_to) = known_to {
        places.retain(|place, _| *place <= known_to);
    }
    let mut messages = Vec::new();
    for (_, seq) in places.iter().take(limit) {
        let key = MessageKey { thread: view.id, seq: *seq };
        messages.push(rows::expect(view.tables, &key)?.into_message(key));
    }
    let full = places.keys().nth(limit.saturating_sub(1)).filter(|_| places.len() > limit);
    Ok(MessagesAnswer { messages, next: full.copied().or(known_to) })
}

/// What a scan found: the places of changes, each with its message.
#[derive(Default)]
struct Found {
    places: BTreeMap<Seq, Seq>,
    /// The last row looked at, unless it was the last there is.
    stopped_at: Option<Seq>,
    looked_at: usize,
}

impl Found {
    /// Whether to look at another row after the one at `seq`.
    fn looked(&mut self, seq: Seq, end: Seq, limit: usize) -> ControlFlow<()> {
        self.looked_at += 1;
        if seq >= end || (self.places.len() <= limit && self.looked_at < SCAN_MAX) {
            return ControlFlow::Continue(());
        }
        self.stopped_at = Some(seq);
        ControlFlow::Break(())
    }
}

/// Messages in sight that are as they were sent.
fn unchanged<T: Tables>(view: &View<'_, T>, range: SeqRange, limit: usize) -> Result<Found, TableError> {
    let mut found = Found::default();
    rows::scan::<MessageKey>(view.tables, &message::messages(view.id, range), Direction::Forward, |key, row| {
        if view.member.sees(key.seq) {
            let meta = message::meta_of(row)?;
            if meta.changed == Seq(0) && !view.veil.hides(view.tables, &meta.sender, key.seq)? {
                found.places.insert(key.seq, key.seq);
            }
        }
        Ok(found.looked(key.seq, range.last, limit))
    })?;
    Ok(found)
}

/// The latest changes of messages in sight.
fn changes<T: Tables>(view: &View<'_, T>, range: SeqRange, limit: usize) -> Result<Found, TableError> {
    let (mut found, mut latest) = (Found::default(), BTreeMap::new());
    let events = KeyWriter::of::<EventKey>().thread(view.id).numbers(range.first, range.last);
    rows::scan::<EventKey>(view.tables, &events, Direction::Forward, |key, row| {
        let EventRow { body, .. } = rows::decode::<EventKey>(Bytes::copy_from_slice(row))?;
        if let Some(of) = body.subject().map(|of| of.seq)
            && view.member.sees(of)
        {
            let known = latest.get(&of).copied();
            let changed = if let Some(changed) = known {
                changed
            } else {
                let meta = rows::expect(view.tables, &MessageKey { thread: view.id, seq: of })?.meta;
                // No event has the number that one hidden from the viewer is given here.
                if view.veil.hides(view.tables, &meta.sender, of)? { Seq(0) } else { meta.changed }
            };
            latest.insert(of, changed);
            if changed == key.seq {
                found.places.insert(key.seq, of);
            }
        }
        Ok(found.looked(key.seq, range.last, limit))
    })?;
    Ok(found)
}
