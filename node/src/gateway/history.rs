//! A thread's messages, page by page.
//!
//! Owns: `GET /v1/threads/{id}/messages`: its parameters, its orders, its cursors.
//! Must not know: how messages are stored.
//! Invariants: a page goes on exactly where the last one ended; a cursor is good for the list it came from alone.

use super::GatewayState;
use super::cursor::{CursorSeal, List, invalid_cursor};
use super::extract::{Params, Reader, ThreadPath};
use super::idempotency::BodyHash;
use super::input::Complaint;
use super::respond::{json, unexpected};
use crate::api::error::ApiError;
use crate::api::time;
use crate::api::view::MessageView;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use messenger_proto::ids::{MessageId, Millis, Seq, ThreadId};
use messenger_proto::query::{Answer, HistoryQuery, HistoryRange, IdBound, MessagesAnswer, Query, SeqBound, TimeBound};
use messenger_proto::slot::Slot;
use serde::Serialize;

/// What comes first, and so where a list goes on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Order {
    Newest,
    Oldest,
    OldestChange,
}

impl Order {
    fn code(self) -> u8 {
        match self {
            Self::Newest => 0,
            Self::Oldest => 1,
            Self::OldestChange => 2,
        }
    }

    fn of_code(code: u8) -> Option<Self> {
        [Self::Newest, Self::Oldest, Self::OldestChange].into_iter().find(|order| order.code() == code)
    }
}

/// Where a list begins, as its parameters say.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Start {
    End,
    Before(MessageId),
    SinceMessage(MessageId),
    SinceTime(Millis),
    ChangedSince(Seq),
}

impl Start {
    fn order(self) -> Order {
        match self {
            Self::End | Self::Before(_) => Order::Newest,
            Self::SinceMessage(_) | Self::SinceTime(_) => Order::Oldest,
            Self::ChangedSince(_) => Order::OldestChange,
        }
    }

    fn range(self) -> HistoryRange {
        match self {
            Self::End => HistoryRange::NewestBefore(SeqBound { seq: Seq(0) }),
            Self::Before(id) => HistoryRange::NewestBeforeMessage(IdBound { id }),
            Self::SinceMessage(id) => HistoryRange::OldestAfterMessage(IdBound { id }),
            Self::SinceTime(at) => HistoryRange::OldestAfterTime(TimeBound { at }),
            Self::ChangedSince(seq) => HistoryRange::ChangedAfter(SeqBound { seq }),
        }
    }

    /// A number that tells this list from the others of the thread.
    fn list(self) -> u64 {
        let mut hash = BodyHash::new("history");
        let (kind, bound) = match self {
            Self::End => (0, 0),
            Self::Before(id) => (1, id.0),
            Self::SinceMessage(id) => (2, id.0),
            Self::SinceTime(at) => (3, u128::from(at.0)),
            Self::ChangedSince(seq) => (4, u128::from(seq.0)),
        };
        hash.integer(kind);
        hash.bytes(&bound.to_be_bytes());
        hash.finish()
    }
}

/// Where a page begins: what a cursor holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Place {
    order: Order,
    list: u64,
    seq: Seq,
}

impl Place {
    fn bytes(self) -> Vec<u8> {
        let mut bytes = vec![self.order.code()];
        bytes.extend_from_slice(&self.list.to_be_bytes());
        bytes.extend_from_slice(&self.seq.0.to_be_bytes());
        bytes
    }

    fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (code, rest) = bytes.split_first()?;
        let (list, rest) = rest.split_first_chunk()?;
        let seq = <[u8; 8]>::try_from(rest).ok()?;
        let order = Order::of_code(*code)?;
        Some(Self { order, list: u64::from_be_bytes(*list), seq: Seq(u64::from_be_bytes(seq)) })
    }

    fn range(self) -> HistoryRange {
        let bound = SeqBound { seq: self.seq };
        match self.order {
            Order::Newest => HistoryRange::NewestBefore(bound),
            Order::Oldest => HistoryRange::OldestAfter(bound),
            Order::OldestChange => HistoryRange::ChangedAfter(bound),
        }
    }
}

#[derive(Serialize)]
struct Page<'a> {
    messages: Vec<MessageView<'a>>,
    next_cursor: Option<String>,
}

