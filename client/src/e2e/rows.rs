//! What a device keeps about itself, about others, and of what was said.
//!
//! Owns: the store's tables, their keys and the form of their rows.
//! Must not know: how rows come about.
//! Invariants: tags are pinned; keys of a thread or a user lie together, a thread's messages in its order.

use crate::devices::{DeviceRef, Envelope};
use crate::store::Table;
use bytes::Bytes;
use messenger_proto::ids::{ClientSeq, DeviceId, MessageId, Millis, ThreadId, UserId};

/// One row: this device's own keys.
pub(super) const ACCOUNT: Table = Table::new("account");
/// By user and device: what is known of others' devices, and the sessions with them.
pub(super) const PEERS: Table = Table::new("peers");
/// By user: whose devices were all met once, so that another one is news.
pub(super) const USERS: Table = Table::new("users");
/// By thread and message: what was said.
pub(super) const HISTORY: Table = Table::new("history");
/// By thread, sender, device and number: which message it was.
pub(super) const NUMBERS: Table = Table::new("numbers");
/// By number: what is to be sent.
pub(super) const OUTBOX: Table = Table::new("outbox");
/// By the name a conversation was asked for: what it was when it was last entered.
pub(super) const THREADS: Table = Table::new("threads");
pub(super) const ALL: [Table; 7] = [ACCOUNT, PEERS, USERS, HISTORY, NUMBERS, OUTBOX, THREADS];

/// The key of the only row of a table.
pub(super) const ONLY: &[u8] = b"-";

messenger_proto::wire_struct! {
    /// A device's own keys.
    pub(super) struct AccountRow {
        1 => pickle: Bytes,
        2 => registration: u64,
        3 => last_key_id: u64,
        4 => fallback: KeyRow,
        5 => fallback_made_at: Millis,
        /// Made, and not yet known to be published.
        6 => unpublished: Vec<KeyRow>,
        /// The newest number given to a message.
        7 => last_number: ClientSeq,
    }
}

messenger_proto::wire_struct! {
    /// A public key under its number.
    pub(super) struct KeyRow { 1 => id: u64, 2 => key: Bytes }
}

messenger_proto::wire_struct! {
    /// Another device.
    pub(super) struct PeerRow {
        1 => identity: Bytes,
        2 => registration: u64,
        /// The one that was used last comes first.
        3 => sessions: Vec<SessionRow>,
        /// A message could not be read: the next one to it begins a new session.
        4 => renew: bool,
        /// It is among its user's devices no more.
        5 => gone: bool,
    }
}

messenger_proto::wire_struct! {
    /// A session, as vodozemac keeps it.
    pub(super) struct SessionRow { 1 => id: String, 2 => pickle: Bytes }
}

messenger_proto::wire_struct! {
    /// A user whose devices were met.
    pub(super) struct UserRow { 1 => met: bool }
}

messenger_proto::wire_struct! {
    /// A thread, as JSON.
    pub(super) struct ThreadRow { 1 => json: Bytes }
}

messenger_proto::wire_struct! {
    /// Which message has a number.
    pub(super) struct NumberRow { 1 => id: MessageId }
}

messenger_proto::wire_struct! {
    /// A message to be sent, sealed or not.
    pub(super) struct OutgoingRow {
        1 => thread: ThreadId,
        2 => text: String,
        /// The `Idempotency-Key` of the envelopes; empty while there are none.
        3 => key: String,
        4 => envelopes: Vec<EnvelopeRow>,
        5 => allow_mismatch: bool,
    }
}

messenger_proto::wire_struct! {
    /// An envelope as it is sent.
    pub(super) struct EnvelopeRow {
        1 => user: UserId,
        2 => device: DeviceId,
        3 => registration: u64,
        4 => ciphertext: Bytes,
    }
}

messenger_proto::wire_code! {
    /// What is known of a message.
    pub enum RecordKind {
        /// It was encrypted, and this is its text.
        1 => Encrypted = "encrypted",
        /// It was sent as it is, for everyone on its way to read.
        2 => Plain = "plain",
        /// It was encrypted and cannot be read; the text says why.
        3 => Unreadable = "unreadable",
        /// There was nothing in it for this device.
        4 => Absent = "absent",
        5 => Deleted = "deleted",
        6 => Expired = "expired",
    }
}

messenger_proto::wire_struct! {
    /// Who put an emoji on a message.
    pub struct RecordReaction { 1 => emoji: String, 2 => by: UserId }
}

