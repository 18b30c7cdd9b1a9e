//! What nodes do for each other.
//!
//! Owns: the two sides of a call between nodes: the way out for the router, and the handler of what comes in; here
//! `router` and `raft` meet.
//! Must not know: HTTP, sockets, what commands mean.

pub mod cross;
pub mod handler;
pub mod transport;
