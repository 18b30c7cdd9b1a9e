//! Where a device is in a thread, as far as it acknowledged.
//!
//! Layout: `1a | thread | user NUL | device NUL`.
//! Owns: the place that resume starts from.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{DeviceId, Position, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PositionKey {
    /// The thread.
    pub thread: ThreadId,
    /// The member.
    pub user: UserId,
    /// Its device.
    pub device: DeviceId,
}

impl Key for PositionKey {
    const TAG: u8 = 0x1a;
    type Row = PositionRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).user(&self.user).device(&self.device);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, user: key.user()?, device: key.device()? })
    }
}

messenger_proto::wire_struct! {
    /// The place.
    pub struct PositionRow { 1 => position: Position }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{device, thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = PositionKey> {
        (thread(), user(), device()).prop_map(|(thread, user, device)| PositionKey { thread, user, device })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(seq: u64, rev: u64) {
            use messenger_proto::ids::{Rev, Seq};
            row_round_trips(&PositionRow { position: Position { seq: Seq(seq), rev: Rev(rev) } });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = PositionKey {
            thread: ThreadId([7; 16]),
            user: UserId::new("al").unwrap(),
            device: DeviceId::new("d").unwrap(),
        };
        let bytes: [&[u8]; 4] = [&[0x1a], &[0x0a, 0x73], &[7; 16], b"al\0d\0"];
        assert_eq!(key.encode(), bytes.concat());
    }
}
