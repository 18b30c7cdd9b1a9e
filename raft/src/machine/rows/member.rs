//! A member of a thread, now or before.
//!
//! Layout: `12 | thread | user NUL`.
//! Owns: the member's role and the spans of its membership, and with them who sees which event.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change, the value only gains fields; spans are in order and do not meet,
//! and only the last may be open. A span begins with the event that added the member and ends with the one that
//! removed it; both belong to it, so that the member hears of its own removal and of nothing after.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{Millis, Position, Rev, Seq, ThreadId, UserId};
use messenger_proto::model::Role;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberKey {
    /// The thread.
    pub thread: ThreadId,
    /// The member.
    pub user: UserId,
}

impl Key for MemberKey {
    const TAG: u8 = 0x12;
    type Row = MemberRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, user: key.user()? })
    }
}

messenger_proto::wire_struct! {
    /// A member, now or before.
    pub struct MemberRow {
        /// As of the last span.
        1 => role: Role,
        2 => spans: Vec<Span>,
    }
}

messenger_proto::wire_struct! {
    /// One stay in the thread.
    pub struct Span {
        /// The event that added the member; it sees this one and those after.
        1 => joined_seq: Seq,
        2 => joined_rev: Rev,
        3 => joined_at: Millis,
        /// `None` while it stays.
        4 => end: Option<SpanEnd>,
    }
}

messenger_proto::wire_struct! {
    /// Where a stay ended.
    pub struct SpanEnd {
        /// The first event no longer seen: one past the removal.
        1 => left_seq: Seq,
        /// The removal's revision.
        2 => rev: Rev,
    }
}

/// Events `first..=last`, not empty.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SeqRange {
    /// The first event.
    pub first: Seq,
    /// The last event.
    pub last: Seq,
}

impl Span {
    fn last_seq(&self) -> Seq {
        Seq(self.end.as_ref().map_or(u64::MAX, |end| end.left_seq.0.saturating_sub(1)))
    }
}

impl MemberRow {
    /// The open span, while the member is present.
    #[must_use]
    pub fn current(&self) -> Option<&Span> {
        self.spans.last().filter(|span| span.end.is_none())
    }

    /// Whether the member is in the thread now.
    #[must_use]
    pub fn present(&self) -> bool {
        self.current().is_some()
    }

    /// Whether the member was there when the event happened.
    #[must_use]
    pub fn sees(&self, seq: Seq) -> bool {
        self.spans.iter().any(|span| span.joined_seq <= seq && seq <= span.last_seq())
    }

    /// What the member sees of the events after `after` up to `up_to`, in order.
    #[must_use]
    pub fn visible(&self, after: Seq, up_to: Seq) -> Vec<SeqRange> {
        let mut ranges = Vec::new();
        for span in &self.spans {
            let first = span.joined_seq.max(Seq(after.0.saturating_add(1)));
            let last = span.last_seq().min(up_to);
            if after < up_to && first <= last {
                ranges.push(SeqRange { first, last });
            }
        }
        ranges
    }

    /// The place just before the member first joined.
    #[must_use]
    pub fn start(&self) -> Position {
        self.spans.first().map_or_else(Position::default, |span| Position {
            seq: Seq(span.joined_seq.0.saturating_sub(1)),
            rev: Rev(span.joined_rev.0.saturating_sub(1)),
        })
    }

    /// The place at which nothing more will come, for one that left.
    #[must_use]
    pub fn end(&self) -> Option<Position> {
        let end = self.spans.last()?.end.as_ref()?;
        Some(Position { seq: Seq(end.left_seq.0.saturating_sub(1)), rev: end.rev })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = MemberKey> {
        (thread(), user()).prop_map(|(thread, user)| MemberKey { thread, user })
    }

    /// Stays of the given lengths, each followed by an absence; the last may be open.
    fn row() -> impl Strategy<Value = MemberRow> {
        (proptest::collection::vec((1u64..5, 1u64..5), 1..4), any::<bool>()).prop_map(|(lengths, open)| {
            let (mut at, mut spans) = (0, Vec::new());
            for (absent, stays) in lengths {
                let joined = at + absent;
                at = joined + stays;
                let end = Some(SpanEnd { left_seq: Seq(at), rev: Rev(at * 2) });
                let (joined_seq, joined_rev) = (Seq(joined), Rev(joined * 2));
                spans.push(Span { joined_seq, joined_rev, joined_at: Millis(joined), end });
            }
            if let (true, Some(last)) = (open, spans.last_mut()) {
                last.end = None;
            }
            MemberRow { role: Role::Member, spans }
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
        }

        #[test]
        fn visible_ranges_are_what_the_member_sees(row in row(), after in 0u64..40, up_to in 0u64..40) {
            let listed: Vec<u64> =
                row.visible(Seq(after), Seq(up_to)).iter().flat_map(|range| range.first.0..=range.last.0).collect();
            let seen: Vec<u64> = (after + 1..=up_to).filter(|seq| row.sees(Seq(*seq))).collect();
            prop_assert_eq!(listed, seen);
            prop_assert_eq!(row.present(), row.sees(Seq(1_000)));
            prop_assert!(row.sees(row.start().seq.next()) && !row.sees(row.start().seq));
            if let Some(end) = row.end() {
                prop_assert!(row.sees(end.seq) && !row.sees(end.seq.next()));
            }
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = MemberKey { thread: ThreadId([7; 16]), user: UserId::new("al").unwrap() };
        let bytes: [&[u8]; 4] = [&[0x12], &[0x0a, 0x73], &[7; 16], b"al\0"];
        assert_eq!(key.encode(), bytes.concat());
    }
}
