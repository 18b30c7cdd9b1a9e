//! The state machine of a shard: pure rules over rows.
//!
//! Owns: what each command does and what each query answers.
//! Must not know: tokio, RocksDB, clocks, randomness, consensus; a test keeps it so.

pub mod tables;
