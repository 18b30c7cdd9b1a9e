//! What the end-to-end suites stand on: real nodes over real sockets, and the tree's own rules.
//!
//! Owns: the cluster fixture, the device client and the chats the suites drive it with, the ledger of what they saw, the
//! layout rules.
//! Must not know: the inside of a node; the suites see what a user or an operator sees.

#![forbid(unsafe_code)]

pub mod cluster;
pub mod described;
pub mod device;
pub mod http;
pub mod layout;
pub mod ledger;
pub mod socket;
pub mod talker;
pub mod token;
pub mod wait;
pub mod workspace;
pub mod yaml;
