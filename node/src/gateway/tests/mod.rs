//! The gateway through its front door: HTTP in, the router in between, the real state machine behind.

mod audited;
mod blocks;
mod browsers;
mod changes;
mod edge;
mod envelopes;
mod harness;
mod history;
mod limits;
mod list;
mod messages;
mod participants;
mod pins;
mod prekeys;
mod presence;
mod reports;
mod threads;
