//! The shapes of what is sent and answered.
//!
//! Owns: the schemas (JSON Schema 2020-12) of the contract's objects, with every bound that a client can rely on.
//! Must not know: which operation uses which.
//! Invariants: what a node answers has exactly the members described (the gateway's tests check each of their answers);
//! a client must all the same expect members to be added.

#![expect(clippy::needless_pass_by_value, reason = "schemas are put together out of each other")]

mod reports;
#[cfg(test)]
pub(in crate::gateway) mod testing;

use super::super::threads::USER_LIST_MAX;
use super::envelopes::{self, mismatch};
use super::frames;
use messenger_proto::ephemeral::PresenceStatus;
use messenger_proto::error::ErrorCode;
use messenger_proto::limits::{
    CIPHERTEXT_MAX, CURVE_KEY_MAX, DESCRIPTION_MAX, EMOJI_MAX, PINS_MAX, PQ_KEY_MAX, PREKEYS_PER_PUT,
    THREAD_MEMBERS_MAX, TITLE_MAX, UNREAD_MAX, USER_BLOCKS_MAX,
};
use messenger_proto::model::{ContentType, DeliveryState, PresenceAudience, Role, ThreadKind};
use serde_json::{Map, Value, json};

pub(super) fn to(name: &str) -> Value {
    json!({ "$ref": format!("#/components/schemas/{name}") })
}

pub(super) fn or_null(schema: Value) -> Value {
    json!({ "anyOf": [schema, { "type": "null" }] })
}

pub(super) fn list(of: Value) -> Value {
    json!({ "type": "array", "items": of })
}

fn codes<T>(all: &[T], text: impl Fn(&T) -> &'static str) -> Value {
    json!({ "type": "string", "enum": all.iter().map(text).collect::<Vec<_>>() })
}

/// An object with these members, of which those that are not `optional` are always there.
pub(super) fn object(about: &str, members: Value, optional: &[&str]) -> Value {
    let required: Vec<&String> = match &members {
        Value::Object(members) => members.keys().filter(|name| !optional.contains(&name.as_str())).collect(),
        _ => Vec::new(),
    };
    json!({ "type": "object", "description": about, "required": required, "properties": members })
}

/// A request's body: members that are not described are refused.
pub(super) fn body(about: &str, members: Value, optional: &[&str]) -> Value {
    let mut schema = object(about, members, optional);
    schema["additionalProperties"] = json!(false);
    schema
}

/// The members of both.
pub(super) fn joined(about: &str, first: Value, second: Value) -> Value {
    let mut schema = first;
    schema["description"] = json!(about);
    if let (Value::Object(members), Value::Object(more)) = (&mut schema["properties"], second["properties"].clone()) {
        members.extend(more);
    }
    if let (Value::Array(required), Value::Array(more)) = (&mut schema["required"], second["required"].clone()) {
        required.extend(more);
    }
    schema
}

/// Every schema, by name.
pub(super) fn all() -> Map<String, Value> {
    let mut all = Map::new();
    let rest = [keys(), problems(), reports::reports(), rest()];
    for part in [scalars(), threads(), messages(), requests(), envelopes::all()].into_iter().chain(rest) {
        if let Value::Object(part) = part {
            all.extend(part);
        }
    }
    all.extend(frames::schemas());
    all
}

fn scalars() -> Value {
    let ciphertext_max = CIPHERTEXT_MAX.div_ceil(3) * 4;
    json!({
        "UserId": {
            "type": "string", "pattern": "^[A-Za-z0-9_.~-]{1,64}$", "not": { "enum": [".", "..", "me"] },
            "description": "A user; opaque.",
        },
        "UserRef": {
            "type": "string", "pattern": "^[A-Za-z0-9_.~-]{1,64}$", "not": { "enum": [".", ".."] },
            "description": "A user, or `me`.",
        },
        "DeviceId": {
            "type": "string", "pattern": "^[A-Za-z0-9_.~-]{1,64}$", "not": { "enum": [".", "..", "me"] },
            "description": "A device of a user; opaque.",
        },
        "ThreadId": {
            "type": "string", "format": "uuid", "description": "A thread.",
            "pattern": "^[0-9a-fA-F]{8}-([0-9a-fA-F]{4}-){3}[0-9a-fA-F]{12}$",
        },
        "MessageId": {
            "type": "string", "pattern": "^[0-7][0-9A-HJKMNP-TV-Za-hjkmnp-tv-z]{25}$",
            "description": "A message, as a ULID; increases along its thread.",
        },
        "Time": {
            "type": "string", "format": "date-time", "description": "UTC, with milliseconds.",
            "pattern": r"^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z$",
        },
        "Ciphertext": {
            "type": "string", "contentEncoding": "base64", "minLength": 4, "maxLength": ciphertext_max,
            "description": "Standard base64 with padding, of 1 to 65,536 bytes that the cluster does not read.",
        },
        "Attachment": {
            "type": "object", "required": ["id"], "description": "As its sender wrote it; at most 1,024 bytes of JSON.",
            "properties": { "id": { "type": "string", "minLength": 1, "maxLength": 256 } },
            "additionalProperties": true,
        },
        "Emoji": { "type": "string", "minLength": 1, "description": format!("1 to {EMOJI_MAX} bytes of UTF-8.") },
        "ContentType": codes(ContentType::ALL, |it| it.as_str()),
        "Cursor": or_null(json!({ "type": "string", "description": "Where the next page begins; null after the last." })),
    })
}

