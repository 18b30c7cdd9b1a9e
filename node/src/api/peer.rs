//! Where a connection comes from.
//!
//! Owns: the address that requests carry along.
//! Must not know: who listens, or whether a proxy stands between.

use std::net::IpAddr;

/// The address of a connection's other end; every request carries it as an extension.
#[derive(Debug, Clone, Copy)]
pub struct PeerAddress(pub IpAddr);
