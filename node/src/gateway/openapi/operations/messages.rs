//! Messages, and what may be done to them.
//!
//! Owns: what these routes are for, what they take and what they may answer.
//! Must not know: how it is carried out.

use super::super::operation::{Access, Body, Key, Operation, Parameter};
use super::{BASE, CURSOR, DONE, MESSAGE, PAGE_SIZE, THREAD, a_message, located, success, text};
use messenger_proto::error::ErrorCode as E;
use serde_json::json;

const ALLOW_MISMATCH: &[Parameter] = &[Parameter {
    name: "allow_mismatch",
    about: "Envelopes are taken even if they are not for the devices there are: those for no device are dropped, and a device \
            without one is shown no ciphertext.",
    schema: || json!({ "type": "boolean" }),
}];

pub(super) const ALL: &[Operation] = &[
    Operation {
        method: "post",
        path: "/v1/threads/{thread_id}/messages",
        id: "sendMessage",
        tag: "messages",
        summary: "Sends a message",
        about: "`client_seq` is the device's own number of the message in the thread. Sent again under another key it answers \
                409 `duplicate_client_seq`, a problem that carries the message's members as well. But where the message FAILED \
                for somebody less than 24 hours ago, the same body under a new key sends it to them again: 202 with the same \
                message, its `id` and `seq` as they were. They find it by `changed_since` and on resume, not by `since`. With \
                `envelopes` each device is shown its own alone; if they are not for the devices that the participants have, it \
                answers 409 `device_mismatch`, and nothing is done: key and `client_seq` may be used again, with another body.",
        access: Access::Write,
        query: ALLOW_MISMATCH,
        key: Key::Required,
        body: Some(Body {
            schema: "NewMessage",
            example: || json!({ "client_seq": 1, "ciphertext": text(), "ttl_seconds": 3600 }),
        }),
        successes: &[located(202, "Message", "A majority of replicas has it on disk.")],
        errors: &[E::NotFound, E::NotAMember, E::DuplicateClientSeq, E::DeviceMismatch, E::CiphertextTooLarge],
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
        query: ALLOW_MISMATCH,
        body: Some(Body { schema: "MessageChange", example: || json!({ "ciphertext": text() }) }),
        successes: &[success(200, "Message", "The message, changed.")],
        errors: &[
            E::NotFound,
            E::NotAMember,
            E::Forbidden,
            E::ChangeWindowClosed,
            E::MessageDeleted,
            E::DeviceMismatch,
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
        errors: MESSAGE,
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
];
