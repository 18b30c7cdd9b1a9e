//! The headers of answers, as the document says them.
//!
//! Owns: what each header says, and which answers have it: always, or where its description says.
//! Must not know: what an operation is for.
//! Invariants: a header that is required here is on every such answer (the gateway's tests hold each they receive against
//! this, both ways).

use super::operation::{Access, Key, Operation};
use messenger_proto::error::ErrorCode;
use serde_json::{Map, Value, json};

/// A header of answers.
pub(in crate::gateway) struct Header {
    /// Its name among the components.
    component: &'static str,
    pub(in crate::gateway) name: &'static str,
    about: &'static str,
    /// Whether every answer has it that refers to it.
    pub(in crate::gateway) required: bool,
    schema: fn() -> Value,
}

const fn header(name: &'static str, required: bool, schema: fn() -> Value, about: &'static str) -> Header {
    Header { component: name, name, about, required, schema }
}

fn text() -> Value {
    json!({ "type": "string" })
}

fn count() -> Value {
    json!({ "type": "integer", "minimum": 0 })
}

static REQUEST_ID: Header = header(
    "X-Request-Id",
    true,
    || json!({ "type": "string", "pattern": "^[0-9a-f]{32}$" }),
    "The trace id: that of the request's `traceparent`, or a new one. A problem has it as `trace_id`, too.",
);
static CACHE_CONTROL: Header = header(
    "Cache-Control",
    true,
    text,
    "`private, no-cache` for what is somebody's own, `no-store` where keys are handed out, `public, max-age=…` for this \
     document.",
);
static ETAG: Header =
    header("ETag", true, text, "Names what there is now: with it in `If-None-Match` the same is not sent again.");
static LOCATION: Header = header("Location", true, text, "The path of what was made.");
static REPLAYED: Header = header(
    "Idempotent-Replayed",
    false,
    || json!({ "type": "string", "const": "true" }),
    "There where this is the answer to an earlier request with the same `Idempotency-Key`.",
);
static RETRY_AFTER: Header = header("Retry-After", true, count, "Seconds to wait before another attempt.");
static CHALLENGE: Header =
    header("WWW-Authenticate", true, text, "`Bearer`, and what is wrong with the token (RFC 6750).");
static SCOPE_CHALLENGE: Header = Header {
    component: "WWW-Authenticate-Scope",
    ..header("WWW-Authenticate", false, text, "With `missing_scope`: which scope the token lacks (RFC 6750).")
};
static ALLOW: Header = header(
    "Allow",
    true,
    text,
    "The methods of the path: on 405, which any path answers to a method it does not have, and on OPTIONS.",
);
static LIMITS: [Header; 6] = [
    header(
        "RateLimit",
        false,
        text,
        "How much more may be asked (`r`) and in how many seconds all may again (`t`), by the limit with the least left. There \
         where the node limits the operation and knew who asks.",
    ),
    header(
        "RateLimit-Policy",
        false,
        text,
        "Every limit of the operation: so many (`q`) within so many seconds (`w`).",
    ),
    header("X-RateLimit-Limit", false, count, "What `RateLimit` is about: so many requests."),
    header("X-RateLimit-Remaining", false, count, "As `r` of `RateLimit`."),
    header("X-RateLimit-Reset", false, count, "When all may be asked again, in seconds of the Unix epoch."),
    header("X-RateLimit-Window", false, count, "Within so many seconds."),
];

/// The headers of one of an operation's answers.
pub(in crate::gateway) fn of(operation: &Operation, status: u16) -> Vec<&'static Header> {
    let mut headers = vec![&REQUEST_ID, &CACHE_CONTROL];
    if operation.is_tagged() && matches!(status, 200 | 304) {
        headers.push(&ETAG);
    }
    if operation.key != Key::Unused && (200..300).contains(&status) {
        headers.push(&REPLAYED);
    }
    if operation.successes.iter().any(|success| success.status == status && success.located) {
        headers.push(&LOCATION);
    }
    match status {
        401 => headers.push(&CHALLENGE),
        403 if operation.codes().contains(ErrorCode::MissingScope.as_str()) => headers.push(&SCOPE_CHALLENGE),
        429 | 503 => headers.push(&RETRY_AFTER),
        _ => {}
    }
    if operation.access != Access::Open {
        headers.extend(&LIMITS);
    }
    headers
}

/// The same, by name, as a response of the document has them.
pub(super) fn references(operation: &Operation, status: u16) -> Map<String, Value> {
    let reference = |header: &Header| json!({ "$ref": format!("#/components/headers/{}", header.component) });
    of(operation, status).into_iter().map(|header| (header.name.to_owned(), reference(header))).collect()
}

/// Every header, by the name it is referred to.
pub(super) fn all() -> Map<String, Value> {
    let described = |header: &Header| json!({ "description": header.about, "required": header.required, "schema": (header.schema)() });
    known().map(|header| (header.component.to_owned(), described(header))).collect()
}

/// Every header that is described.
pub(in crate::gateway) fn known() -> impl Iterator<Item = &'static Header> {
    let some =
        [&REQUEST_ID, &CACHE_CONTROL, &ETAG, &LOCATION, &REPLAYED, &RETRY_AFTER, &CHALLENGE, &SCOPE_CHALLENGE, &ALLOW];
    some.into_iter().chain(&LIMITS)
}
