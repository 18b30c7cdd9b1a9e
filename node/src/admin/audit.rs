//! The audit log of all nodes.
//!
//! Owns: `GET /admin/audit`: its filters, and one page of what all nodes answer.
//! Must not know: how records are kept, what is in one.
//! Invariants: a node that does not answer is named, and what it has comes on a later page if it answers then: the cursor
//! holds how far each node was seen. A cursor belongs to the filters it was made with.

use super::Office;
use super::answer::{Asked, Problem, cursor, json};
use crate::api::error::ApiError;
use crate::audit::{Position, merge};
use crate::operator_api::{AuditEnd, AuditRecords};
use axum::extract::State;
use axum::http::Uri;
use axum::response::Response;
use messenger_proto::audit::{AuditPage, AuditPart, AuditQuery};
use messenger_proto::ids::{Millis, NodeId};
use messenger_proto::rpc::NodeCall;
use messenger_proto::wire::Wire;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use std::collections::BTreeMap;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_64;

/// What is taken of an address at most: any fits.
const ADDRESS_MAX: usize = 64;

/// Nodes' clocks differ by less, in ms: a list shows what any of them recorded before it was begun.
const CLOCKS_DIFFER: u64 = 1_000;

fn end(node: NodeId, part: &AuditPart) -> AuditEnd {
    let log = if part.refused { "refused" } else { "writes" };
    AuditEnd { node: node.0, log: log.to_owned(), n: part.head, chain: part.chain.clone() }
}

/// Where a page begins: which filters it is of, and how far each node was seen.
#[derive(Serialize, Deserialize)]
struct Place {
    of: u64,
    /// Records from this time on are not listed: each page of a list leaves a record itself.
    until: u64,
    seen: BTreeMap<u64, [u64; 2]>,
}

fn query(asked: &mut Asked) -> AuditQuery {
    let short = |max: usize| move |text: &str| (text.len() <= max).then(|| text.to_owned());
    AuditQuery {
        since: asked.time("since").unwrap_or_default(),
        until: asked.time("until").unwrap_or(Millis(u64::MAX)),
        user: asked.id("user"),
        device: asked.id("device"),
        thread: asked.id("thread_id"),
        message: asked.id("message_id"),
        address: asked.take("address", "must be one address", short(ADDRESS_MAX)),
        status: asked.take("status", "must be one status", |text| text.parse().ok()),
        trace: asked.take("trace_id", "must be one trace id", short(32)),
        writes_after: 0,
        refused_after: 0,
        limit: 0,
    }
}

/// `GET /admin/audit`
pub(super) async fn page(State(office): State<Arc<Office>>, uri: Uri) -> Result<Response, Problem> {
    let mut asked = Asked::of(&uri)?;
    let query = query(&mut asked);
    let limit = asked.page_size();
    let place: Option<Place> = asked.cursor();
    asked.finish()?;
    let of = xxh3_64(&query.to_wire());
    if place.as_ref().is_some_and(|place| place.of != of) {
        return Err(ApiError::field("cursor", "is not one of a page with these filters").into());
    }
    let begun = office.now().0.saturating_add(CLOCKS_DIFFER);
    let until = place.as_ref().map_or(begun, |place| place.until).min(query.until.0);
    let query = AuditQuery { until: Millis(until), ..query };
    let seen: Position = place.into_iter().flat_map(|place| place.seen).map(|(node, at)| (NodeId(node), at)).collect();
    let ask = |node: NodeId| {
        let [writes_after, refused_after] = seen.get(&node).copied().unwrap_or_default();
        NodeCall::Audit(AuditQuery { writes_after, refused_after, limit, ..query.clone() })
    };
    let (pages, silent) = office.ask_all::<AuditPage>(ask).await;
    let parts: Vec<_> =
        pages.into_iter().flat_map(|(node, page)| page.parts.into_iter().map(move |part| (node, part))).collect();
    let ends = parts.iter().map(|(node, part)| end(*node, part)).collect();
    let (records, seen, more) = merge(parts, seen, limit as usize);
    let place = Place { of, until, seen: seen.into_iter().map(|(node, at)| (node.0, at)).collect() };
    json(&AuditRecords {
        records: records.into_iter().filter_map(|(.., line)| RawValue::from_string(line.json).ok()).collect(),
        next_cursor: more.then(|| cursor(&place)),
        unanswered: silent.into_iter().map(|node| node.0).collect(),
        ends,
    })
}
