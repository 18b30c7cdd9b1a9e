//! What changes rarely about a thread.
//!
//! Layout: `10 | thread`.
//! Owns: the row apart from the one that every message rewrites, see [`super::head`].
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{Millis, Seq, ThreadId, UserId};
use messenger_proto::model::{Pin, ThreadKind};

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ThreadKey {
    /// The thread.
    pub thread: ThreadId,
}

impl Key for ThreadKey {
    const TAG: u8 = 0x10;
    type Row = ThreadRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()? })
    }
}

messenger_proto::wire_struct! {
    /// A thread, less its members and its progress.
    pub struct ThreadRow {
        1 => kind: ThreadKind,
        2 => title: Option<String>,
        3 => description: Option<String>,
        4 => created_at: Millis,
        5 => created_by: UserId,
        /// When the members or anything above last changed.
        6 => updated_at: Millis,
        /// In the order in which they were made.
        7 => pins: Vec<PinnedMessage>,
    }
}

messenger_proto::wire_struct! {
    /// A pin, and its message's number.
    pub struct PinnedMessage { 1 => seq: Seq, 2 => pin: Pin }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use messenger_proto::ids::MessageId;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = ThreadKey> {
        thread().prop_map(|thread| ThreadKey { thread })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(title: Option<String>, at: u64, created_by in user()) {
            let (created_at, updated_at) = (Millis(at), Millis(at / 2));
            let kind = ThreadKind::Group;
            let pin = Pin { message: MessageId(u128::from(at)), by: created_by.clone(), at: created_at };
            let pins = vec![PinnedMessage { seq: Seq(at), pin }; 2];
            let description = title.clone();
            row_round_trips(&ThreadRow { kind, title, description, created_at, created_by, updated_at, pins });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = ThreadKey { thread: ThreadId([7; 16]) };
        let bytes: [&[u8]; 3] = [&[0x10], &[0x0a, 0x73], &[7; 16]];
        assert_eq!(key.encode(), bytes.concat());
    }
}