fn thread() -> Value {
    object(
        "A thread, as one who takes part sees it.",
        json!({
            "id": to("ThreadId"),
            "type": codes(ThreadKind::ALL, |it| it.as_str()),
            "title": or_null(json!({ "type": "string" })),
            "description": or_null(json!({ "type": "string" })),
            "created_at": to("Time"),
            "updated_at": to("Time"),
            "created_by": to("UserId"),
            "participants": list(to("Participant")),
            "last_msg_id": or_null(to("MessageId")),
            "last_seq": { "type": "integer", "minimum": 1, "description": "The number of its last event." },
            "settings": object("Nothing yet.", json!({}), &[]),
        }),
        &[],
    )
}

fn threads() -> Value {
    let summary = object(
        "",
        json!({
            "last_message": or_null(to("Message")),
            "last_read_msg_id": or_null(to("MessageId")),
            "unread_count": { "type": "integer", "minimum": 0, "maximum": UNREAD_MAX },
        }),
        &[],
    );
    json!({
        "Participant": object("Who takes part.", json!({
            "user_id": to("UserId"), "role": codes(Role::ALL, |it| it.as_str()), "joined_at": to("Time"),
        }), &[]),
        "Thread": thread(),
        "ThreadSummary": joined("A thread in the list.", thread(), summary),
        "ThreadPage": object("A page of threads.", json!({
            "threads": list(to("ThreadSummary")), "next_cursor": to("Cursor"),
        }), &[]),
        "Pin": object("A pinned message.", json!({
            "message_id": to("MessageId"), "by": to("UserId"), "at": to("Time"),
        }), &[]),
        "Pins": object("The pins of a thread, in the order in which they were made.", json!({
            "pins": { "type": "array", "items": to("Pin"), "maxItems": PINS_MAX },
        }), &[]),
    })
}

pub(super) fn message() -> Value {
    object(
        "A message.",
        json!({
            "id": to("MessageId"),
            "thread_id": to("ThreadId"),
            "seq": { "type": "integer", "minimum": 1, "description": "Its number among the thread's events." },
            "sender_id": to("UserId"),
            "sender_device_id": to("DeviceId"),
            "client_seq": to("ClientSeq"),
            "ciphertext": {
                "anyOf": [to("Ciphertext"), { "type": "null" }],
                "description": "What it says to this device; null where that is nothing: it was deleted, or was sent in \
                                `envelopes` of which none is for this device, as on the device that sent it.",
            },
            "envelope_type": to("EnvelopeType"),
            "content_type": to("ContentType"),
            "attachments": list(to("Attachment")),
            "reply_to_msg_id": or_null(to("MessageId")),
            "created_at": to("Time"),
            "edited_at": or_null(to("Time")),
            "expires_at": or_null(to("Time")),
            "deleted": { "type": "boolean", "description": "It says nothing any more." },
            "reactions": list(to("Reaction")),
            "receipts": to("Receipts"),
        }),
        &["receipts", "envelope_type"],
    )
}

fn messages() -> Value {
    let count = || json!({ "type": "integer", "minimum": 0 });
    json!({
        "ClientSeq": {
            "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64,
            "description": "The device's own number of the message in its thread; may skip.",
        },
        "Message": message(),
        "Reaction": object("Who put an emoji on a message.", json!({
            "emoji": to("Emoji"), "by": { "type": "array", "items": to("UserId"), "minItems": 1 },
        }), &[]),
        "Receipts": object("How far a message got; for its sender only.", json!({
            "of": count(), "delivered": count(), "read": count(),
        }), &[]),
        "MessagePage": object("A page of messages.", json!({
            "messages": list(to("Message")), "next_cursor": to("Cursor"),
        }), &[]),
        "Recipient": object("How far a message got with one recipient.", json!({
            "recipient_id": to("UserId"),
            "state": codes(DeliveryState::ALL, |it| it.as_str()),
            "delivered_at": or_null(to("Time")),
            "read_at": or_null(to("Time")),
        }), &[]),
        "Recipients": object("Every recipient of a message.", json!({ "recipients": list(to("Recipient")) }), &[]),
    })
}

