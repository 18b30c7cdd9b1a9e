//! The operations of the API.
//!
//! Owns: what each route is for, what it takes and what it may answer.
//! Must not know: how it is carried out.

mod messages;
mod reports;
mod rest;
mod threads;
mod users;

use super::operation::{Access, Key, Operation, Parameter, Success};
use messenger_proto::error::ErrorCode as E;
use serde_json::{Value, json};

/// Groups of operations.
pub(super) const TAGS: [(&str, &str); 5] = [
    ("threads", "One-to-one and group threads, and who is in them."),
    ("messages", "Sending, history, and what may be done to a message."),
    ("users", "Devices and their keys, who is there, and what users show of themselves."),
    ("realtime", "What happens, as it happens."),
    ("node", "This node, and this document."),
];

const PAGE_SIZE: Parameter = Parameter {
    name: "page_size",
    about: "Rows of a page.",
    schema: || json!({ "type": "integer", "minimum": 1, "maximum": 100, "default": 50 }),
};
const CURSOR: Parameter = Parameter {
    name: "cursor",
    about: "Where the page begins: `next_cursor` of the one before.",
    schema: || json!({ "type": "string" }),
};

const BASE: Operation = Operation {
    method: "get",
    path: "",
    id: "",
    tag: "",
    summary: "",
    about: "",
    access: Access::Read,
    query: &[],
    key: Key::Unused,
    body: None,
    successes: &[],
    errors: &[],
};

/// What is asked of a thread one must be in.
const THREAD: &[E] = &[E::NotFound, E::NotAMember];
/// And of a message, which one must have been there for.
const MESSAGE: &[E] = &[E::NotFound, E::NotAMember, E::Forbidden];

const fn success(status: u16, schema: &'static str, about: &'static str) -> Success {
    Success { status, schema, about, located: false }
}

/// The same, of something new that is found under its own path.
const fn located(status: u16, schema: &'static str, about: &'static str) -> Success {
    Success { located: true, ..success(status, schema, about) }
}

/// The answer to an `If-None-Match` with the `ETag` of what there is.
const UNCHANGED: Success = success(304, "", "The client has it.");
const DONE: &[Success] = &[success(204, "", "Done.")];

fn text() -> Value {
    json!("aGVsbG8=")
}

fn a_message() -> Value {
    json!("01KT0ABCDEFGHJKMNPQRSTVWXY")
}

/// Every operation, in the order in which a reader meets them.
pub(super) fn all() -> impl Iterator<Item = &'static Operation> {
    [threads::ALL, messages::ALL, users::ALL, reports::ALL, rest::ALL].into_iter().flatten()
}
