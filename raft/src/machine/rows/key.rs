//! The bytes of keys.
//!
//! Owns: how each kind of key part is written and read, and ranges of keys.
//! Must not know: which families there are.
//! Invariants: byte order is the order of the parts; a part is of fixed width or ends in a NUL that it cannot hold, so
//! that no sequence of parts is a prefix of another of the same shape; reading refuses what writing cannot make.

use crate::machine::tables::TableError;
use messenger_proto::ids::{CommandId, DeviceId, MessageId, Millis, ReportId, Seq, ThreadId, UserId};
use messenger_proto::slot::Slot;
use messenger_proto::wire::Wire;

/// The end of a name: below every character a name can hold.
const NUL: u8 = 0;

/// A typed key of one family of rows.
pub trait Key: Sized {
    /// The family's first byte.
    const TAG: u8;
    /// What the family's rows hold.
    type Row: Wire;

    /// Appends the parts.
    fn write(&self, key: &mut KeyWriter);
    /// Takes the parts; `None` when they are not this family's.
    fn read(key: &mut KeyReader<'_>) -> Option<Self>;

    /// The key's bytes.
    fn encode(&self) -> Vec<u8> {
        let mut key = KeyWriter::of::<Self>();
        self.write(&mut key);
        key.0
    }

    /// Reads a key that takes up all of `bytes`.
    ///
    /// # Errors
    /// [`TableError`] when the bytes are no key of this family.
    fn decode(bytes: &[u8]) -> Result<Self, TableError> {
        let mut key = KeyReader(bytes);
        let tagged = key.byte() == Some(Self::TAG);
        match Self::read(&mut key) {
            Some(value) if tagged && key.0.is_empty() => Ok(value),
            _ => Err(TableError(format!("corrupt key of family {:02x}", Self::TAG))),
        }
    }
}

/// Builds keys and the prefixes that scans start from.
#[derive(Debug, Clone)]
pub struct KeyWriter(Vec<u8>);

impl KeyWriter {
    /// The prefix of a family.
    #[must_use]
    pub fn of<K: Key>() -> Self {
        let mut bytes = Vec::with_capacity(96);
        bytes.push(K::TAG);
        Self(bytes)
    }

    /// Appends one byte.
    pub fn byte(&mut self, byte: u8) -> &mut Self {
        self.0.push(byte);
        self
    }

    fn slot(&mut self, slot: Slot) -> &mut Self {
        self.0.extend_from_slice(&slot.get().to_be_bytes());
        self
    }

    /// Appends a thread behind its slot.
    pub fn thread(&mut self, thread: ThreadId) -> &mut Self {
        self.slot(Slot::of_thread(thread)).bare_thread(thread)
    }

    /// Appends a thread without its slot.
    pub fn bare_thread(&mut self, thread: ThreadId) -> &mut Self {
        self.0.extend_from_slice(&thread.0);
        self
    }

    /// Appends a message id behind its slot.
    pub fn message(&mut self, id: MessageId) -> &mut Self {
        self.slot(id.slot());
        self.0.extend_from_slice(&id.0.to_be_bytes());
        self
    }

    /// Appends a user behind its slot: for keys that begin with a user.
    pub fn slotted_user(&mut self, user: &UserId) -> &mut Self {
        self.slot(Slot::of_user(user)).user(user)
    }

    /// Appends a user.
    pub fn user(&mut self, user: &UserId) -> &mut Self {
        self.name(user.as_str())
    }

    /// Appends a device.
    pub fn device(&mut self, device: &DeviceId) -> &mut Self {
        self.name(device.as_str())
    }

    fn name(&mut self, name: &str) -> &mut Self {
        self.0.extend_from_slice(name.as_bytes());
        self.byte(NUL)
    }

    /// Appends a number.
    pub fn number(&mut self, number: u64) -> &mut Self {
        self.0.extend_from_slice(&number.to_be_bytes());
        self
    }

    /// Appends an event number.
    pub fn seq(&mut self, seq: Seq) -> &mut Self {
        self.number(seq.0)
    }

    /// Appends a time.
    pub fn millis(&mut self, at: Millis) -> &mut Self {
        self.number(at.0)
    }

    /// Appends a report id.
    pub fn report(&mut self, id: ReportId) -> &mut Self {
        self.0.extend_from_slice(&id.0.to_be_bytes());
        self
    }

    /// Appends a command id.
    pub fn command(&mut self, id: CommandId) -> &mut Self {
        self.0.extend_from_slice(&id.0);
        self
    }

    /// Every key that begins with what was written.
    #[must_use]
    pub fn range(&self) -> KeyRange {
        KeyRange { from: self.0.clone(), to: after_prefix(self.0.clone()) }
    }

    /// Every key that begins with what was written, followed by a number of `from..=to`.
    #[must_use]
    pub fn numbers(&self, from: Seq, to: Seq) -> KeyRange {
        let with = |number: Seq| self.clone().seq(number).0.clone();
        KeyRange { from: with(from), to: after_prefix(with(to)) }
    }
}

/// The keys of `from..to`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    /// The first key.
    pub from: Vec<u8>,
    /// The end, exclusive.
    pub to: Vec<u8>,
}

impl KeyRange {
    /// The keys of the range that come after `key`.
    #[must_use]
    pub fn after<K: Key>(mut self, key: &K) -> Self {
        self.from = key.encode();
        self.from.push(NUL);
        self
    }
}

