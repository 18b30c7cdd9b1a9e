//! Identifiers and positions.
//!
//! Owns: the newtypes, their bounds and their text and byte forms.
//! Must not know: who makes an id, or where a thing lives.
//! Invariants: a value of these types is always well-formed; ordering of [`MessageId`] is the order of its ULID text.

use crate::wire::{Field, WireError, read_delimited, read_varint, write_delimited, write_varint};
use bytes::Bytes;
use prost::encoding::WireType;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

/// A text that is not a well-formed id of the named kind.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("not a well-formed {0}")]
pub struct InvalidId(pub &'static str);

/// Characters a user or device id may hold at most.
pub const NAME_MAX: usize = 64;

fn is_name(text: &str) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b'~' | b'-');
    (1..=NAME_MAX).contains(&text.len()) && text.bytes().all(allowed) && !matches!(text, "." | ".." | "me")
}

macro_rules! name_id {
    ($(#[$meta:meta])* $name:ident, $kind:literal) => {
        $(#[$meta])*
        #[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(Arc<str>);

        impl $name {
            /// Checks and wraps a text.
            ///
            /// # Errors
            /// [`InvalidId`] unless it is 1-64 of `A-Z a-z 0-9 _ . ~ -` and not `.`, `..` or `me`.
            pub fn new(text: &str) -> Result<Self, InvalidId> {
                if is_name(text) { Ok(Self(text.into())) } else { Err(InvalidId($kind)) }
            }
            /// The id's text.
            #[must_use]
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }
        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                Self::new(text)
            }
        }
        impl Field for $name {
            fn write(&self, tag: u32, buf: &mut Vec<u8>) {
                write_delimited(tag, buf, |buf| buf.extend_from_slice(self.0.as_bytes()));
            }
            fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
                let bytes = read_delimited(wire_type, buf)?;
                let text = std::str::from_utf8(&bytes).map_err(|_| WireError::Invalid($kind))?;
                *slot = Some(Self::new(text).map_err(|_| WireError::Invalid($kind))?);
                Ok(())
            }
            fn missing() -> Option<Self> {
                None
            }
        }
    };
}

name_id!(
    /// A user, as the operator's identity provider names it; opaque here.
    UserId, "user id"
);
name_id!(
    /// One device of a user; unique within the user only.
    DeviceId, "device id"
);

macro_rules! integer_id {
    ($(#[$meta:meta])* $name:ident($inner:ty)) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
        pub struct $name(pub $inner);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }
        impl Field for $name {
            fn write(&self, tag: u32, buf: &mut Vec<u8>) {
                write_varint(u64::from(self.0), tag, buf);
            }
            fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
                let value = read_varint(wire_type, buf)?;
                *slot = Some(Self(<$inner>::try_from(value).map_err(|_| WireError::Invalid(stringify!($name)))?));
                Ok(())
            }
            fn missing() -> Option<Self> {
                Some(Self(0))
            }
        }
    };
}

integer_id!(
    /// A node of the cluster; from 1, and never used again once its disk is gone.
    NodeId(u64)
);
integer_id!(
    /// A shard; `0..shard_count`.
    ShardId(u32)
);
integer_id!(
    /// A thread's gap-free event number, from 1; 0 is "before the first".
    Seq(u64)
);
integer_id!(
    /// Advances by one with every event *and* every receipt of a thread; from 1.
    Rev(u64)
);
integer_id!(
    /// Milliseconds since the Unix epoch, as replicated.
    Millis(u64)
);
integer_id!(
    /// A client's own number of a message, per thread and device; at most [`ClientSeq::MAX`].
    ClientSeq(u64)
);
integer_id!(
    /// A device's own number of one of its keys; at most [`ClientSeq::MAX`].
    KeyId(u64)
);
integer_id!(
    /// A number that a device draws when it begins anew; at most [`ClientSeq::MAX`].
    RegistrationId(u64)
);

