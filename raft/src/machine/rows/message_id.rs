//! From a message's id to its place.
//!
//! Layout: `15 | slot BE16 | id BE128`.
//! Owns: the index behind `/v1/messages/{id}`.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{MessageId, Seq, ThreadId};

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct MessageIdKey {
    /// The message; it names its slot.
    pub id: MessageId,
}

impl Key for MessageIdKey {
    const TAG: u8 = 0x15;
    type Row = MessageIdRow;

    fn write(&self, key: &mut KeyWriter) {
        key.message(self.id);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { id: key.message()? })
    }
}

messenger_proto::wire_struct! {
    /// Where the message is.
    pub struct MessageIdRow { 1 => thread: ThreadId, 2 => seq: Seq }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = MessageIdKey> {
        any::<u128>().prop_map(MessageId).prop_map(|id| MessageIdKey { id })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| key.id.slot().get());
        }

        #[test]
        fn rows_round_trip(thread: [u8; 16], seq: u64) {
            row_round_trips(&MessageIdRow { thread: ThreadId(thread), seq: Seq(seq) });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = MessageIdKey { id: MessageId(0x0102 << 66) };
        let bytes: [&[u8]; 2] = [&[0x15, 0x01, 0x02], &(0x0102u128 << 66).to_be_bytes()];
        assert_eq!(key.encode(), bytes.concat());
    }
}
