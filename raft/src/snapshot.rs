//! What those who send, carry and take snapshots agree on.
//!
//! Owns: how a snapshot fails.
//! Must not know: frames, files, the network.

use crate::store::StoreError;

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
    /// It came from another node, and can only be installed.
    #[error("a snapshot on its way in can't be sent on")]
    OnItsWayIn,
    /// Its files can't be written.
    #[error("the snapshot can't be stored: {0}")]
    Files(String),
}
