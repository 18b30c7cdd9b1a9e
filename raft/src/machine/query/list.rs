//! The thread list.
//!
//! Owns: the user's index, when threads were last active, and the rows of a page.
//! Must not know: how the parts from many shards are put together.
//! Invariants: activity as of an instant is the same however often and whenever it is asked for later.

use super::super::envelopes::{self, Viewer};
use super::super::rows::departure::DepartureKey;
use super::super::rows::head::LastMessage;
use super::super::rows::key::KeyWriter;
use super::super::rows::message::{self, MessageKey};
use super::super::rows::user::UserKey;
use super::super::rows::user_thread::UserThreadKey;
use super::super::rows::watermark::WatermarkKey;
use super::super::rows::{self};
use super::super::step::Stop;
use super::super::tables::{Direction, TableError, Tables};
use super::view::View;
use super::{locate, receipts};
use bytes::Bytes;
use messenger_proto::ids::{Millis, Seq, ThreadId, UserId};
use messenger_proto::limits::{DEPARTURES_MAX, UNREAD_MAX, USER_THREADS_MAX};
use messenger_proto::model::{Message, ThreadSummary};
use messenger_proto::query::{
    ActivityAnswer, ActivityQuery, RoomAnswer, RoomQuery, SummariesAnswer, SummariesQuery, ThreadActivity, UserThread,
    UserThreadsAnswer, UserThreadsQuery,
};
use std::ops::ControlFlow;

/// Messages that counting the unread looks at: those of the viewer itself don't count, so this is more than
/// [`UNREAD_MAX`]; a viewer that wrote thousands without reading gets what was found by then.
const UNREAD_SCAN: u32 = 10_000;

/// Threads that a user's list shows: more than the bound by as much as invitations at the same time might go over it.
const LIST_MAX: usize = 2 * USER_THREADS_MAX;

/// Every thread the user is in, and those it left of late.
pub(crate) fn user_threads(tables: &impl Tables, query: &UserThreadsQuery) -> Result<UserThreadsAnswer, Stop> {
    let threads = present_threads(tables, &query.user)?;
    let left = query.left_since.map_or_else(|| Ok(Vec::new()), |since| departures(tables, &query.user, since))?;
    Ok(UserThreadsAnswer { threads, left })
}

fn present_threads(tables: &impl Tables, user: &UserId) -> Result<Vec<UserThread>, TableError> {
    let mut threads = Vec::new();
    let range = KeyWriter::of::<UserThreadKey>().slotted_user(user).range();
    rows::scan::<UserThreadKey>(tables, &range, Direction::Forward, |key, row| {
        let row = rows::decode::<UserThreadKey>(Bytes::copy_from_slice(row))?;
        if row.present {
            threads.push(UserThread { thread: key.thread, source_seq: row.source_seq });
        }
        Ok(if threads.len() < LIST_MAX { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
    })?;
    Ok(threads)
}

/// The threads that a user's index names.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt.
pub fn threads_of(tables: &impl Tables, user: &UserId) -> Result<Vec<ThreadId>, TableError> {
    Ok(present_threads(tables, user)?.into_iter().map(|row| row.thread).collect())
}

fn departures(tables: &impl Tables, user: &UserId, since: Millis) -> Result<Vec<UserThread>, TableError> {
    let range = DepartureKey::since(user, since);
    let rows = rows::collect::<DepartureKey>(tables, &range, Direction::Backward, DEPARTURES_MAX)?;
    Ok(rows.into_iter().map(|(key, row)| UserThread { thread: key.thread, source_seq: row.source_seq }).collect())
}

/// Which of the users have no room for a thread.
pub(crate) fn room(tables: &impl Tables, query: &RoomQuery) -> Result<RoomAnswer, Stop> {
    let mut full = Vec::new();
    for user in &query.users {
        let counted = rows::get(tables, &UserKey { user: user.clone() })?.unwrap_or_default();
        if (counted.threads as usize) < USER_THREADS_MAX {
            continue;
        }
        let row = rows::get(tables, &UserThreadKey { user: user.clone(), thread: query.thread })?;
        if !row.is_some_and(|row| row.present || query.creates) {
            full.push(user.clone());
        }
    }
    Ok(RoomAnswer { full })
}

/// When threads were last active: the last message in sight, or else the viewer's joining, which is the creation for
/// those who were there from the start.
pub(crate) fn activity(tables: &impl Tables, query: &ActivityQuery) -> Result<ActivityAnswer, Stop> {
    let mut threads = Vec::new();
    for thread in &query.threads {
        let Some(view) = View::find(tables, *thread, &query.viewer)? else { continue };
        let last = last_as_of(&view, query.as_of)?;
        let joined = view.member.current().map_or(Millis(0), |span| span.joined_at);
        let at = last.map_or(joined, |last| last.id.created_at().max(joined));
        threads.push(ThreadActivity { thread: *thread, at });
    }
    Ok(ActivityAnswer { threads })
}

fn last_as_of<T: Tables>(view: &View<'_, T>, as_of: Millis) -> Result<Option<LastMessage>, TableError> {
    let last = view.last_message()?;
    if last.as_ref().is_none_or(|last| last.id.created_at() <= as_of) {
        return Ok(last);
    }
    let later = Millis(as_of.0.saturating_add(1));
    let place = locate::last_before(view.tables, view.id, &view.head, later)?;
    view.last_message_up_to(place.seq)
}

/// The rows of a page.
pub(crate) fn summaries(tables: &impl Tables, query: &SummariesQuery) -> Result<SummariesAnswer, Stop> {
    let mut summaries = Vec::new();
    for thread in &query.threads {
        let Some(view) = View::find(tables, *thread, &query.viewer)? else { continue };
        let marks = rows::get(tables, &WatermarkKey { thread: *thread, user: query.viewer.clone() })?;
        let marks = marks.unwrap_or_default();
        summaries.push(ThreadSummary {
            thread: view.thread()?,
            last_message: last_message(&view, Viewer { user: &query.viewer, device: Some(&query.device) })?,
            unread: unread(&view, &query.viewer, marks.read_seq())?,
            last_read: marks.read.map(|mark| mark.id),
        });
    }
    Ok(SummariesAnswer { summaries })
}

fn last_message<T: Tables>(view: &View<'_, T>, viewer: Viewer<'_>) -> Result<Option<Message>, TableError> {
    let Some(last) = view.last_message()? else { return Ok(None) };
    let key = MessageKey { thread: view.id, seq: last.seq };
    let mut message = rows::expect(view.tables, &key)?.into_message(key);
    receipts::count_own(view.tables, viewer.user, std::slice::from_mut(&mut message))?;
    envelopes::open(view.tables, viewer, std::slice::from_mut(&mut message))?;
    Ok(Some(message))
}

/// Others' visible, undeleted messages after the read mark.
fn unread<T: Tables>(view: &View<'_, T>, viewer: &UserId, read: Seq) -> Result<u32, TableError> {
    let (mut unread, mut looked_at) = (0, 0);
    for range in view.member.visible(read, view.head.seq) {
        let range = message::messages(view.id, range);
        rows::scan::<MessageKey>(view.tables, &range, Direction::Forward, |key, row| {
            let meta = message::meta_of(row)?;
            let counts = meta.sender != *viewer && !meta.deleted;
            unread += u32::from(counts && !view.veil.hides(view.tables, &meta.sender, key.seq)?);
            looked_at += 1;
            let on = unread < UNREAD_MAX && looked_at < UNREAD_SCAN;
            Ok(if on { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if unread >= UNREAD_MAX || looked_at >= UNREAD_SCAN {
            break;
        }
    }
    Ok(unread)
}
