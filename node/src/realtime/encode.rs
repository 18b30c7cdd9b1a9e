//! The JSON of realtime frames.
//!
//! Owns: what each frame's members are called, and the form in which an event is shared.
//! Must not know: who is told what, sockets.
//! Invariants: a frame's members are written once, here; `frame_seq`, what only a message's sender sees and what only one
//! device has are put in when it is sent.

mod answers;
mod ephemeral;
mod events;

pub use self::answers::{error, sent, subscribed};
pub use self::ephemeral::{presence, typing};

use self::events::Head;
use super::event::{EventKind, SharedEvent};
use super::session::{Frame, FrameBody};
use crate::api::time::Rfc3339;
use crate::api::view::{Base64, KindView, MessageView, Text};
use crate::auth::Identity;
use bytes::Bytes;
use messenger_proto::envelope::Envelope;
use messenger_proto::event::{ThreadEvent, ThreadEventBody};
use messenger_proto::ids::{ConnectionId, DeviceId, MessageId, Millis, ThreadId, UserId};
use messenger_proto::model::{Message, ReceiptKind};
use messenger_proto::query::Gap;
use serde::Serialize;
use std::io::Write;

/// What a device has in its envelope, or that it has none, as a frame's members; the rest is in [`shared`].
#[must_use]
pub fn opened(envelope: Option<&Envelope>) -> Bytes {
    #[derive(Serialize)]
    struct Opened<'a> {
        ciphertext: Option<Base64<'a>>,
        #[serde(skip_serializing_if = "Option::is_none")]
        envelope_type: Option<KindView<'a>>,
    }
    let envelope_type = envelope.and_then(|envelope| envelope.kind.as_ref()).map(KindView);
    members(&Opened { ciphertext: envelope.map(|envelope| Base64(&envelope.ciphertext)), envelope_type })
}

/// The form of an event that all sessions share; reads in threads of more than `large` members are marked as deferred.
#[must_use]
pub fn shared(event: ThreadEvent, large: u32) -> SharedEvent {
    form(event, large, false)
}

/// The form of an event with envelopes that all sessions share, and the envelopes; [`opened`] makes it whole.
#[must_use]
pub fn sealed(mut event: ThreadEvent) -> (SharedEvent, Vec<Envelope>) {
    let envelopes = std::mem::take(&mut event.envelopes);
    (form(event, u32::MAX, true), envelopes)
}

fn form(event: ThreadEvent, large: u32, sealed: bool) -> SharedEvent {
    let ThreadEvent { thread, rev, seq, at, body, hidden_from, .. } = event;
    let head = Head { thread_id: Text(thread), seq: seq.map(|seq| seq.0), at: Rfc3339(at) };
    let mut for_sender = Bytes::new();
    let (kind, body) = match body {
        ThreadEventBody::Message(message) => {
            let (body, counts) = message_members(&message, sealed);
            for_sender = counts;
            (EventKind::Message { sender: message.sender, hidden_from }, body)
        }
        ThreadEventBody::Created(created) => (EventKind::Thread { removed: None }, events::created(head, &created)),
        ThreadEventBody::ParticipantAdded(added) => (EventKind::Thread { removed: None }, events::joined(head, &added)),
        ThreadEventBody::ParticipantRemoved(removed) => {
            let body = events::left(head, &removed);
            (EventKind::Thread { removed: Some(removed.user) }, body)
        }
        ThreadEventBody::Updated(updated) => (EventKind::Thread { removed: None }, events::updated(head, &updated)),
        ThreadEventBody::Edited(edited) => (EventKind::Change { hidden_from }, events::edited(&head, &edited, sealed)),
        ThreadEventBody::Deleted(deleted) => (EventKind::Change { hidden_from }, events::deleted(head, &deleted)),
        ThreadEventBody::Reacted(reacted) => (EventKind::Change { hidden_from }, events::reacted(head, &reacted)),
        ThreadEventBody::Pinned(pinned) => (EventKind::Change { hidden_from }, events::pinned(head, &pinned)),
        ThreadEventBody::Resent(_) => {
            // Whoever reads storage makes the message of it for whom it concerns, and leaves it out for all others.
            tracing::error!(%thread, "an event was read that is told to nobody");
            (EventKind::Change { hidden_from }, Bytes::new())
        }
        ThreadEventBody::Receipt(receipt) => {
            let body = events::receipt(&head, &receipt);
            let kind = match receipt.kind {
                ReceiptKind::Delivered => EventKind::Delivered { by: receipt.by, senders: receipt.senders },
                ReceiptKind::Read => EventKind::Read { by: receipt.by, deferred: receipt.members > large },
            };
            (kind, body)
        }
    };
    SharedEvent { thread, rev, seq, kind, body, for_sender, for_device: Bytes::new() }
}

