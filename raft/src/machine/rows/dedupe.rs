//! A command that was carried out.
//!
//! Layout: `20 | command 16`.
//! Owns: what a repeat is compared with, and what it is answered from: a reference, never the reply (see [`super::bundles`]).
//! Must not know: when the row is written or read.
//! Invariants: the tag and the layout never change; the value only gains fields.

use super::Nothing;
use super::key::{Key, KeyReader, KeyWriter};
use messenger_proto::command::OutboxBarrier;
use messenger_proto::ids::{CommandId, DeviceId, Millis, ReportId, Seq, ThreadId, UserId};

/// The key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct DedupeKey {
    /// The command.
    pub command: CommandId,
}

impl Key for DedupeKey {
    const TAG: u8 = 0x20;
    type Row = DedupeRow;

    fn write(&self, key: &mut KeyWriter) {
        key.command(self.command);
    }

    fn read(key: &mut KeyReader<'_>) -> Option<Self> {
        Some(Self { command: key.command()? })
    }
}

messenger_proto::wire_struct! {
    /// What was done.
    pub struct DedupeRow {
        /// Hash of the request's canonical body.
        1 => body_hash: u64,
        /// Forgotten from then on; also the key of its expiry row.
        2 => expires: Millis,
        3 => reference: Reference,
    }
}

messenger_proto::wire_enum! {
    /// Where the answer is found again.
    pub enum Reference {
        1 => Message(MessageRef),
        2 => Thread(ThreadRef),
        3 => Done(DoneRef),
        /// Nothing was done yet: the id stands for this body, and the command itself may still come.
        4 => Claimed(Nothing),
        5 => Pins(PinsRef),
        /// What it took stands in a row of its own.
        20 => Bundles(Nothing),
        21 => Device(DeviceRef),
        70 => Report(ReportRef),
    }
}

messenger_proto::wire_struct! {
    /// A message that was stored.
    pub struct MessageRef { 1 => thread: ThreadId, 2 => seq: Seq }
}

messenger_proto::wire_struct! {
    /// A thread that was made or changed.
    pub struct ThreadRef {
        1 => thread: ThreadId,
        2 => created: bool,
        /// The event that the answer's barrier waits for.
        3 => barrier: Seq,
    }
}

messenger_proto::wire_struct! {
    /// The pins of a thread.
    pub struct PinsRef { 1 => thread: ThreadId }
}

messenger_proto::wire_struct! {
    /// A device that published keys.
    pub struct DeviceRef { 1 => user: UserId, 2 => device: DeviceId, 3 => barrier: Option<OutboxBarrier> }
}

messenger_proto::wire_struct! {
    /// A report that was kept.
    pub struct ReportRef { 1 => id: ReportId }
}

messenger_proto::wire_struct! {
    /// Something with no answer of its own.
    pub struct DoneRef { 1 => barrier: Option<OutboxBarrier> }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::machine::rows::key::tests::command;
    use crate::machine::rows::testing::{keys_keep_order, row_round_trips};
    use messenger_proto::command::ThreadBarrier;
    use proptest::prelude::*;

    fn key() -> impl Strategy<Value = DedupeKey> {
        command().prop_map(|command| DedupeKey { command })
    }

    proptest! {
        #[test]
        fn keys_round_trip_in_order(a in key(), b in key()) {
            keys_keep_order(&a, &b, |_| 0);
        }

        #[test]
        fn rows_round_trip(body_hash: u64, expires: u64, thread: [u8; 16], seq: u64, created: bool) {
            let (thread, seq, expires) = (ThreadId(thread), Seq(seq), Millis(expires));
            for reference in [
                Reference::Message(MessageRef { thread, seq }),
                Reference::Thread(ThreadRef { thread, created, barrier: seq }),
                Reference::Done(DoneRef { barrier: Some(OutboxBarrier::Thread(ThreadBarrier { thread, seq })) }),
                Reference::Done(DoneRef { barrier: None }),
                Reference::Claimed(Nothing {}),
                Reference::Pins(PinsRef { thread }),
                Reference::Bundles(Nothing {}),
                Reference::Device(DeviceRef {
                    user: UserId::new("u").unwrap(),
                    device: DeviceId::new("d").unwrap(),
                    barrier: None,
                }),
            ] {
                row_round_trips(&DedupeRow { body_hash, expires, reference });
            }
        }
    }

    #[test]
    fn the_layout_is_pinned() {
        let key = DedupeKey { command: CommandId([9; 16]) };
        let bytes: [&[u8]; 2] = [&[0x20], &[9; 16]];
        assert_eq!(key.encode(), bytes.concat());
    }
}
