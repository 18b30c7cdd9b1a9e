//! The state machine of a shard: pure rules over rows.
//!
//! Owns: what each command does and what each query answers.
//! Must not know: tokio, RocksDB, clocks, randomness, consensus; a test keeps it so.
//! Invariants: the same log gives the same rows, replies and events on every replica, however its commands are grouped
//! in packs; a refused command leaves nothing behind; corrupt rows are a [`tables::TableError`], never a panic.
//!
//! [`apply`] is the one door for changes and [`answer`] the one for questions; the meta group has its own in [`meta`].
//! Commands run in a [`step::Step`]: an overlay of its own, the time, and the events so far.

mod apply;
mod arrival;
mod blocks;
mod changes;
mod dedupe;
mod disappear;
mod envelopes;
mod index;
mod keys;
mod membership;
mod messages;
pub mod meta;
mod outbox;
mod pins;
mod privacy;
mod profile;
mod query;
mod reactions;
mod receipts;
mod reports;
mod resend;
pub mod rows;
mod step;
mod suspension;
pub mod tables;
#[cfg(test)]
mod tests;
mod threads;

pub use apply::{Applied, apply};
pub use arrival::answerable;
pub use disappear::due_messages;
pub use outbox::{outbox_pending, outbox_scan};
pub use profile::{profile_of, profiles_due};
pub use query::answer;
pub use query::list::threads_of;
