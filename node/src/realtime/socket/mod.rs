//! ① Devices' sockets.
//!
//! Owns: the WebSocket endpoint and the life of a connection.
//! Must not know: how shards are found or replicated.
//! Invariants: an idle connection is one task with small buffers; nothing it waits for is unbounded.

mod connection;
mod hints;
mod inbound;
mod notices;
mod pulse;
mod replay;
mod sends;
mod upgrade;
mod wire;
mod work;

pub(super) use self::upgrade::upgrade;

use std::time::Duration;

/// A connection's patience; the contract's unless a test is in a hurry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Tuning {
    /// How long the first frame may take when it is to authenticate.
    pub auth: Duration,
    /// Between two pings.
    pub ping: Duration,
    /// Without a pong for so long, the connection is closed.
    pub pong_timeout: Duration,
    /// With nothing taken by the peer for so long, the connection is closed.
    pub stall: Duration,
    /// How long the peer may take to answer a close. One that stalled has as long to read on if it is to learn why it
    /// was closed: the frame that says so queues behind all that the transport holds for it.
    pub close: Duration,
    /// How long what a client asks for may take.
    pub request: Duration,
}

impl Default for Tuning {
    fn default() -> Self {
        Self {
            auth: Duration::from_secs(5),
            ping: Duration::from_secs(30),
            pong_timeout: Duration::from_secs(75),
            stall: Duration::from_secs(30),
            close: Duration::from_secs(2),
            request: Duration::from_secs(5),
        }
    }
}
