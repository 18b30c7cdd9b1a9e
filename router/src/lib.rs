//! From a key to the node that answers for it, and back: placement, forwarding, subscriptions.
//!
//! Owns: the ring and the placement rule (pure), calls to shard leaders with deadline, redirect and retry, and
//! subscriptions to shard streams that survive the loss of their source.
//! Must not know: consensus, storage, sockets, HTTP; how a call travels is a [`ShardTransport`]'s matter.
//! Invariants: a command keeps its id through every retry; every wait, queue and retry is bounded; an `unavailable`
//! command surely had no effect.

#![forbid(unsafe_code)]

mod admission;
mod directory;
mod effort;
pub mod forward;
mod interest;
pub mod metric_names;
mod outlet;
mod pause;
pub mod placement;
pub mod ring;
mod route;
mod scatter;
mod source;
pub mod subscribe;
pub mod transport;
mod weight;

pub use admission::Limits;
pub use forward::Router;
pub use subscribe::{Interest, Subscription, SubscriptionItem, Topic};
pub use transport::{CallError, ShardStream, ShardTransport};
