//! End-to-end encryption: what only the devices of a conversation can read.
//!
//! Owns: a device's keys, its sessions with other devices (Olm, by vodozemac), what is inside an envelope, safety
//! numbers, and the store that all of it lives in.
//! Must not know: terminals, and what a conversation looks like.
//! Invariants: whatever advanced a ratchet is on disk before its result leaves: a ciphertext before it is sent, a text
//! before it is shown or its frame acknowledged; each in one atomic write with what belongs to it.

mod courier;
mod identity;
mod inbox;
mod outbox;
mod payload;
mod rows;
mod safety;
mod sessions;
mod vault;

#[cfg(test)]
mod tests;

pub use crate::store::StoreError;
pub use courier::{Courier, CourierError, Directory, Told};
pub use identity::{BadBundle, Identity};
pub use inbox::Received;
pub use outbox::{Outgoing, SealError};
pub use payload::TEXT_MAX;
pub use rows::{Record, RecordKind, RecordReaction};
pub use safety::safety_number;
pub use vault::{News, Vault};
