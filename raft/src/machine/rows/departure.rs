//! A thread that a user left, for those of its devices that were not told yet.
//!
//! Layout: `32 | slot BE16 | user NUL | time BE64 | thread 16`.
//! Owns: the order of a user's departures in time.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyRange, KeyReader, KeyWriter};
use messenger_proto::ids::{Millis, Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct DepartureKey {
    /// The user.
    pub user: UserId,
    /// When the user's shard learned of it.
    pub at: Millis,
    /// The thread.
    pub thread: ThreadId,
}

impl DepartureKey {
    /// The keys of a user's departures at `at` or later.
    #[must_use]
    pub fn since(user: &UserId, at: Millis) -> KeyRange {
        let mut all = KeyWriter::of::<Self>();
        let to = all.slotted_user(user).range().to;
        KeyRange { from: all.millis(at).range().from, to }
    }
}

impl Key for DepartureKey {
    const TAG: u8 = 0x32;
    type Row = DepartureRow;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user).millis(self.at).bare_thread(self.thread);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.slotted_user()?, at: key.millis()?, thread: key.bare_thread()? })
    }
}

messenger_proto::wire_struct! {
    /// Which departure it was.
    pub struct DepartureRow {
        /// The thread event that removed the user.
        1 => source_seq: Seq,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{number, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = DepartureKey> {
        (user(), number(), thread()).prop_map(|(user, at, thread)| DepartureKey { user, at: Millis(at), thread })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(seq: u64) {
            row_round_trips(&DepartureRow { source_seq: Seq(seq) });
        }

        #[test]
        fn a_range_holds_the_users_departures_from_a_time_on(key in key(), user in user(), at in number()) {
            let range = DepartureKey::since(&user, Millis(at));
            let bytes = key.encode();
            prop_assert_eq!(range.from <= bytes && bytes < range.to, key.user == user && key.at.0 >= at);
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let user = UserId::new("alice").unwrap();
        let key = DepartureKey { user, at: Millis(5), thread: ThreadId([7; 16]) };
        let bytes: [&[u8]; 4] = [&[0x32, 0x16, 0xb0], b"alice\0", &5u64.to_be_bytes(), &[7; 16]];
        assert_eq!(key.encode(), bytes.concat());
    }
}
