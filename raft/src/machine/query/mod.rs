//! Answering questions.
//!
//! Owns: what each query answers, and to whom it is refused.
//! Must not know: ReadIndex, HTTP, cursors' text form.
//! Invariants: a query changes nothing; its cost is bounded by what it answers, a page or `max_bytes`, and by the
//! members of the threads it names, never by the length of a thread. Who was never in a thread, or left it, gets
//! `not_a_member`; a member gets `forbidden` for what happened while it was away.

pub(super) mod changed;
pub(super) mod history;
pub(super) mod list;
pub(super) mod locate;
pub(super) mod message;
pub(super) mod missed_receipts;
pub(super) mod receipts;
pub(super) mod resume;
pub(super) mod view;

use super::step::{Stop, refuse};
use super::tables::{TableError, Tables};
use messenger_proto::error::ErrorCode;
use messenger_proto::query::{Answer, PinsAnswer, Query, QueryResult};

/// Answers a query to a shard.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt.
pub fn answer(tables: &impl Tables, query: &Query) -> Result<QueryResult, TableError> {
    let answer = match query {
        Query::Thread(query) => {
            view::View::open(tables, query.thread, &query.viewer).and_then(|view| Ok(Answer::Thread(view.thread()?)))
        }
        Query::Pins(query) => view::View::open(tables, query.thread, &query.viewer)
            .and_then(|view| Ok(Answer::Pins(PinsAnswer { pins: view.pins()? }))),
        Query::Message(query) => message::message(tables, query).map(Answer::Message),
        Query::Recipients(query) => message::recipients(tables, query).map(Answer::Recipients),
        Query::History(query) => history::history(tables, query).map(Answer::Messages),
        Query::UserThreads(query) => list::user_threads(tables, query).map(Answer::UserThreads),
        Query::Room(query) => list::room(tables, query).map(Answer::Room),
        Query::Activity(query) => list::activity(tables, query).map(Answer::Activity),
        Query::Summaries(query) => list::summaries(tables, query).map(Answer::Summaries),
        Query::Resume(query) => resume::resume(tables, query).map(Answer::Resume),
        Query::ClusterState(_) => refuse(ErrorCode::Internal, "the cluster's record is not kept by a shard"),
    };
    match answer {
        Ok(answer) => Ok(Ok(answer)),
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stop::Failed(error)) => Err(error),
    }
}
