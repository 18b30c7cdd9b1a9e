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

use super::blocks;
use super::disappear;
use super::keys;
use super::privacy;
use super::reports;
use super::rows::shard::ShardKey;
use super::rows::{self};
use super::step::{Stop, refuse};
use super::suspension;
use super::tables::{TableError, Tables};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::Millis;
use messenger_proto::query::{Answer, PinsAnswer, Query, QueryResult};

/// Answers a query to a shard, at a time: what has disappeared by then is not shown.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt.
pub fn answer(tables: &impl Tables, query: &Query, clock: Millis) -> Result<QueryResult, TableError> {
    // What happened at the shard's time has happened, whatever the clock says.
    let now = rows::get(tables, &ShardKey)?.map_or(clock, |shard| shard.last.max(clock));
    match look_up(tables, query, now) {
        Ok(mut answer) => {
            disappear::conceal_in_answer(&mut answer, now);
            Ok(Ok(answer))
        }
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stop::Failed(error)) => Err(error),
    }
}

fn look_up(tables: &impl Tables, query: &Query, now: Millis) -> Result<Answer, Stop> {
    match query {
        Query::Thread(query) => {
            view::View::open(tables, query.thread, &query.viewer).and_then(|view| Ok(Answer::Thread(view.thread()?)))
        }
        Query::Pins(query) => view::View::open(tables, query.thread, &query.viewer)
            .and_then(|view| Ok(Answer::Pins(PinsAnswer { pins: view.pins()? }))),
        Query::Message(query) => message::message(tables, query).map(Answer::Message),
        Query::Recipients(query) => message::recipients(tables, query, now).map(Answer::Recipients),
        Query::History(query) => history::history(tables, query).map(Answer::Messages),
        Query::UserThreads(query) => list::user_threads(tables, query).map(Answer::UserThreads),
        Query::Privacy(query) => privacy::hidden(tables, query).map(Answer::Privacy),
        Query::Room(query) => list::room(tables, query).map(Answer::Room),
        Query::Activity(query) => list::activity(tables, query).map(Answer::Activity),
        Query::Summaries(query) => list::summaries(tables, query).map(Answer::Summaries),
        Query::Resume(query) => resume::resume(tables, query, now).map(Answer::Resume),
        Query::Devices(query) => keys::query::list(tables, query).map(Answer::Devices),
        Query::KeyCounts(query) => keys::query::in_store(tables, query).map(Answer::KeyCounts),
        Query::Blocks(query) => blocks::own::list(tables, query).map(Answer::Blocks),
        Query::DeviceStatus(query) => keys::query::status(tables, query).map(Answer::DeviceStatus),
        Query::Suspension(query) => Ok(Answer::Suspension(suspension::of(tables, &query.user)?)),
        Query::Reports(query) => Ok(Answer::Reports(reports::list(tables, query, now)?)),
        Query::ClusterState(_) => refuse(ErrorCode::Internal, "the cluster's record is not kept by a shard"),
    }
}
