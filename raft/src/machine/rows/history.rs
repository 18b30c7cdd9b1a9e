//! The steps of a member's watermarks.
//!
//! Layout: `19 | thread | kind u8 | user NUL | up_to BE64`; kind 1 is delivered, 2 is read.
//! Owns: when each mark passed each message: the first step at or above the message's number says it.
//! Must not know: when the row is written or read.
//! Invariants: the tag, the kinds and the layout never change; the value only gains fields.

use super::key::{Key, KeyRange, KeyReader, KeyWriter};
use messenger_proto::ids::{Millis, Seq, ThreadId, UserId};
use messenger_proto::model::ReceiptKind;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct HistoryKey {
    /// The thread.
    pub thread: ThreadId,
    /// Which mark.
    pub kind: ReceiptKind,
    /// Whose mark.
    pub user: UserId,
    /// Where the step took it.
    pub up_to: Seq,
}

fn kind_byte(kind: ReceiptKind) -> u8 {
    match kind {
        ReceiptKind::Delivered => 1,
        ReceiptKind::Read => 2,
    }
}

impl Key for HistoryKey {
    const TAG: u8 = 0x19;
    type Row = HistoryRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).byte(kind_byte(self.kind)).user(&self.user).seq(self.up_to);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        let thread = key.thread()?;
        let byte = key.byte()?;
        let kind = ReceiptKind::ALL.iter().copied().find(|kind| kind_byte(*kind) == byte)?;
        Some(Self { thread, kind, user: key.user()?, up_to: key.seq()? })
    }
}

messenger_proto::wire_struct! {
    /// When the step was made.
    pub struct HistoryRow { 1 => at: Millis }
}

/// The steps that took a mark to `seq` or beyond.
#[must_use]
pub fn steps_from(thread: ThreadId, kind: ReceiptKind, user: &UserId, seq: Seq) -> KeyRange {
    let mut prefix = KeyWriter::of::<HistoryKey>();
    prefix.thread(thread).byte(kind_byte(kind)).user(user);
    prefix.numbers(seq, Seq(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{seq, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = HistoryKey> {
        (thread(), proptest::sample::select(ReceiptKind::ALL), user(), seq())
            .prop_map(|(thread, kind, user, up_to)| HistoryKey { thread, kind, user, up_to })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn a_range_holds_the_steps_of_one_mark_from_a_number_on(a in key(), b in key()) {
            let range = steps_from(a.thread, a.kind, &a.user, a.up_to);
            let inside = (range.from..range.to).contains(&b.encode());
            let same = (a.thread, a.kind, &a.user) == (b.thread, b.kind, &b.user);
            prop_assert_eq!(inside, same && b.up_to >= a.up_to);
        }

        #[test]
        fn rows_round_trip(at: u64) {
            row_round_trips(&HistoryRow { at: Millis(at) });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let user = UserId::new("al").unwrap();
        let key = HistoryKey { thread: ThreadId([7; 16]), kind: ReceiptKind::Read, user, up_to: Seq(5) };
        let bytes: [&[u8]; 5] = [&[0x19, 0x0a, 0x73], &[7; 16], &[2], b"al\0", &5u64.to_be_bytes()];
        assert_eq!(key.encode(), bytes.concat());
    }
}
