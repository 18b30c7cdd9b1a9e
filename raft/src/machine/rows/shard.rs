//! The shard's own row: its clock, the counter of its message ids, and how far dedupe rows were swept.
//!
//! Layout: `01`.
//! Owns: the one row that is not about a thread or a user.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{CommandId, Millis};

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ShardKey;

impl Key for ShardKey {
    const TAG: u8 = 0x01;
    type Row = ShardRow;

    fn write(&self, _: &mut KeyWriter) {}

    fn read(_: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self)
    }
}

messenger_proto::wire_struct! {
    /// What applying a command goes on from.
    pub struct ShardRow {
        /// The shard's time: no time it stored is later.
        1 => last: Millis,
        /// The counter of the last message id made at `last`.
        2 => counter: u32,
        /// Expiry rows up to this one are gone.
        3 => swept_to: Option<ExpiryWire>,
        /// Nothing expires before this.
        4 => sweep_at: Millis,
    }
}

messenger_proto::wire_struct! {
    /// The key of an expiry row, as a value.
    pub struct ExpiryWire { 1 => expires: Millis, 2 => command: CommandId }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::testing::row_round_trips;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn rows_round_trip(last: u64, counter: u32, swept: Option<(u64, [u8; 16])>, sweep_at: u64) {
            let swept_to =
                swept.map(|(ms, id)| ExpiryWire { expires: Millis(ms), command: CommandId(id) });
            row_round_trips(&ShardRow { last: Millis(last), counter, swept_to, sweep_at: Millis(sweep_at) });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        assert_eq!(ShardKey.encode(), [0x01]);
        assert_eq!(ShardKey::decode(&[0x01]).unwrap(), ShardKey);
        assert!(ShardKey::decode(&[0x01, 0]).is_err());
    }
}
