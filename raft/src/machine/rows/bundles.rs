//! What a command took, for as long as the command is remembered.
//!
//! Layout: `35 | command 16`.
//! Owns: the answer that a repeat of it is given again: the keys are nowhere else any more.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::CommandId;
use messenger_proto::keys::Bundles;

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct BundlesKey {
    /// The command.
    pub command: CommandId,
}

impl Key for BundlesKey {
    const TAG: u8 = 0x35;
    type Row = Bundles;

    fn write(&self, key: &mut KeyWriter) {
        key.command(self.command);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { command: key.command()? })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::device::tests::prekey;
    use crate::machine::rows::key::tests::{command, device};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use bytes::Bytes;
    use messenger_proto::ids::RegistrationId;
    use messenger_proto::keys::{Bundle, OfferedKey};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = BundlesKey> {
        command().prop_map(|command| BundlesKey { command })
    }

    fn offered() -> impl Strategy<Value = Option<OfferedKey>> {
        proptest::option::of((prekey(), any::<bool>()).prop_map(|(key, last_resort)| OfferedKey { key, last_resort }))
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |_| 0);
        }

        #[test]
        fn rows_round_trip(
            device in device(),
            signed_prekey in prekey(),
            one_time in offered(),
            pq in offered(),
            other in device(),
        ) {
            let (registration, identity_key) = (RegistrationId(7), Bytes::from_static(b"identity"));
            let bundle = Bundle { device, registration, identity_key, signed_prekey, one_time, pq };
            row_round_trips(&Bundles { devices: vec![bundle], exhausted: vec![other] });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = BundlesKey { command: CommandId([9; 16]) };
        assert_eq!(key.encode(), [&[0x35], [9; 16].as_slice()].concat());
    }
}
