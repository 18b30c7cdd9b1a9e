//! What operators do and look at, for the audit log.
//!
//! Owns: that every request to an operator's route leaves a record: who, in its own words, from where, which route, about
//! whom, when and how it ended.
//! Must not know: what is answered, what the parameters of a question say.
//! Invariants: whatever becomes of a request, refused or abandoned, there is a record; its name stands in a header, which no
//! page in an operator's browser can set for another origin, and one that is none is left out.

use super::Office;
use super::answer::{Problem, Refused};
use crate::api::error::{ApiError, FieldError};
use crate::api::peer::PeerAddress;
use crate::api::trace::TraceId;
use crate::audit::{Ending, Kind, Pending, Record};
use crate::gateway::audited::target_of;
use axum::extract::{FromRequestParts, MatchedPath, Request, State};
use axum::http::request::Parts;
use axum::http::{HeaderMap, Method};
use axum::middleware::Next;
use axum::response::Response;
use messenger_proto::ids::UserId;
use std::sync::Arc;

/// Says which operator it is.
const OPERATOR: &str = "x-operator";

/// The routes, as records name them.
const ROUTES: [&str; 19] = [
    "/admin/audit",
    "/admin/nodes",
    "/admin/nodes/{node_id}/drain",
    "/admin/nodes/{node_id}/undrain",
    "/admin/nodes/{node_id}/remove",
    "/admin/nodes/{node_id}/replace",
    "/admin/moves",
    "/admin/moves/pause",
    "/admin/moves/resume",
    "/admin/moves/rebalance",
    "/admin/shards/{shard_id}/cancel",
    "/admin/shards/{shard_id}/transfer",
    "/admin/senders",
    "/admin/reports",
    "/admin/users/{user_id}",
    "/admin/users/{user_id}/suspend",
    "/admin/users/{user_id}/unsuspend",
    "/admin/users/{user_id}/devices/{device_id}/suspend",
    "/admin/users/{user_id}/devices/{device_id}/unsuspend",
];

/// Which operator it is, in its own words: as long as a user's name at most, and of the same characters.
fn operator(headers: &HeaderMap) -> Option<UserId> {
    headers.get(OPERATOR).and_then(|name| UserId::new(name.to_str().ok()?).ok())
}

/// Who changes something says who it is; for the record, which has it already.
pub(super) struct Named;

impl<S: Sync> FromRequestParts<S> for Named {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let complaint = "must say who you are: 1-64 of A-Z a-z 0-9 _ . ~ -";
        let unnamed = || ApiError::fields(vec![FieldError::new("X-Operator", complaint)]).into();
        operator(&parts.headers).map(|_| Self).ok_or_else(unnamed)
    }
}

/// Records a request and how it ends.
pub(super) async fn record(State(office): State<Arc<Office>>, request: Request, next: Next) -> Response {
    let matched = request.extensions().get::<MatchedPath>();
    let route = matched.and_then(|path| ROUTES.into_iter().find(|route| *route == path.as_str())).unwrap_or_default();
    let pending = Pending::new(
        &office.audit,
        Record {
            at: office.now(),
            kind: Kind::Operator,
            who: None,
            operator: operator(request.headers()).map(|name| name.to_string()),
            address: request.extensions().get::<PeerAddress>().map(|peer| peer.0),
            method: method(request.method()),
            route,
            trace: TraceId::of(request.headers()),
            payload: None,
            target: target_of(route, request.uri().path()),
            ending: Ending::default(),
        },
    );
    let response = next.run(request).await;
    let code = response.extensions().get::<Refused>().map(|refused| refused.0);
    let ending = Ending { code, ..Ending::done(response.status().as_u16()) };
    pending.end(office.now(), ending, |_| {});
    response
}

fn method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "GET",
        Method::HEAD => "HEAD",
        Method::POST => "POST",
        _ => "OTHER",
    }
}
