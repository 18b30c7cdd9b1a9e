//! The JSON of realtime frames.
//!
//! Owns: what each frame's members are called, and the form in which an event is shared.
//! Must not know: who is told what, sockets.
//! Invariants: a frame's members are written once, here; `frame_seq`, what only a message's sender sees and what only one
//! device has are put in when it is sent.

mod answers;
mod ephemeral;

pub use self::answers::{error, sent, subscribed};
pub use self::ephemeral::{presence, typing};

use super::event::{EventKind, SharedEvent};
use super::session::{Frame, FrameBody};
use crate::api::time::Rfc3339;
use crate::api::view::KindView;
use crate::api::view::{Base64, MessageView, ParticipantView, Text, ThreadView, Told};
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
    let (kind, body, for_sender) = match body {
        ThreadEventBody::Message(message) => {
            let (body, for_sender) = message_members(&message, sealed);
            (EventKind::Message { sender: message.sender, hidden_from }, body, for_sender)
        }
        ThreadEventBody::Created(created) => {
            let by = created.thread.created_by.as_str();
            let body = Created { t: "thread", op: "created", head, by, thread: ThreadView::of(&created.thread) };
            (EventKind::Thread { removed: None }, members(&body), Bytes::new())
        }
        ThreadEventBody::ParticipantAdded(added) => {
            let participant = ParticipantView::of(&added.participant);
            let body = Added { t: "thread", op: "participant_added", head, by: added.by.as_str(), participant };
            (EventKind::Thread { removed: None }, members(&body), Bytes::new())
        }
        ThreadEventBody::ParticipantRemoved(removed) => {
            let body = Removed {
                t: "thread",
                op: "participant_removed",
                head,
                by: removed.by.as_str(),
                user_id: removed.user.as_str(),
                promoted: removed.promoted.as_ref().map(UserId::as_str),
            };
            let body = members(&body);
            (EventKind::Thread { removed: Some(removed.user) }, body, Bytes::new())
        }
        ThreadEventBody::Updated(updated) => {
            let change = |change| ChangeView { to: change };
            let body = Updated {
                t: "thread",
                op: "updated",
                head,
                by: updated.by.as_str(),
                title: updated.title.as_ref().map(|title| change(title.to.as_deref())),
                description: updated.description.as_ref().map(|description| change(description.to.as_deref())),
            };
            (EventKind::Thread { removed: None }, members(&body), Bytes::new())
        }
        ThreadEventBody::Edited(edited) => {
            let common = || Told::Here(edited.ciphertext.as_deref().map(Base64));
            let ciphertext = if sealed { Told::Apart } else { common() };
            let envelope_type = edited.kind.as_ref().map(KindView);
            let (id, thread_id, edited_at) = (Text(edited.of.id), head.thread_id, head.at);
            let body = Edit { t: "edit", id, thread_id, seq: head.seq, ciphertext, envelope_type, edited_at };
            (EventKind::Change { hidden_from }, members(&body), Bytes::new())
        }
        ThreadEventBody::Deleted(deleted) => {
            let body = Del { t: "del", id: Text(deleted.of.id), head, reason: deleted.reason.as_str() };
            (EventKind::Change { hidden_from }, members(&body), Bytes::new())
        }
        ThreadEventBody::Reacted(reacted) => {
            let body = ReactionFrame {
                t: "reaction",
                id: Text(reacted.of.id),
                head,
                emoji: reacted.emoji.as_str(),
                by: reacted.by.as_str(),
                op: if reacted.present { "added" } else { "removed" },
            };
            (EventKind::Change { hidden_from }, members(&body), Bytes::new())
        }
        ThreadEventBody::Pinned(pinned) => {
            let op = if pinned.present { "pinned" } else { "unpinned" };
            let message_id = Text(pinned.of.id);
            let body = PinFrame { t: "thread", op, head, by: pinned.by.as_str(), message_id };
            (EventKind::Change { hidden_from }, members(&body), Bytes::new())
        }
        ThreadEventBody::Resent(_) => {
            // Whoever reads storage makes the message of it for whom it concerns, and leaves it out for all others.
            tracing::error!(%thread, "an event was read that is told to nobody");
            (EventKind::Change { hidden_from }, Bytes::new(), Bytes::new())
        }
        ThreadEventBody::Receipt(receipt) => {
            let (by, up_to, at) = (receipt.by.as_str(), Text(receipt.up_to), Rfc3339(at));
            let thread_id = Text(thread);
            let body = match receipt.kind {
                ReceiptKind::Delivered => members(&Delivered { t: "delivered", thread_id, id: up_to, by, at }),
                ReceiptKind::Read => members(&Read { t: "read", thread_id, up_to, by, at }),
            };
            let kind = match receipt.kind {
                ReceiptKind::Delivered => EventKind::Delivered { by: receipt.by, senders: receipt.senders },
                ReceiptKind::Read => EventKind::Read { by: receipt.by, deferred: receipt.members > large },
            };
            (kind, body, Bytes::new())
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

/// What every frame of a thread event begins with.
#[derive(Serialize)]
struct Head {
    thread_id: Text<ThreadId>,
    seq: Option<u64>,
    at: Rfc3339,
}

#[derive(Serialize)]
struct Created<'a> {
    t: &'static str,
    op: &'static str,
    #[serde(flatten)]
    head: Head,
    by: &'a str,
    thread: ThreadView<'a>,
}

#[derive(Serialize)]
struct Added<'a> {
    t: &'static str,
    op: &'static str,
    #[serde(flatten)]
    head: Head,
    by: &'a str,
    participant: ParticipantView<'a>,
}

