//! What nodes do for each other.
//!
//! Owns: the two sides of a call between nodes: the way out for the router, the handler of what comes in, and the way to
//! the meta group; here `router` and `raft` meet.
//! Must not know: HTTP, sockets, what commands mean.

pub mod cross;
pub mod handler;
pub mod meta;
pub mod observed;
pub mod transport;
