//! The process: configuration, gateway, hub, peer servers, administration, command line, chat and bench.
//!
//! Owns: what runs in a node, and how its parts are wired.
//! Must not know: how consensus or storage work inside.
//! Invariants: a module names only modules above it here, and of those the ones listed in `tests/src/layout/modules.rs`:
//! - what all stand on: `metric_names`, `readiness`, `config`, `tls`, `auth`, `dev_key`, `api`, `operator_api`, `rpc`;
//! - what every request is held against and noted in: `rates`, `audit`;
//! - who answers: `gateway`, on it `realtime`, then `admin`; and `boot`, which wires them;
//! - who asks, as any client would: `chat`, `bench`; and last `cli`.

#![forbid(unsafe_code)]

pub mod admin;
pub mod api;
pub mod audit;
pub mod auth;
pub mod bench;
pub mod boot;
pub mod chat;
pub mod cli;
pub mod config;
pub mod dev_key;
pub mod gateway;
pub mod metric_names;
pub mod operator_api;
pub mod rates;
pub mod readiness;
pub mod realtime;
pub mod rpc;
#[cfg(test)]
mod testing;
pub mod tls;