/// The lowest bytes above everything that begins with `prefix`.
fn after_prefix(mut prefix: Vec<u8>) -> Vec<u8> {
    // A tag is never ff, so there is always a byte to count up.
    while let Some(last) = prefix.pop() {
        if last < u8::MAX {
            prefix.push(last + 1);
            break;
        }
    }
    prefix
}

/// Takes a key apart.
#[derive(Debug)]
pub struct KeyReader<'a>(&'a [u8]);

impl KeyReader<'_> {
    fn array<const N: usize>(&mut self) -> Option<[u8; N]> {
        let (array, rest) = self.0.split_first_chunk::<N>()?;
        self.0 = rest;
        Some(*array)
    }

    /// Takes one byte.
    pub fn byte(&mut self) -> Option<u8> {
        self.array::<1>().map(|[byte]| byte)
    }

    fn slot(&mut self, expected: Slot) -> Option<()> {
        (self.array().map(u16::from_be_bytes)? == expected.get()).then_some(())
    }

    /// Takes a thread behind its slot.
    pub fn thread(&mut self) -> Option<ThreadId> {
        let slot = self.array().map(u16::from_be_bytes)?;
        let thread = self.bare_thread()?;
        (slot == Slot::of_thread(thread).get()).then_some(thread)
    }

    /// Takes a thread without its slot.
    pub fn bare_thread(&mut self) -> Option<ThreadId> {
        self.array().map(ThreadId)
    }

    /// Takes a message id behind its slot.
    pub fn message(&mut self) -> Option<MessageId> {
        let slot = self.array().map(u16::from_be_bytes)?;
        let id = self.array().map(|bytes| MessageId(u128::from_be_bytes(bytes)))?;
        (slot == id.slot().get()).then_some(id)
    }

    /// Takes a user behind its slot.
    pub fn slotted_user(&mut self) -> Option<UserId> {
        let mut ahead = KeyReader(self.0.get(2..)?);
        let user = ahead.user()?;
        self.slot(Slot::of_user(&user))?;
        self.0 = ahead.0;
        Some(user)
    }

    /// Takes a user.
    pub fn user(&mut self) -> Option<UserId> {
        UserId::new(self.name()?).ok()
    }

    /// Takes a device.
    pub fn device(&mut self) -> Option<DeviceId> {
        DeviceId::new(self.name()?).ok()
    }

    fn name(&mut self) -> Option<&str> {
        let end = self.0.iter().position(|&byte| byte == NUL)?;
        let (name, rest) = self.0.split_at_checked(end)?;
        self.0 = rest.get(1..)?;
        std::str::from_utf8(name).ok()
    }

    /// Takes a number.
    pub fn number(&mut self) -> Option<u64> {
        self.array().map(u64::from_be_bytes)
    }

    /// Takes an event number.
    pub fn seq(&mut self) -> Option<Seq> {
        self.number().map(Seq)
    }

    /// Takes a time.
    pub fn millis(&mut self) -> Option<Millis> {
        self.number().map(Millis)
    }

    /// Takes a report id.
    pub fn report(&mut self) -> Option<ReportId> {
        self.array().map(|bytes| ReportId(u128::from_be_bytes(bytes)))
    }

    /// Takes a command id.
    pub fn command(&mut self) -> Option<CommandId> {
        self.array().map(CommandId)
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Names with shared prefixes and the lowest and highest characters.
    pub(crate) fn user() -> impl Strategy<Value = UserId> {
        "[-az~]{1,3}|[A-Za-z0-9_~-]{64}".prop_map(|name| UserId::new(&name).unwrap())
    }

    pub(crate) fn device() -> impl Strategy<Value = DeviceId> {
        "[-az~]{1,3}|[A-Za-z0-9_~-]{64}".prop_map(|name| DeviceId::new(&name).unwrap())
    }

    /// Few threads, so that pairs often share one; ordered as their keys are.
    pub(crate) fn thread() -> impl Strategy<Value = ThreadId> {
        (0u8..3).prop_map(|byte| ThreadId([byte; 16]))
    }

    pub(crate) fn number() -> impl Strategy<Value = u64> {
        prop_oneof![0u64..3, Just(255), Just(256), Just(u64::MAX), any::<u64>()]
    }

    pub(crate) fn seq() -> impl Strategy<Value = Seq> {
        number().prop_map(Seq)
    }

    pub(crate) fn command() -> impl Strategy<Value = CommandId> {
        any::<[u8; 16]>().prop_map(CommandId)
    }

    #[test]
    fn the_end_of_a_prefix_is_above_all_that_begins_with_it() {
        assert_eq!(after_prefix(vec![1, 2]), vec![1, 3]);
        assert_eq!(after_prefix(vec![1, 255, 255]), vec![2]);
    }

    proptest! {
        #[test]
        fn reading_arbitrary_bytes_never_panics(bytes in proptest::collection::vec(any::<u8>(), 0..120)) {
            use crate::machine::rows::{client_seq::ClientSeqKey, message_id::MessageIdKey, user_thread::UserThreadKey};
            let _ = (ClientSeqKey::decode(&bytes), MessageIdKey::decode(&bytes), UserThreadKey::decode(&bytes));
            let _ = KeyReader(&bytes).slotted_user();
        }
    }
}
