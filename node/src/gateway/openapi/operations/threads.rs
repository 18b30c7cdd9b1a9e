//! Threads, and who is in them.
//!
//! Owns: what these routes are for, what they take and what they may answer.
//! Must not know: how it is carried out.

use super::super::operation::{Access, Body, Key, Operation};
use super::{BASE, CURSOR, DONE, PAGE_SIZE, THREAD, UNCHANGED, located, success};
use messenger_proto::error::ErrorCode as E;
use serde_json::json;

pub(super) const ALL: &[Operation] = &[
    Operation {
        method: "post",
        path: "/v1/threads",
        id: "createThread",
        tag: "threads",
        summary: "Makes a thread",
        about: "The creator takes part, named or not. A pair has one thread: making it again answers 200 with the one there is.",
        access: Access::Write,
        key: Key::Honoured,
        body: Some(Body {
            schema: "NewThread",
            example: || json!({ "type": "GROUP", "participants": ["bob", "carol"], "title": "Lunch" }),
        }),
        successes: &[located(201, "Thread", "It was made."), success(200, "Thread", "The pair has it already.")],
        errors: &[E::Conflict],
        ..BASE
    },
    Operation {
        path: "/v1/threads",
        id: "listThreads",
        tag: "threads",
        summary: "Lists the threads one takes part in",
        about: "Latest activity first, as of when the list was begun.",
        query: &[PAGE_SIZE, CURSOR],
        successes: &[success(200, "ThreadPage", "A page.")],
        errors: &[E::InvalidCursor],
        ..BASE
    },
    Operation {
        path: "/v1/threads/{thread_id}",
        id: "getThread",
        tag: "threads",
        summary: "Reads a thread",
        successes: &[success(200, "Thread", "The thread."), UNCHANGED],
        errors: THREAD,
        ..BASE
    },
    Operation {
        method: "patch",
        path: "/v1/threads/{thread_id}",
        id: "updateThread",
        tag: "threads",
        summary: "Changes what a group is called",
        about: "For admins of the group. What is left out stays as it is; null takes it away.",
        access: Access::Write,
        body: Some(Body { schema: "ThreadChange", example: || json!({ "title": "Dinner", "description": null }) }),
        successes: &[success(200, "Thread", "The thread, changed.")],
        errors: &[E::NotFound, E::NotAMember, E::Forbidden, E::NotAGroup],
        ..BASE
    },
    Operation {
        method: "post",
        path: "/v1/threads/{thread_id}/participants",
        id: "addParticipants",
        tag: "threads",
        summary: "Adds users to a group",
        about: "For admins of the group. Who takes part already stays as it is.",
        access: Access::Write,
        key: Key::Honoured,
        body: Some(Body { schema: "NewParticipants", example: || json!({ "user_ids": ["dave"] }) }),
        successes: &[success(200, "Thread", "The thread, with them.")],
        errors: &[E::NotFound, E::NotAMember, E::Forbidden, E::NotAGroup, E::ThreadFull, E::Conflict],
        ..BASE
    },
    Operation {
        method: "delete",
        path: "/v1/threads/{thread_id}/participants/{user_id}",
        id: "removeParticipant",
        tag: "threads",
        summary: "Removes a user from a group, or leaves it",
        about: "Admins remove others; anyone may leave, under one's own id (`me` is not a user's id). When the last admin goes, whoever has been there longest becomes one.",
        access: Access::Write,
        successes: DONE,
        errors: &[E::NotFound, E::NotAMember, E::Forbidden, E::NotAGroup],
        ..BASE
    },
];