integer_id!(
    /// A term of a shard's group: at most one node leads in it; 0 is before the first.
    Term(u64)
);
integer_id!(
    /// The place of an entry in a group's log, from 0.
    LogIndex(u64)
);

impl ClientSeq {
    /// The largest integer every JSON reader represents exactly: 2^53 - 1.
    pub const MAX: u64 = (1 << 53) - 1;
}

impl Seq {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

impl Rev {
    /// The number after this one.
    #[must_use]
    pub fn next(self) -> Self {
        Self(self.0 + 1)
    }
}

/// A thread: a UUID made by HMAC, see [`crate::thread_id`].
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ThreadId(pub [u8; 16]);

impl fmt::Display for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        uuid::Uuid::from_bytes(self.0).fmt(f)
    }
}

impl fmt::Debug for ThreadId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ThreadId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        match uuid::Uuid::try_parse(text) {
            Ok(id) if text.len() == 36 => Ok(Self(id.into_bytes())),
            _ => Err(InvalidId("thread id")),
        }
    }
}

impl Field for ThreadId {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        self.0.write(tag, buf);
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        let mut inner = None;
        <[u8; 16]>::merge(&mut inner, wire_type, buf)?;
        *slot = inner.map(Self);
        Ok(())
    }
    fn missing() -> Option<Self> {
        None
    }
}

/// A message's ULID: `ms48 | slot14 | counter18 | entropy48`, so that it is routed without an index.
///
/// Strictly increasing along its thread's order, since a thread's messages share the slot and the shard
/// advances `(ms, counter)` with each one.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct MessageId(pub u128);

impl MessageId {
    const COUNTER_BITS: u32 = 18;
    const ENTROPY_BITS: u32 = 48;
    /// The largest counter within one millisecond.
    pub const COUNTER_MAX: u32 = (1 << Self::COUNTER_BITS) - 1;
    /// Times an id can carry: 48 bits.
    pub const MS_MAX: u64 = (1 << 48) - 1;

    /// Assembles an id; excess bits of each part are cut off.
    #[must_use]
    pub fn new(ms: Millis, slot: crate::slot::Slot, counter: u32, entropy: u64) -> Self {
        let ms = u128::from(ms.0 & Self::MS_MAX) << 80;
        let slot = u128::from(slot.get()) << (Self::COUNTER_BITS + Self::ENTROPY_BITS);
        let counter = u128::from(counter & Self::COUNTER_MAX) << Self::ENTROPY_BITS;
        let entropy = u128::from(entropy) & ((1 << Self::ENTROPY_BITS) - 1);
        Self(ms | slot | counter | entropy)
    }

    /// The smallest id at a time.
    #[must_use]
    pub fn floor(ms: Millis) -> Self {
        Self(u128::from(ms.0 & Self::MS_MAX) << 80)
    }

    /// When the message was committed.
    #[must_use]
    pub fn created_at(self) -> Millis {
        // 48 bits always fit.
        Millis((self.0 >> 80) as u64)
    }

    /// The key slot of the message's thread.
    #[must_use]
    pub fn slot(self) -> crate::slot::Slot {
        crate::slot::Slot::from_low_bits((self.0 >> (Self::COUNTER_BITS + Self::ENTROPY_BITS)) as u16)
    }
}

impl fmt::Display for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&ulid::Ulid(self.0), f)
    }
}

impl fmt::Debug for MessageId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for MessageId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        // 26 digits of 5 bits hold 130: a first digit over 7 would overflow.
        let fits = text.as_bytes().first().is_some_and(|digit| (b'0'..=b'7').contains(digit));
        match ulid::Ulid::from_string(text) {
            Ok(id) if fits => Ok(Self(id.0)),
            _ => Err(InvalidId("message id")),
        }
    }
}