fn requests() -> Value {
    let title = || or_null(json!({ "type": "string", "description": format!("At most {TITLE_MAX} bytes.") }));
    let description =
        || or_null(json!({ "type": "string", "description": format!("At most {DESCRIPTION_MAX} bytes.") }));
    let users = || json!({ "type": "array", "items": to("UserId"), "minItems": 1, "maxItems": USER_LIST_MAX });
    json!({
        "NewThread": body("A thread to be made.", json!({
            "type": codes(ThreadKind::ALL, |it| it.as_str()),
            "participants": {
                "type": "array", "items": to("UserId"), "maxItems": USER_LIST_MAX,
                "description": format!("At most {THREAD_MEMBERS_MAX} with the creator; for a 1_TO_1 the other one."),
            },
            "title": title(),
            "description": description(),
        }), &["title", "description"]),
        "ThreadChange": body("What a group is called; what is left out stays.", json!({
            "title": title(), "description": description(),
        }), &["title", "description"]),
        "NewParticipants": body("Users to be added.", json!({ "user_ids": users() }), &[]),
        "NewReaction": body("An emoji to be put on a message.", json!({ "emoji": to("Emoji") }), &[]),
        "ReadMark": body("How far one has read.", json!({ "up_to_msg_id": to("MessageId") }), &[]),
        "NewPin": body("A message to be pinned.", json!({ "message_id": to("MessageId") }), &[]),
    })
}

/// A public key, with its signature or without.
fn key(about: &str, max: usize, is_signed: bool) -> Value {
    let bytes = |max: usize| json!({ "type": "string", "contentEncoding": "base64", "minLength": 4, "maxLength": max.div_ceil(3) * 4 });
    let mut members = json!({ "key_id": to("KeyId"), "public_key": bytes(max) });
    if is_signed {
        members["signature"] = bytes(PQ_KEY_MAX);
    }
    body(about, members, &[])
}

/// A key that is handed out, and whether it is handed out to others as well.
fn offered(about: &str, is_signed: bool) -> Value {
    let mut schema = key(about, PQ_KEY_MAX, is_signed);
    schema["properties"]["last_resort"] = json!({ "type": "boolean", "description": "Others are given it, too." });
    if let Value::Array(required) = &mut schema["required"] {
        required.push(json!("last_resort"));
    }
    schema
}

fn keys() -> Value {
    let many = |name: &str| json!({ "type": "array", "items": to(name), "maxItems": PREKEYS_PER_PUT });
    let bytes = || json!({ "type": "string", "contentEncoding": "base64", "minLength": 4 });
    let number = || json!({ "type": "integer", "minimum": 0, "maximum": 9_007_199_254_740_991_u64 });
    let count = || json!({ "type": "integer", "minimum": 0 });
    json!({
        "KeyId": number(),
        "RegistrationId": number(),
        "Key": key("A public key.", CURVE_KEY_MAX, false),
        "SignedKey": key("A public key, signed.", CURVE_KEY_MAX, true),
        "PqKey": key("A post-quantum public key, signed.", PQ_KEY_MAX, true),
        "NewKeys": body("A device's keys; opaque to the cluster.", json!({
            "registration_id": to("RegistrationId"),
            "identity_key": bytes(),
            "signed_prekey": to("SignedKey"),
            "one_time_prekeys": or_null(many("Key")),
            "pq_one_time_prekeys": or_null(many("PqKey")),
            "last_resort": or_null(to("Key")),
            "pq_last_resort": or_null(to("PqKey")),
        }), &["one_time_prekeys", "pq_one_time_prekeys", "last_resort", "pq_last_resort"]),
        "KeyCounts": object("One-time keys in store.", json!({
            "one_time": count(), "pq_one_time": count(), "updated_at": to("Time"),
        }), &[]),
        "Device": object("A device that has published keys.", json!({
            "device_id": to("DeviceId"), "registration_id": to("RegistrationId"), "updated_at": to("Time"),
        }), &[]),
        "Devices": object("A user's devices.", json!({ "devices": list(to("Device")) }), &[]),
        "OfferedKey": offered("A one-time key, or the last resort that stands in.", false),
        "OfferedPqKey": offered("A post-quantum key, or the last resort that stands in.", true),
        "Bundle": object("What a conversation with a device begins with.", json!({
            "device_id": to("DeviceId"),
            "registration_id": to("RegistrationId"),
            "identity_key": bytes(),
            "signed_prekey": to("SignedKey"),
            "one_time_prekey": or_null(to("OfferedKey")),
            "pq_prekey": or_null(to("OfferedPqKey")),
        }), &[]),
        "Bundles": object("A bundle for each device that has one.", json!({
            "user_id": to("UserId"), "devices": list(to("Bundle")), "exhausted": list(to("DeviceId")),
        }), &[]),
    })
}

