//! A message that was sent again to a member which has not read it yet.
//!
//! Layout: `40 | thread | member NUL | event BE64`.
//! Owns: finding by an acknowledgement which messages it takes that came twice.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields; it names a row of [`super::resent`] that
//! names this event.

use super::key::{Key, KeyRange, KeyReader, KeyWriter};
use messenger_proto::ids::{Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UnreadResentKey {
    /// The thread.
    pub thread: ThreadId,
    /// The member.
    pub user: UserId,
    /// The event that sent it again.
    pub event: Seq,
}

impl Key for UnreadResentKey {
    const TAG: u8 = 0x40;
    type Row = UnreadResentRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).user(&self.user).seq(self.event);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, user: key.user()?, event: key.seq()? })
    }
}

messenger_proto::wire_struct! {
    /// The message.
    pub struct UnreadResentRow { 1 => of: Seq }
}

/// A member's, up to an event.
#[must_use]
pub fn unread_up_to(thread: ThreadId, user: &UserId, event: Seq) -> KeyRange {
    KeyWriter::of::<UnreadResentKey>().thread(thread).user(user).numbers(Seq(0), event)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{seq, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = UnreadResentKey> {
        (thread(), user(), seq()).prop_map(|(thread, user, event)| UnreadResentKey { thread, user, event })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
            let range = unread_up_to(a.thread, &a.user, a.event);
            let inside = (range.from..range.to).contains(&b.encode());
            prop_assert_eq!(inside, (a.thread, &a.user) == (b.thread, &b.user) && b.event <= a.event);
        }

        #[test]
        fn rows_round_trip(of: u64) {
            row_round_trips(&UnreadResentRow { of: Seq(of) });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = UnreadResentKey { thread: ThreadId([7; 16]), user: UserId::new("al").unwrap(), event: Seq(5) };
        let bytes: [&[u8]; 5] = [&[0x40], &[0x0a, 0x73], &[7; 16], b"al\0", &5u64.to_be_bytes()];
        assert_eq!(key.encode(), bytes.concat());
    }
}
