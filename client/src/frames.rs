//! Realtime frames, in types.
//!
//! Owns: the JSON of every frame that a device reads or writes.
//! Must not know: sockets, and what to do about a frame.
//! Invariants: a frame of an unknown kind is kept as such, never an error; any bytes give a frame or an error.

use crate::error::Problem;
use crate::model::{Draft, Message, Sent};
use crate::text::{base64_option, shown};
use bytes::Bytes;
use messenger_proto::ids::{DeviceId, MessageId, ThreadId, UserId};
use messenger_proto::model::ReceiptKind;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use std::borrow::Cow;

/// The text was no frame.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a frame ({t}): {reason}")]
pub struct InvalidFrame {
    t: String,
    reason: String,
}

/// A frame with its place in the connection.
#[derive(Debug, Clone, PartialEq)]
pub struct Incoming {
    /// Starts at 1, no gaps; 0 when the server named none.
    pub frame_seq: u64,
    /// What it says.
    pub frame: ServerFrame,
}

/// `hello`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Hello {
    /// The connection's id.
    pub connection_id: String,
    /// Whose it is.
    #[serde(with = "shown")]
    pub user_id: UserId,
    /// Which device's.
    #[serde(with = "shown")]
    pub device_id: DeviceId,
    /// Seconds between pings.
    #[serde(default = "default_ping_interval")]
    pub ping_interval_s: u64,
}

fn default_ping_interval() -> u64 {
    30
}

/// `thread`: something about a thread changed.
#[derive(Debug, Clone, PartialEq, Deserialize)]
pub struct ThreadFrame {
    /// Which.
    #[serde(with = "shown")]
    pub thread_id: ThreadId,
    /// Its number among the thread's events.
    #[serde(default)]
    pub seq: u64,
    /// `created`, `participant_added`, …
    pub op: String,
    /// All other members.
    #[serde(flatten)]
    pub rest: Map<String, Value>,
}

/// What a [`ThreadFrame`] says, as far as it is understood.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ThreadChange<'a> {
    /// The thread was made.
    Created,
    /// A user joined.
    Added(&'a str),
    /// A user left or was removed.
    Removed(&'a str),
    /// Anything else.
    Other(&'a str),
}

impl ThreadFrame {
    /// What changed.
    #[must_use]
    pub fn change(&self) -> ThreadChange<'_> {
        let user = self.rest.get("user_id").or_else(|| self.rest.get("participant").and_then(|p| p.get("user_id")));
        match (self.op.as_str(), user.and_then(Value::as_str)) {
            ("created", _) => ThreadChange::Created,
            ("participant_added", Some(user)) => ThreadChange::Added(user),
            ("participant_removed", Some(user)) => ThreadChange::Removed(user),
            (op, _) => ThreadChange::Other(op),
        }
    }
}

/// `delivered` or `read`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ReceiptFrame {
    /// Which of the two.
    pub kind: ReceiptKind,
    /// In which thread.
    pub thread_id: ThreadId,
    /// The newest message covered.
    pub up_to: MessageId,
    /// Who got or read it.
    pub by: UserId,
    /// RFC 3339.
    pub at: String,
}

#[derive(Deserialize)]
struct ReceiptWire {
    #[serde(with = "shown")]
    thread_id: ThreadId,
    #[serde(alias = "id", with = "shown")]
    up_to: MessageId,
    #[serde(with = "shown")]
    by: UserId,
    #[serde(default)]
    at: String,
}

/// `gap`: events of a thread were skipped and are to be read over REST.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct Gap {
    /// In which thread.
    #[serde(with = "shown")]
    pub thread_id: ThreadId,
    /// The rest is `?changed_since=after_seq`.
    pub after_seq: u64,
    /// Exclusive; `None` is the start.
    #[serde(default)]
    pub after_id: Option<String>,
    /// Exclusive.
    #[serde(default)]
    pub before_id: Option<String>,
}

/// `edit`: a message says something else now.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct EditFrame {
    /// In which thread.
    #[serde(with = "shown")]
    pub thread_id: ThreadId,
    /// Which message.
    #[serde(with = "shown")]
    pub id: MessageId,
    /// What it says; `None` where there is nothing for this device.
    #[serde(default, with = "base64_option")]
    pub ciphertext: Option<Bytes>,
    /// RFC 3339.
    #[serde(default)]
    pub edited_at: String,
}

