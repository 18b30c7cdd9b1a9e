//! What clients see of threads, messages and receipts.
//!
//! Owns: the JSON of the contract's Thread, Message, Recipient and list rows, for REST answers and realtime frames.
//! Must not know: how they were read, or who may see them.
//! Invariants: members and their order are fixed; nothing is copied on the way to the bytes.

use super::time::Rfc3339;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use messenger_proto::envelope::{DeviceMismatch, DeviceName, EnvelopeKind};
use messenger_proto::ephemeral::Presence;
use messenger_proto::ids::{MessageId, ThreadId, UserId};
use messenger_proto::model::{Message, Participant, Pin, Reaction, Recipient, Thread, ThreadSummary};
use serde::ser::SerializeSeq;
use serde::{Serialize, Serializer};
use serde_json::value::RawValue;
use std::fmt::Display;

/// A value that is written as its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Text<T>(pub T);

impl<T: Display> Serialize for Text<T> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&self.0)
    }
}

/// Bytes in standard base64 with padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Base64<'a>(pub &'a [u8]);

impl Serialize for Base64<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&STANDARD.encode(self.0))
    }
}

/// A ciphertext in what is told to several devices.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(untagged)]
pub enum Told<'a> {
    /// It is the same for all.
    Here(Option<Base64<'a>>),
    /// Each is told its own beside it.
    Apart,
}

impl Told<'_> {
    /// Whether it is left out here.
    #[must_use]
    pub fn is_apart(&self) -> bool {
        matches!(self, Self::Apart)
    }
}

/// How a user is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct PresenceView {
    status: &'static str,
    last_seen: Option<Rfc3339>,
}

impl PresenceView {
    /// The view of a user's presence.
    #[must_use]
    pub fn of(presence: &Presence) -> Self {
        Self { status: presence.status.as_str(), last_seen: presence.last_seen.map(Rfc3339) }
    }
}

/// Each attachment's JSON object, as its sender wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AttachmentsView<'a>(pub &'a [String]);

impl Serialize for AttachmentsView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut seq = serializer.serialize_seq(Some(self.0.len()))?;
        for attachment in self.0 {
            let raw: &RawValue = serde_json::from_str(attachment).map_err(serde::ser::Error::custom)?;
            seq.serialize_element(raw)?;
        }
        seq.end()
    }
}

/// Who put which emoji on a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct ReactionsView<'a>(&'a [Reaction]);

impl Serialize for ReactionsView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ReactionView::of))
    }
}

#[derive(Serialize)]
struct ReactionView<'a> {
    emoji: &'a str,
    by: Vec<&'a str>,
}

impl<'a> ReactionView<'a> {
    fn of(reaction: &'a Reaction) -> Self {
        Self { emoji: reaction.emoji.as_str(), by: reaction.by.iter().map(UserId::as_str).collect() }
    }

    fn size_hint(reaction: &Reaction) -> usize {
        let by: usize = reaction.by.iter().map(|user| user.as_str().len() + 3).sum();
        24 + 2 * reaction.emoji.as_str().len() + by
    }
}

/// An object without members.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Empty {}

/// The contract's Message.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct MessageView<'a> {
    id: Text<MessageId>,
    thread_id: Text<ThreadId>,
    seq: u64,
    sender_id: &'a str,
    sender_device_id: &'a str,
    client_seq: u64,
    #[serde(skip_serializing_if = "Told::is_apart")]
    ciphertext: Told<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    envelope_type: Option<KindView<'a>>,
    content_type: &'static str,
    attachments: AttachmentsView<'a>,
    reply_to_msg_id: Option<Text<MessageId>>,
    created_at: Rfc3339,
    edited_at: Option<Rfc3339>,
    expires_at: Option<Rfc3339>,
    deleted: bool,
    reactions: ReactionsView<'a>,
    #[serde(skip_serializing_if = "Option::is_none")]
    receipts: Option<ReceiptsView>,
}

#[derive(Debug, Clone, Copy, Serialize)]
struct ReceiptsView {
    of: u32,
    delivered: u32,
    read: u32,
}

