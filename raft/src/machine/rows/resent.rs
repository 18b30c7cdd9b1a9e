//! How a message that had failed for a member and was sent again, to it or to others, got on with it.
//!
//! Layout: `1f | thread | seq BE64 | member NUL`.
//! Owns: the exception to what blocks and watermarks say of that message and member.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields; who has read it has taken it.

use super::key::{Key, KeyRange, KeyReader, KeyWriter};
use messenger_proto::ids::{Millis, Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct ResentKey {
    /// The thread.
    pub thread: ThreadId,
    /// The message.
    pub seq: Seq,
    /// For whom.
    pub user: UserId,
}

impl Key for ResentKey {
    const TAG: u8 = 0x1f;
    type Row = ResentRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).seq(self.seq).user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, seq: key.seq()?, user: key.user()? })
    }
}

messenger_proto::wire_struct! {
    /// How it got on.
    #[derive(Default)]
    pub struct ResentRow {
        /// The event that sent it again, the last one; 0 for one that it was not sent to again.
        1 => event: Seq,
        2 => delivered_at: Option<Millis>,
        3 => read_at: Option<Millis>,
        /// Since when it has failed for whom it was not sent to again, by its time or by a block that came after it: what
        /// else is known of the message no longer says so.
        4 => failed_at: Option<Millis>,
        /// It kept the sender away when it was sent again to others, and so is not shown what they are.
        5 => hidden: bool,
    }
}

/// Those of one message.
#[must_use]
pub fn resent_to(thread: ThreadId, seq: Seq) -> KeyRange {
    KeyWriter::of::<ResentKey>().thread(thread).seq(seq).range()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{seq, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = ResentKey> {
        (thread(), seq(), user()).prop_map(|(thread, seq, user)| ResentKey { thread, seq, user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
            let range = resent_to(a.thread, a.seq);
            let inside = (range.from..range.to).contains(&b.encode());
            prop_assert_eq!(inside, (a.thread, a.seq) == (b.thread, b.seq));
        }

        #[test]
        fn rows_round_trip(event: u64, delivered: Option<u64>, read: Option<u64>, failed: Option<u64>) {
            let (delivered_at, read_at, failed_at) = (delivered.map(Millis), read.map(Millis), failed.map(Millis));
            row_round_trips(&ResentRow { event: Seq(event), delivered_at, read_at, failed_at, hidden: event % 2 == 0 });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = ResentKey { thread: ThreadId([7; 16]), seq: Seq(5), user: UserId::new("al").unwrap() };
        let bytes: [&[u8]; 5] = [&[0x1f], &[0x0a, 0x73], &[7; 16], &5u64.to_be_bytes(), b"al\0"];
        assert_eq!(key.encode(), bytes.concat());
    }
}
