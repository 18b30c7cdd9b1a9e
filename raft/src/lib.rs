//! One replicated shard, and the many on a node.
//!
//! Owns: groups, the log store, the state machine, snapshots, the shard stream, the transport between nodes.
//! Must not know: rings, placement rules, gateways, HTTP.

#![forbid(unsafe_code)]

pub mod clock;
pub mod entry;
pub mod group;
pub mod machine;
pub mod metric_names;
pub mod snapshot;
pub mod store;
pub mod transport;
pub mod types;
mod wire;
