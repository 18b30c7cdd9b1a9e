//! What users report.
//!
//! Owns: what the route is for, what it takes and what it may answer.
//! Must not know: how it is carried out.

use super::super::operation::{Access, Body, Key, Operation};
use super::{BASE, success};
use messenger_proto::error::ErrorCode as E;
use serde_json::json;

pub(super) const ALL: &[Operation] = &[Operation {
    method: "post",
    path: "/v1/reports",
    id: "report",
    tag: "users",
    summary: "Reports a message, a thread or a user to the operators",
    about: "Of what one can see: a message or a thread one takes part in, a user one shares a thread with. The operators are \
            told who sent it, when and where, and nothing of what it says but what the note repeats. Kept for 90 days, the \
            last 100 of a user.",
    access: Access::Write,
    key: Key::Honoured,
    body: Some(Body {
        schema: "NewReport",
        example: || json!({ "message_id": super::a_message(), "reason": "spam", "note": "Sells watches." }),
    }),
    successes: &[success(202, "Report", "It is kept.")],
    errors: &[E::NotFound, E::NotAMember, E::Forbidden],
    ..BASE
}];
