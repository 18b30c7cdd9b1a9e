//! What a device missed.
//!
//! Owns: where a device resumes each thread, and collecting the events and receipts from there.
//! Must not know: sockets, frames, the live stream.
//! Invariants: a device that follows `position` until no `more` is told has every event in its user's sight after its
//! place, in order, but for those a gap names; receipts come as state, the latest step of each member's marks; memory
//! is bounded by `max_bytes`, one event, and the members' marks.
//!
//! The place is what the session names, or else the *earlier* of what the device acknowledged and where `last_seen`
//! is; a device that acknowledged nothing in the thread begins at its user's join, whatever it says it has seen. So a
//! message that no device acknowledged is behind none of them, and needs no rule of its own: the user's delivery mark
//! plays no part, since it does not move with the user's own messages.
//!
//! What a user that left sees ends with its removal. A session that asks for such a thread wants only what its device
//! is still to hear: a device that never was in the thread, neither by what it acknowledged nor by `last_seen`, is told
//! nothing.

use super::super::blocks::veil::Veil;
use super::super::disappear;
use super::super::envelopes::{self, Viewer};
use super::super::rows::event::{EventKey, EventRow};
use super::super::rows::head::{HeadKey, HeadRow};
use super::super::rows::key::KeyWriter;
use super::super::rows::member::{MemberKey, MemberRow, SeqRange};
use super::super::rows::message::{self, MessageKey};
use super::super::rows::message_id::MessageIdKey;
use super::super::rows::position::PositionKey;
use super::super::rows::{self};
use super::super::step::Stop;
use super::super::tables::{Direction, TableError, Tables};
use super::locate;
use super::missed_receipts;
use super::receipts::Standings;
use bytes::Bytes;
use messenger_proto::event::{Edited, ThreadEvent, ThreadEventBody};
use messenger_proto::ids::{MessageId, Millis, Position, Rev, Seq, ThreadId};
use messenger_proto::limits::{CLOCK_OVERLAP, GAP_TAIL, RESUME_EVENTS_MAX};
use messenger_proto::model::Message;
use messenger_proto::query::{Gap, ResumeAnswer, ResumeFrom, ResumeQuery, ResumedThread};
use std::ops::ControlFlow;

/// What an event takes beyond its row, about.
const EVENT_OVERHEAD: usize = 64;

/// What a device missed, thread by thread.
pub(crate) fn resume(tables: &impl Tables, query: &ResumeQuery, now: Millis) -> Result<ResumeAnswer, Stop> {
    let mut budget = Budget { left: usize::try_from(query.max_bytes).unwrap_or(usize::MAX), taken: false };
    let mut threads = Vec::new();
    for from in &query.threads {
        threads.push(match Missed::of(tables, query, from, now)? {
            Some(missed) => missed.collect(&mut budget)?,
            None => nothing(from),
        });
    }
    Ok(ResumeAnswer { threads })
}

/// A thread that has nothing to tell.
fn nothing(from: &ResumeFrom) -> ResumedThread {
    let position = from.position.unwrap_or_default();
    ResumedThread { thread: from.thread, events: Vec::new(), position, more: false, gap: None, left: true }
}

/// The bytes an answer may still take; one event always fits, so that every answer gets further.
struct Budget {
    left: usize,
    taken: bool,
}

impl Budget {
    fn open(&self) -> bool {
        self.left > 0 || !self.taken
    }

    fn take(&mut self, bytes: usize) {
        self.left = self.left.saturating_sub(bytes);
        self.taken = true;
    }
}

/// An event and about how much it takes.
type Sized = (ThreadEvent, usize);

/// What one device missed of one thread.
pub(crate) struct Missed<'a, T: Tables> {
    pub(crate) tables: &'a T,
    pub(crate) query: &'a ResumeQuery,
    now: Millis,
    pub(crate) thread: ThreadId,
    member: MemberRow,
    veil: Veil,
    pub(crate) head: HeadRow,
    /// Everything up to here is behind the device.
    pub(crate) start: Position,
    /// Nothing of the thread after here is in the user's sight.
    pub(crate) end: Position,
    pub(crate) behind: Option<Behind>,
}

/// What is behind both places though it is after the earlier one: it was acknowledged, and it is older than
/// `last_seen` by more than clocks differ.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Behind {
    acknowledged: Position,
    before: Millis,
}

