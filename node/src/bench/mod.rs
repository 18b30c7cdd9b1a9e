//! Load against a running cluster, and against an etcd beside it.
//!
//! Owns: the load loops, what they measure, and how results compare.
//! Must not know: anything of a node's inside; the load is a client like any other.
//! Invariants: every operation has a deadline; what is measured began and ended within the measured window or is told
//! apart; a send is counted once, when its success came.

#![allow(clippy::cast_precision_loss, reason = "what a run counts and times is far below 2^52")]

mod deliver;
mod etcd;
mod fleet;
mod idle;
mod load;
mod machine;
mod payload;
mod read;
mod receipts;
mod reconnect;
mod report;
mod send_rest;
mod send_socket;

pub use deliver::{Deliver, DeliverReport, deliver};
pub use etcd::{EtcdLoad, put as etcd_put};
pub use fleet::{Fleet, FleetConfig, FleetError, wait_ready};
pub use idle::{IdleReport, IdleSockets, idle_sockets, raise_file_limit};
pub use load::{Plan, Progress, on_own_thread};
pub use machine::Machine;
pub use payload::Payload;
pub use read::{ReadReport, Reads, reads};
pub use receipts::{ReceiptReport, Receipts, receipts};
pub use reconnect::{Reconnect, ReconnectReport, reconnect};
pub use report::{Latencies, Recorder, SendReport, compare, table};
pub use send_rest::send_rest;
pub use send_socket::send_socket;

#[cfg(test)]
mod tests;
