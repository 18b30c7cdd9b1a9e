//! Making threads, and what they are called.
//!
//! Owns: creation, which is idempotent by the thread's id; the title and the description of groups.
//! Must not know: how ids are derived.
//! Invariants: one id has one thread; a thread has at most [`THREAD_MEMBERS_MAX`] members; its first event is its
//! creation. A change that changes nothing is no event.

use super::apply::Outcome;
use super::query::view::View;
use super::rows::dedupe::{Reference, ThreadRef};
use super::rows::event::{EventKey, EventRow};
use super::rows::head::{HeadKey, HeadRow};
use super::rows::member::{MemberKey, MemberRow, Span};
use super::rows::thread::{ThreadKey, ThreadRow};
use super::rows::{self};
use super::step::{Step, Stop, refuse};
use super::tables::Tables;
use super::{membership, outbox};
use messenger_proto::command::{CreateThread, Reply, ReplyBody, ThreadReply, UpdateThread};
use messenger_proto::error::ErrorCode;
use messenger_proto::event::{Created, ThreadEventBody, Updated};
use messenger_proto::ids::{Seq, ThreadId, UserId};
use messenger_proto::limits::{DESCRIPTION_MAX, THREAD_MEMBERS_MAX, TITLE_MAX};
use messenger_proto::model::{Role, TextChange, Thread, ThreadKind};
use std::collections::BTreeSet;

/// The number of a thread's creation.
const CREATED: Seq = Seq(1);

/// Makes a thread, or answers with the one there is.
pub(crate) fn create<T: Tables>(step: &mut Step<'_, T>, op: &CreateThread) -> Result<Outcome, Stop> {
    if let Some(row) = step.get(&ThreadKey { thread: op.thread })? {
        return existing(step, op, &row);
    }
    let others: BTreeSet<&UserId> = op.others.iter().filter(|user| **user != op.creator).collect();
    validate(op, others.len())?;
    let row = ThreadRow {
        kind: op.kind,
        title: op.title.clone(),
        description: op.description.clone(),
        created_at: step.now,
        created_by: op.creator.clone(),
        updated_at: step.now,
        pins: Vec::new(),
    };
    let members = u32::try_from(others.len() + 1).unwrap_or(u32::MAX);
    let mut head = HeadRow { members, ..HeadRow::default() };
    let (seq, rev) = head.next_event()?;
    for user in others.into_iter().chain([&op.creator]) {
        let role = if op.kind == ThreadKind::Group && *user == op.creator { Role::Admin } else { Role::Member };
        let span = Span { joined_seq: seq, joined_rev: rev, joined_at: step.now, end: None };
        step.put(&MemberKey { thread: op.thread, user: user.clone() }, &MemberRow { role, spans: vec![span] });
        outbox::post(step, op.thread, seq, user, true);
    }
    step.put(&ThreadKey { thread: op.thread }, &row);
    step.put(&HeadKey { thread: op.thread }, &head);
    let thread = View::open(&step.rows, op.thread, &op.creator)?.thread()?;
    let body = ThreadEventBody::Created(Created { thread: thread.clone() });
    step.put(&EventKey { thread: op.thread, seq }, &EventRow { rev, at: step.now, body: body.clone() });
    step.emit(op.thread, rev, Some(seq), step.now, body);
    Ok(answer(thread, true, CREATED))
}

/// A pair's thread is shared by both who make it; a group's id is that of one command, so this is its repeat.
fn existing<T: Tables>(step: &Step<'_, T>, op: &CreateThread, row: &ThreadRow) -> Result<Outcome, Stop> {
    if row.kind != op.kind || (op.kind == ThreadKind::Group && row.created_by != op.creator) {
        return refuse(ErrorCode::Conflict, "the thread id is taken");
    }
    let thread = View::open(&step.rows, op.thread, &op.creator)?.thread()?;
    Ok(answer(thread, op.kind == ThreadKind::Group, CREATED))
}

/// Changes what a group is called.
pub(crate) fn update<T: Tables>(step: &mut Step<'_, T>, op: &UpdateThread) -> Result<Outcome, Stop> {
    let (mut head, actor) = membership::group(step, op.thread, &op.actor)?;
    if actor.role != Role::Admin {
        return refuse(ErrorCode::Forbidden, "only admins of the group may change it");
    }
    bounded(new_text(op.title.as_ref()), new_text(op.description.as_ref()))?;
    let key = ThreadKey { thread: op.thread };
    let mut row = rows::expect(&step.rows, &key)?;
    let title = op.title.clone().filter(|title| title.to != row.title);
    let description = op.description.clone().filter(|description| description.to != row.description);
    if title.is_some() || description.is_some() {
        row.title = title.as_ref().map_or(row.title, |title| title.to.clone());
        row.description = description.as_ref().map_or(row.description, |description| description.to.clone());
        row.updated_at = step.now;
        let (seq, rev) = head.next_event()?;
        step.put(&key, &row);
        step.put(&HeadKey { thread: op.thread }, &head);
        let body = ThreadEventBody::Updated(Updated { by: op.actor.clone(), title, description });
        step.put(&EventKey { thread: op.thread, seq }, &EventRow { rev, at: step.now, body: body.clone() });
        step.emit(op.thread, rev, Some(seq), step.now, body);
    }
    let thread = View::open(&step.rows, op.thread, &op.actor)?.thread()?;
    // No user's index changes, so there is nothing to wait for.
    Ok(answer(thread, false, Seq(0)))
}

fn new_text(change: Option<&TextChange>) -> Option<&str> {
    change.and_then(|change| change.to.as_deref())
}

fn bounded(title: Option<&str>, description: Option<&str>) -> Result<(), Stop> {
    let long = |text: Option<&str>, max: usize| text.is_some_and(|text| text.len() > max);
    if long(title, TITLE_MAX) || long(description, DESCRIPTION_MAX) {
        return refuse(ErrorCode::InvalidRequest, "the title or the description is too long");
    }
    Ok(())
}

fn validate(op: &CreateThread, others: usize) -> Result<(), Stop> {
    if op.kind == ThreadKind::OneToOne && others != 1 {
        return refuse(ErrorCode::InvalidRequest, "a 1_TO_1 thread has exactly two participants");
    }
    if others + 1 > THREAD_MEMBERS_MAX {
        return refuse(ErrorCode::InvalidRequest, "a thread has at most 250 participants");
    }
    bounded(op.title.as_deref(), op.description.as_deref())
}

/// An answer with a thread; it waits for the outbox rows up to `barrier`.
pub(crate) fn answer(thread: Thread, created: bool, barrier: Seq) -> Outcome {
    let id: ThreadId = thread.id;
    let body = ReplyBody::Thread(ThreadReply { thread, created });
    Outcome {
        reply: Reply { replayed: false, body, barrier: Some(outbox::barrier(id, barrier)) },
        reference: Some(Reference::Thread(ThreadRef { thread: id, created, barrier })),
    }
}
