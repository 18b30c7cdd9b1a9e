//! The realtime connection, described for programs.
//!
//! Owns: the AsyncAPI 3.0 document at `/v1/asyncapi.json`.
//! Must not know: how a frame looks; [`super::frames`] does.
//! Invariants: its schemas are those of the OpenAPI document, so the two can't differ.

use super::frames::{CLOSE_CODES, Frame, from_client, from_node};
use super::{TOKEN, schemas, served};
use axum::http::HeaderMap;
use axum::response::Response;
use bytes::Bytes;
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| document().to_string().into());

/// `GET /v1/asyncapi.json`
pub(in crate::gateway) async fn asyncapi(asked: HeaderMap) -> Response {
    served(&DOCUMENT, &asked)
}

/// The whole document.
pub(super) fn document() -> Value {
    let (node, client) = (from_node(), from_client());
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Messenger realtime",
            "version": env!("CARGO_PKG_VERSION"),
            "description": about(),
            "license": { "name": "Apache-2.0" },
        },
        "defaultContentType": "application/json",
        "servers": {
            "node": {
                "host": "{host}", "protocol": "ws", "description": "Any node of the cluster.",
                "variables": { "host": { "default": "127.0.0.1:7401", "description": "A node's address and client port." } },
                "security": [{ "$ref": "#/components/securitySchemes/bearer" }],
            },
        },
        "channels": {
            "realtime": {
                "address": "/v1/realtime",
                "description": "One device's connection. What clients and nodes send are JSON texts.",
                "messages": messages(node.iter().chain(&client)),
                "bindings": { "ws": { "method": "GET", "query": {
                    "type": "object",
                    "properties": {
                        "device_id": { "$ref": "#/components/schemas/DeviceId" },
                        "last_seen_id": { "$ref": "#/components/schemas/MessageId", "description": LAST_SEEN },
                        "encoding": { "const": "text" },
                    },
                } } },
                "x-close-codes": CLOSE_CODES.map(|(code, about)| json!({ "code": code, "description": about })),
            },
        },
        "operations": {
            "fromNode": operation("send", "What a node sends.", &node),
            "fromClient": operation("receive", "What a client sends.", &client),
        },
        "components": {
            "messages": components(node.iter().chain(&client)),
            "schemas": schemas::all(),
            "securitySchemes": {
                "bearer": { "type": "http", "scheme": "bearer", "bearerFormat": "JWT", "description": TOKEN },
            },
        },
    })
}

fn about() -> String {
    let codes: Vec<String> = CLOSE_CODES.iter().map(|(code, about)| format!("- {code}: {about}")).collect();
    format!("{ABOUT}\n\nClose codes:\n\n{}", codes.join("\n"))
}

const ABOUT: &str = "What happens in a user's threads, as it happens. A connection is authenticated by the `Authorization` \
header, by the subprotocols `messenger.v1, bearer.<token>`, or by a first frame `auth` within 5 seconds. What was missed is \
replayed in each thread's order, then comes `caught_up`, and then what happens is told live. Delivery is at least once: a \
message may come again, under the same id. Acknowledging a `msg` is what makes it DELIVERED. In each thread a connection begins \
at what the device last acknowledged there, or at `last_seen_id` where that is earlier.";

/// Where a replay begins.
pub(super) const LAST_SEEN: &str = "A message that the device has. In each thread the replay begins at the earlier of its place \
and what the device last acknowledged there: it takes a device back that lost what it had, and never skips anything. Without it: \
at what the device acknowledged.";

fn messages<'a>(frames: impl Iterator<Item = &'a Frame>) -> Map<String, Value> {
    let reference = |frame: &Frame| json!({ "$ref": format!("#/components/messages/{}", frame.name) });
    frames.map(|frame| (frame.name.to_owned(), reference(frame))).collect()
}

fn components<'a>(frames: impl Iterator<Item = &'a Frame>) -> Map<String, Value> {
    let message = |frame: &Frame| {
        json!({
            "name": frame.kind,
            "title": frame.kind,
            "summary": frame.about,
            "payload": { "$ref": format!("#/components/schemas/{}", frame.name) },
        })
    };
    frames.map(|frame| (frame.name.to_owned(), message(frame))).collect()
}

fn operation(action: &str, about: &str, frames: &[Frame]) -> Value {
    let reference = |frame: &Frame| json!({ "$ref": format!("#/channels/realtime/messages/{}", frame.name) });
    json!({
        "action": action,
        "summary": about,
        "channel": { "$ref": "#/channels/realtime" },
        "messages": frames.iter().map(reference).collect::<Vec<_>>(),
    })
}
