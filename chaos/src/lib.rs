//! Load, faults, and the judgement of what clients saw.
//!
//! Owns: workloads, faults, the record of a run, and the oracle with one file per invariant.
//! Must not know: the inside of a node; it judges what clients were told and what every node answers.

#![forbid(unsafe_code)]

pub mod actors;
pub mod caller;
pub mod conclusion;
pub mod faults;
pub mod history;
pub mod listener;
pub mod oracle;
pub mod power;
pub mod run;
pub mod sender;
pub mod workload;
