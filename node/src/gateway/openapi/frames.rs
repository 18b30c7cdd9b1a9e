//! The frames of the realtime connection.
//!
//! Owns: what each frame is for and the schema of its members, both ways; the close codes.
//! Must not know: when a frame is sent.
//! Invariants: every frame that a node sends has exactly the members described (the realtime tests check each they
//! receive), and every kind that it reads is described.

use super::envelopes::{new_message, one_form};
use super::schemas::{body, conflict, joined, list, message, object, or_null, to};
use messenger_proto::limits::{TYPING_TTL, USER_THREADS_MAX};
use serde_json::{Map, Value, json};

/// One kind of frame.
pub(super) struct Frame {
    /// The value of `t`.
    pub(super) kind: &'static str,
    /// The name of its schema.
    pub(super) name: &'static str,
    /// What it is for.
    pub(super) about: &'static str,
    /// Its schema.
    pub(super) schema: Value,
}

/// Close codes and what they say.
pub(super) const CLOSE_CODES: [(u16, &str); 10] = [
    (1001, "The node is draining: connect elsewhere, after a random pause."),
    (1002, "What came is no WebSocket frame."),
    (1003, "A binary frame came; frames are text."),
    (1007, "Text that is not UTF-8 came."),
    (1008, "Too many malformed frames came."),
    (1009, "A frame came that is larger than 1 MiB, or than a token needs before it is known who speaks."),
    (4401, "The token is missing, has expired, its device was deleted, or its user or device is suspended."),
    (4408, "No pong came for 75 seconds."),
    (4409, "A newer connection of the same device took over."),
    (4429, "Frames were not read for too long."),
];

/// What a client may name its frame: echoed as it came.
fn request_id() -> Value {
    json!({ "type": ["string", "number"], "description": "The client's name for the frame; at most 128 bytes of JSON." })
}

/// A frame of the server's.
fn from_server(kind: &'static str, name: &'static str, about: &'static str, members: Value) -> Frame {
    let head = object(
        "",
        json!({
            "frame_seq": { "type": "integer", "minimum": 1, "description": "Numbers the connection's frames, without gaps." },
            "t": { "const": kind },
        }),
        &[],
    );
    Frame { kind, name, about, schema: joined(about, head, members) }
}

/// A frame of the server's with these members.
fn told(kind: &'static str, name: &'static str, about: &'static str, members: Value) -> Frame {
    from_server(kind, name, about, object("", members, &[]))
}

/// What frames of a thread's events have in common, with more.
fn of_event(members: Value) -> Value {
    let head = json!({
        "thread_id": to("ThreadId"),
        "seq": { "type": "integer", "minimum": 1, "description": "Its number among the thread's events." },
        "at": to("Time"),
    });
    joined("", object("", head, &[]), object("", members, &[]))
}

/// The members of a `thread` frame, of which those that its `op` does not concern are left out.
fn thread_event() -> Value {
    let change = || or_null(json!({ "type": "string" }));
    let all = json!({
        "thread_id": to("ThreadId"),
        "seq": { "type": "integer", "minimum": 1, "description": "Its number among the thread's events." },
        "at": to("Time"),
        "op": { "enum": ["created", "participant_added", "participant_removed", "updated", "pinned", "unpinned"] },
        "by": to("UserId"),
        "thread": to("Thread"),
        "participant": to("Participant"),
        "user_id": to("UserId"),
        "promoted": or_null(to("UserId")),
        "title": change(),
        "description": change(),
        "message_id": to("MessageId"),
    });
    object("", all, &["thread", "participant", "user_id", "promoted", "title", "description", "message_id"])
}

/// What a node sends.
pub(super) fn from_node() -> Vec<Frame> {
    [of_connection(), of_threads(), answers()].into_iter().flatten().collect()
}

