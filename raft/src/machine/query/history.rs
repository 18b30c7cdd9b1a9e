//! Pages of a thread's messages.
//!
//! Owns: the ranges a page is cut from, in either direction.
//! Must not know: cursors' text form.
//! Invariants: pages that follow `next` give every visible message once, in order; `next` is absent exactly when there
//! is no more.

use super::super::envelopes::{self, Viewer};
use super::super::rows::key::KeyRange;
use super::super::rows::message::{self, MessageKey};
use super::super::rows::{self};
use super::super::step::{Stop, refuse};
use super::super::tables::{Direction, TableError, Tables};
use super::view::View;
use super::{changed, locate, receipts};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{MessageId, Millis, Seq};
use messenger_proto::limits::PAGE_MAX;
use messenger_proto::model::Message;
use messenger_proto::query::{HistoryQuery, HistoryRange, MessagesAnswer};
use messenger_proto::slot::Slot;

/// Events `after < seq <= up_to`, from one end or the other.
struct Window {
    after: Seq,
    up_to: Seq,
    direction: Direction,
}

/// A page of messages.
pub(crate) fn history(tables: &impl Tables, query: &HistoryQuery) -> Result<MessagesAnswer, Stop> {
    let view = View::open(tables, query.thread, &query.viewer)?;
    let limit = query.limit.clamp(1, PAGE_MAX) as usize;
    let mut answer = match &query.range {
        HistoryRange::ChangedAfter(bound) => changed::changed(&view, bound.seq, limit)?,
        range => {
            let window = window(&view, range)?;
            let (messages, more) = page(&view, &window, limit)?;
            let next = messages.last().filter(|_| more).map(|message| message.seq);
            MessagesAnswer { messages, next }
        }
    };
    receipts::count_own(tables, &query.viewer, &mut answer.messages)?;
    let viewer = Viewer { user: &query.viewer, device: Some(&query.device) };
    envelopes::open(tables, viewer, &mut answer.messages)?;
    Ok(answer)
}

fn window<T: Tables>(view: &View<'_, T>, range: &HistoryRange) -> Result<Window, Stop> {
    let end = view.head.seq;
    let newest_before =
        |seq: u64| Window { after: Seq(0), up_to: Seq(seq.saturating_sub(1)).min(end), direction: Direction::Backward };
    let oldest_after = |after: Seq| Window { after, up_to: end, direction: Direction::Forward };
    Ok(match range {
        HistoryRange::NewestBefore(bound) if bound.seq == Seq(0) => newest_before(u64::MAX),
        HistoryRange::NewestBefore(bound) => newest_before(bound.seq.0),
        // Changes have a page of their own kind.
        HistoryRange::OldestAfter(bound) | HistoryRange::ChangedAfter(bound) => oldest_after(bound.seq),
        HistoryRange::NewestBeforeMessage(bound) => {
            let place = place(view, bound.id, bound.id)?;
            newest_before(place.0.saturating_add(1))
        }
        HistoryRange::OldestAfterMessage(bound) => {
            oldest_after(place(view, bound.id, MessageId(bound.id.0.saturating_add(1)))?)
        }
        HistoryRange::OldestAfterTime(bound) => {
            let later = Millis(bound.at.0.saturating_add(1));
            oldest_after(locate::last_before(view.tables, view.id, &view.head, later)?.seq)
        }
    })
}

/// The last message with an id below `below`; `id`, which the client named, must be one that the thread could have.
fn place<T: Tables>(view: &View<'_, T>, id: MessageId, below: MessageId) -> Result<Seq, Stop> {
    if id.slot() != Slot::of_thread(view.id) {
        return refuse(ErrorCode::InvalidRequest, "the message id is not of this thread");
    }
    Ok(locate::last_below(view.tables, view.id, &view.head, below)?.seq)
}

/// Up to `limit` visible messages of a window, and whether there are more.
fn page<T: Tables>(view: &View<'_, T>, window: &Window, limit: usize) -> Result<(Vec<Message>, bool), TableError> {
    let mut ranges = view.member.visible(window.after, window.up_to);
    if window.direction == Direction::Backward {
        ranges.reverse();
    }
    let mut messages = Vec::new();
    for range in ranges {
        let range: KeyRange = message::messages(view.id, range);
        let wanted = limit + 1 - messages.len();
        let rows = rows::collect::<MessageKey>(view.tables, &range, window.direction, wanted)?;
        messages.extend(rows.into_iter().map(|(key, row)| row.into_message(key)));
        if messages.len() > limit {
            messages.truncate(limit);
            return Ok((messages, true));
        }
    }
    Ok((messages, false))
}
