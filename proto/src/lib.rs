//! The vocabulary of the cluster: what nodes, clients and the log say to each other.
//!
//! Owns: ids, slots, commands, events, queries, error codes, limits and their byte form.
//! Must not know: any other crate of the workspace, I/O, time or randomness.

#![forbid(unsafe_code)]

pub mod audit;
pub mod command;
pub mod emoji;
pub mod envelope;
pub mod ephemeral;
pub mod error;
pub mod event;
pub mod ids;
pub mod keys;
pub mod limits;
pub mod meta;
pub mod model;
pub mod moderation;
pub mod profile;
pub mod query;
pub mod rpc;
pub mod slot;
pub mod thread_id;
pub mod weight;
pub mod wire;
