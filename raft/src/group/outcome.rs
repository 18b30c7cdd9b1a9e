//! How a call to a shard's replica ends.
//!
//! Owns: the outcomes and their meaning for a retry.
//! Must not know: who called.

use messenger_proto::command::CommandResult;
use messenger_proto::ids::NodeId;

/// The outcome can't be known: the call may have had effects.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("outcome unknown: {0}")]
pub struct Lost(pub String);

/// What became of a proposed command.
#[derive(Debug, Clone, PartialEq, Eq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are applied")]
pub enum Proposed {
    /// It is committed, on disk at a majority, and applied; the machine says what it did.
    Applied(CommandResult),
    /// This replica does not lead; nothing was done. Who does, if known.
    NotLeader(Option<NodeId>),
    /// Too much is waiting; nothing was done.
    Overloaded,
}