/// Frames of the connection and its device, and of what is told once.
fn of_connection() -> Vec<Frame> {
    let ttl = TYPING_TTL.as_secs();
    vec![
        told(
            "hello",
            "HelloFrame",
            "The first frame of a connection.",
            json!({
                "connection_id": { "type": "string" }, "user_id": to("UserId"), "device_id": to("DeviceId"),
                "server_time": to("Time"), "ping_interval_s": { "type": "integer", "minimum": 0 },
            }),
        ),
        told(
            "typing",
            "TypingFrame",
            "Someone types, or stopped.",
            json!({
                "thread_id": to("ThreadId"), "user_id": to("UserId"),
                "ttl_s": { "enum": [0, ttl], "description": "Shown for so long unless it comes again; 0: stopped." },
            }),
        ),
        from_server(
            "presence",
            "PresenceFrame",
            "How a user is.",
            joined("", object("", json!({ "user_id": to("UserId") }), &[]), super::schemas::presence()),
        ),
        told("device", "DeviceFrame", "A member's list of devices changed.", json!({ "user_id": to("UserId") })),
        told("caught_up", "CaughtUpFrame", "What was missed is complete; what follows is live.", json!({})),
        told(
            "gap",
            "GapFrame",
            "Too much was missed in a thread; the newest follows, the rest is `?changed_since=after_seq`.",
            json!({
                "thread_id": to("ThreadId"), "after_seq": { "type": "integer", "minimum": 0 },
                "after_id": or_null(to("MessageId")), "before_id": to("MessageId"),
            }),
        ),
        told(
            "prekeys_low",
            "PrekeysLowFrame",
            "The device has few one-time keys left of some kind.",
            json!({
                "device_id": to("DeviceId"), "remaining": { "type": "integer", "minimum": 0 },
            }),
        ),
        told("ping", "PingFrame", "Asks for a `pong`.", json!({})),
    ]
}

/// Frames of what happens in threads.
fn of_threads() -> Vec<Frame> {
    vec![
        from_server(
            "msg",
            "MsgFrame",
            "A message. One's own come as well, to every device of the sender, also to the one that sent it, where `msg` may \
             come before `sent`: they are one message, by its `id`.",
            message(),
        ),
        from_server(
            "edit",
            "EditFrame",
            "A message says something else.",
            object(
                "",
                json!({
                    "id": to("MessageId"), "thread_id": to("ThreadId"), "seq": { "type": "integer", "minimum": 1 },
                    "ciphertext": or_null(to("Ciphertext")), "envelope_type": to("EnvelopeType"), "edited_at": to("Time"),
                }),
                &["envelope_type"],
            ),
        ),
        from_server(
            "del",
            "DelFrame",
            "A message says nothing any more.",
            of_event(json!({
                "id": to("MessageId"), "reason": { "enum": ["sender", "expired"] },
            })),
        ),
        from_server(
            "reaction",
            "ReactionFrame",
            "An emoji was put on a message or taken off.",
            of_event(json!({
                "id": to("MessageId"), "emoji": to("Emoji"), "by": to("UserId"), "op": { "enum": ["added", "removed"] },
            })),
        ),
        from_server(
            "thread",
            "ThreadFrame",
            "Something of a thread changed; what comes with it depends on `op`. `created`: `thread`. `participant_added`: \
             `participant`. `participant_removed`: `user_id`, and `promoted`, who became admin by that, or null. `updated`: \
             `title`, `description`, those that changed. `pinned`, `unpinned`: `message_id`.",
            thread_event(),
        ),
        told(
            "delivered",
            "DeliveredFrame",
            "Your messages up to `id` reached someone.",
            json!({
                "thread_id": to("ThreadId"), "id": to("MessageId"), "by": to("UserId"), "at": to("Time"),
            }),
        ),
        told(
            "read",
            "ReadFrame",
            "Someone read up to a message.",
            json!({
                "thread_id": to("ThreadId"), "up_to": to("MessageId"), "by": to("UserId"), "at": to("Time"),
            }),
        ),
    ]
}

/// Frames that answer one of the client's.
fn answers() -> Vec<Frame> {
    let request = || object("", json!({ "request_id": or_null(request_id()) }), &[]);
    let replayed = object(
        "",
        json!({
            "replayed": { "const": true, "description": "The message was sent before." },
        }),
        &["replayed"],
    );
    vec![
        from_server(
            "sent",
            "SentFrame",
            "The client's message is stored; its `msg` may have come before.",
            joined("", request(), joined("", message(), replayed)),
        ),
        from_server(
            "error",
            "ErrorFrame",
            "What the client asked for is not done; a `duplicate_client_seq` carries the message, a `device_mismatch` \
             what differs; after that the same `idempotency_key` and `client_seq` may be used with other envelopes.",
            joined("", request(), conflict("")),
        ),
        from_server(
            "subscribed",
            "SubscribedFrame",
            "The threads that the device hears from now on.",
            joined("", request(), object("", json!({ "thread_ids": list(to("ThreadId")) }), &[])),
        ),
    ]
}