fn message_members(message: &Message, sealed: bool) -> (Bytes, Bytes) {
    #[derive(Serialize)]
    struct Msg<'a> {
        t: &'static str,
        #[serde(flatten)]
        message: MessageView<'a>,
    }
    let view = if sealed { MessageView::unopened } else { MessageView::of };
    let Some(counts) = message.receipts.clone() else {
        return (members(&Msg { t: "msg", message: view(message) }), Bytes::new());
    };
    let bare = Message { receipts: None, ..message.clone() };
    let body = members(&Msg { t: "msg", message: view(&bare) });
    let text = format!(r#""receipts":{{"of":{},"delivered":{},"read":{}}}"#, counts.of, counts.delivered, counts.read);
    (body, text.into())
}

/// An object's members, without its braces.
fn members(value: &impl Serialize) -> Bytes {
    let mut text = match serde_json::to_vec(value) {
        Ok(text) => text,
        Err(error) => {
            // Attachments are checked when they are sent, and nothing else can fail.
            tracing::error!(%error, "a frame could not be encoded");
            br#"{"t":"error","code":"internal"}"#.to_vec()
        }
    };
    text.pop();
    Bytes::from(text).slice(1..)
}

/// A frame's text.
#[must_use]
pub fn text(frame: &Frame) -> String {
    let mut text = Vec::with_capacity(64 + weight(&frame.body));
    // Writing to memory does not fail.
    let _ = write!(text, r#"{{"frame_seq":{},"#, frame.seq.0);
    match &frame.body {
        FrameBody::Event { event, own } => {
            text.extend_from_slice(&event.body);
            if *own && !event.for_sender.is_empty() {
                text.push(b',');
                text.extend_from_slice(&event.for_sender);
            }
            if !event.for_device.is_empty() {
                text.push(b',');
                text.extend_from_slice(&event.for_device);
            }
        }
        FrameBody::Gap { thread, gap } => text.extend_from_slice(&gap_members(*thread, gap)),
        FrameBody::CaughtUp => text.extend_from_slice(br#""t":"caught_up""#),
        FrameBody::Plain(members) => text.extend_from_slice(members),
    }
    text.push(b'}');
    // Every part came from a JSON text.
    String::from_utf8(text).unwrap_or_default()
}

fn weight(body: &FrameBody) -> usize {
    match body {
        FrameBody::Event { event, .. } => event.body.len() + event.for_sender.len() + event.for_device.len(),
        FrameBody::Plain(members) => members.len(),
        FrameBody::Gap { .. } | FrameBody::CaughtUp => 192,
    }
}

fn gap_members(thread: ThreadId, gap: &Gap) -> Bytes {
    #[derive(Serialize)]
    struct Members {
        t: &'static str,
        thread_id: Text<ThreadId>,
        after_seq: u64,
        after_id: Option<Text<MessageId>>,
        before_id: Text<MessageId>,
    }
    members(&Members {
        t: "gap",
        thread_id: Text(thread),
        after_seq: gap.after_seq.0,
        after_id: gap.after_id.map(Text),
        before_id: Text(gap.before_id),
    })
}

/// The first frame of a connection.
#[must_use]
pub fn hello(identity: &Identity, connection: ConnectionId, now: Millis, ping_interval_s: u64) -> Bytes {
    #[derive(Serialize)]
    struct Hello<'a> {
        t: &'static str,
        connection_id: Text<ConnectionId>,
        user_id: &'a str,
        device_id: &'a str,
        server_time: Rfc3339,
        ping_interval_s: u64,
    }
    members(&Hello {
        t: "hello",
        connection_id: Text(connection),
        user_id: identity.user.as_str(),
        device_id: identity.device.as_str(),
        server_time: Rfc3339(now),
        ping_interval_s,
    })
}

/// A user's devices changed.
#[must_use]
pub fn device(user: &UserId) -> Bytes {
    #[derive(Serialize)]
    struct Device<'a> {
        t: &'static str,
        user_id: &'a str,
    }
    members(&Device { t: "device", user_id: user.as_str() })
}

/// The device itself has few one-time keys left of some kind.
#[must_use]
pub fn prekeys_low(device: &DeviceId, remaining: u32) -> Bytes {
    #[derive(Serialize)]
    struct PrekeysLow<'a> {
        t: &'static str,
        device_id: &'a str,
        remaining: u32,
    }
    members(&PrekeysLow { t: "prekeys_low", device_id: device.as_str(), remaining })
}

/// Asks for a pong.
#[must_use]
pub fn ping() -> Bytes {
    Bytes::from_static(br#""t":"ping""#)
}