impl<'a> MessageView<'a> {
    /// The view of a message; its `receipts` are there if the message carries them.
    #[must_use]
    pub fn of(message: &'a Message) -> Self {
        let receipts = message.receipts.as_ref();
        Self {
            id: Text(message.id),
            thread_id: Text(message.thread),
            seq: message.seq.0,
            sender_id: message.sender.as_str(),
            sender_device_id: message.device.as_str(),
            client_seq: message.client_seq.0,
            ciphertext: Told::Here(message.ciphertext.as_deref().map(Base64)),
            envelope_type: message.enveloped.as_ref().and_then(|own| own.kind.as_ref()).map(KindView),
            content_type: message.content_type.as_str(),
            attachments: AttachmentsView(&message.attachments),
            reply_to_msg_id: message.reply_to.map(Text),
            created_at: Rfc3339(message.id.created_at()),
            edited_at: message.edited_at.map(Rfc3339),
            expires_at: message.expires_at.map(Rfc3339),
            deleted: message.deleted,
            reactions: ReactionsView(&message.reactions),
            receipts: receipts.map(|counts| ReceiptsView {
                of: counts.of,
                delivered: counts.delivered,
                read: counts.read,
            }),
        }
    }

    /// The view without what differs from device to device.
    #[must_use]
    pub fn unopened(message: &'a Message) -> Self {
        Self { ciphertext: Told::Apart, envelope_type: None, ..Self::of(message) }
    }

    /// About how many bytes the view takes.
    #[must_use]
    pub fn size_hint(message: &Message) -> usize {
        let ciphertext = message.ciphertext.as_ref().map_or(0, |bytes| bytes.len().div_ceil(3) * 4);
        let attachments: usize = message.attachments.iter().map(|attachment| attachment.len() + 1).sum();
        let reactions: usize = message.reactions.iter().map(ReactionView::size_hint).sum();
        640 + ciphertext + attachments + reactions
    }
}

/// A member of a thread.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct ParticipantView<'a> {
    user_id: &'a str,
    role: &'static str,
    joined_at: Rfc3339,
}

impl<'a> ParticipantView<'a> {
    /// The view of a member.
    #[must_use]
    pub fn of(participant: &'a Participant) -> Self {
        Self {
            user_id: participant.user.as_str(),
            role: participant.role.as_str(),
            joined_at: Rfc3339(participant.joined_at),
        }
    }
}

struct ParticipantsView<'a>(&'a [Participant]);

impl Serialize for ParticipantsView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(ParticipantView::of))
    }
}

/// The contract's Thread.
#[derive(Serialize)]
pub struct ThreadView<'a> {
    id: Text<ThreadId>,
    r#type: &'static str,
    title: Option<&'a str>,
    description: Option<&'a str>,
    created_at: Rfc3339,
    updated_at: Rfc3339,
    created_by: &'a str,
    participants: ParticipantsView<'a>,
    last_msg_id: Option<Text<MessageId>>,
    last_seq: u64,
    settings: Empty,
}

impl<'a> ThreadView<'a> {
    /// The view of a thread.
    #[must_use]
    pub fn of(thread: &'a Thread) -> Self {
        Self {
            id: Text(thread.id),
            r#type: thread.kind.as_str(),
            title: thread.title.as_deref(),
            description: thread.description.as_deref(),
            created_at: Rfc3339(thread.created_at),
            updated_at: Rfc3339(thread.updated_at),
            created_by: thread.created_by.as_str(),
            participants: ParticipantsView(&thread.participants),
            last_msg_id: thread.last_message.map(Text),
            last_seq: thread.last_seq.0,
            settings: Empty {},
        }
    }
}

/// A row of the thread list.
#[derive(Serialize)]
pub struct SummaryView<'a> {
    #[serde(flatten)]
    thread: ThreadView<'a>,
    last_message: Option<MessageView<'a>>,
    last_read_msg_id: Option<Text<MessageId>>,
    unread_count: u32,
}

impl<'a> SummaryView<'a> {
    /// The view of a row.
    #[must_use]
    pub fn of(summary: &'a ThreadSummary) -> Self {
        Self {
            thread: ThreadView::of(&summary.thread),
            last_message: summary.last_message.as_ref().map(MessageView::of),
            last_read_msg_id: summary.last_read.map(Text),
            unread_count: summary.unread,
        }
    }
}