/// A frame of the client's with these members.
fn said(kind: &'static str, name: &'static str, about: &'static str, members: Value, optional: &[&str]) -> Frame {
    let head = body("", json!({ "t": { "const": kind }, "request_id": request_id() }), &["request_id"]);
    Frame { kind, name, about, schema: joined(about, head, body("", members, optional)) }
}

/// What a client sends.
pub(super) fn from_client() -> Vec<Frame> {
    let place = || json!({ "thread_id": to("ThreadId"), "up_to": to("MessageId") });
    let send = one_form(joined(
        "",
        said(
            "send",
            "",
            "",
            json!({
                "thread_id": to("ThreadId"),
                "idempotency_key": or_null(json!({ "type": "string", "minLength": 1, "maxLength": 64 })),
                "allow_mismatch": or_null(json!({ "type": "boolean", "description": "As the POST's parameter." })),
            }),
            &["idempotency_key", "allow_mismatch"],
        )
        .schema,
        new_message(),
    ));
    let send_about = "A message to be sent: as good as the POST; answered by `sent` or `error`.";
    vec![
        said(
            "auth",
            "AuthFrame",
            "The token, as the first frame, where no header could carry it.",
            json!({ "token": { "type": "string" } }),
            &[],
        ),
        said(
            "client_ack",
            "ClientAckFrame",
            "The device has this frame and all before it.",
            json!({ "frame_seq": { "type": "integer", "minimum": 0 } }),
            &[],
        ),
        said("pong", "PongFrame", "Answers a `ping`.", json!({}), &[]),
        Frame { kind: "send", name: "SendFrame", about: send_about, schema: described(send, send_about) },
        said("read", "ReadMarkFrame", "The user has read up to a message.", place(), &[]),
        said(
            "delivered",
            "DeliveredMarkFrame",
            "The device has the messages up to one that came by other ways.",
            place(),
            &[],
        ),
        said(
            "typing",
            "TypingStateFrame",
            "The user types, or stopped; passed on at most every 3 seconds.",
            json!({ "thread_id": to("ThreadId"), "stop": or_null(json!({ "type": "boolean" })) }),
            &["stop"],
        ),
        said(
            "presence",
            "PresenceStateFrame",
            "Whether the device is away.",
            json!({ "status": { "enum": ["online", "away"] } }),
            &[],
        ),
        said(
            "subscribe",
            "SubscribeFrame",
            "Narrows live frames to these threads, in place of those of the `subscribe` before; what was missed at the start is \
             replayed of all. To widen, send a longer list: a thread that comes back goes on where the device stopped hearing it. \
             All threads are heard again on a new connection, until it says `subscribe`.",
            json!({
                "thread_ids": { "type": "array", "items": to("ThreadId"), "maxItems": USER_THREADS_MAX },
            }),
            &[],
        ),
    ]
}

fn described(mut schema: Value, about: &str) -> Value {
    schema["description"] = json!(about);
    schema
}

/// The schemas of all frames, by name.
pub(super) fn schemas() -> Map<String, Value> {
    let (node, client) = (from_node(), from_client());
    let any = |about: &str, frames: &[Frame]| {
        let of: Vec<Value> = frames.iter().map(|frame| to(frame.name)).collect();
        json!({ "description": about, "oneOf": of })
    };
    let mut all = Map::new();
    all.insert("ServerFrame".into(), any("What a node sends.", &node));
    all.insert("ClientFrame".into(), any("What a client sends.", &client));
    all.extend(node.into_iter().chain(client).map(|frame| (frame.name.to_owned(), frame.schema)));
    all
}

#[cfg(test)]
pub(crate) mod testing {
    //! Holding frames against their schemas.

    use super::*;
    use crate::gateway::openapi::schemas::testing::check;

    /// Panics, with the reasons, when a node may not send this.
    pub(crate) fn check_from_node(frame: &Value) {
        let described = from_node().into_iter().find(|described| frame["t"] == described.kind);
        let name = described.unwrap_or_else(|| panic!("no such frame is described: {frame}")).name;
        check(&to(name), frame);
    }

    /// Panics, with the reasons, when a client is not told that it may send this.
    pub(crate) fn check_from_client(frame: &Value) {
        let described = from_client().into_iter().find(|described| frame["t"] == described.kind);
        let name = described.unwrap_or_else(|| panic!("no such frame is described: {frame}")).name;
        check(&to(name), frame);
    }

    /// The kinds of frames that clients are told of.
    pub(crate) fn client_kinds() -> Vec<&'static str> {
        from_client().into_iter().map(|frame| frame.kind).collect()
    }
}
