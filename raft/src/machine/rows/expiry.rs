//! When remembered commands are forgotten, in order of time.
//!
//! Layout: `21 | expires BE64 | command 16`.
//! Owns: the queue that the sweep works off.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{CommandId, Millis};

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct ExpiryKey {
    /// When.
    pub expires: Millis,
    /// Which.
    pub command: CommandId,
}

impl Key for ExpiryKey {
    const TAG: u8 = 0x21;
    type Row = ExpiryRow;

    fn write(&self, key: &mut KeyWriter) {
        key.millis(self.expires).command(self.command);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { expires: key.millis()?, command: key.command()? })
    }
}

messenger_proto::wire_struct! {
    /// What goes with the command.
    #[derive(Default)]
    pub struct ExpiryRow {
        /// A row of what it took.
        1 => bundles: bool,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{command, number};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = ExpiryKey> {
        (number().prop_map(Millis), command()).prop_map(|(expires, command)| ExpiryKey { expires, command })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |_| 0);
        }
    }

    #[test]
    fn most_rows_are_empty() {
        use messenger_proto::wire::Wire;
        row_round_trips(&ExpiryRow { bundles: true });
        assert!(ExpiryRow::default().to_wire().is_empty());
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = ExpiryKey { expires: Millis(5), command: CommandId([9; 16]) };
        let bytes: [&[u8]; 3] = [&[0x21], &5u64.to_be_bytes(), &[9; 16]];
        assert_eq!(key.encode(), bytes.concat());
    }
}
