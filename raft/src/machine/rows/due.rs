//! When messages disappear, in order of time.
//!
//! Layout: `22 | at BE64 | thread 16 | seq BE64`.
//! Owns: the queue that the leader's timer works off.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::Nothing;
use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{Millis, Seq, ThreadId};

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DueKey {
    /// When.
    pub at: Millis,
    /// In which thread.
    pub thread: ThreadId,
    /// Which message.
    pub seq: Seq,
}

impl Key for DueKey {
    const TAG: u8 = 0x22;
    type Row = Nothing;

    fn write(&self, key: &mut KeyWriter) {
        key.millis(self.at).bare_thread(self.thread).seq(self.seq);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { at: key.millis()?, thread: key.bare_thread()?, seq: key.seq()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{number, seq, thread};
    use crate::machine::rows::testing::keys_keep_order;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = DueKey> {
        (number().prop_map(Millis), thread(), seq()).prop_map(|(at, thread, seq)| DueKey { at, thread, seq })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |_| 0);
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = DueKey { at: Millis(9), thread: ThreadId([7; 16]), seq: Seq(5) };
        let bytes: [&[u8]; 4] = [&[0x22], &9u64.to_be_bytes(), &[7; 16], &5u64.to_be_bytes()];
        assert_eq!(key.encode(), bytes.concat());
    }
}
