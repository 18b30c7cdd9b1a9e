//! The operations of the API.
//!
//! Owns: what each route is for, what it takes and what it may answer.
//! Must not know: how it is carried out.

use super::operation::{Access, Body, Key, Operation, Parameter, Success};
use messenger_proto::error::ErrorCode as E;
use serde_json::{Value, json};

/// Groups of operations.
pub(super) const TAGS: [(&str, &str); 5] = [
    ("threads", "One-to-one and group threads, and who is in them."),
    ("messages", "Sending, history, and what may be done to a message."),
    ("users", "Who is there, and what users show of themselves."),
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
    Success { status, schema, about }
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
        successes: &[success(201, "Thread", "It was made."), success(200, "Thread", "The pair has it already.")],
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
        about: "Admins remove others; anyone may leave. When the last admin goes, whoever has been there longest becomes one.",
        access: Access::Write,
        successes: DONE,
        errors: &[E::NotFound, E::NotAMember, E::Forbidden, E::NotAGroup],
        ..BASE
    },
    Operation {
        method: "post",
        path: "/v1/threads/{thread_id}/messages",
        id: "sendMessage",
        tag: "messages",
        summary: "Sends a message",
        about: "`client_seq` is the device's own number of the message in the thread. Sent again under another key it answers \
                409 `duplicate_client_seq`, a problem that carries the message's members as well.",
        access: Access::Write,
        key: Key::Required,
        body: Some(Body {
            schema: "NewMessage",
            example: || json!({ "client_seq": 1, "ciphertext": text(), "ttl_seconds": 3600 }),
        }),
        successes: &[success(202, "Message", "A majority of replicas has it on disk.")],
        errors: &[E::NotFound, E::NotAMember, E::DuplicateClientSeq, E::CiphertextTooLarge],
        ..BASE
    },
    Operation {
        path: "/v1/threads/{thread_id}/messages",
        id: "listMessages",
        tag: "messages",
        summary: "Reads a thread's messages",
        about: "Newest first; with `since` oldest first, and with `changed_since` in the order of their latest changes. At most \
                one of `before`, `since` and `changed_since`.",
        query: &[
            PAGE_SIZE,
            CURSOR,
            Parameter {
                name: "before",
                about: "Messages before this one, newest first.",
                schema: || json!({ "$ref": "#/components/schemas/MessageId" }),
            },
            Parameter {
                name: "since",
                about: "Messages after this one, or after this time, oldest first.",
                schema: || json!({ "type": "string" }),
            },
            Parameter {
                name: "changed_since",
                about: "Messages sent or changed after this event of the thread, oldest change first.",
                schema: || json!({ "type": "integer", "minimum": 0 }),
            },
        ],
        successes: &[success(200, "MessagePage", "A page.")],
        errors: &[E::NotFound, E::NotAMember, E::InvalidCursor],
        ..BASE
    },
    Operation {
        path: "/v1/messages/{message_id}",
        id: "getMessage",
        tag: "messages",
        summary: "Reads a message",
        successes: &[success(200, "Message", "The message.")],
        errors: MESSAGE,
        ..BASE
    },
    Operation {
        method: "patch",
        path: "/v1/messages/{message_id}",
        id: "editMessage",
        tag: "messages",
        summary: "Changes what a message says",
        about: "For its sender, within 15 minutes.",
        access: Access::Write,
        body: Some(Body { schema: "MessageChange", example: || json!({ "ciphertext": text() }) }),
        successes: &[success(200, "Message", "The message, changed.")],
        errors: &[
            E::NotFound,
            E::NotAMember,
            E::Forbidden,
            E::ChangeWindowClosed,
            E::MessageDeleted,
            E::CiphertextTooLarge,
        ],
        ..BASE
    },
    Operation {
        method: "delete",
        path: "/v1/messages/{message_id}",
        id: "deleteMessage",
        tag: "messages",
        summary: "Takes away what a message says",
        about: "For its sender, within 15 minutes. Its place and its recipients stay; again is 204.",
        access: Access::Write,
        successes: DONE,
        errors: &[E::NotFound, E::NotAMember, E::Forbidden, E::ChangeWindowClosed],
        ..BASE
    },
    Operation {
        path: "/v1/messages/{message_id}/recipients",
        id: "listRecipients",
        tag: "messages",
        summary: "How far a message got with whom",
        about: "Those who took part when it was sent, less its sender.",
        successes: &[success(200, "Recipients", "Every recipient.")],
        errors: MESSAGE,
        ..BASE
    },
    Operation {
        method: "post",
        path: "/v1/messages/{message_id}/reactions",
        id: "addReaction",
        tag: "messages",
        summary: "Puts an emoji on a message",
        access: Access::Write,
        key: Key::Honoured,
        body: Some(Body { schema: "NewReaction", example: || json!({ "emoji": "\u{1f44d}" }) }),
        successes: &[success(200, "Message", "The message, with it.")],
        errors: &[E::NotFound, E::NotAMember, E::Forbidden, E::MessageDeleted, E::TooManyReactions],
        ..BASE
    },
    Operation {
        method: "delete",
        path: "/v1/messages/{message_id}/reactions/{emoji}",
        id: "removeReaction",
        tag: "messages",
        summary: "Takes one's emoji off a message",
        access: Access::Write,
        successes: DONE,
        errors: &[E::NotFound, E::NotAMember, E::Forbidden, E::MessageDeleted],
        ..BASE
    },
    Operation {
        method: "post",
        path: "/v1/threads/{thread_id}/read",
        id: "markRead",
        tag: "messages",
        summary: "Marks a thread as read up to a message",
        about: "Never moves back. What was not delivered is by that.",
        access: Access::Write,
        key: Key::Honoured,
        body: Some(Body { schema: "ReadMark", example: || json!({ "up_to_msg_id": a_message() }) }),
        successes: DONE,
        errors: MESSAGE,
        ..BASE
    },
    Operation {
        path: "/v1/threads/{thread_id}/pins",
        id: "listPins",
        tag: "messages",
        summary: "Lists a thread's pinned messages",
        successes: &[success(200, "Pins", "Every pin in sight.")],
        errors: THREAD,
        ..BASE
    },
    Operation {
        method: "post",
        path: "/v1/threads/{thread_id}/pins",
        id: "addPin",
        tag: "messages",
        summary: "Pins a message",
        about: "Any participant may; at most three messages of a thread.",
        access: Access::Write,
        key: Key::Honoured,
        body: Some(Body { schema: "NewPin", example: || json!({ "message_id": a_message() }) }),
        successes: &[success(200, "Pins", "Every pin in sight, with it.")],
        errors: &[E::NotFound, E::NotAMember, E::Forbidden, E::MessageDeleted, E::TooManyPins],
        ..BASE
    },
    Operation {
        method: "delete",
        path: "/v1/threads/{thread_id}/pins/{message_id}",
        id: "removePin",
        tag: "messages",
        summary: "Unpins a message",
        access: Access::Write,
        successes: DONE,
        errors: MESSAGE,
        ..BASE
    },
    Operation {
        path: "/v1/users/{user_id}/presence",
        id: "getPresence",
        tag: "users",
        summary: "Whether a user is there",
        about: "For those who share a thread with the user, unless either of them hides.",
        successes: &[success(200, "Presence", "How the user is.")],
        errors: &[E::Forbidden, E::PresenceHidden],
        ..BASE
    },
    Operation {
        path: "/v1/users/me/privacy",
        id: "getPrivacy",
        tag: "users",
        summary: "What one shows of oneself",
        successes: &[success(200, "Privacy", "The setting.")],
        ..BASE
    },
    Operation {
        method: "put",
        path: "/v1/users/me/privacy",
        id: "setPrivacy",
        tag: "users",
        summary: "Changes what one shows of oneself",
        about: "Who hides its presence is shown nobody's.",
        access: Access::Write,
        body: Some(Body { schema: "Privacy", example: || json!({ "presence": "nobody" }) }),
        successes: &[success(200, "Privacy", "The setting, changed.")],
        ..BASE
    },
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
                about: "The last message the device has: what came after it is replayed.",
                schema: || json!({ "$ref": "#/components/schemas/MessageId" }),
            },
            Parameter { name: "encoding", about: "How frames are written.", schema: || json!({ "const": "text" }) },
        ],
        successes: &[success(101, "", "Frames follow.")],
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
