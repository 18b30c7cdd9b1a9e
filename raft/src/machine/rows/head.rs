//! How far a thread is: the row that every message rewrites, so it is small.
//!
//! Layout: `11 | thread`.
//! Owns: the counters of a thread.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use crate::machine::tables::TableError;
use messenger_proto::ids::{MessageId, Position, Rev, Seq, ThreadId};

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct HeadKey {
    /// The thread.
    pub thread: ThreadId,
}

impl Key for HeadKey {
    const TAG: u8 = 0x11;
    type Row = HeadRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()? })
    }
}

messenger_proto::wire_struct! {
    /// A thread's counters; the thread exists when this row does.
    #[derive(Default)]
    pub struct HeadRow {
        /// The last event's number.
        1 => seq: Seq,
        /// The last event's or receipt's revision.
        2 => rev: Rev,
        /// Members present.
        3 => members: u32,
        4 => last: Option<LastMessage>,
        /// Pairs of which one keeps the other away now.
        10 => blocks: u32,
        /// Some pair once was one.
        11 => veiled: bool,
        /// Some message was sent again.
        12 => resent: bool,
    }
}

messenger_proto::wire_struct! {
    /// The newest message.
    pub struct LastMessage { 1 => id: MessageId, 2 => seq: Seq }
}

impl HeadRow {
    /// Counts a receipt.
    ///
    /// # Errors
    /// [`TableError`] when the counter is corrupt: no thread gets that far.
    pub fn next_rev(&mut self) -> Result<Rev, TableError> {
        let rev = self.rev.0.checked_add(1).ok_or_else(|| TableError("corrupt rev".into()))?;
        self.rev = Rev(rev);
        Ok(self.rev)
    }

    /// Counts an event.
    ///
    /// # Errors
    /// As [`HeadRow::next_rev`].
    pub fn next_event(&mut self) -> Result<(Seq, Rev), TableError> {
        let seq = self.seq.0.checked_add(1).ok_or_else(|| TableError("corrupt seq".into()))?;
        self.seq = Seq(seq);
        Ok((self.seq, self.next_rev()?))
    }

    /// The device's place once it has everything.
    #[must_use]
    pub fn end(&self) -> Position {
        Position { seq: self.seq, rev: self.rev }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::thread;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = HeadKey> {
        thread().prop_map(|thread| HeadKey { thread })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(seq: u64, rev: u64, members: u32, last: Option<(u128, u64)>) {
            let last = last.map(|(id, seq)| LastMessage { id: MessageId(id), seq: Seq(seq) });
            let (blocks, veiled, resent) = (members / 2, members % 2 == 0, seq % 2 == 0);
            row_round_trips(&HeadRow { seq: Seq(seq), rev: Rev(rev), members, last, blocks, veiled, resent });
        }
    }

    #[test]
    fn counters_at_the_end_of_their_range_are_corrupt() {
        let mut head = HeadRow { seq: Seq(1), rev: Rev(u64::MAX), ..HeadRow::default() };
        assert!(head.next_rev().is_err() && head.next_event().is_err());
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = HeadKey { thread: ThreadId([7; 16]) };
        let bytes: [&[u8]; 3] = [&[0x11], &[0x0a, 0x73], &[7; 16]];
        assert_eq!(key.encode(), bytes.concat());
    }
}