impl Behind {
    /// Whether a receipt need not be told.
    pub(crate) fn covers_receipt(self, rev: Rev, at: Millis) -> bool {
        rev <= self.acknowledged.rev && at < self.before
    }

    fn covers(self, event: &ThreadEvent) -> bool {
        match event.seq {
            Some(seq) => seq <= self.acknowledged.seq && event.at < self.before,
            None => self.covers_receipt(event.rev, event.at),
        }
    }
}

impl<'a, T: Tables> Missed<'a, T> {
    /// `None` when the user never was in the thread, or is gone from it and its device never was.
    fn of(tables: &'a T, query: &'a ResumeQuery, from: &ResumeFrom, now: Millis) -> Result<Option<Self>, TableError> {
        let thread = from.thread;
        let Some(head) = rows::get(tables, &HeadKey { thread })? else { return Ok(None) };
        let Some(member) = rows::get(tables, &MemberKey { thread, user: query.user.clone() })? else {
            return Ok(None);
        };
        if from.unless_new && from.position.is_none() && !member.present() && is_new(tables, query, thread)? {
            return Ok(None);
        }
        let veil = Veil::of(tables, thread, &head, &query.user)?;
        let end = member.end().unwrap_or_else(|| head.end());
        let (start, behind) = match from.position {
            Some(position) => (position, None),
            None => place(tables, query, thread, &head)?,
        };
        let start = earlier(later(start, member.start()), end);
        Ok(Some(Self { tables, query, now, thread, member, veil, head, start, end, behind }))
    }

    fn collect(self, budget: &mut Budget) -> Result<ResumedThread, TableError> {
        let left = !self.member.present();
        let mut answer = ResumedThread {
            thread: self.thread,
            events: Vec::new(),
            position: self.start,
            more: false,
            gap: None,
            left,
        };
        if self.start == self.end {
            return Ok(answer);
        }
        if !budget.open() {
            answer.more = true;
            return Ok(answer);
        }
        answer.gap = self.gap(&mut answer.position)?;
        let ranges = self.member.visible(answer.position.seq, self.end.seq);
        let (messages, all_messages) = self.messages(&ranges, budget)?;
        let (others, all_others) = self.others(&ranges, budget)?;
        let mut items: Vec<Sized> = messages;
        items.extend(others);
        items.extend(missed_receipts::collect(&self)?.into_iter().map(|event| (event, EVENT_OVERHEAD)));
        items.sort_by_key(|(event, _)| event.rev);
        let count = items.len();
        for (event, bytes) in items {
            if !budget.open() {
                break;
            }
            budget.take(bytes);
            answer.position.seq = event.seq.unwrap_or(answer.position.seq);
            answer.position.rev = event.rev;
            answer.events.push(event);
        }
        // A scan that stopped early took at least the budget, so the loop stopped no later than it.
        answer.more = answer.events.len() < count || !all_messages || !all_others;
        if !answer.more {
            answer.position = self.end;
        }
        for event in std::mem::take(&mut answer.events) {
            if self.in_sight(&event)? && !self.behind.is_some_and(|behind| behind.covers(&event)) {
                answer.events.push(event);
            }
        }
        self.count_receipts(&mut answer.events)?;
        Ok(answer)
    }

    /// Whether an event of its user's stays concerns the user.
    fn in_sight(&self, event: &ThreadEvent) -> Result<bool, TableError> {
        match event.body.subject() {
            // Those it was sent to again are told the message.
            _ if matches!(event.body, ThreadEventBody::Resent(_)) => Ok(false),
            Some(of) => Ok(self.member.sees(of.seq) && !self.veil.hides_at(self.tables, of.seq)?),
            None => Ok(true),
        }
    }

    /// Counts the receipts of the user's own messages.
    fn count_receipts(&self, events: &mut [ThreadEvent]) -> Result<(), TableError> {
        let mut standings = None;
        for event in events {
            if let ThreadEventBody::Message(message) = &mut event.body
                && message.sender == self.query.user
            {
                let known = match standings.take() {
                    Some(known) => known,
                    None => Standings::of(self.tables, self.thread)?,
                };
                standings.insert(known).count(self.tables, message)?;
            }
        }
        Ok(())
    }

