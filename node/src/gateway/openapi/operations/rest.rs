//! What is of no user, and the realtime connection.
//!
//! Owns: what these routes are for, what they take and what they may answer.
//! Must not know: how it is carried out.

use super::super::asyncapi::LAST_SEEN;
use super::super::operation::{Access, Operation, Parameter};
use super::{BASE, UNCHANGED, success};
use messenger_proto::error::ErrorCode as E;
use serde_json::json;

pub(super) const ALL: &[Operation] = &[
    Operation {
        path: "/v1/realtime",
        id: "connect",
        tag: "realtime",
        summary: "Opens a WebSocket",
        about: "Authenticated by the header, by the subprotocols `messenger.v1, bearer.<token>`, or by a first frame \
                `{\"t\":\"auth\",\"token\":…}` within 5 seconds.",
        query: &[
            Parameter {
                name: "device_id",
                about: "The token's device.",
                schema: || json!({ "$ref": "#/components/schemas/DeviceId" }),
            },
            Parameter {
                name: "last_seen_id",
                about: LAST_SEEN,
                schema: || json!({ "$ref": "#/components/schemas/MessageId" }),
            },
            Parameter { name: "encoding", about: "How frames are written.", schema: || json!({ "const": "text" }) },
        ],
        successes: &[success(101, "", "Frames follow.")],
        access: Access::Later,
        errors: &[E::UpgradeRequired, E::Forbidden],
        ..BASE
    },
    Operation {
        path: "/v1/openapi.json",
        id: "openapi",
        tag: "node",
        summary: "This document",
        access: Access::Open,
        successes: &[success(200, "Document", "OpenAPI 3.1."), UNCHANGED],
        ..BASE
    },
    Operation {
        path: "/v1/asyncapi.json",
        id: "asyncapi",
        tag: "node",
        summary: "The frames of the realtime connection",
        access: Access::Open,
        successes: &[success(200, "RealtimeDocument", "AsyncAPI 3.0."), UNCHANGED],
        ..BASE
    },
    Operation {
        path: "/docs",
        id: "docs",
        tag: "node",
        summary: "This document as a page",
        access: Access::Open,
        successes: &[success(200, "", "HTML.")],
        ..BASE
    },
    Operation {
        path: "/livez",
        id: "livez",
        tag: "node",
        summary: "Whether the process answers",
        access: Access::Open,
        successes: &[success(200, "Status", "It does.")],
        ..BASE
    },
    Operation {
        path: "/readyz",
        id: "readyz",
        tag: "node",
        summary: "Whether the node takes requests",
        access: Access::Open,
        successes: &[success(200, "Status", "It does.")],
        ..BASE
    },
];
