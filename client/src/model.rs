//! What REST and realtime say, in types.
//!
//! Owns: the JSON shapes of threads, messages, recipients and pages, as the client contract has them.
//! Must not know: how they travel.
//! Invariants: unknown members are ignored, so that a newer cluster can be talked to.

use crate::devices::Envelope;
use crate::text::{base64_bytes, base64_option, shown, shown_option};
use bytes::Bytes;
use messenger_proto::ids::{ClientSeq, DeviceId, MessageId, ThreadId, UserId};
use serde::{Deserialize, Serialize};

/// A member of a thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Participant {
    /// Who.
    #[serde(with = "shown")]
    pub user_id: UserId,
    /// `admin` or `member`.
    pub role: String,
    /// RFC 3339.
    pub joined_at: String,
}

/// A thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Thread {
    /// Its id.
    #[serde(with = "shown")]
    pub id: ThreadId,
    /// `1_TO_1` or `GROUP`.
    #[serde(rename = "type")]
    pub kind: String,
    /// Groups may have one.
    #[serde(default)]
    pub title: Option<String>,
    /// Groups may have one.
    #[serde(default)]
    pub description: Option<String>,
    /// RFC 3339.
    pub created_at: String,
    /// Present members.
    pub participants: Vec<Participant>,
    /// The newest message.
    #[serde(default, with = "shown_option")]
    pub last_msg_id: Option<MessageId>,
    /// The newest event's number.
    #[serde(default)]
    pub last_seq: u64,
}

/// How far the viewer's own message got.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReceiptCounts {
    /// Recipients in all.
    pub of: u32,
    /// How many devices' users have it.
    pub delivered: u32,
    /// How many have read it.
    pub read: u32,
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Its id; increases along the thread's order.
    #[serde(with = "shown")]
    pub id: MessageId,
    /// Its thread.
    #[serde(with = "shown")]
    pub thread_id: ThreadId,
    /// Its number among the thread's events.
    pub seq: u64,
    /// Who sent it.
    #[serde(with = "shown")]
    pub sender_id: UserId,
    /// From which device.
    #[serde(with = "shown")]
    pub sender_device_id: DeviceId,
    /// The device's own number for it.
    pub client_seq: u64,
    /// The content; `None` once deleted, and where envelopes were sent and none for this device.
    #[serde(default, with = "base64_option")]
    pub ciphertext: Option<Bytes>,
    /// `text`, `image_ref`, …
    #[serde(default)]
    pub content_type: String,
    /// What it answers.
    #[serde(default, with = "shown_option")]
    pub reply_to_msg_id: Option<MessageId>,
    /// RFC 3339.
    pub created_at: String,
    /// Whether only a tombstone is left.
    #[serde(default)]
    pub deleted: bool,
    /// RFC 3339; `None` of what was never edited.
    #[serde(default)]
    pub edited_at: Option<String>,
    /// Each emoji, and who put it there.
    #[serde(default)]
    pub reactions: Vec<Reaction>,
    /// Only in answers to the sender.
    #[serde(default)]
    pub receipts: Option<ReceiptCounts>,
}

/// An emoji on a message.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reaction {
    /// Which.
    pub emoji: String,
    /// Whose.
    pub by: Vec<String>,
}

/// Where a message stands for one recipient.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Recipient {
    /// Who.
    #[serde(with = "shown")]
    pub recipient_id: UserId,
    /// `SENT`, `DELIVERED`, `READ` or `FAILED`.
    pub state: String,
    /// RFC 3339.
    #[serde(default)]
    pub delivered_at: Option<String>,
    /// RFC 3339.
    #[serde(default)]
    pub read_at: Option<String>,
}

/// A thread in its viewer's list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadSummary {
    /// The thread's own members.
    #[serde(flatten)]
    pub thread: Thread,
    /// The newest message, whole.
    #[serde(default)]
    pub last_message: Option<Message>,
    /// The viewer's read mark.
    #[serde(default, with = "shown_option")]
    pub last_read_msg_id: Option<MessageId>,
    /// Others' messages after the read mark, at most 999.
    #[serde(default)]
    pub unread_count: u32,
}