/// Keys to be published.
pub(super) fn keys_example() -> Value {
    let key = |id: u64| json!({ "key_id": id, "public_key": "AAECAwQFBgc=" });
    json!({
        "registration_id": 1,
        "identity_key": "AAECAwQFBgc=",
        "signed_prekey": { "key_id": 1, "public_key": "AAECAwQFBgc=", "signature": "AAECAwQFBgc=" },
        "one_time_prekeys": [key(1), key(2)],
    })
}

pub(super) fn problem() -> Value {
    object(
        "Why a request was not carried out (RFC 9457).",
        json!({
            "type": { "type": "string" },
            "title": { "type": "string", "description": "The same for every occurrence of the code." },
            "status": { "type": "integer" },
            "detail": { "type": "string", "description": "What exactly, in words." },
            "instance": { "type": "string", "description": "The path." },
            "code": to("ErrorCode"),
            "trace_id": { "type": "string", "description": "Also in `X-Request-Id`: the operator finds the request by it." },
            "timestamp": to("Time"),
            "errors": list(to("FieldError")),
        }),
        &["instance"],
    )
}

/// A problem that may have these members as well.
fn joined_problem(about: &str, members: Value) -> Value {
    let mut schema = joined(about, problem(), members);
    schema["required"] = problem()["required"].clone();
    schema
}

/// What a send may be refused with: there may be the members of a message, or of a difference.
pub(super) fn conflict(about: &str) -> Value {
    joined_problem(about, joined("", message(), mismatch()))
}

fn problems() -> Value {
    let explain = |code: &ErrorCode| {
        let retry = match code {
            // Asking again does not help, but in time the device may publish keys.
            ErrorCode::PrekeysExhausted => "not to be sent again at once, but after `Retry-After`",
            ErrorCode::DeviceMismatch => {
                "not to be sent again as it is, but key and `client_seq` may be used with other envelopes"
            }
            _ if code.retryable() => "may be sent again",
            _ => "not to be sent again as it is",
        };
        let effects = if code.may_have_had_effects() { "may have had effects" } else { "had no effect" };
        format!("{}: {}; {retry}, {effects}.", code.status(), code.title())
    };
    let mut code = codes(ErrorCode::ALL, |it| it.as_str());
    code["x-enum-descriptions"] = json!(ErrorCode::ALL.iter().map(explain).collect::<Vec<_>>());
    json!({
        "ErrorCode": code,
        "FieldError": object("A bad field.", json!({
            "field": { "type": "string", "description": "Its path, or a parameter's or a header's name." },
            "message": { "type": "string" },
        }), &[]),
        "Problem": problem(),
        "ConflictProblem": conflict(
            "A conflict. With the code `duplicate_client_seq` it carries the message's members as well, with \
             `device_mismatch` how the envelopes differ from the devices there are.",
        ),
        "MismatchProblem": joined_problem(
            "A conflict. With the code `device_mismatch` it says how the envelopes differ from the devices there are.",
            mismatch(),
        ),
    })
}

/// How a user is.
pub(super) fn presence() -> Value {
    let status = codes(PresenceStatus::ALL, |it| it.as_str());
    object("How a user is.", json!({ "status": status, "last_seen": or_null(to("Time")) }), &[])
}

fn rest() -> Value {
    json!({
        "Presence": presence(),
        "Blocks": object("Whom a user keeps away.", json!({
            "blocks": { "type": "array", "items": to("UserId"), "maxItems": USER_BLOCKS_MAX },
        }), &[]),
        "Privacy": body("Who is shown one's presence.", json!({
            "presence": codes(PresenceAudience::ALL, |it| it.as_str()),
        }), &[]),
        "Status": object("How the node is.", json!({ "status": { "enum": ["alive", "ready"] } }), &[]),
        "Document": { "type": "object", "description": "An OpenAPI document.", "required": ["openapi", "paths"] },
        "RealtimeDocument": { "type": "object", "description": "An AsyncAPI document.", "required": ["asyncapi", "channels"] },
    })
}
