//! What the devices of one user have of a message that was sent in envelopes.
//!
//! Layout: `17 | thread | seq BE64 | user NUL`.
//! Owns: the envelopes' place, apart from the message's row, so that whoever looks at the message reads its own alone.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields; these ciphertexts are here and nowhere
//! else.

use super::key::{Key, KeyRange, KeyReader, KeyWriter};
use super::member::SeqRange;
use super::message::MessageKey;
use bytes::Bytes;
use messenger_proto::envelope::EnvelopeKind;
use messenger_proto::ids::{DeviceId, Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct EnvelopesKey {
    /// The thread.
    pub thread: ThreadId,
    /// The message's number.
    pub seq: Seq,
    /// Whose devices.
    pub user: UserId,
}

impl Key for EnvelopesKey {
    const TAG: u8 = 0x17;
    type Row = EnvelopesRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).seq(self.seq).user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, seq: key.seq()?, user: key.user()? })
    }
}

messenger_proto::wire_struct! {
    /// In order of device; never empty.
    #[derive(Default)]
    pub struct EnvelopesRow { 1 => devices: Vec<StoredEnvelope> }
}

messenger_proto::wire_struct! {
    /// What one device has.
    pub struct StoredEnvelope { 1 => device: DeviceId, 2 => kind: Option<EnvelopeKind>, 3 => ciphertext: Bytes }
}

/// The rows of one message.
#[must_use]
pub fn of_message(MessageKey { thread, seq }: MessageKey) -> KeyRange {
    of_messages(thread, SeqRange { first: seq, last: seq })
}

/// The rows of a thread's messages between two numbers.
#[must_use]
pub fn of_messages(thread: ThreadId, range: SeqRange) -> KeyRange {
    let mut prefix = KeyWriter::of::<EnvelopesKey>();
    prefix.thread(thread);
    prefix.numbers(range.first, range.last)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{device, seq, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use messenger_proto::envelope::{KindName, KindNumber};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = EnvelopesKey> {
        (thread(), seq(), user()).prop_map(|(thread, seq, user)| EnvelopesKey { thread, seq, user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(a in device(), b in device(), number: u32, name in ".{0,4}", ciphertext: Vec<u8>) {
            let number = EnvelopeKind::Number(KindNumber { number });
            let name = EnvelopeKind::Name(KindName { name });
            let ciphertext = Bytes::from(ciphertext);
            let one = StoredEnvelope { device: a, kind: Some(number), ciphertext: ciphertext.clone() };
            let other = StoredEnvelope { device: b.clone(), kind: Some(name), ciphertext };
            let plain = StoredEnvelope { device: b, kind: None, ciphertext: Bytes::new() };
            row_round_trips(&EnvelopesRow { devices: vec![one, other, plain] });
        }

        #[test]
        fn a_range_holds_the_rows_of_its_messages(key in key(), first in seq(), last in seq()) {
            let range = of_messages(ThreadId([1; 16]), SeqRange { first, last });
            let inside = (range.from..range.to).contains(&key.encode());
            prop_assert_eq!(inside, key.thread == ThreadId([1; 16]) && (first..=last).contains(&key.seq));
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = EnvelopesKey { thread: ThreadId([7; 16]), seq: Seq(5), user: UserId::new("al").unwrap() };
        let bytes: [&[u8]; 4] = [&[0x17, 0x0a, 0x73], &[7; 16], &5u64.to_be_bytes(), b"al\0"];
        assert_eq!(key.encode(), bytes.concat());
    }
}