messenger_proto::wire_struct! {
    /// A message as this device keeps it.
    pub struct Record {
        1 => id: MessageId,
        2 => thread: ThreadId,
        3 => seq: u64,
        4 => sender: UserId,
        5 => sender_device: DeviceId,
        6 => number: ClientSeq,
        /// RFC 3339.
        7 => created_at: String,
        8 => kind: RecordKind,
        9 => text: String,
        /// RFC 3339; empty of what was never edited.
        10 => edited_at: String,
        11 => reactions: Vec<RecordReaction>,
        /// SHA-256 of the ciphertext that the text came from: the same one is not opened twice.
        12 => hash: Bytes,
    }
}

pub(super) fn peer_key(user: &UserId, device: &DeviceId) -> Vec<u8> {
    [user.as_str().as_bytes(), &[0], device.as_str().as_bytes()].concat()
}

pub(super) fn peers_of(user: &UserId) -> Vec<u8> {
    [user.as_str().as_bytes(), &[0]].concat()
}

/// The device that a key of [`PEERS`] names.
pub(super) fn peer_of(key: &[u8]) -> Option<DeviceRef> {
    let (user, device) = std::str::from_utf8(key).ok()?.split_once('\0')?;
    Some(DeviceRef { user_id: UserId::new(user).ok()?, device_id: DeviceId::new(device).ok()? })
}

pub(super) fn message_key(thread: ThreadId, id: MessageId) -> Vec<u8> {
    [&thread.0[..], &id.0.to_be_bytes()].concat()
}

pub(super) fn number_key(thread: ThreadId, user: &UserId, device: &DeviceId, number: ClientSeq) -> Vec<u8> {
    [&thread.0[..], &peer_key(user, device), &[0], &number.0.to_be_bytes()].concat()
}

pub(super) fn outgoing_key(number: ClientSeq) -> [u8; 8] {
    number.0.to_be_bytes()
}

impl From<&Envelope> for EnvelopeRow {
    fn from(envelope: &Envelope) -> Self {
        let Envelope { user_id, device_id, registration_id, ciphertext } = envelope.clone();
        Self { user: user_id, device: device_id, registration: registration_id, ciphertext }
    }
}

impl From<&EnvelopeRow> for Envelope {
    fn from(row: &EnvelopeRow) -> Self {
        let EnvelopeRow { user, device, registration, ciphertext } = row.clone();
        Self { user_id: user, device_id: device, registration_id: registration, ciphertext }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::wire::Wire;
    use proptest::prelude::*;

    #[test]
    fn a_records_bytes_are_pinned() {
        let record = Record {
            id: MessageId(1),
            thread: ThreadId([2; 16]),
            seq: 3,
            sender: UserId::new("bob").unwrap(),
            sender_device: DeviceId::new("d").unwrap(),
            number: ClientSeq(4),
            created_at: "t".into(),
            kind: RecordKind::Plain,
            text: "hi".into(),
            edited_at: "u".into(),
            reactions: vec![RecordReaction { emoji: "+".into(), by: UserId::new("al").unwrap() }],
            hash: Bytes::from_static(b"h"),
        };
        let hex = record.to_wire().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        assert_eq!(
            hex,
            "0a1000000000000000000000000000000001\
             1210020202020202020202020202020202021803\
             2203626f622a016430043a017440024a0268695201755a090a070a012b1202616c620168"
        );
        assert_eq!(Record::from_wire(&record.to_wire()).unwrap(), record);
    }

    #[test]
    fn the_codes_of_kinds_are_pinned() {
        let codes: Vec<_> = RecordKind::ALL.iter().map(|kind| kind.as_str()).collect();
        assert_eq!(codes, ["encrypted", "plain", "unreadable", "absent", "deleted", "expired"]);
    }

    proptest! {
        #[test]
        fn keys_keep_the_order_of_a_thread(a in any::<u128>(), b in any::<u128>(), thread in any::<[u8; 16]>()) {
            let key = |id| message_key(ThreadId(thread), MessageId(id));
            prop_assert_eq!(a.cmp(&b), key(a).cmp(&key(b)));
            prop_assert!(key(a).starts_with(&thread));
        }

        #[test]
        fn keys_of_peers_come_back(user in "[A-Za-z0-9_~-]{1,64}", device in "[A-Za-z0-9_~-]{1,64}") {
            prop_assume!(user != "me" && device != "me");
            let whose = DeviceRef { user_id: UserId::new(&user).unwrap(), device_id: DeviceId::new(&device).unwrap() };
            let key = peer_key(&whose.user_id, &whose.device_id);
            prop_assert!(key.starts_with(&peers_of(&whose.user_id)));
            prop_assert_eq!(peer_of(&key), Some(whose));
        }
    }
}
