//! The viewer's threads, latest activity first.
//!
//! Owns: `GET /v1/threads`: gathering the list from its shards, and its cursor.
//! Must not know: how a page is chosen (see [`order`]), or where shards live.
//! Invariants: a shard that does not answer fails the request, so that no row is silently missing.

mod order;

use super::GatewayState;
use super::cursor::{CursorSeal, List, invalid_cursor};
use super::extract::{Params, Reader};
use super::respond::{json, unexpected};
use crate::api::error::ApiError;
use crate::api::view::SummaryView;
use crate::auth::Identity;
use axum::extract::State;
use axum::http::{StatusCode, Uri};
use axum::response::Response;
use messenger_proto::ids::{MessageId, Millis, ShardId, ThreadId};
use messenger_proto::model::ThreadSummary;
use messenger_proto::query::{ActivityQuery, Answer, Query, SummariesQuery, ThreadActivity, UserThreadsQuery};
use messenger_proto::slot::Slot;
use order::Place;
use serde::Serialize;
use std::collections::{BTreeMap, HashMap};
use tokio::time::Instant;

/// Later than any message; the last but one that an id can carry, so that one more still fits.
const NOW: Millis = Millis(MessageId::MS_MAX - 1);

#[derive(Serialize)]
struct Page<'a> {
    threads: Vec<SummaryView<'a>>,
    next_cursor: Option<String>,
}

/// `GET /v1/threads`
pub(super) async fn list(
    State(state): State<GatewayState>,
    Reader(viewer): Reader,
    uri: Uri,
) -> Result<Response, ApiError> {
    let mut params = Params::of(&uri)?;
    let limit = params.page_size() as usize;
    let cursor = params.take("cursor", |text| Ok(text.to_owned()));
    params.finish()?;
    let seal = CursorSeal::new(&state.secret()?, &viewer.user, List::Threads);
    let place = match cursor {
        Some(cursor) => Some(Place::of_bytes(&seal.open(&cursor)?).ok_or_else(invalid_cursor)?),
        None => None,
    };
    let gather = Gather { state: &state, viewer: &viewer, deadline: state.deadline() };
    let begun = state.now();
    let threads = gather.threads().await?;
    let activity = gather.activity(&threads, place.as_ref().map_or(NOW, |place| place.as_of)).await?;
    let chosen = match place {
        None => order::first_page(&activity, begun, limit),
        Some(place) => {
            let unsure = place.unsure(&activity);
            let earlier = gather.activity(&unsure, place.recent_from).await?;
            order::next_page(&activity, &earlier, &place, limit)
        }
    };
    let rows = gather.summaries(&chosen.threads).await?;
    let next_cursor = chosen.next.map(|place| seal.seal(&place.bytes()));
    let page = Page { threads: rows.iter().map(SummaryView::of).collect(), next_cursor };
    let size = 128 + rows.iter().map(|row| 1536 + 128 * row.thread.participants.len()).sum::<usize>();
    json(&state, StatusCode::OK, &page, size)
}

/// Asking the shards that hold a viewer's threads.
struct Gather<'a> {
    state: &'a GatewayState,
    viewer: &'a Identity,
    deadline: Instant,
}

impl Gather<'_> {
    async fn threads(&self) -> Result<Vec<ThreadId>, ApiError> {
        let user = self.viewer.user.clone();
        let slot = Slot::of_user(&user);
        let query = Query::UserThreads(UserThreadsQuery { user, left_since: None });
        match self.state.router().query(slot, query, self.deadline).await? {
            Answer::UserThreads(answer) => Ok(answer.threads.into_iter().map(|row| row.thread).collect()),
            other => Err(unexpected(&other)),
        }
    }

    async fn activity(&self, threads: &[ThreadId], as_of: Millis) -> Result<Vec<ThreadActivity>, ApiError> {
        let ask = |threads| Query::Activity(ActivityQuery { viewer: self.viewer.user.clone(), threads, as_of });
        let mut activity = Vec::with_capacity(threads.len());
        for answer in self.scatter(threads, ask).await? {
            match answer {
                Answer::Activity(answer) => activity.extend(answer.threads),
                other => return Err(unexpected(&other)),
            }
        }
        Ok(activity)
    }

    /// Rows in the order asked for; a thread that was left in between has none.
    async fn summaries(&self, threads: &[ThreadId]) -> Result<Vec<ThreadSummary>, ApiError> {
        let (viewer, device) = (&self.viewer.user, &self.viewer.device);
        let ask =
            |threads| Query::Summaries(SummariesQuery { viewer: viewer.clone(), device: device.clone(), threads });
        let mut found = HashMap::with_capacity(threads.len());
        for answer in self.scatter(threads, ask).await? {
            match answer {
                Answer::Summaries(answer) => {
                    found.extend(answer.summaries.into_iter().map(|row| (row.thread.id, row)));
                }
                other => return Err(unexpected(&other)),
            }
        }
        Ok(threads.iter().filter_map(|thread| found.remove(thread)).collect())
    }

    /// Asks each thread's shard for its part; any refusal is the answer.
    async fn scatter(
        &self,
        threads: &[ThreadId],
        ask: impl Fn(Vec<ThreadId>) -> Query,
    ) -> Result<Vec<Answer>, ApiError> {
        let mut parts: BTreeMap<ShardId, Vec<ThreadId>> = BTreeMap::new();
        for thread in threads {
            parts.entry(self.state.router().shard_of(Slot::of_thread(*thread))).or_default().push(*thread);
        }
        if parts.is_empty() {
            return Ok(Vec::new());
        }
        let queries = parts.into_iter().map(|(shard, threads)| (shard, ask(threads))).collect();
        let answers = self.state.router().scatter(queries, self.deadline).await;
        answers.into_iter().map(|answer| answer.map_err(ApiError::from)).collect()
    }
}