/// `del`: a message says nothing any more.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct DeleteFrame {
    /// In which thread.
    #[serde(with = "shown")]
    pub thread_id: ThreadId,
    /// Which message.
    #[serde(with = "shown")]
    pub id: MessageId,
    /// `sender` or `expired`.
    #[serde(default)]
    pub reason: String,
}

/// `reaction`: an emoji came or went.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct ReactionFrame {
    /// In which thread.
    #[serde(with = "shown")]
    pub thread_id: ThreadId,
    /// On which message.
    #[serde(with = "shown")]
    pub id: MessageId,
    /// Which.
    pub emoji: String,
    /// Whose.
    #[serde(with = "shown")]
    pub by: UserId,
    /// `added` or `removed`.
    pub op: String,
}

/// `typing`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct TypingFrame {
    /// Where.
    #[serde(with = "shown")]
    pub thread_id: ThreadId,
    /// Who.
    #[serde(with = "shown")]
    pub user_id: UserId,
    /// Seconds until it is over by itself; 0 when it is over now.
    #[serde(default)]
    pub ttl_s: u64,
}

/// `presence`.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
pub struct PresenceFrame {
    /// Who.
    #[serde(with = "shown")]
    pub user_id: UserId,
    /// `online`, `away` or `offline`.
    pub status: String,
    /// RFC 3339.
    #[serde(default)]
    pub last_seen: Option<String>,
}

#[derive(Deserialize)]
struct DeviceWire {
    #[serde(with = "shown")]
    user_id: UserId,
}

#[derive(Deserialize)]
struct PrekeysWire {
    #[serde(default)]
    remaining: u32,
}

/// What a server says.
#[derive(Debug, Clone, PartialEq)]
pub enum ServerFrame {
    /// The connection stands.
    Hello(Hello),
    /// A message.
    Message(Box<Message>),
    /// A thread changed.
    Thread(Box<ThreadFrame>),
    /// A message was edited.
    Edit(Box<EditFrame>),
    /// A message was deleted or disappeared.
    Delete(Box<DeleteFrame>),
    /// A reaction came or went.
    Reaction(Box<ReactionFrame>),
    /// Somebody types, or stopped.
    Typing(Box<TypingFrame>),
    /// Somebody came or went.
    Presence(Box<PresenceFrame>),
    /// A user's devices changed.
    Devices(UserId),
    /// This device has so few one-time keys left.
    PrekeysLow(u32),
    /// A receipt.
    Receipt(Box<ReceiptFrame>),
    /// Replay is complete.
    CaughtUp,
    /// A named hole.
    Gap(Box<Gap>),
    /// An answer to `send`.
    Sent {
        /// Of the send.
        request_id: String,
        /// The committed message.
        sent: Box<Sent>,
    },
    /// A refusal.
    Error {
        /// Of the frame it answers, if that named one.
        request_id: Option<String>,
        /// Why.
        problem: Box<Problem>,
    },
    /// An answer to `subscribe`.
    Subscribed {
        /// Of the subscribe.
        request_id: String,
    },
    /// To be answered with `pong`.
    Ping,
    /// A kind this client does not know.
    Other(String),
}

#[derive(Deserialize)]
struct Head<'a> {
    #[serde(borrow)]
    t: Cow<'a, str>,
    #[serde(default)]
    frame_seq: u64,
    #[serde(default, borrow)]
    request_id: Option<Cow<'a, str>>,
    #[serde(default)]
    replayed: bool,
}

fn body<T: DeserializeOwned>(t: &str, text: &str) -> Result<T, InvalidFrame> {
    serde_json::from_str(text).map_err(|e| InvalidFrame { t: t.to_owned(), reason: e.to_string() })
}