/// `GET /v1/threads/{id}/messages`
pub(super) async fn history(
    State(state): State<GatewayState>,
    Reader(viewer): Reader,
    path: ThreadPath,
    uri: Uri,
) -> Result<Response, ApiError> {
    let mut params = Params::of(&uri)?;
    let thread = path.among(&mut params);
    let limit = params.page_size();
    let cursor = params.take("cursor", |text| Ok(text.to_owned()));
    let start = take_start(&mut params, thread);
    params.finish()?;
    let thread = thread.ok_or_else(|| ApiError::internal("a path without errors was not read"))?;
    let seal = CursorSeal::new(&state.secret()?, &viewer.user, List::Messages(thread));
    let (range, order, list) = match cursor {
        None => {
            let start = start.unwrap_or(Start::End);
            (start.range(), start.order(), start.list())
        }
        Some(cursor) => {
            let place = Place::of_bytes(&seal.open(&cursor)?).ok_or_else(invalid_cursor)?;
            // The cursor says all there is to say, so the parameters may be left out, but must not say otherwise.
            if start.is_some_and(|start| start.list() != place.list) {
                return Err(invalid_cursor());
            }
            (place.range(), place.order, place.list)
        }
    };
    let query = HistoryQuery { thread, viewer: viewer.user.clone(), device: viewer.device.clone(), range, limit };
    match state.router().query(Slot::of_thread(thread), Query::History(query), state.deadline()).await? {
        Answer::Messages(answer) => page(&state, &answer, |seq| seal.seal(&Place { order, list, seq }.bytes())),
        other => Err(unexpected(&other)),
    }
}

fn page(
    state: &GatewayState,
    answer: &MessagesAnswer,
    cursor_at: impl Fn(Seq) -> String,
) -> Result<Response, ApiError> {
    let size = 128 + answer.messages.iter().map(MessageView::size_hint).sum::<usize>();
    let messages = answer.messages.iter().map(MessageView::of).collect();
    json(state, StatusCode::OK, &Page { messages, next_cursor: answer.next.map(cursor_at) }, size)
}

/// Message ids are held against the thread, if that is known.
fn take_start(params: &mut Params, thread: Option<ThreadId>) -> Option<Start> {
    let starts = [
        ("before", params.take("before", |text| message_of(text, thread).map(Start::Before))),
        ("since", params.take("since", |text| since(text, thread))),
        ("changed_since", params.take("changed_since", changed_since)),
    ];
    let mut given = starts.into_iter().filter_map(|(name, start)| start.map(|start| (name, start)));
    let first = given.next();
    for (name, _) in given {
        params.complain(name, "must not be given together with before or since");
    }
    first.map(|(_, start)| start)
}

fn message_of(text: &str, thread: Option<ThreadId>) -> Result<MessageId, Complaint> {
    let id: MessageId = text.parse().map_err(|_| "must be a message id")?;
    let fits = thread.is_none_or(|thread| id.slot() == Slot::of_thread(thread));
    if fits { Ok(id) } else { Err("must be the id of a message of this thread".into()) }
}

fn since(text: &str, thread: Option<ThreadId>) -> Result<Start, Complaint> {
    if text.parse::<MessageId>().is_ok() {
        return message_of(text, thread).map(Start::SinceMessage);
    }
    time::parse(text).map(Start::SinceTime).ok_or_else(|| "must be a message id or an RFC 3339 time".into())
}

fn changed_since(text: &str) -> Result<Start, Complaint> {
    let is_number = !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let seq = text.parse().ok().filter(|_| is_number);
    seq.map(|seq| Start::ChangedSince(Seq(seq))).ok_or_else(|| "must be a seq, from 0".into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn a_place_comes_back(code in 0u8..3, list in any::<u64>(), seq in any::<u64>()) {
            let place = Place { order: Order::of_code(code).unwrap(), list, seq: Seq(seq) };
            prop_assert_eq!(Place::of_bytes(&place.bytes()), Some(place));
        }

        #[test]
        fn other_bytes_are_no_place(bytes in proptest::collection::vec(any::<u8>(), 0..30)) {
            let valid = bytes.len() == 17 && bytes[0] < 3;
            prop_assert_eq!(Place::of_bytes(&bytes).is_some(), valid);
        }
    }

    #[test]
    fn lists_are_told_apart() {
        let id = MessageId(7);
        let starts = [
            Start::End,
            Start::Before(id),
            Start::SinceMessage(id),
            Start::SinceTime(Millis(7)),
            Start::SinceTime(Millis(8)),
            Start::ChangedSince(Seq(7)),
        ];
        for (at, start) in starts.iter().enumerate() {
            assert!(starts[..at].iter().all(|other| other.list() != start.list()), "{start:?}");
        }
    }
}
