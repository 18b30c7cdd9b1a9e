//! Many questions at once.
//!
//! Owns: grouping of queries by the node that should answer them.
//! Must not know: what is asked.
//! Invariants: a node gets one call for all queries it should answer (beyond [`GROUP_MAX`], a few); what a group leaves
//! unanswered is grouped again at most [`ROUNDS`] times, then goes its own way; answers stand in the order asked.

use crate::directory::RouteCell;
use crate::effort::{AttemptResult, Effort, Verdict};
use crate::forward::{Shared, mismatch, request, settle};
use crate::transport::CallError;
use crate::weight;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::query::{Query, QueryResult};
use messenger_proto::rpc::{ShardCall, ShardOutcome};
use std::collections::BTreeMap;
use std::sync::Arc;
use tokio::time::{Instant, timeout_at};

/// Queries in one call at most.
const GROUP_MAX: usize = 256;
/// Times a query travels in a group.
const ROUNDS: u32 = 3;

/// One query on its way.
struct Item {
    index: usize,
    shard: ShardId,
    call: ShardCall,
    effort: Effort,
    round: u32,
}

/// Something under way came to an end.
#[allow(clippy::large_enum_variant)] // a value is moved once or twice, never kept in number
enum Part {
    Group { items: Vec<(Item, Arc<RouteCell>)>, node: NodeId, sent_at: Instant, results: Vec<AttemptResult> },
    Single { index: usize, outcome: Result<ShardOutcome, Refusal> },
}

type Work<'a> = FuturesUnordered<BoxFuture<'a, Part>>;

impl Shared {
    pub(crate) async fn scatter(&self, queries: Vec<(ShardId, Query)>, deadline: Instant) -> Vec<QueryResult> {
        let bytes = queries.iter().map(|(_, query)| weight::of_query(query)).sum();
        let _pass = match self.admit(queries.len(), bytes) {
            Ok(pass) => pass,
            Err(refusal) => return queries.iter().map(|_| Err(refusal.clone())).collect(),
        };
        let mut answers: Vec<Option<QueryResult>> = queries.iter().map(|_| None).collect();
        // Without shards there is nobody to wait for but the record, and the deadline tells.
        self.directory.ready(deadline).await;
        let item = |(index, (shard, query))| {
            let call = ShardCall::Query(query);
            let effort = Effort::new(&call, deadline);
            Item { index, shard, call, effort, round: 0 }
        };
        let mut work = Work::new();
        self.dispatch(queries.into_iter().enumerate().map(item).collect(), &mut work);
        while let Some(part) = work.next().await {
            match part {
                Part::Single { index, outcome } => answers[index] = Some(answer(outcome)),
                Part::Group { items, node, sent_at, mut results } => {
                    let missing = || Err(CallError::Lost("no answer".into()));
                    results.resize_with(items.len(), missing);
                    let mut left = Vec::new();
                    for ((mut item, route), result) in items.into_iter().zip(results) {
                        match settle(&mut item.effort, &route, node, sent_at, result) {
                            Verdict::Done(outcome) => answers[item.index] = Some(answer(outcome)),
                            Verdict::Again(_) => left.push(item),
                        }
                    }
                    self.dispatch(left, &mut work);
                }
            }
        }
        let lost = || Err(Refusal::new(ErrorCode::Internal, "a query got no answer"));
        answers.into_iter().map(|answer| answer.unwrap_or_else(lost)).collect()
    }

    /// Sends queries off: in groups where it is known whom to ask, else on their own.
    fn dispatch<'a>(&'a self, items: Vec<Item>, work: &mut Work<'a>) {
        // Asked once per shard: a search has one question at a time.
        let mut targets: BTreeMap<ShardId, Option<(NodeId, Arc<RouteCell>)>> = BTreeMap::new();
        let mut groups: BTreeMap<NodeId, Vec<(Item, Arc<RouteCell>)>> = BTreeMap::new();
        for mut item in items {
            let may_group = item.round < ROUNDS && item.effort.not_before().is_none();
            let target = if may_group {
                targets.entry(item.shard).or_insert_with(|| self.poll_target(item.shard)).clone()
            } else {
                None
            };
            item.round += 1;
            match target {
                Some((node, route)) => groups.entry(node).or_default().push((item, route)),
                None => work.push(Box::pin(self.alone(item))),
            }
        }
        for (node, mut group) in groups {
            while !group.is_empty() {
                let rest = group.split_off(group.len().min(GROUP_MAX));
                work.push(Box::pin(self.together(node, std::mem::replace(&mut group, rest))));
            }
        }
    }

    fn poll_target(&self, shard: ShardId) -> Option<(NodeId, Arc<RouteCell>)> {
        let route = self.directory.route(shard)?;
        Some((route.poll_target()?, route))
    }

    async fn together(&self, node: NodeId, mut items: Vec<(Item, Arc<RouteCell>)>) -> Part {
        let sent_at = Instant::now();
        let begin = |(item, _): &mut (Item, Arc<RouteCell>)| item.effort.begin(sent_at).unwrap_or(sent_at);
        let until = items.iter_mut().map(begin).min().unwrap_or(sent_at);
        let requests = items.iter().map(|(item, _)| request(item.shard, item.call.clone(), until)).collect();
        let results = timeout_at(until, self.transport.call(node, requests, until)).await.unwrap_or_default();
        Part::Group { items, node, sent_at, results }
    }

    async fn alone(&self, item: Item) -> Part {
        Part::Single { index: item.index, outcome: self.persist(item.shard, &item.call, item.effort).await }
    }
}

fn answer(outcome: Result<ShardOutcome, Refusal>) -> QueryResult {
    match outcome? {
        ShardOutcome::Answer(answer) => Ok(answer),
        _ => Err(mismatch()),
    }
}