    /// Beyond the limit only the newest are told, and the place jumps to just before them.
    fn gap(&self, position: &mut Position) -> Result<Option<Gap>, TableError> {
        let count = |range: &SeqRange| (range.last.0 - range.first.0).saturating_add(1);
        let ranges = self.member.visible(self.start.seq, self.end.seq);
        if ranges.iter().map(count).fold(0, u64::saturating_add) <= RESUME_EVENTS_MAX {
            return Ok(None);
        }
        let mut wanted = GAP_TAIL;
        let mut tail = self.end.seq;
        for range in ranges.iter().rev() {
            tail = Seq(range.last.0.saturating_sub(wanted.saturating_sub(1)).max(range.first.0));
            wanted = wanted.saturating_sub(count(range));
            if wanted == 0 {
                break;
            }
        }
        let after_id = self.last_message_of(&self.member.visible(Seq(0), self.start.seq))?;
        let first = self.member.visible(Seq(tail.0.saturating_sub(1)), self.end.seq);
        let before_id = match self.first_message_of(&first)? {
            Some(id) => id,
            // No message follows, so whatever was left out is at most the last one.
            None => MessageId(self.head.last.as_ref().map_or(0, |last| last.id.0).saturating_add(1)),
        };
        position.seq = Seq(tail.0.saturating_sub(1));
        Ok(Some(Gap { after_seq: self.start.seq, after_id, before_id }))
    }

    fn last_message_of(&self, ranges: &[SeqRange]) -> Result<Option<MessageId>, TableError> {
        ranges.iter().rev().find_map(|range| self.end_of(*range, Direction::Backward).transpose()).transpose()
    }

    fn first_message_of(&self, ranges: &[SeqRange]) -> Result<Option<MessageId>, TableError> {
        ranges.iter().find_map(|range| self.end_of(*range, Direction::Forward).transpose()).transpose()
    }

    fn end_of(&self, range: SeqRange, direction: Direction) -> Result<Option<MessageId>, TableError> {
        let mut found = None;
        rows::scan::<MessageKey>(self.tables, &message::messages(self.thread, range), direction, |_, row| {
            found = Some(message::meta_of(row)?.id);
            Ok(ControlFlow::Break(()))
        })?;
        Ok(found)
    }

    /// Messages until they take more than the budget, and whether that was all.
    fn messages(&self, ranges: &[SeqRange], budget: &Budget) -> Result<(Vec<Sized>, bool), TableError> {
        self.scan::<MessageKey>(ranges, budget, |key, row| {
            if !self.veil.is_open() && self.veil.hides(self.tables, &message::meta_of(&row)?.sender, key.seq)? {
                return Ok(None);
            }
            let mut bytes = row.len() + EVENT_OVERHEAD;
            let mut event = rows::decode::<MessageKey>(row)?.into_event(key);
            if let ThreadEventBody::Message(message) = &mut event.body
                && message.enveloped.is_some()
            {
                envelopes::open(self.tables, self.viewer(), std::slice::from_mut(message))?;
                bytes += message.ciphertext.as_ref().map_or(0, Bytes::len);
            }
            Ok(Some((event, bytes)))
        })
    }

    /// Events that are no messages, likewise.
    fn others(&self, ranges: &[SeqRange], budget: &Budget) -> Result<(Vec<Sized>, bool), TableError> {
        self.scan::<EventKey>(ranges, budget, |key, row| {
            let mut bytes = row.len() + EVENT_OVERHEAD;
            let EventRow { rev, at, mut body } = rows::decode::<EventKey>(row)?;
            if let ThreadEventBody::Edited(edited) = &mut body
                && self.member.sees(edited.of.seq)
            {
                self.tell_edited(edited)?;
                bytes += edited.ciphertext.as_ref().map_or(0, Bytes::len);
            }
            if let ThreadEventBody::Resent(resent) = &body
                && resent.to.contains(&self.query.user)
                && !self.veil.hides_at(self.tables, resent.of.seq)?
            {
                let message = self.resent(resent.of.seq)?;
                bytes += message.ciphertext.as_ref().map_or(0, Bytes::len);
                body = ThreadEventBody::Message(message);
            }
            let (seq, hidden_from, envelopes) = (Some(key.seq), Vec::new(), Vec::new());
            let event = ThreadEvent { thread: key.thread, rev, seq, at, body, hidden_from, envelopes };
            Ok(Some((event, bytes)))
        })
    }

