//! Users: their devices and keys, and whether they are there.
//!
//! Owns: what these routes are for, what they take and what they may answer.
//! Must not know: how it is carried out.

use super::super::operation::{Access, Body, Key, Operation, Parameter};
use super::super::schemas;
use super::{BASE, DONE, success};
use messenger_proto::error::ErrorCode as E;
use serde_json::json;

pub(super) const ALL: &[Operation] = &[
    Operation {
        path: "/v1/users/{user_id}/devices",
        id: "listDevices",
        tag: "users",
        summary: "Lists a user's devices that have published keys",
        successes: &[success(200, "Devices", "Every device.")],
        ..BASE
    },
    Operation {
        method: "delete",
        path: "/v1/users/me/devices/{device_id}",
        id: "deleteDevice",
        tag: "users",
        summary: "Deletes one of one's devices",
        about: "Its keys are gone; the tokens it has by now and its sockets end (401 `device_revoked`, 4401).",
        access: Access::Write,
        successes: DONE,
        ..BASE
    },
    Operation {
        method: "put",
        path: "/v1/users/me/devices/{device_id}/prekeys",
        id: "publishKeys",
        tag: "users",
        summary: "Publishes the asking device's keys",
        about: "Identity, signed and last-resort keys replace; one-time keys are added by `key_id`. A `key_id` that was handed out \
                is passed over for ever.",
        access: Access::Write,
        body: Some(Body { schema: "NewKeys", example: schemas::keys_example }),
        successes: &[success(200, "KeyCounts", "What is in store.")],
        errors: &[E::Forbidden, E::KeyConflict, E::TooManyDevices, E::StaleRegistration, E::TooManyPrekeys],
        ..BASE
    },
    Operation {
        path: "/v1/users/me/devices/{device_id}/prekeys",
        id: "countKeys",
        tag: "users",
        summary: "How many keys a device has in store",
        successes: &[success(200, "KeyCounts", "What is in store.")],
        errors: &[E::NotFound],
        ..BASE
    },
    Operation {
        path: "/v1/users/{user_id}/prekeys",
        id: "takeKeys",
        tag: "users",
        summary: "Takes a key of each of a user's devices",
        about: "Uses up one one-time key of each kind and device; each is handed out once. With an `Idempotency-Key` a repeat gets \
                the same ones.",
        query: &[Parameter {
            name: "device_id",
            about: "Of this device only.",
            schema: || json!({ "$ref": "#/components/schemas/DeviceId" }),
        }],
        key: Key::Honoured,
        successes: &[success(200, "Bundles", "One bundle per device.")],
        errors: &[E::NotFound, E::PrekeysExhausted, E::OutcomeUnknown],
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
        path: "/v1/users/me/blocks",
        id: "listBlocks",
        tag: "users",
        summary: "Whom one keeps away",
        successes: &[success(200, "Blocks", "Everyone, in order of name.")],
        ..BASE
    },
    Operation {
        method: "put",
        path: "/v1/users/me/blocks/{user_id}",
        id: "block",
        tag: "users",
        summary: "Keeps another user away",
        about: "In force for every message that is accepted after the answer: it fails for oneself, and is never shown. Neither \
                is shown the other's typing and presence. Anybody may be kept away; again is 204.",
        access: Access::Write,
        successes: DONE,
        errors: &[E::TooManyBlocks, E::OutcomeUnknown],
        ..BASE
    },
    Operation {
        method: "delete",
        path: "/v1/users/me/blocks/{user_id}",
        id: "unblock",
        tag: "users",
        summary: "Keeps a user away no longer",
        about: "Messages that failed stay so until their sender sends them again.",
        access: Access::Write,
        successes: DONE,
        errors: &[E::OutcomeUnknown],
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
];