/// A pinned message.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct PinView<'a> {
    message_id: Text<MessageId>,
    by: &'a str,
    at: Rfc3339,
}

impl<'a> PinView<'a> {
    /// The view of a pin.
    #[must_use]
    pub fn of(pin: &'a Pin) -> Self {
        Self { message_id: Text(pin.message), by: pin.by.as_str(), at: Rfc3339(pin.at) }
    }
}

/// A row of a message's recipients.
#[derive(Debug, Clone, Copy, Serialize)]
pub struct RecipientView<'a> {
    recipient_id: &'a str,
    state: &'static str,
    delivered_at: Option<Rfc3339>,
    read_at: Option<Rfc3339>,
}

impl<'a> RecipientView<'a> {
    /// The view of a row.
    #[must_use]
    pub fn of(recipient: &'a Recipient) -> Self {
        Self {
            recipient_id: recipient.user.as_str(),
            state: recipient.state.as_str(),
            delivered_at: recipient.delivered_at.map(Rfc3339),
            read_at: recipient.read_at.map(Rfc3339),
        }
    }
}

/// The sender's name for the kind of a ciphertext.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct KindView<'a>(pub &'a EnvelopeKind);

impl Serialize for KindView<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            EnvelopeKind::Number(kind) => serializer.serialize_u32(kind.number),
            EnvelopeKind::Name(kind) => serializer.serialize_str(&kind.name),
        }
    }
}

/// How envelopes differ from the devices there are.
#[derive(Debug, Serialize)]
pub struct MismatchView<'a> {
    #[serde(rename = "missing_devices")]
    missing: Vec<NameView<'a>>,
    #[serde(rename = "extra_devices")]
    extra: Vec<NameView<'a>>,
    #[serde(rename = "stale_devices")]
    stale: Vec<NameView<'a>>,
}

#[derive(Debug, Serialize)]
struct NameView<'a> {
    user_id: &'a str,
    device_id: &'a str,
}

