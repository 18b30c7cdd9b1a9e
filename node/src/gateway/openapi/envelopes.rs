//! The shapes of messages to be sent, to all alike or in envelopes.
//!
//! Owns: the schemas of a message's two forms, of an envelope, and of a difference from the devices there are.
//! Must not know: which operation or frame uses which.

use super::schemas::{body, object, or_null, to};
use messenger_proto::limits::{ATTACHMENTS_MAX, ENVELOPE_KIND_MAX, ENVELOPE_KIND_NAME_MAX, ENVELOPES_MAX, TTL_MAX};
use serde_json::{Value, json};

/// Every schema, by name.
pub(super) fn all() -> Value {
    json!({
        "EnvelopeType": {
            "anyOf": [
                { "type": "integer", "minimum": 0, "maximum": ENVELOPE_KIND_MAX },
                { "type": "string", "minLength": 1, "maxLength": ENVELOPE_KIND_NAME_MAX },
            ],
            "description": "The sender's name for the kind of ciphertext; opaque.",
        },
        "Envelope": body("What one device is sent.", json!({
            "user_id": to("UserId"),
            "device_id": to("DeviceId"),
            "registration_id": or_null(to("RegistrationId")),
            "type": or_null(to("EnvelopeType")),
            "ciphertext": to("Ciphertext"),
        }), &["registration_id", "type"]),
        "Envelopes": {
            "type": "array", "items": to("Envelope"), "maxItems": ENVELOPES_MAX,
            "description": "One for each device of every participant, but for the one that sends. At most 1 MiB in all, \
                            decoded, as far as the body has room.",
        },
        "DeviceName": object("A device of a user.", json!({
            "user_id": to("UserId"), "device_id": to("DeviceId"),
        }), &[]),
        "NewMessage": new_message(),
        "MessageChange": one_form(body("What a message says instead.", json!({
            "ciphertext": or_null(to("Ciphertext")), "envelopes": or_null(to("Envelopes")),
        }), &["ciphertext", "envelopes"])),
    })
}

/// What is sent.
pub(super) fn new_message() -> Value {
    one_form(body(
        "A message to be sent.",
        json!({
            "client_seq": to("ClientSeq"),
            "ciphertext": or_null(to("Ciphertext")),
            "envelopes": or_null(to("Envelopes")),
            "content_type": or_null(to("ContentType")),
            "attachments": or_null(json!({ "type": "array", "items": to("Attachment"), "maxItems": ATTACHMENTS_MAX })),
            "attachment_id": or_null(json!({
                "type": "string", "minLength": 1, "maxLength": 256,
                "description": "Short for one attachment with this id; not together with `attachments`.",
            })),
            "reply_to_msg_id": or_null(to("MessageId")),
            "ttl_seconds": or_null(json!({
                "type": "integer", "minimum": 1, "maximum": TTL_MAX.as_secs(),
                "description": "It disappears after so long.",
            })),
        }),
        &["ciphertext", "envelopes", "content_type", "attachments", "attachment_id", "reply_to_msg_id", "ttl_seconds"],
    ))
}

/// A body with exactly one of the two forms; the other's member may be there as null.
pub(super) fn one_form(mut schema: Value) -> Value {
    let form = |given: &str, kind: &str, other: &str| {
        let members = json!({ given: { "type": kind }, other: { "type": "null" } });
        json!({ "required": [given], "properties": members, "additionalProperties": true })
    };
    schema["oneOf"] = json!([form("ciphertext", "string", "envelopes"), form("envelopes", "array", "ciphertext")]);
    schema
}

/// What a problem says of a difference.
pub(super) fn mismatch() -> Value {
    let names = |about: &str| json!({ "type": "array", "items": to("DeviceName"), "description": about });
    object(
        "",
        json!({
            "missing_devices": names("Devices without an envelope."),
            "extra_devices": names("Envelopes for what is no device of a participant, or for the one that sends."),
            "stale_devices": names("Devices that have another registration."),
        }),
        &[],
    )
}
