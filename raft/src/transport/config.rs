//! The bounds of the transport.
//!
//! Owns: every time, count and size bound of links, and why each is what it is.
//! Must not know: where the values are configured.

use super::tls::PeerTls;
use std::time::Duration;

/// Bytes of one call or answer at most: a full append of several packs, a page of the largest messages.
pub(crate) const FRAME_MAX: usize = 16 * 1024 * 1024;
/// Bytes of one message on the wire at most: the largest frame, in a batch that was almost full.
pub(crate) const MESSAGE_MAX: usize = FRAME_MAX + 4 * 1024 * 1024;
/// What a queued frame costs beside its body.
pub(crate) const FRAME_OVERHEAD: usize = 64;

/// Bounds of a node's links. The defaults suit a data centre and a laptop.
#[derive(Debug, Clone)]
pub struct TransportConfig {
    /// To a TCP connection, a handshake and open lanes.
    pub connect_timeout: Duration,
    /// Between pings on a connection; a reset shows at once, this is for hosts that vanish.
    pub keepalive_interval: Duration,
    /// To the answer of a ping; longer than a saturated node may stall.
    pub keepalive_timeout: Duration,
    /// The first wait before connecting again; doubles, with jitter.
    pub backoff_min: Duration,
    /// The longest such wait: a peer that is back is found within it.
    pub backoff_max: Duration,
    /// Frames that wait to be sent, per lane.
    pub queued_frames: usize,
    /// Bytes that wait to be sent, per lane; at least `FRAME_MAX` (16 MiB).
    pub queued_bytes: usize,
    /// Calls without an answer yet, per lane.
    pub in_flight: usize,
    /// Frames in one message.
    pub batch_frames: usize,
    /// Bytes in one message, unless a single frame is larger.
    pub batch_bytes: usize,
    /// Calls being worked on, per incoming lane; beyond it they are refused.
    pub serve_in_flight: usize,
    /// Bytes of calls being worked on and of answers that wait, each, per incoming lane; at least `FRAME_MAX`.
    pub serve_bytes: usize,
    /// Appends of one group on their way to one follower.
    pub append_window: usize,
    /// Bytes of them.
    pub append_window_bytes: usize,
    /// Bytes of entries in one append, unless one entry is larger; a longer one is sent in parts.
    pub append_bytes: usize,
    /// How long news of a commit waits at most for entries that it can travel with.
    pub commit_delay: Duration,
    /// Without any answer for this long, appends under way are given up and sent again.
    pub append_stall: Duration,
    /// Without progress for this long, a snapshot under way is given up.
    pub snapshot_stall: Duration,
    /// Stream items that wait at a subscriber; then the source is held back.
    pub subscription_items: usize,
    /// HTTP/2 window of one lane.
    pub lane_window: u32,
    /// HTTP/2 window of one subscription.
    pub subscription_window: u32,
    /// HTTP/2 window of a connection: more than its lanes' together, so that none can starve another; subscriptions,
    /// which may be left lying by the hundred, have a connection of their own.
    pub connection_window: u32,
    /// Mutual TLS; without it the wire is readable, and whoever reaches the port and knows the cluster is believed.
    pub tls: Option<PeerTls>,
    /// Connections accepted at a time.
    pub connections: usize,
    /// A connection that has not agreed on TLS and said the HTTP/2 preface by then is closed.
    pub preface_timeout: Duration,
}

impl Default for TransportConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(3),
            keepalive_interval: Duration::from_secs(2),
            keepalive_timeout: Duration::from_secs(4),
            backoff_min: Duration::from_millis(20),
            backoff_max: Duration::from_millis(500),
            queued_frames: 8_192,
            queued_bytes: 32 * 1024 * 1024,
            in_flight: 16_384,
            batch_frames: 512,
            batch_bytes: 256 * 1024,
            serve_in_flight: 8_192,
            serve_bytes: 64 * 1024 * 1024,
            append_window: 64,
            append_window_bytes: 4 * 1024 * 1024,
            append_bytes: 2 * 1024 * 1024,
            commit_delay: Duration::from_millis(2),
            append_stall: Duration::from_secs(5),
            snapshot_stall: Duration::from_secs(30),
            subscription_items: 1_024,
            lane_window: 4 * 1024 * 1024,
            subscription_window: 256 * 1024,
            connection_window: 32 * 1024 * 1024,
            tls: None,
            connections: 1_024,
            preface_timeout: Duration::from_secs(5),
        }
    }
}
