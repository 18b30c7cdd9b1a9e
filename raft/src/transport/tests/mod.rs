//! Links between real listeners on loopback sockets, with replicas and handlers that the tests control.

mod appends;
mod consensus;
pub(super) mod fixture;
mod links;
mod memory;
mod snapshots;
mod strangers;
mod subscriptions;
mod tls;
