//! What a user shows of itself to others, where that is not everything.
//!
//! Layout: `38 | slot BE16 | user NUL`.
//! Owns: the user's choice.
//! Must not know: when the row is written or read, or whether the user is there.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::UserId;
use messenger_proto::model::PresenceAudience;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct PrivacyKey {
    /// The user.
    pub user: UserId,
}

impl Key for PrivacyKey {
    const TAG: u8 = 0x38;
    type Row = PrivacyRow;

    fn write(&self, key: &mut KeyWriter) {
        key.slotted_user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { user: key.slotted_user()? })
    }
}

messenger_proto::wire_struct! {
    /// The choice.
    pub struct PrivacyRow { 1 => presence: PresenceAudience }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::user;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use messenger_proto::wire::Wire;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = PrivacyKey> {
        user().prop_map(|user| PrivacyKey { user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_user(&key.user).get());
        }

        #[test]
        fn rows_round_trip(presence in prop::sample::select(PresenceAudience::ALL)) {
            row_round_trips(&PrivacyRow { presence });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = PrivacyKey { user: UserId::new("alice").unwrap() };
        assert_eq!(key.encode(), [&[0x38, 0x16, 0xb0], b"alice\0".as_slice()].concat());
        assert_eq!(PrivacyRow { presence: PresenceAudience::Nobody }.to_wire(), [0x08, 2]);
    }
}
