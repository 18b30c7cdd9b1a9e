//! What is inside an envelope, and the envelope's own form.
//!
//! Owns: the payload's fields and bounds, its padding, and how an envelope is told from anything else.
//! Must not know: sessions and keys.
//! Invariants: any bytes give a payload or an error; of a payload's length only its size class shows.

use bytes::Bytes;
use messenger_proto::ids::{ClientSeq, DeviceId, MessageId, ThreadId, UserId};
use messenger_proto::wire::{Wire, WireError};
use vodozemac::olm::OlmMessage;

/// Bytes of a message's text at most.
pub const TEXT_MAX: usize = 60_000;
/// The version of payloads this client writes, and the newest it reads.
pub(super) const VERSION: u32 = 1;
/// Before an envelope's bytes, so that it is told from text that was sent as it is: no text begins so.
const MAGIC: &[u8] = b"\0messenger-olm\x01";
/// The smallest size class; each next one is twice the one before.
const SMALLEST: usize = 512;
/// The largest: with what Olm adds, an envelope stays below the contract's 64 KiB.
const LARGEST: usize = 60 * 1024 + 512;
/// The payload's length stands before it.
const PREFIX: usize = 4;

messenger_proto::wire_struct! {
    /// What a device tells another. All but the text is there to be checked against what the cluster says of the message.
    pub(super) struct Payload {
        1 => version: u32,
        2 => thread: ThreadId,
        3 => sender: UserId,
        4 => sender_device: DeviceId,
        5 => recipient: UserId,
        6 => recipient_device: DeviceId,
        7 => client_seq: ClientSeq,
        /// It is what this message says now, not a message of its own.
        8 => edits: Option<MessageId>,
        9 => text: String,
        /// Both of the sender's identity keys: the session proves one of them only.
        10 => sender_identity: Bytes,
        11 => sender_registration: u64,
        /// For whom it was made: a session cannot be passed off as one with somebody else.
        12 => recipient_identity: Bytes,
    }
}

/// Why a payload is none.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadPayload {
    #[error("it is too long")]
    TooLong,
    #[error("it is not padded as it should be")]
    Padding,
    #[error("it is of a newer version than this client")]
    Version,
    #[error(transparent)]
    Wire(#[from] WireError),
}

impl Payload {
    /// Its bytes, padded.
    pub(super) fn seal(&self) -> Result<Vec<u8>, BadPayload> {
        if self.text.len() > TEXT_MAX {
            return Err(BadPayload::TooLong);
        }
        let body = self.to_wire();
        let length = PREFIX + body.len();
        let size = size_class(length).ok_or(BadPayload::TooLong)?;
        let mut bytes = Vec::with_capacity(size);
        bytes.extend_from_slice(&u32::try_from(body.len()).map_err(|_| BadPayload::TooLong)?.to_be_bytes());
        bytes.extend_from_slice(&body);
        bytes.resize(size, 0);
        Ok(bytes)
    }

    /// Reads what [`Payload::seal`] wrote.
    pub(super) fn open(bytes: &[u8]) -> Result<Self, BadPayload> {
        if bytes.len() > LARGEST {
            return Err(BadPayload::TooLong);
        }
        let (prefix, rest) = bytes.split_at_checked(PREFIX).ok_or(BadPayload::Padding)?;
        let length = prefix.iter().fold(0usize, |length, byte| (length << 8) | usize::from(*byte));
        let (body, padding) = rest.split_at_checked(length).ok_or(BadPayload::Padding)?;
        if padding.iter().any(|byte| *byte != 0) {
            return Err(BadPayload::Padding);
        }
        let payload = Self::from_wire(body)?;
        match payload.version {
            VERSION if payload.text.len() <= TEXT_MAX => Ok(payload),
            VERSION => Err(BadPayload::TooLong),
            _ => Err(BadPayload::Version),
        }
    }
}

fn size_class(length: usize) -> Option<usize> {
    let mut size = SMALLEST;
    while size < length {
        if size == LARGEST {
            return None;
        }
        size = (2 * size).min(LARGEST);
    }
    Some(size)
}

/// An Olm message as an envelope's ciphertext.
pub(super) fn envelope(message: &OlmMessage) -> Bytes {
    let (kind, body) = message.to_parts();
    let kind = u8::from(kind != 0);
    [MAGIC, &[kind], &body].concat().into()
}

