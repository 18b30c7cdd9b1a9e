//! How far a member took and read a thread.
//!
//! Layout: `18 | thread | user NUL`.
//! Owns: the latest step of each kind; the steps before are in [`super::history`].
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{MessageId, Millis, Rev, Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct WatermarkKey {
    /// The thread.
    pub thread: ThreadId,
    /// The member.
    pub user: UserId,
}

impl Key for WatermarkKey {
    const TAG: u8 = 0x18;
    type Row = WatermarkRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, user: key.user()? })
    }
}

messenger_proto::wire_struct! {
    /// Both marks; `read` is never ahead of `delivered`.
    #[derive(Default)]
    pub struct WatermarkRow { 1 => delivered: Option<Mark>, 2 => read: Option<Mark> }
}

messenger_proto::wire_struct! {
    /// A mark and when it got there.
    pub struct Mark {
        /// The highest message covered.
        1 => seq: Seq,
        2 => id: MessageId,
        3 => at: Millis,
        /// Of the receipt that said so.
        4 => rev: Rev,
    }
}

impl WatermarkRow {
    /// The highest message delivered; 0 when none is.
    #[must_use]
    pub fn delivered_seq(&self) -> Seq {
        self.delivered.as_ref().map_or(Seq(0), |mark| mark.seq)
    }

    /// The highest message read; 0 when none is.
    #[must_use]
    pub fn read_seq(&self) -> Seq {
        self.read.as_ref().map_or(Seq(0), |mark| mark.seq)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = WatermarkKey> {
        (thread(), user()).prop_map(|(thread, user)| WatermarkKey { thread, user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(marks: [Option<(u64, u128, u64, u64)>; 2]) {
            let [delivered, read] = marks.map(|mark| {
                mark.map(|(seq, id, at, rev)| Mark { seq: Seq(seq), id: MessageId(id), at: Millis(at), rev: Rev(rev) })
            });
            row_round_trips(&WatermarkRow { delivered, read });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = WatermarkKey { thread: ThreadId([7; 16]), user: UserId::new("al").unwrap() };
        let bytes: [&[u8]; 4] = [&[0x18], &[0x0a, 0x73], &[7; 16], b"al\0"];
        assert_eq!(key.encode(), bytes.concat());
    }
}
