//! How the nodes of a cluster reach each other.
//!
//! Owns: connections, lanes, calls and their answers, ordered appends, snapshot and event streams between two nodes.
//! Must not know: what a call means, where a shard lives, how a group stores anything.
//! Invariants: one connection per direction of a node pair, and all groups share it; every queue and wait is bounded;
//! a call ends with an answer, or with an error that says whether it can have had effects; nodes of other clusters,
//! and whatever else finds the port, get a refusal and nothing more.
//!
//! The way of a call: `links` finds the peer's connection, `lane` numbers the call and queues it, `batch` sends what
//! waits as one message, `inbound` takes it apart on the other side and hands appends to `append` in order, everything
//! else to its own task; answers come back through `batch`, and `lane` wakes the caller.

mod append;
mod batch;
mod codec;
mod commits;
mod config;
mod confirm;
mod connect;
mod identity;
mod inbound;
mod lane;
mod links;
mod listen;
mod method;
mod network;
mod pipeline;
mod port;
mod refusals;
mod server;
mod snapshot;
mod snapshot_in;
mod subscribe;
mod tls;

#[cfg(test)]
mod tests;

pub use codec::{Append, AppendResult};
pub use config::TransportConfig;
pub use confirm::still_leads;
pub use identity::{Mismatch, PROTOCOL_VERSION, Peer, Peers};
pub use lane::LinkError;
pub use links::Links;
pub use method::{Lane, Method};
pub use network::{GroupNetwork, Network};
pub use port::{Groups, LinkHandler, RaftPort};
pub use server::{PeerServer, ServeError};
pub use snapshot::{ChunkSink, ChunkSource, SnapshotStore};
pub use tls::{Credentials, PeerTls, TlsError, node_name, speaks_for};