    fn viewer(&self) -> Viewer<'_> {
        Viewer { user: &self.query.user, device: Some(&self.query.device) }
    }

    /// A message that was sent to the user again.
    fn resent(&self, seq: Seq) -> Result<Message, TableError> {
        let key = MessageKey { thread: self.thread, seq };
        let mut message = [rows::expect(self.tables, &key)?.into_message(key)];
        envelopes::open(self.tables, self.viewer(), &mut message)?;
        let [message] = message;
        Ok(message)
    }

    /// Puts into an edit what its message says now.
    fn tell_edited(&self, edited: &mut Edited) -> Result<(), TableError> {
        let key = MessageKey { thread: self.thread, seq: edited.of.seq };
        let message = rows::expect(self.tables, &key)?;
        if disappear::is_over(message.expires_at, self.now) {
            return Ok(());
        }
        edited.ciphertext = message.ciphertext;
        if message.enveloped
            && let Some(own) = envelopes::own(self.tables, key, self.viewer())?
        {
            edited.ciphertext = Some(own.ciphertext);
            edited.kind = own.kind;
        }
        Ok(())
    }

    fn scan<K: rows::key::Key>(
        &self,
        ranges: &[SeqRange],
        budget: &Budget,
        event: impl Fn(K, Bytes) -> Result<Option<Sized>, TableError>,
    ) -> Result<(Vec<Sized>, bool), TableError> {
        let (mut events, mut left, mut all) = (Vec::new(), budget.left, true);
        for range in ranges {
            let range = KeyWriter::of::<K>().thread(self.thread).numbers(range.first, range.last);
            rows::scan::<K>(self.tables, &range, Direction::Forward, |key, row| {
                if left == 0 && !events.is_empty() {
                    all = false;
                    return Ok(ControlFlow::Break(()));
                }
                if let Some((event, bytes)) = event(key, Bytes::copy_from_slice(row))? {
                    left = left.saturating_sub(bytes);
                    events.push((event, bytes));
                }
                Ok(ControlFlow::Continue(()))
            })?;
            if !all {
                break;
            }
        }
        Ok((events, all))
    }
}

/// Whether nothing says that the device ever was in the thread.
fn is_new(tables: &impl Tables, query: &ResumeQuery, thread: ThreadId) -> Result<bool, TableError> {
    let key = PositionKey { thread, user: query.user.clone(), device: query.device.clone() };
    if rows::get(tables, &key)?.is_some() {
        return Ok(false);
    }
    let seen = query.last_seen.map_or(Ok(None), |id| rows::get(tables, &MessageIdKey { id }))?;
    Ok(seen.is_none_or(|at| at.thread != thread))
}

/// Where a device that names no place is.
fn place(
    tables: &impl Tables,
    query: &ResumeQuery,
    thread: ThreadId,
    head: &HeadRow,
) -> Result<(Position, Option<Behind>), TableError> {
    let key = PositionKey { thread, user: query.user.clone(), device: query.device.clone() };
    let Some(row) = rows::get(tables, &key)? else { return Ok((Position::default(), None)) };
    let acknowledged = row.position;
    let Some(id) = query.last_seen else { return Ok((acknowledged, None)) };
    if let Some(at) = rows::get(tables, &MessageIdKey { id })?.filter(|at| at.thread == thread) {
        let key = MessageKey { thread, seq: at.seq };
        let rev = rows::expect(tables, &key)?.meta.rev;
        return Ok((earlier(acknowledged, Position { seq: at.seq, rev }), None));
    }
    let overlap = u64::try_from(CLOCK_OVERLAP.as_millis()).unwrap_or(u64::MAX);
    let before = Millis(id.created_at().0.saturating_sub(overlap));
    let seen = locate::last_before(tables, thread, head, before)?;
    Ok((earlier(acknowledged, seen), Some(Behind { acknowledged, before })))
}

fn earlier(a: Position, b: Position) -> Position {
    Position { seq: a.seq.min(b.seq), rev: a.rev.min(b.rev) }
}

fn later(a: Position, b: Position) -> Position {
    Position { seq: a.seq.max(b.seq), rev: a.rev.max(b.rev) }
}
