//! Pages of a thread's messages.
//!
//! Owns: the ranges a page is cut from, in either direction.
//! Must not know: cursors' text form.
//! Invariants: pages that follow `next` give every visible message once, in order; `next` is absent when there is no
//! more, and only where blocks hide a great many messages does it lead to a page without any.

use super::super::envelopes::{self, Viewer};
use super::super::rows::key::KeyRange;
use super::super::rows::message::{self, MessageKey};
use super::super::rows::{self};
use super::super::step::{Stop, refuse};
use super::super::tables::{Direction, TableError, Tables};
use super::view::View;
use super::{changed, locate, receipts};
use bytes::Bytes;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{MessageId, Millis, Seq};
use messenger_proto::limits::PAGE_MAX;
use messenger_proto::model::Message;
use messenger_proto::query::{HistoryQuery, HistoryRange, MessagesAnswer};
use messenger_proto::slot::Slot;
use std::ops::ControlFlow;

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
            page(&view, &window, limit)?
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

/// Messages that a page steps over since blocks hide them; with more, it is short.
const HIDDEN_MAX: usize = 2_000;

/// Up to `limit` visible messages of a window, and where to go on if there may be more.
fn page<T: Tables>(view: &View<'_, T>, window: &Window, limit: usize) -> Result<MessagesAnswer, TableError> {
    let mut ranges = view.member.visible(window.after, window.up_to);
    if window.direction == Direction::Backward {
        ranges.reverse();
    }
    let (mut messages, mut hidden, mut next) = (Vec::new(), 0, None);
    for range in ranges {
        let range: KeyRange = message::messages(view.id, range);
        rows::scan::<MessageKey>(view.tables, &range, window.direction, |key, row| {
            if !view.veil.is_open() && view.veil.hides(view.tables, &message::meta_of(row)?.sender, key.seq)? {
                hidden += 1;
                next = (hidden == HIDDEN_MAX).then_some(key.seq);
            } else if messages.len() == limit {
                next = messages.last().map(|message: &Message| message.seq);
            } else {
                messages.push(rows::decode::<MessageKey>(Bytes::copy_from_slice(row))?.into_message(key));
            }
            Ok(if next.is_none() { ControlFlow::Continue(()) } else { ControlFlow::Break(()) })
        })?;
        if next.is_some() {
            break;
        }
    }
    Ok(MessagesAnswer { messages, next })
}
