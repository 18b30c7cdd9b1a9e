//! A message, which is also its own event.
//!
//! Layout: `13 | thread | seq BE64`; the value begins with [`MessageMeta`].
//! Owns: the message's row, and reading the small part of it without the large one.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change, the value only gains fields; the ciphertext is here and nowhere
//! else, unless it was sent in envelopes, which have rows of their own; within a thread ids grow with `seq`.

use super::key::{Key, KeyRange, KeyReader, KeyWriter};
use super::member::SeqRange;
use crate::machine::tables::TableError;
use bytes::Bytes;
use messenger_proto::envelope::Enveloped;
use messenger_proto::event::{ThreadEvent, ThreadEventBody};
use messenger_proto::ids::{ClientSeq, DeviceId, MessageId, Millis, Rev, Seq, ThreadId, UserId};
use messenger_proto::model::{ContentType, Message, Reaction};
use messenger_proto::wire::Wire;
use prost::encoding::{DecodeContext, WireType, decode_key, decode_varint, skip_field};

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageKey {
    /// The thread.
    pub thread: ThreadId,
    /// The event's number.
    pub seq: Seq,
}

impl Key for MessageKey {
    const TAG: u8 = 0x13;
    type Row = MessageRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).seq(self.seq);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, seq: key.seq()? })
    }
}

messenger_proto::wire_struct! {
    /// A message.
    pub struct MessageRow {
        1 => meta: MessageMeta,
        2 => device: DeviceId,
        3 => client_seq: ClientSeq,
        4 => content_type: ContentType,
        /// Each attachment's JSON object, as the sender wrote it.
        5 => attachments: Vec<String>,
        6 => reply_to: Option<MessageId>,
        7 => edited_at: Option<Millis>,
        8 => expires_at: Option<Millis>,
        /// `None` once deleted, and where there are envelopes.
        9 => ciphertext: Option<Bytes>,
        /// In the order in which their emoji were first used.
        10 => reactions: Vec<Reaction>,
        /// What it says is in envelopes.
        11 => enveloped: bool,
    }
}

messenger_proto::wire_struct! {
    /// What counting and searching need of a message.
    pub struct MessageMeta {
        1 => id: MessageId,
        2 => rev: Rev,
        3 => sender: UserId,
        4 => deleted: bool,
        /// The event that changed it last; 0 while it is as it was sent.
        5 => changed: Seq,
    }
}

const META_TAG: u32 = 1;

/// The small part of an encoded [`MessageRow`].
///
/// # Errors
/// [`TableError`] when the bytes are none.
pub fn meta_of(row: &[u8]) -> Result<MessageMeta, TableError> {
    let corrupt = |error: &dyn std::fmt::Display| TableError(format!("corrupt message row: {error}"));
    let mut rest = row;
    while !rest.is_empty() {
        let (tag, wire_type) = decode_key(&mut rest).map_err(|error| corrupt(&error))?;
        if tag == META_TAG && wire_type == WireType::LengthDelimited {
            let length = decode_varint(&mut rest).map_err(|error| corrupt(&error))?;
            let meta = usize::try_from(length).ok().and_then(|length| rest.get(..length));
            let meta = meta.ok_or_else(|| corrupt(&"length beyond the end"))?;
            return MessageMeta::from_wire(meta).map_err(|error| corrupt(&error));
        }
        skip_field(wire_type, tag, &mut rest, DecodeContext::default()).map_err(|error| corrupt(&error))?;
    }
    Err(corrupt(&"no meta"))
}

/// The messages among a thread's events.
#[must_use]
pub fn messages(thread: ThreadId, range: SeqRange) -> KeyRange {
    let mut prefix = KeyWriter::of::<MessageKey>();
    prefix.thread(thread);
    prefix.numbers(range.first, range.last)
}

impl MessageRow {
    /// The message, without counts of receipts, and without what is in envelopes.
    #[must_use]
    pub fn into_message(self, key: MessageKey) -> Message {
        Message {
            id: self.meta.id,
            thread: key.thread,
            seq: key.seq,
            sender: self.meta.sender,
            device: self.device,
            client_seq: self.client_seq,
            ciphertext: self.ciphertext,
            content_type: self.content_type,
            attachments: self.attachments,
            reply_to: self.reply_to,
            edited_at: self.edited_at,
            expires_at: self.expires_at,
            deleted: self.meta.deleted,
            receipts: None,
            reactions: self.reactions,
            enveloped: self.enveloped.then(Enveloped::default),
        }
    }

    /// The message as its event.
    #[must_use]
    pub fn into_event(self, key: MessageKey) -> ThreadEvent {
        let (rev, at) = (self.meta.rev, self.meta.id.created_at());
        let body = ThreadEventBody::Message(self.into_message(key));
        ThreadEvent {
            thread: key.thread,
            rev,
            seq: Some(key.seq),
            at,
            body,
            hidden_from: Vec::new(),
            envelopes: Vec::new(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{device, seq, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use messenger_proto::emoji::Emoji;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = MessageKey> {
        (thread(), seq()).prop_map(|(thread, seq)| MessageKey { thread, seq })
    }

    fn row() -> impl Strategy<Value = MessageRow> {
        (any::<(u128, u64, bool, u64)>(), user(), device(), any::<(u64, Option<u64>)>(), any::<Option<Vec<u8>>>())
            .prop_map(|((id, number, deleted, changed), sender, device, (client_seq, time), ciphertext)| MessageRow {
                meta: MessageMeta { id: MessageId(id), rev: Rev(number), sender, deleted, changed: Seq(changed) },
                device,
                client_seq: ClientSeq(client_seq),
                content_type: ContentType::Text,
                attachments: vec!["{}".into(), String::new()],
                reply_to: time.map(|time| MessageId(u128::from(time))),
                edited_at: time.map(Millis),
                expires_at: None,
                ciphertext: ciphertext.map(Bytes::from),
                reactions: vec![Reaction { emoji: Emoji::new("+").unwrap(), by: vec![UserId::new("u").unwrap()] }],
                enveloped: deleted,
            })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(row in row()) {
            row_round_trips(&row);
            prop_assert_eq!(meta_of(&row.to_wire()).unwrap(), row.meta);
        }

        #[test]
        fn the_small_part_of_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = meta_of(&bytes);
        }

        #[test]
        fn a_range_holds_the_messages_between_two_numbers(key in key(), first in seq(), last in seq()) {
            let range = messages(ThreadId([1; 16]), SeqRange { first, last });
            let inside = (range.from..range.to).contains(&key.encode());
            prop_assert_eq!(inside, key.thread == ThreadId([1; 16]) && (first..=last).contains(&key.seq));
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = MessageKey { thread: ThreadId([7; 16]), seq: Seq(5) };
        let bytes: [&[u8]; 3] = [&[0x13, 0x0a, 0x73], &[7; 16], &5u64.to_be_bytes()];
        assert_eq!(key.encode(), bytes.concat());
    }
}
