//! Which message a device sent under a number of its own; lives as long as the message.
//!
//! Layout: `16 | thread | user NUL | device NUL | client_seq BE64`.
//! Owns: the dedupe of sends that outlasts every key.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{ClientSeq, DeviceId, Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ClientSeqKey {
    /// The thread.
    pub thread: ThreadId,
    /// The sender.
    pub user: UserId,
    /// Its device.
    pub device: DeviceId,
    /// The device's number.
    pub client_seq: ClientSeq,
}

impl Key for ClientSeqKey {
    const TAG: u8 = 0x16;
    type Row = ClientSeqRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).user(&self.user).device(&self.device).number(self.client_seq.0);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self {
            thread: key.thread()?,
            user: key.user()?,
            device: key.device()?,
            client_seq: key.number().map(ClientSeq)?,
        })
    }
}

messenger_proto::wire_struct! {
    /// The message under the number.
    pub struct ClientSeqRow {
        1 => seq: Seq,
        /// Hash of the request's canonical body.
        2 => body_hash: u64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{device, number, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = ClientSeqKey> {
        (thread(), user(), device(), number().prop_map(ClientSeq))
            .prop_map(|(thread, user, device, client_seq)| ClientSeqKey { thread, user, device, client_seq })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(seq: u64, body_hash: u64) {
            row_round_trips(&ClientSeqRow { seq: Seq(seq), body_hash });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = ClientSeqKey {
            thread: ThreadId([7; 16]),
            user: UserId::new("al").unwrap(),
            device: DeviceId::new("d").unwrap(),
            client_seq: ClientSeq(5),
        };
        let bytes: [&[u8]; 5] = [&[0x16], &[0x0a, 0x73], &[7; 16], b"al\0d\0", &5u64.to_be_bytes()];
        assert_eq!(key.encode(), bytes.concat());
    }
}
