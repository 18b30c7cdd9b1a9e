//! Ports that a cluster may use.
//!
//! Owns: choosing a base port whose client, peer and admin ports are all free.
//! Must not know: who listens there.

use rand::RngExt;
use std::net::{Ipv4Addr, TcpListener};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU16, Ordering};

/// Peer ports lie this far above client ports.
pub const PEER_OFFSET: u16 = 100;
/// Admin ports lie this far above client ports.
pub const ADMIN_OFFSET: u16 = 200;

const FIRST: u16 = 9_000;
const RANGE: u16 = 300;
/// The last range ends below 32768, where the kernel's choice for outgoing connections begins.
const RANGES: u16 = 79;

/// A base port for `nodes` nodes, below the range that the kernel hands to outgoing connections.
///
/// # Panics
/// When every range is in use.
#[must_use]
pub fn free_base(nodes: u16) -> u16 {
    // Clusters of one process take turns; another process most likely begins elsewhere.
    static TURN: OnceLock<AtomicU16> = OnceLock::new();
    let turn = TURN.get_or_init(|| AtomicU16::new(rand::rng().random_range(0..RANGES)));
    for _ in 0..RANGES {
        let base = FIRST + turn.fetch_add(1, Ordering::Relaxed) % RANGES * RANGE;
        let mut ports = (0..nodes).flat_map(|n| [base + n, base + PEER_OFFSET + n, base + ADMIN_OFFSET + n]);
        if ports.all(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()) {
            return base;
        }
    }
    panic!("no free range of ports was found");
}