/// A page of the thread list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ThreadPage {
    /// Latest activity first.
    pub threads: Vec<ThreadSummary>,
    /// Where the next page begins.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

/// A page of a thread's history.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MessagePage {
    /// Newest first, or oldest first after `since`.
    pub messages: Vec<Message>,
    /// Where the next page begins.
    #[serde(default)]
    pub next_cursor: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct BlockList {
    pub(super) blocks: Vec<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct RecipientList {
    pub(super) recipients: Vec<Recipient>,
}

/// What `POST /v1/threads` takes.
#[derive(Debug, Clone, Serialize)]
pub struct NewThread {
    /// `1_TO_1` or `GROUP`.
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// Users to invite.
    pub participants: Vec<String>,
    /// For groups.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
}

impl NewThread {
    /// The one thread with another user.
    #[must_use]
    pub fn one_to_one(with: &UserId) -> Self {
        Self { kind: "1_TO_1", participants: vec![with.to_string()], title: None }
    }

    /// A group.
    #[must_use]
    pub fn group(title: Option<String>, members: &[UserId]) -> Self {
        Self { kind: "GROUP", participants: members.iter().map(ToString::to_string).collect(), title }
    }
}

/// What a message says.
#[derive(Debug, Clone, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    /// The same bytes for every device.
    Ciphertext(#[serde(with = "base64_bytes")] Bytes),
    /// Each device its own.
    Envelopes(Vec<Envelope>),
}

/// A message to be sent; every try of it carries the same key, number and bytes.
#[derive(Debug, Clone, Serialize)]
pub struct Draft {
    /// The `Idempotency-Key`; a header over REST, a member of the frame over the socket.
    #[serde(skip)]
    pub key: String,
    /// The device's own number, unique within the thread.
    #[serde(with = "shown_number")]
    pub client_seq: ClientSeq,
    /// What it says.
    #[serde(flatten)]
    pub content: Content,
    /// What it answers.
    #[serde(skip_serializing_if = "Option::is_none", with = "shown_option")]
    pub reply_to_msg_id: Option<MessageId>,
    /// Seconds until it expires undelivered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub ttl_seconds: Option<u64>,
    /// Of envelopes: devices may be left out. A query over REST, a member of the frame over the socket.
    #[serde(skip)]
    pub allow_mismatch: bool,
}

impl Draft {
    /// A message under a fresh key.
    #[must_use]
    pub fn new(client_seq: ClientSeq, ciphertext: impl Into<Bytes>) -> Self {
        Self {
            key: crate::fresh_key(),
            client_seq,
            content: Content::Ciphertext(ciphertext.into()),
            reply_to_msg_id: None,
            ttl_seconds: None,
            allow_mismatch: false,
        }
    }

    /// A message of which each device gets its own envelope, under a fresh key.
    #[must_use]
    pub fn of_envelopes(client_seq: ClientSeq, envelopes: Vec<Envelope>) -> Self {
        Self { content: Content::Envelopes(envelopes), ..Self::new(client_seq, Bytes::new()) }
    }
}

mod shown_number {
    use messenger_proto::ids::ClientSeq;
    use serde::Serializer;

    #[allow(clippy::trivially_copy_pass_by_ref, reason = "the signature serde's `with` calls")]
    pub(super) fn serialize<S: Serializer>(value: &ClientSeq, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_u64(value.0)
    }
}

/// A message that is committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    /// As the cluster has it.
    pub message: Message,
    /// Whether this answer repeats an earlier one.
    pub replayed: bool,
}

/// Which part of a thread's history to read.
#[derive(Debug, Clone, Default)]
pub struct HistoryQuery {
    /// Rows at most; the cluster's default otherwise.
    pub page_size: Option<u32>,
    /// Continues an earlier page.
    pub cursor: Option<String>,
    /// Oldest first from after this message id or time.
    pub since: Option<String>,
    /// Newest first from before this message.
    pub before: Option<MessageId>,
    /// Those created or changed after this event, oldest change first.
    pub changed_since: Option<u64>,
}

