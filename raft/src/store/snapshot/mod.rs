//! Snapshots: a group's rows on their way to a replica whose log is too short.
//!
//! Owns: the handles that the consensus library passes around, and how a snapshot fails.
//! Must not know: the network.
//! Invariants: taking a snapshot costs nothing until a follower asks; then its frames come from one frozen view of the
//! database, at that view's own applied position, which may be newer than the one the consensus core asked for and is
//! what must be announced; a received snapshot is checked to the last row before it can be installed.

mod frame;
mod install;
mod receive;
mod send;

pub(super) use install::install;
pub use receive::{ReceivedSnapshot, SnapshotSink};
pub use send::{LocalSnapshot, SnapshotSource};

use super::error::StoreError;

/// A snapshot in the consensus library's hands.
pub enum SnapshotData {
    /// One of this node's groups as it is.
    Local(LocalSnapshot),
    /// One that another node sent.
    Received(ReceivedSnapshot),
}

/// Why a snapshot was not sent or received; the group goes on as it was.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Storage failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The frames are not what a sender makes, or not all of them came.
    #[error("the snapshot is damaged: {0}")]
    Damaged(&'static str),
    /// The snapshot is of another group.
    #[error("the snapshot is of another group")]
    WrongGroup,
    /// The rows have effects of a newer leader than the one on whose behalf they would be sent.
    #[error("the leader has changed")]
    LeaderChanged,
    /// Its files can't be written.
    #[error("the snapshot can't be stored: {0}")]
    Files(String),
}
