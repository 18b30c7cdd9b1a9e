//! An event of a thread that is no message: the thread was made or changed, a member came or went, a message changed.
//!
//! Layout: `14 | thread | seq BE64`.
//! Owns: the event as it was, free of ciphertext.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::event::ThreadEventBody;
use messenger_proto::ids::{Millis, Rev, Seq, ThreadId};

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct EventKey {
    /// The thread.
    pub thread: ThreadId,
    /// The event's number.
    pub seq: Seq,
}

impl Key for EventKey {
    const TAG: u8 = 0x14;
    type Row = EventRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).seq(self.seq);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, seq: key.seq()? })
    }
}

messenger_proto::wire_struct! {
    /// An event.
    pub struct EventRow {
        1 => rev: Rev,
        2 => at: Millis,
        /// Neither a message nor a receipt; it names the message it is about, and holds nothing that one says.
        3 => body: ThreadEventBody,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{seq, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = EventKey> {
        (thread(), seq()).prop_map(|(thread, seq)| EventKey { thread, seq })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(rev: u64, at: u64, by in user()) {
            let body = ThreadEventBody::ParticipantRemoved(messenger_proto::event::ParticipantRemoved {
                by: by.clone(),
                user: by.clone(),
                promoted: Some(by),
            });
            row_round_trips(&EventRow { rev: Rev(rev), at: Millis(at), body });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = EventKey { thread: ThreadId([7; 16]), seq: Seq(5) };
        let bytes: [&[u8]; 4] = [&[0x14], &[0x0a, 0x73], &[7; 16], &5u64.to_be_bytes()];
        assert_eq!(key.encode(), bytes.concat());
    }
}
