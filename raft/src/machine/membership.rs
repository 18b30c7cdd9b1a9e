//! Members coming and going.
//!
//! Owns: adding, removing, leaving, and who becomes admin when none is left.
//! Must not know: the users' indexes, which the outbox tells.
//! Invariants: every change of one member is one event and one outbox row; a group with members has an admin; a member
//! row is never deleted, since visibility and recipients of old messages rest on it.

use super::apply::Outcome;
use super::query::view::View;
use super::rows::event::{EventKey, EventRow};
use super::rows::head::{HeadKey, HeadRow};
use super::rows::key::KeyWriter;
use super::rows::member::{MemberKey, MemberRow, Span, SpanEnd};
use super::rows::thread::ThreadKey;
use super::rows::{self};
use super::step::{Step, Stop, refuse};
use super::tables::{Direction, TableError, Tables};
use super::{blocks, outbox, profile, threads};
use messenger_proto::command::{AddParticipants, RemoveParticipant};
use messenger_proto::error::ErrorCode;
use messenger_proto::event::{ParticipantAdded, ParticipantRemoved, ThreadEventBody};
use messenger_proto::ids::{Rev, Seq, ThreadId, UserId};
use messenger_proto::limits::THREAD_MEMBERS_MAX;
use messenger_proto::model::{Participant, Role, ThreadKind};
use std::collections::BTreeSet;

/// A thread's member rows, past members included, in order of name.
pub(crate) fn members(tables: &impl Tables, thread: ThreadId) -> Result<Vec<(UserId, MemberRow)>, TableError> {
    let range = KeyWriter::of::<MemberKey>().thread(thread).range();
    let rows = rows::collect::<MemberKey>(tables, &range, Direction::Forward, usize::MAX)?;
    Ok(rows.into_iter().map(|(key, row)| (key.user, row)).collect())
}

/// The member row of someone who is in the thread, or a refusal.
pub(crate) fn present<T: Tables>(step: &Step<'_, T>, thread: ThreadId, user: &UserId) -> Result<MemberRow, Stop> {
    match step.get(&MemberKey { thread, user: user.clone() })? {
        Some(row) if row.present() => Ok(row),
        _ => refuse(ErrorCode::NotAMember, "only participants of the thread may do this"),
    }
}