impl Incoming {
    /// Reads a text frame.
    ///
    /// # Errors
    /// [`InvalidFrame`] when it is no JSON object with a `t`, or lacks what its kind must have.
    pub fn parse(text: &str) -> Result<Self, InvalidFrame> {
        let head: Head<'_> = body_borrowed(text)?;
        let t = head.t.as_ref();
        let frame = match t {
            "hello" => ServerFrame::Hello(body(t, text)?),
            "msg" => ServerFrame::Message(body(t, text)?),
            "thread" => ServerFrame::Thread(body(t, text)?),
            "edit" => ServerFrame::Edit(body(t, text)?),
            "del" => ServerFrame::Delete(body(t, text)?),
            "reaction" => ServerFrame::Reaction(body(t, text)?),
            "typing" => ServerFrame::Typing(body(t, text)?),
            "presence" => ServerFrame::Presence(body(t, text)?),
            "device" => ServerFrame::Devices(body::<DeviceWire>(t, text)?.user_id),
            "prekeys_low" => ServerFrame::PrekeysLow(body::<PrekeysWire>(t, text)?.remaining),
            "delivered" => receipt(ReceiptKind::Delivered, t, text)?,
            "read" => receipt(ReceiptKind::Read, t, text)?,
            "caught_up" => ServerFrame::CaughtUp,
            "gap" => ServerFrame::Gap(body(t, text)?),
            "sent" => ServerFrame::Sent {
                request_id: required(head.request_id.as_ref(), t)?,
                sent: Box::new(Sent { message: body(t, text)?, replayed: head.replayed }),
            },
            "error" => ServerFrame::Error {
                request_id: head.request_id.as_ref().map(|id| id.clone().into_owned()),
                problem: Problem::parse(text.as_bytes())
                    .map(Box::new)
                    .ok_or_else(|| InvalidFrame { t: t.to_owned(), reason: "no problem document".into() })?,
            },
            "subscribed" => ServerFrame::Subscribed { request_id: required(head.request_id.as_ref(), t)? },
            "ping" => ServerFrame::Ping,
            other => ServerFrame::Other(other.to_owned()),
        };
        Ok(Self { frame_seq: head.frame_seq, frame })
    }
}

fn body_borrowed<'a, T: Deserialize<'a>>(text: &'a str) -> Result<T, InvalidFrame> {
    serde_json::from_str(text).map_err(|e| InvalidFrame { t: "?".into(), reason: e.to_string() })
}

fn required(request_id: Option<&Cow<'_, str>>, t: &str) -> Result<String, InvalidFrame> {
    request_id
        .map(|id| id.clone().into_owned())
        .ok_or_else(|| InvalidFrame { t: t.to_owned(), reason: "no request_id".into() })
}

fn receipt(kind: ReceiptKind, t: &str, text: &str) -> Result<ServerFrame, InvalidFrame> {
    let wire: ReceiptWire = body(t, text)?;
    let ReceiptWire { thread_id, up_to, by, at } = wire;
    Ok(ServerFrame::Receipt(Box::new(ReceiptFrame { kind, thread_id, up_to, by, at })))
}

/// What a device says.
#[derive(Debug, Clone, Serialize)]
#[serde(tag = "t", rename_all = "snake_case")]
pub enum ClientFrame {
    /// The first frame of a connection that carried no token.
    Auth {
        /// The bearer token.
        token: String,
    },
    /// This frame and all before it are taken.
    ClientAck {
        /// The frame's number.
        frame_seq: u64,
    },
    /// Answers `ping`.
    Pong,
    /// Sends a message.
    Send {
        /// Names the answer.
        request_id: String,
        /// The draft's key.
        idempotency_key: String,
        /// Where to.
        #[serde(with = "shown")]
        thread_id: ThreadId,
        /// The message.
        #[serde(flatten)]
        draft: Draft,
        /// Devices may be left out.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        allow_mismatch: bool,
    },
    /// The user has read up to here.
    Read {
        /// In this thread.
        #[serde(with = "shown")]
        thread_id: ThreadId,
        /// This message and all before it.
        #[serde(with = "shown")]
        up_to: MessageId,
    },
    /// The user types, or stopped.
    Typing {
        /// Where.
        #[serde(with = "shown")]
        thread_id: ThreadId,
        /// Whether it is over.
        #[serde(skip_serializing_if = "std::ops::Not::not")]
        stop: bool,
    },
    /// The user is there, or away.
    Presence {
        /// `online` or `away`.
        status: &'static str,
    },
    /// The device has what came by other ways.
    Delivered {
        /// In this thread.
        #[serde(with = "shown")]
        thread_id: ThreadId,
        /// This message and all before it.
        #[serde(with = "shown")]
        up_to: MessageId,
    },
}

