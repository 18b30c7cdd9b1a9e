//! Realtime over real sockets, on shards in memory that run the real state machine.

mod blocks;
mod changes;
mod chat;
mod cluster;
mod device;
mod devices;
mod envelopes;
mod ephemeral;
mod faults;
mod handshake;
mod limits;
