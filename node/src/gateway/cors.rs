//! Which pages may use the API from a browser (the Fetch standard's CORS protocol).
//!
//! Owns: the list of origins, what a preflight is told, and which headers a page may see.
//! Must not know: routes; a preflight's methods are those that the path itself answers OPTIONS with.
//! Invariants: an origin is let in if it is on the list, byte for byte; no answer says `*` or lets credentials of the
//! browser's own through: tokens are sent by scripts.

use super::GatewayState;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, header};
use std::sync::Arc;

/// The headers of an answer that a page's script may read, beside those that the standard lets it.
const EXPOSED: &str = "X-Request-Id, Idempotent-Replayed, ETag, Location, Retry-After, Allow, RateLimit, \
     RateLimit-Policy, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, X-RateLimit-Window";
/// The headers of a request that a page's script may set.
const TAKEN: &str = "Authorization, Content-Type, Idempotency-Key, If-None-Match, traceparent, tracestate";
/// Seconds for which a browser may remember a preflight's answer.
const REMEMBERED_S: &str = "3600";

/// Origins whose pages may use the API; a cheap handle to clone.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Origins(Arc<[HeaderValue]>);

impl Origins {
    /// The list. What no browser could send as an origin is left out; the configuration's check names it before.
    #[must_use]
    pub fn new(origins: &[String]) -> Self {
        Self(origins.iter().filter_map(|origin| HeaderValue::from_str(origin).ok()).collect())
    }

    /// Whether an `Origin` header's value is on the list.
    #[must_use]
    pub fn allow(&self, origin: &HeaderValue) -> bool {
        self.0.contains(origin)
    }

    fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// Where a request comes from, as far as its answer's headers depend on it.
pub(super) struct Visit {
    /// Whether the answer to another origin could be another.
    varies: bool,
    /// The origin, if it is let in.
    origin: Option<HeaderValue>,
    preflight: bool,
}

impl Visit {
    pub(super) fn of(state: &GatewayState, request: &Request) -> Self {
        let (origins, headers) = (state.origins(), request.headers());
        let origin = headers.get(header::ORIGIN);
        let asks = headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD);
        Self {
            varies: !origins.is_empty(),
            preflight: *request.method() == Method::OPTIONS && origin.is_some() && asks,
            origin: origin.filter(|origin| origins.allow(origin)).cloned(),
        }
    }

    /// Whether this is a browser's question, whatever the node is doing, whether it may ask.
    pub(super) fn is_preflight(&self) -> bool {
        self.preflight
    }

    /// Adds what the browser wants to be told.
    pub(super) fn answer(self, headers: &mut HeaderMap) {
        if self.varies {
            headers.append(header::VARY, HeaderValue::from_static("Origin"));
        }
        let Some(origin) = self.origin else { return };
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin);
        if !self.preflight {
            headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSED));
            return;
        }
        if let Some(methods) = headers.get(header::ALLOW).cloned() {
            headers.insert(header::ACCESS_CONTROL_ALLOW_METHODS, methods);
        }
        headers.insert(header::ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static(TAKEN));
        headers.insert(header::ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static(REMEMBERED_S));
    }
}
