//! Who is there.
//!
//! Owns: both sides of presence: the memory of a user's shard leader and what it tells others ([`Desk`]); and on the side of
//! those who are told, whom this node shows and whether that is still so, and who is there when a device connects.
//! Must not know: sockets; how what is told travels (see [`super::ephemeral`]).
//! Invariants: nothing of this touches the log. A leader's memory comes from the gateways' registrations, so a new leader
//! has it after a renewal; users that are shown somewhere and don't come back by then are told offline by it.

pub(super) mod board;
pub mod book;
mod desk;
pub(super) mod greeting;
mod rumours;
pub(super) mod watch;

pub use self::desk::{Desk, Leads};
