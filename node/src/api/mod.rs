//! What all who answer requests have in common.
//!
//! Owns: errors, times, trace ids and the JSON of the contract's objects, as REST, realtime and operators' routes show
//! them; and where a request comes from.
//! Must not know: routes, frames, limits, what is recorded.

pub mod error;
pub mod peer;
pub mod time;
pub mod trace;
pub mod view;