/// What a message's ciphertext holds.
pub(super) enum Opened {
    /// It was sent as it is.
    Plain,
    /// An Olm message.
    Olm(OlmMessage),
    /// An envelope that cannot be read.
    Broken,
}

pub(super) fn open(ciphertext: &[u8]) -> Opened {
    let Some(rest) = ciphertext.strip_prefix(MAGIC) else { return Opened::Plain };
    match rest.split_first() {
        Some((kind @ 0..=1, body)) => {
            OlmMessage::from_parts(usize::from(*kind), body).map_or(Opened::Broken, Opened::Olm)
        }
        _ => Opened::Broken,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn payload(text: String) -> Payload {
        Payload {
            version: VERSION,
            thread: ThreadId([7; 16]),
            sender: UserId::new("alice").unwrap(),
            sender_device: DeviceId::new("phone").unwrap(),
            recipient: UserId::new("bob").unwrap(),
            recipient_device: DeviceId::new("tablet").unwrap(),
            client_seq: ClientSeq(3),
            edits: None,
            text,
            sender_identity: Bytes::from(vec![1; 64]),
            sender_registration: 9,
            recipient_identity: Bytes::from(vec![2; 64]),
        }
    }

    #[test]
    fn the_payloads_bytes_are_pinned() {
        let edit = Payload {
            edits: Some(MessageId(5)),
            sender_identity: Bytes::from(vec![1; 2]),
            recipient_identity: Bytes::from(vec![2; 2]),
            ..payload("hi".into())
        };
        let hex = edit.to_wire().iter().map(|byte| format!("{byte:02x}")).collect::<Vec<_>>().concat();
        assert_eq!(
            hex,
            "0801121007070707070707070707070707070707\
             1a05616c696365220570686f6e652a03626f62320674\
             61626c6574380342120a10000000000000000000000000000000054a0268695202010158096202\
             0202"
        );
    }

    #[test]
    fn length_shows_as_a_size_class_alone() {
        let size = |length: usize| payload("x".repeat(length)).seal().unwrap().len();
        assert_eq!((size(0), size(1), size(100)), (SMALLEST, SMALLEST, SMALLEST));
        assert_eq!((size(600), size(700)), (1024, 1024));
        assert_eq!(size(TEXT_MAX), LARGEST);
        assert_eq!(payload("x".repeat(TEXT_MAX + 1)).seal().unwrap_err(), BadPayload::TooLong);
        let longest = |byte: &str| byte.repeat(64);
        let names = Payload {
            sender: UserId::new(&longest("a")).unwrap(),
            sender_device: DeviceId::new(&longest("b")).unwrap(),
            recipient: UserId::new(&longest("c")).unwrap(),
            recipient_device: DeviceId::new(&longest("d")).unwrap(),
            edits: Some(MessageId(1)),
            client_seq: ClientSeq(ClientSeq::MAX),
            ..payload("x".repeat(TEXT_MAX))
        };
        assert_eq!(names.seal().unwrap().len(), LARGEST, "the longest of all fits");
    }

    #[test]
    fn padding_and_versions_are_checked() {
        let mut bytes = payload("hi".into()).seal().unwrap();
        *bytes.last_mut().unwrap() = 1;
        assert_eq!(Payload::open(&bytes).unwrap_err(), BadPayload::Padding);
        let newer = Payload { version: VERSION + 1, ..payload("hi".into()) };
        assert_eq!(Payload::open(&newer.seal().unwrap()).unwrap_err(), BadPayload::Version);
    }

    #[test]
    fn text_is_no_envelope() {
        assert!(matches!(open(b"hello"), Opened::Plain));
        assert!(matches!(open(b""), Opened::Plain));
        assert!(matches!(open(&[MAGIC, &[1, 2, 3]].concat()), Opened::Broken));
        assert!(matches!(open(MAGIC), Opened::Broken));
    }

    proptest! {
        #[test]
        fn payloads_come_back(text in "\\PC{0,900}", edits in proptest::option::of(any::<u128>())) {
            let sent = Payload { edits: edits.map(MessageId), ..payload(text) };
            prop_assert_eq!(Payload::open(&sent.seal().unwrap()).unwrap(), sent);
        }

        #[test]
        fn no_bytes_panic(bytes in proptest::collection::vec(any::<u8>(), 0..300)) {
            let _ = Payload::open(&bytes);
            let _ = open(&bytes);
            let _ = open(&[MAGIC, &bytes].concat());
        }
    }
}
