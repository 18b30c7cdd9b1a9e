//! The groups of a node.
//!
//! Owns: replicas and everything around their consensus handles; steps ③ to ⑥ of a message.
//! Must not know: what a command means (the machine), how bytes reach disk (the store) or a peer (the transport).

pub mod balance;
pub mod council;
pub mod host;
pub mod members;
pub mod outbox;
pub mod outcome;
pub mod proposer;
pub mod reads;
pub mod registry;
pub mod replica;
pub mod restraint;
pub mod tail;
pub mod timer;
pub mod timing;

mod erase;
mod hook;
mod pace;
mod rules;
mod sequence;
mod shed;
mod trim;
