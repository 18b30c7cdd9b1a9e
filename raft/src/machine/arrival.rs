//! Members of whom their thread does not know yet whom they keep away.
//!
//! Owns: what of a thread is not read for a user until the user's shard has answered that it joined.
//! Must not know: who waits for that answer, or how long.
//! Invariants: as long as the word of a joining is in the outbox, nothing of its thread is answered to who joined: neither
//! from that stay nor from one before it. The profile comes with the command that takes the word away, so whatever is
//! read afterwards is read by the user's list; and a session follows a thread live only from where it was read.

use super::membership::arriving;
use super::rows::message_id::MessageIdKey;
use super::rows::{self};
use super::tables::{TableError, Tables};
use messenger_proto::ids::{MessageId, ThreadId, UserId};
use messenger_proto::query::{ActivityQuery, Query, ResumeQuery, SummariesQuery};

/// The query without threads that are not to be shown to its user yet; `None` when it has to wait for them.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt.
pub fn answerable(tables: &impl Tables, query: Query) -> Result<Option<Query>, TableError> {
    let waits = match &query {
        Query::Thread(query) => arriving(tables, query.thread, &query.viewer)?,
        Query::Pins(query) => arriving(tables, query.thread, &query.viewer)?,
        Query::History(query) => arriving(tables, query.thread, &query.viewer)?,
        Query::Message(query) => arriving_at(tables, query.id, &query.viewer)?,
        Query::Recipients(query) => arriving_at(tables, query.id, &query.viewer)?,
        Query::Resume(_) | Query::Activity(_) | Query::Summaries(_) => return without(tables, query),
        _ => false,
    };
    Ok((!waits).then_some(query))
}

/// A session asks again for threads it got no answer about; the list of a user's threads does without.
fn without(tables: &impl Tables, query: Query) -> Result<Option<Query>, TableError> {
    let seen = |user: &UserId, thread: ThreadId| Ok::<_, TableError>(!arriving(tables, thread, user)?);
    Ok(match query {
        Query::Resume(ResumeQuery { user, device, threads, last_seen, max_bytes }) => {
            let asked = threads.len();
            let threads = keep(threads, |from| seen(&user, from.thread))?;
            if threads.is_empty() && asked > 0 {
                return Ok(None);
            }
            Some(Query::Resume(ResumeQuery { user, device, threads, last_seen, max_bytes }))
        }
        Query::Activity(ActivityQuery { viewer, threads, as_of }) => {
            let threads = keep(threads, |thread| seen(&viewer, *thread))?;
            Some(Query::Activity(ActivityQuery { viewer, threads, as_of }))
        }
        Query::Summaries(SummariesQuery { viewer, device, threads }) => {
            let threads = keep(threads, |thread| seen(&viewer, *thread))?;
            Some(Query::Summaries(SummariesQuery { viewer, device, threads }))
        }
        other => Some(other),
    })
}

fn keep<T>(items: Vec<T>, wanted: impl Fn(&T) -> Result<bool, TableError>) -> Result<Vec<T>, TableError> {
    let mut kept = Vec::with_capacity(items.len());
    for item in items {
        if wanted(&item)? {
            kept.push(item);
        }
    }
    Ok(kept)
}

fn arriving_at(tables: &impl Tables, message: MessageId, viewer: &UserId) -> Result<bool, TableError> {
    let place = rows::get(tables, &MessageIdKey { id: message })?;
    place.map_or(Ok(false), |place| arriving(tables, place.thread, viewer))
}
