//! A user's index: a thread it is in, or a tombstone of one it left.
//!
//! Layout: `30 | slot BE16 | user NUL | thread 16`.
//! Owns: one entry of the index.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{Millis, Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct UserThreadKey {
    /// The user.
    pub user: UserId,
    /// The thread.
    pub thread: ThreadId,
}

impl Key for UserThreadKey {
    const TAG: u8 = 0x30;
    type Row = UserThreadRow;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user).bare_thread(self.thread);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.slotted_user()?, thread: key.bare_thread()? })
    }
}

messenger_proto::wire_struct! {
    /// The entry; kept as a tombstone so that a late, older change is known to be older.
    pub struct UserThreadRow {
        /// The thread event that says so.
        1 => source_seq: Seq,
        2 => present: bool,
        /// When a tombstone was made: its departure's time, if that is still kept.
        3 => left_at: Option<Millis>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = UserThreadKey> {
        (user(), thread()).prop_map(|(user, thread)| UserThreadKey { user, thread })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(seq: u64, present: bool, left_at: Option<u64>) {
            row_round_trips(&UserThreadRow { source_seq: Seq(seq), present, left_at: left_at.map(Millis) });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = UserThreadKey { user: UserId::new("alice").unwrap(), thread: ThreadId([7; 16]) };
        let bytes: [&[u8]; 3] = [&[0x30, 0x16, 0xb0], b"alice\0", &[7; 16]];
        assert_eq!(key.encode(), bytes.concat());
    }
}