#[derive(Serialize)]
struct Removed<'a> {
    t: &'static str,
    op: &'static str,
    #[serde(flatten)]
    head: Head,
    by: &'a str,
    user_id: &'a str,
    promoted: Option<&'a str>,
}

/// Members that did not change are left out; null is one that was taken away.
#[derive(Serialize)]
struct Updated<'a> {
    t: &'static str,
    op: &'static str,
    #[serde(flatten)]
    head: Head,
    by: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    title: Option<ChangeView<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    description: Option<ChangeView<'a>>,
}

#[derive(Serialize)]
#[serde(transparent)]
struct ChangeView<'a> {
    to: Option<&'a str>,
}

#[derive(Serialize)]
struct Edit<'a> {
    t: &'static str,
    id: Text<MessageId>,
    thread_id: Text<ThreadId>,
    seq: Option<u64>,
    #[serde(skip_serializing_if = "Told::is_apart")]
    ciphertext: Told<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope_type: Option<KindView<'a>>,
    edited_at: Rfc3339,
}

#[derive(Serialize)]
struct Del {
    t: &'static str,
    id: Text<MessageId>,
    #[serde(flatten)]
    head: Head,
    reason: &'static str,
}

#[derive(Serialize)]
struct ReactionFrame<'a> {
    t: &'static str,
    id: Text<MessageId>,
    #[serde(flatten)]
    head: Head,
    emoji: &'a str,
    by: &'a str,
    op: &'static str,
}

#[derive(Serialize)]
struct PinFrame<'a> {
    t: &'static str,
    op: &'static str,
    #[serde(flatten)]
    head: Head,
    by: &'a str,
    message_id: Text<MessageId>,
}

#[derive(Serialize)]
struct Delivered<'a> {
    t: &'static str,
    thread_id: Text<ThreadId>,
    id: Text<MessageId>,
    by: &'a str,
    at: Rfc3339,
}

#[derive(Serialize)]
struct Read<'a> {
    t: &'static str,
    thread_id: Text<ThreadId>,
    up_to: Text<MessageId>,
    by: &'a str,
    at: Rfc3339,
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