impl Field for MessageId {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        self.0.to_be_bytes().write(tag, buf);
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        let mut inner = None;
        <[u8; 16]>::merge(&mut inner, wire_type, buf)?;
        *slot = inner.map(|bytes| Self(u128::from_be_bytes(bytes)));
        Ok(())
    }
    fn missing() -> Option<Self> {
        None
    }
}

/// A report's ULID: `ms48 | entropy80`, so that a shard's reports are ordered by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct ReportId(pub u128);

impl ReportId {
    /// Assembles an id of a time and of what was drawn for the command that filed it.
    #[must_use]
    pub fn new(ms: Millis, command: CommandId) -> Self {
        let entropy = u128::from_be_bytes(command.0) & ((1 << 80) - 1);
        Self(Self::floor(ms).0 | entropy)
    }

    /// The smallest id at a time.
    #[must_use]
    pub fn floor(ms: Millis) -> Self {
        Self(u128::from(ms.0.min(MessageId::MS_MAX)) << 80)
    }

    /// When the report was filed.
    #[must_use]
    pub fn filed_at(self) -> Millis {
        // 48 bits always fit.
        Millis((self.0 >> 80) as u64)
    }
}

impl fmt::Display for ReportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(&ulid::Ulid(self.0), f)
    }
}

impl fmt::Debug for ReportId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for ReportId {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        text.parse::<MessageId>().map(|id| Self(id.0)).map_err(|_| InvalidId("report id"))
    }
}

impl Field for ReportId {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        self.0.to_be_bytes().write(tag, buf);
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        let mut inner = None;
        <[u8; 16]>::merge(&mut inner, wire_type, buf)?;
        *slot = inner.map(|bytes| Self(u128::from_be_bytes(bytes)));
        Ok(())
    }
    fn missing() -> Option<Self> {
        None
    }
}

macro_rules! opaque_id {
    ($(#[$meta:meta])* $name:ident) => {
        $(#[$meta])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub struct $name(pub [u8; 16]);

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, "{:032x}", u128::from_be_bytes(self.0))
            }
        }
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }
        impl FromStr for $name {
            type Err = InvalidId;
            fn from_str(text: &str) -> Result<Self, InvalidId> {
                match u128::from_str_radix(text, 16) {
                    Ok(value) if text.len() == 32 => Ok(Self(value.to_be_bytes())),
                    _ => Err(InvalidId(stringify!($name))),
                }
            }
        }
        impl Field for $name {
            fn write(&self, tag: u32, buf: &mut Vec<u8>) {
                self.0.write(tag, buf);
            }
            fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
                let mut inner = None;
                <[u8; 16]>::merge(&mut inner, wire_type, buf)?;
                *slot = inner.map(Self);
                Ok(())
            }
            fn missing() -> Option<Self> {
                None
            }
        }
    };
}

opaque_id!(
    /// A command's identity: the hash of a scoped Idempotency-Key, or minted once by a gateway.
    CommandId
);
opaque_id!(
    /// A cluster, fixed at its bootstrap.
    ClusterId
);
opaque_id!(
    /// One data directory, fixed when it is first used; a wiped disk gets another.
    StoreId
);
opaque_id!(
    /// One realtime connection.
    ConnectionId
);

/// A device's place in a thread: every event up to `seq` and every receipt up to `rev` is behind it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Position {
    /// Highest event number taken.
    pub seq: Seq,
    /// Highest revision taken; `rev >= seq`.
    pub rev: Rev,
}

crate::wire_struct! {
    /// The wire form of [`Position`].
    pub struct PositionWire { 1 => seq: Seq, 2 => rev: Rev }
}

impl Field for Position {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        PositionWire { seq: self.seq, rev: self.rev }.write(tag, buf);
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        let mut inner = None;
        PositionWire::merge(&mut inner, wire_type, buf)?;
        *slot = inner.map(|wire| Self { seq: wire.seq, rev: wire.rev });
        Ok(())
    }
    fn missing() -> Option<Self> {
        Some(Self::default())
    }
}