/// Whether the user's shard is yet to answer that the user joined the thread, in whichever of its stays.
pub(crate) fn arriving(tables: &impl Tables, thread: ThreadId, user: &UserId) -> Result<bool, TableError> {
    let row = rows::get(tables, &MemberKey { thread, user: user.clone() })?;
    for span in row.iter().flat_map(|row| row.spans.iter().rev()) {
        if outbox::is_posted(tables, thread, span.joined_seq, user)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The counters of a group and its actor's row, or a refusal.
pub(crate) fn group<T: Tables>(
    step: &Step<'_, T>,
    thread: ThreadId,
    actor: &UserId,
) -> Result<(HeadRow, MemberRow), Stop> {
    let head = step.head(thread)?;
    let actor = present(step, thread, actor)?;
    if rows::expect(&step.rows, &ThreadKey { thread })?.kind != ThreadKind::Group {
        return refuse(ErrorCode::NotAGroup, "a 1_TO_1 thread stays as it is");
    }
    Ok((head, actor))
}

/// Adds members.
pub(crate) fn add<T: Tables>(step: &mut Step<'_, T>, op: &AddParticipants) -> Result<Outcome, Stop> {
    let (mut head, actor) = group(step, op.thread, &op.actor)?;
    if actor.role != Role::Admin {
        return refuse(ErrorCode::Forbidden, "only admins of the group may add participants");
    }
    let mut new = Vec::new();
    for user in op.users.iter().collect::<BTreeSet<&UserId>>() {
        let row = step.get(&MemberKey { thread: op.thread, user: user.clone() })?;
        if !row.as_ref().is_some_and(MemberRow::present) {
            new.push((user, row.map_or_else(Vec::new, |row| row.spans)));
        }
    }
    let members = usize::try_from(head.members).unwrap_or(usize::MAX).saturating_add(new.len());
    if members > THREAD_MEMBERS_MAX {
        return refuse(ErrorCode::ThreadFull, "a thread has at most 250 participants");
    }
    head.members = u32::try_from(members).unwrap_or(u32::MAX);
    let (changed, mut joined) = (!new.is_empty(), Vec::new());
    for (user, mut spans) in new {
        let (seq, rev) = head.next_event()?;
        spans.push(Span { joined_seq: seq, joined_rev: rev, joined_at: step.now, end: None });
        step.put(&MemberKey { thread: op.thread, user: user.clone() }, &MemberRow { role: Role::Member, spans });
        let participant = Participant { user: user.clone(), role: Role::Member, joined_at: step.now };
        let body = ThreadEventBody::ParticipantAdded(ParticipantAdded { by: op.actor.clone(), participant });
        record(step, op.thread, (seq, rev), user, true, body);
        joined.push((user.clone(), seq));
    }
    if changed {
        blocks::thread::joined(step, op.thread, &mut head, &joined)?;
        save(step, op.thread, &head)?;
    }
    let thread = View::open(&step.rows, op.thread, &op.actor)?.thread()?;
    // Someone else may have added them a moment ago: their rows are waited for all the same.
    Ok(threads::answer(thread, false, head.seq))
}

/// Removes a member, or lets it leave.
pub(crate) fn remove<T: Tables>(step: &mut Step<'_, T>, op: &RemoveParticipant) -> Result<Outcome, Stop> {
    let (mut head, actor) = group(step, op.thread, &op.actor)?;
    if op.actor != op.user && actor.role != Role::Admin {
        return refuse(ErrorCode::Forbidden, "only admins of the group may remove others");
    }
    let key = MemberKey { thread: op.thread, user: op.user.clone() };
    let Some(mut row) = step.get(&key)?.filter(MemberRow::present) else {
        return refuse(ErrorCode::NotFound, "the user is no participant of the thread");
    };
    let (seq, rev) = head.next_event()?;
    if let Some(span) = row.spans.last_mut() {
        span.end = Some(SpanEnd { left_seq: seq.next(), rev });
    }
    row.role = Role::Member;
    step.put(&key, &row);
    profile::leave(step, op.thread, &op.user)?;
    blocks::thread::left(step, op.thread, &mut head, &op.user, seq.next())?;
    let promoted = promote(step, op.thread)?;
    head.members = head.members.saturating_sub(1);
    let body = ParticipantRemoved { by: op.actor.clone(), user: op.user.clone(), promoted };
    record(step, op.thread, (seq, rev), &op.user, false, ThreadEventBody::ParticipantRemoved(body));
    save(step, op.thread, &head)?;
    Ok(Outcome::done(Some(outbox::barrier(op.thread, seq))))
}

/// Makes the longest-standing member admin when there is none.
fn promote<T: Tables>(step: &mut Step<'_, T>, thread: ThreadId) -> Result<Option<UserId>, Stop> {
    let mut left: Vec<(UserId, MemberRow)> = members(&step.rows, thread)?;
    left.retain(|(_, row)| row.present());
    if left.iter().any(|(_, row)| row.role == Role::Admin) {
        return Ok(None);
    }
    // Rows are in order of name, and the first of the earliest is taken.
    let joined = |row: &MemberRow| row.current().map_or(Seq(u64::MAX), |span| span.joined_seq);
    let Some((user, mut row)) = left.into_iter().min_by_key(|(_, row)| joined(row)) else {
        return Ok(None);
    };
    row.role = Role::Admin;
    step.put(&MemberKey { thread, user: user.clone() }, &row);
    Ok(Some(user))
}

fn record<T: Tables>(
    step: &mut Step<'_, T>,
    thread: ThreadId,
    (seq, rev): (Seq, Rev),
    user: &UserId,
    present: bool,
    body: ThreadEventBody,
) {
    step.put(&EventKey { thread, seq }, &EventRow { rev, at: step.now, body: body.clone() });
    outbox::post(step, thread, seq, user, present);
    step.emit(thread, rev, Some(seq), step.now, body);
}

fn save<T: Tables>(step: &mut Step<'_, T>, thread: ThreadId, head: &HeadRow) -> Result<(), Stop> {
    step.put(&HeadKey { thread }, head);
    let key = ThreadKey { thread };
    let mut row = rows::expect(&step.rows, &key)?;
    row.updated_at = step.now;
    step.put(&key, &row);
    Ok(())
}
