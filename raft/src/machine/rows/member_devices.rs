//! The devices of a member, as its own shard told the thread.
//!
//! Layout: `1b | thread | user NUL`.
//! Owns: what a message's envelopes are held against.
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields; only members in the thread now have one.

use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::ids::{ThreadId, UserId};
use messenger_proto::profile::ProfileDevice;

/// The key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct MemberDevicesKey {
    /// The thread.
    pub thread: ThreadId,
    /// The member.
    pub user: UserId,
}

impl Key for MemberDevicesKey {
    const TAG: u8 = 0x1b;
    type Row = MemberDevicesRow;

    fn write(&self, key: &mut KeyWriter) {
        key.thread(self.thread).user(&self.user);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { thread: key.thread()?, user: key.user()? })
    }
}

messenger_proto::wire_struct! {
    /// The devices.
    pub struct MemberDevicesRow {
        /// Of the profile that was taken last.
        1 => version: u64,
        2 => devices_version: u64,
        3 => devices: Vec<ProfileDevice>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::{thread, user};
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = MemberDevicesKey> {
        (thread(), user()).prop_map(|(thread, user)| MemberDevicesKey { thread, user })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |key| messenger_proto::slot::Slot::of_thread(key.thread).get());
        }

        #[test]
        fn rows_round_trip(version: u64, devices_version: u64, registration: u64) {
            let device = messenger_proto::ids::DeviceId::new("phone").unwrap();
            let registration = messenger_proto::ids::RegistrationId(registration);
            let devices = vec![ProfileDevice { device, registration }];
            row_round_trips(&MemberDevicesRow { version, devices_version, devices });
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = MemberDevicesKey { thread: ThreadId([7; 16]), user: UserId::new("al").unwrap() };
        let bytes: [&[u8]; 4] = [&[0x1b], &[0x0a, 0x73], &[7; 16], b"al\0"];
        assert_eq!(key.encode(), bytes.concat());
    }
}