impl HistoryQuery {
    /// The query string, `?` included; empty when nothing is asked.
    pub(super) fn to_query(&self) -> String {
        let mut query = String::new();
        let mut push = |name: &str, value: &str| {
            query.push(if query.is_empty() { '?' } else { '&' });
            query.push_str(name);
            query.push('=');
            encode_query(value, &mut query);
        };
        if let Some(size) = self.page_size {
            push("page_size", &size.to_string());
        }
        if let Some(cursor) = &self.cursor {
            push("cursor", cursor);
        }
        if let Some(since) = &self.since {
            push("since", since);
        }
        if let Some(before) = &self.before {
            push("before", &before.to_string());
        }
        if let Some(changed_since) = self.changed_since {
            push("changed_since", &changed_since.to_string());
        }
        query
    }
}

/// Percent-encodes all but RFC 3986's unreserved characters.
pub(super) fn encode_query(value: &str, out: &mut String) {
    use std::fmt::Write;
    for byte in value.bytes() {
        if byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'.' | b'_' | b'~') {
            out.push(char::from(byte));
        } else {
            // Writing to a String cannot fail.
            let _ = write!(out, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MESSAGE: &str = r#"{"id":"01JAAAAAAAAAAAAAAAAAAAAAAA","thread_id":"6f1b1f6e-4c0a-8d7e-9a57-0123456789ab",
        "seq":7,"sender_id":"alice","sender_device_id":"phone","client_seq":3,"ciphertext":"aGk=","content_type":"text",
        "attachments":[],"reply_to_msg_id":null,"created_at":"2030-01-01T10:00:00.000Z","edited_at":null,
        "expires_at":null,"deleted":false,"reactions":[],"receipts":{"of":2,"delivered":1,"read":0},"new_member":1}"#;

    #[test]
    fn a_message_is_read_and_what_is_unknown_is_ignored() {
        let message: Message = serde_json::from_str(MESSAGE).unwrap();
        assert_eq!(message.ciphertext.as_deref(), Some(&b"hi"[..]));
        assert_eq!(message.receipts.unwrap().delivered, 1);
        let again: Message = serde_json::from_str(&serde_json::to_string(&message).unwrap()).unwrap();
        assert_eq!(message, again);
    }

    #[test]
    fn a_message_with_a_bad_id_is_refused() {
        assert!(serde_json::from_str::<Message>(&MESSAGE.replace("01JAAA", "!!JAAA")).is_err());
        assert!(serde_json::from_str::<Message>(&MESSAGE.replace("aGk=", "aGk")).is_err());
    }

    #[test]
    fn a_draft_says_what_the_contract_asks() {
        let draft = Draft::new(ClientSeq(5), &b"hi"[..]);
        assert_eq!(serde_json::to_string(&draft).unwrap(), r#"{"client_seq":5,"ciphertext":"aGk="}"#);
        let envelope = Envelope {
            user_id: UserId::new("bob").unwrap(),
            device_id: DeviceId::new("phone").unwrap(),
            registration_id: 7,
            ciphertext: Bytes::from_static(b"hi"),
        };
        assert_eq!(
            serde_json::to_string(&Draft::of_envelopes(ClientSeq(5), vec![envelope])).unwrap(),
            r#"{"client_seq":5,"envelopes":[{"user_id":"bob","device_id":"phone","registration_id":7,"ciphertext":"aGk="}]}"#
        );
        assert_eq!(draft.key.len(), 32);
        assert_ne!(draft.key, Draft::new(ClientSeq(5), &b"hi"[..]).key);
    }

    #[test]
    fn a_query_is_encoded() {
        let query =
            HistoryQuery { page_size: Some(3), since: Some("2030-01-01T10:00:00+01:00".into()), ..Default::default() };
        assert_eq!(query.to_query(), "?page_size=3&since=2030-01-01T10%3A00%3A00%2B01%3A00");
        assert_eq!(HistoryQuery::default().to_query(), "");
    }
}