impl<'a> MismatchView<'a> {
    /// The view of a difference.
    #[must_use]
    pub fn of(mismatch: &'a DeviceMismatch) -> Self {
        let name = |name: &'a DeviceName| NameView { user_id: name.user.as_str(), device_id: name.device.as_str() };
        let names = |names: &'a [DeviceName]| names.iter().map(name).collect();
        Self { missing: names(&mismatch.missing), extra: names(&mismatch.extra), stale: names(&mismatch.stale) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use messenger_proto::emoji::Emoji;
    use messenger_proto::ids::{ClientSeq, DeviceId, Millis, Rev, Seq, UserId};
    use messenger_proto::model::{ContentType, DeliveryState, ReceiptCounts, Role, ThreadKind};
    use messenger_proto::slot::Slot;
    use serde_json::{Value, json};

    fn message() -> Message {
        let thread = ThreadId([9; 16]);
        Message {
            id: MessageId::new(Millis(1_780_162_931_234), Slot::of_thread(thread), 5, 6),
            thread,
            seq: Seq(2),
            sender: UserId::new("alice").unwrap(),
            device: DeviceId::new("phone").unwrap(),
            client_seq: ClientSeq(ClientSeq::MAX),
            ciphertext: Some(Bytes::from_static(b"\xff\xfe?")),
            content_type: ContentType::ImageRef,
            attachments: vec![r#"{"id":"a","big":12345678901234567890123}"#.into()],
            reply_to: None,
            edited_at: None,
            expires_at: None,
            deleted: false,
            receipts: None,
            reactions: Vec::new(),
            enveloped: None,
        }
    }

    fn value(view: &impl Serialize) -> Value {
        serde_json::to_value(view).unwrap()
    }

    #[test]
    fn a_message_has_every_member() {
        let message = message();
        let seen = value(&MessageView::of(&message));
        let expected = json!({
            "id": message.id.to_string(), "thread_id": "09090909-0909-0909-0909-090909090909", "seq": 2,
            "sender_id": "alice", "sender_device_id": "phone", "client_seq": 9_007_199_254_740_991_u64,
            "ciphertext": "//4/", "content_type": "image_ref", "attachments": [{"id": "a", "big": 1.234_567_890_123_456_8e22}],
            "reply_to_msg_id": null, "created_at": "2026-05-30T17:42:11.234Z", "edited_at": null,
            "expires_at": null, "deleted": false, "reactions": [],
        });
        assert_eq!(seen, expected);
        let text = serde_json::to_string(&MessageView::of(&message)).unwrap();
        assert!(text.contains(r#""attachments":[{"id":"a","big":12345678901234567890123}]"#), "{text}");
        assert!(text.len() <= MessageView::size_hint(&message));
    }

    #[test]
    fn a_deleted_message_keeps_its_place_and_its_sender_sees_receipts() {
        let counts = ReceiptCounts { of: 3, delivered: 2, read: 1 };
        let deleted = Message { ciphertext: None, deleted: true, receipts: Some(counts), ..message() };
        let seen = value(&MessageView::of(&deleted));
        assert_eq!((&seen["ciphertext"], &seen["deleted"]), (&Value::Null, &json!(true)));
        assert_eq!(seen["receipts"], json!({"of": 3, "delivered": 2, "read": 1}));
    }

    #[test]
    fn reactions_are_listed_by_emoji() {
        let users = |names: &[&str]| names.iter().map(|name| UserId::new(name).unwrap()).collect();
        let reaction = |emoji, by: &[&str]| Reaction { emoji: Emoji::new(emoji).unwrap(), by: users(by) };
        let reactions = vec![reaction("\u{1f44d}", &["bob", "alice"]), reaction(&"\"".repeat(64), &["bob"])];
        let reacted = Message { reactions, ..message() };
        let expected = json!([
            {"emoji": "\u{1f44d}", "by": ["bob", "alice"]}, {"emoji": "\"".repeat(64), "by": ["bob"]},
        ]);
        assert_eq!(value(&MessageView::of(&reacted))["reactions"], expected);
        let text = serde_json::to_string(&MessageView::of(&reacted)).unwrap();
        assert!(text.len() <= MessageView::size_hint(&reacted));
    }

    #[test]
    fn a_list_row_is_a_thread_and_more() {
        let last = message();
        let thread = Thread {
            id: last.thread,
            kind: ThreadKind::OneToOne,
            title: None,
            description: Some("d".into()),
            created_at: Millis(0),
            updated_at: Millis(1),
            created_by: UserId::new("alice").unwrap(),
            participants: vec![Participant {
                user: UserId::new("bob").unwrap(),
                role: Role::Member,
                joined_at: Millis(2),
            }],
            last_message: Some(last.id),
            last_seq: Seq(2),
            rev: Rev(3),
        };
        let id = last.id.to_string();
        let row = ThreadSummary { thread, last_message: Some(last), last_read: None, unread: 999 };
        let seen = value(&SummaryView::of(&row));
        assert_eq!(seen["last_message"]["id"], json!(id));
        let mut rest = seen.clone();
        rest.as_object_mut().unwrap().remove("last_message");
        let expected = json!({
            "id": "09090909-0909-0909-0909-090909090909", "type": "1_TO_1", "title": null, "description": "d",
            "created_at": "1970-01-01T00:00:00.000Z", "updated_at": "1970-01-01T00:00:00.001Z",
            "created_by": "alice", "last_msg_id": id, "last_seq": 2, "settings": {},
            "participants": [{"user_id": "bob", "role": "member", "joined_at": "1970-01-01T00:00:00.002Z"}],
            "last_read_msg_id": null, "unread_count": 999,
        });
        assert_eq!(rest, expected);
    }

    #[test]
    fn a_recipient_has_its_times() {
        let user = UserId::new("bob").unwrap();
        let row = Recipient { user, state: DeliveryState::Delivered, delivered_at: Some(Millis(1)), read_at: None };
        let expected = json!({
            "recipient_id": "bob", "state": "DELIVERED", "delivered_at": "1970-01-01T00:00:00.001Z", "read_at": null,
        });
        assert_eq!(value(&RecipientView::of(&row)), expected);
    }
}