impl ClientFrame {
    /// A `send` frame.
    #[must_use]
    pub fn send(request_id: impl Into<String>, thread_id: ThreadId, draft: &Draft) -> Self {
        Self::Send {
            request_id: request_id.into(),
            idempotency_key: draft.key.clone(),
            thread_id,
            allow_mismatch: draft.allow_mismatch,
            draft: draft.clone(),
        }
    }

    /// The frame's text.
    #[must_use]
    pub fn to_json(&self) -> String {
        serde_json::to_string(self).expect("frames hold strings and numbers alone")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::ClientSeq;
    use proptest::prelude::*;

    const THREAD: &str = "6f1b1f6e-4c0a-8d7e-9a57-0123456789ab";
    const ID: &str = "01JAAAAAAAAAAAAAAAAAAAAAAA";

    fn message(t: &str, more: &str) -> String {
        format!(
            r#"{{"t":"{t}","frame_seq":9,{more}"id":"{ID}","thread_id":"{THREAD}","seq":7,"sender_id":"alice",
            "sender_device_id":"phone","client_seq":3,"ciphertext":"aGk=","content_type":"text",
            "created_at":"2030-01-01T10:00:00.000Z","deleted":false}}"#
        )
    }

    #[test]
    fn messages_and_answers_are_read() {
        let Incoming { frame_seq, frame } = Incoming::parse(&message("msg", "")).unwrap();
        assert_eq!(frame_seq, 9);
        let ServerFrame::Message(read) = frame else { panic!("{frame:?}") };
        assert_eq!((read.seq, read.sender_id.as_str()), (7, "alice"));

        let sent = Incoming::parse(&message("sent", r#""request_id":"4","replayed":true,"#)).unwrap().frame;
        let ServerFrame::Sent { request_id, sent } = sent else { panic!("{sent:?}") };
        assert!(request_id == "4" && sent.replayed && sent.message == *read);
        assert!(Incoming::parse(&message("sent", "")).is_err());
    }

    #[test]
    fn receipts_are_one_type() {
        let delivered =
            format!(r#"{{"t":"delivered","frame_seq":1,"thread_id":"{THREAD}","id":"{ID}","by":"bob","at":"x"}}"#);
        let read = format!(r#"{{"t":"read","frame_seq":2,"thread_id":"{THREAD}","up_to":"{ID}","by":"bob","at":"x"}}"#);
        for (text, kind) in [(delivered, ReceiptKind::Delivered), (read, ReceiptKind::Read)] {
            let ServerFrame::Receipt(receipt) = Incoming::parse(&text).unwrap().frame else { panic!("{text}") };
            assert_eq!((receipt.kind, receipt.by.as_str()), (kind, "bob"));
            assert_eq!(receipt.up_to.to_string(), ID);
        }
    }

    #[test]
    fn errors_carry_the_problem() {
        let text = r#"{"t":"error","frame_seq":3,"request_id":"r1","status":403,"code":"not_a_member","title":"No","detail":"d"}"#;
        let ServerFrame::Error { request_id, problem } = Incoming::parse(text).unwrap().frame else { panic!() };
        assert_eq!((request_id.as_deref(), problem.code.as_str(), problem.status), (Some("r1"), "not_a_member", 403));
    }

    #[test]
    fn thread_changes_name_their_user() {
        let frame = |op: &str, more: &str| {
            let text = format!(r#"{{"t":"thread","frame_seq":3,"op":"{op}","thread_id":"{THREAD}","seq":2{more}}}"#);
            let ServerFrame::Thread(frame) = Incoming::parse(&text).unwrap().frame else { panic!() };
            frame
        };
        assert_eq!(frame("created", "").change(), ThreadChange::Created);
        assert_eq!(frame("participant_added", r#","user_id":"bob""#).change(), ThreadChange::Added("bob"));
        let nested = frame("participant_added", r#","participant":{"user_id":"bob"}"#);
        assert_eq!(nested.change(), ThreadChange::Added("bob"));
        assert_eq!(frame("participant_removed", r#","user_id":"bob""#).change(), ThreadChange::Removed("bob"));
        assert_eq!(frame("renamed", "").change(), ThreadChange::Other("renamed"));
    }

    #[test]
    fn changes_and_what_is_told_are_read() {
        let frame = |t: &str, more: &str| {
            let text = format!(r#"{{"t":"{t}","frame_seq":3,"thread_id":"{THREAD}","id":"{ID}","seq":8{more}}}"#);
            Incoming::parse(&text).unwrap().frame
        };
        let ServerFrame::Edit(edit) = frame("edit", r#","ciphertext":"aGk=","edited_at":"x""#) else { panic!() };
        assert_eq!((edit.ciphertext.as_deref(), edit.id.to_string().as_str()), (Some(&b"hi"[..]), ID));
        let ServerFrame::Edit(edit) = frame("edit", r#","ciphertext":null,"edited_at":"x""#) else { panic!() };
        assert_eq!(edit.ciphertext, None);
        let ServerFrame::Delete(del) = frame("del", r#","reason":"expired""#) else { panic!() };
        assert_eq!(del.reason, "expired");
        let ServerFrame::Reaction(reaction) = frame("reaction", r#","emoji":"+","by":"bob","op":"added""#) else {
            panic!()
        };
        assert_eq!((reaction.by.as_str(), reaction.op.as_str()), ("bob", "added"));
        let ServerFrame::Typing(typing) = frame("typing", r#","user_id":"bob","ttl_s":5"#) else { panic!() };
        assert_eq!(typing.ttl_s, 5);
        let ServerFrame::Presence(there) = frame("presence", r#","user_id":"bob","status":"away""#) else { panic!() };
        assert_eq!((there.status.as_str(), there.last_seen), ("away", None));
        assert_eq!(frame("device", r#","user_id":"bob""#), ServerFrame::Devices(UserId::new("bob").unwrap()));
        assert_eq!(frame("prekeys_low", r#","device_id":"d","remaining":3"#), ServerFrame::PrekeysLow(3));
    }

    #[test]
    fn what_is_unknown_is_kept() {
        assert_eq!(
            Incoming::parse(r#"{"t":"weather","frame_seq":4,"sun":true}"#).unwrap(),
            Incoming { frame_seq: 4, frame: ServerFrame::Other("weather".into()) }
        );
        for bad in ["", "[]", "{}", r#"{"t":1}"#, r#"{"t":"msg"}"#, r#"{"t":"error"}"#] {
            assert!(Incoming::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn client_frames_have_the_contracts_members() {
        let thread: ThreadId = THREAD.parse().unwrap();
        let mut draft = Draft::new(ClientSeq(3), &b"hi"[..]);
        draft.key = "k".into();
        assert_eq!(
            ClientFrame::send("r", thread, &draft).to_json(),
            format!(
                r#"{{"t":"send","request_id":"r","idempotency_key":"k","thread_id":"{THREAD}","client_seq":3,"ciphertext":"aGk="}}"#
            )
        );
        assert_eq!(ClientFrame::ClientAck { frame_seq: 8 }.to_json(), r#"{"t":"client_ack","frame_seq":8}"#);
        assert_eq!(ClientFrame::Pong.to_json(), r#"{"t":"pong"}"#);
        let typing = |stop| ClientFrame::Typing { thread_id: thread, stop }.to_json();
        assert_eq!(typing(false), format!(r#"{{"t":"typing","thread_id":"{THREAD}"}}"#));
        assert_eq!(typing(true), format!(r#"{{"t":"typing","thread_id":"{THREAD}","stop":true}}"#));
        let read = ClientFrame::Read { thread_id: thread, up_to: ID.parse().unwrap() };
        assert_eq!(read.to_json(), format!(r#"{{"t":"read","thread_id":"{THREAD}","up_to":"{ID}"}}"#));
    }

    proptest! {
        #[test]
        fn no_text_panics(text in "\\PC{0,200}") {
            let _ = Incoming::parse(&text);
            let _ = Incoming::parse(&format!(r#"{{"t":"msg","id":{text:?}}}"#));
        }
    }
}
