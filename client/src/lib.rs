//! The client of a cluster: what chat, the bench and the tests speak to a node with.
//!
//! Owns: addresses, tokens, typed REST calls, typed realtime frames, reconnection, retries with stable keys.
//! Must not know: anything of a node's inside; only what the client contract says.
//! Invariants: a request that is sent again carries the same idempotency key and body; every wait has a deadline;
//! every queue has a bound.

#![forbid(unsafe_code)]

mod address;
mod backoff;
mod dedupe;
mod devices;
pub mod e2e;
mod error;
mod frames;
mod gap;
mod http1;
mod live;
mod live_task;
mod model;
mod outbox;
mod pool;
mod rest;
mod socket;
mod store;
pub mod testing;
#[cfg(test)]
mod tests;
mod text;
mod token;
mod wire;

pub use address::{InvalidServer, ServerUrl, Servers};
pub use backoff::{Backoff, Pause};
pub use dedupe::Seen;
pub use devices::{Bundle, Bundles, Device, DeviceRef, Envelope, KeyCounts, Mismatch, Prekey, PublishKeys};
pub use error::{ClientError, FieldError, Problem};
pub use frames::{
    ClientFrame, DeleteFrame, EditFrame, Gap, Hello, Incoming, InvalidFrame, PresenceFrame, ReactionFrame,
    ReceiptFrame, ServerFrame, ThreadChange, ThreadFrame, TypingFrame,
};
pub use gap::GapReader;
pub use http1::{Answer, Call, Connection, TransportError};
pub use live::{AckMode, EndReason, Live, LiveConfig, LiveEvent, LiveSender, Sending};
pub use model::{
    Content, Draft, HistoryQuery, Message, MessagePage, NewThread, Participant, Reaction, ReceiptCounts, Recipient,
    Sent, Thread, ThreadPage, ThreadSummary,
};
pub use rest::{Rest, RestConfig};
pub use socket::{CloseReason, Socket, SocketConfig, SocketItem};
pub use token::{Mint, NoToken, TokenSource, bearer_of};
pub use wire::{InvalidTrust, Trust};

/// A fresh idempotency key: 128 random bits, in hexadecimal.
#[must_use]
pub fn fresh_key() -> String {
    format!("{:032x}", rand::random::<u128>())
}
