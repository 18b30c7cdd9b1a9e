//! Who is shown what others do.
//!
//! Owns: the one rule by which a user is, or is not, shown another one's typing and presence; frames and REST both ask it.
//! Must not know: how it is told.
//! Invariants: whoever may not be shown it is not, whichever way it comes. Sharing a thread is checked before, where it
//! is known: by the hub for what is told, by the question for what is asked.

use messenger_proto::ids::UserId;

/// Whether `viewer`, who shares a thread with `from`, is shown its typing and presence. A rule between two users (that
/// one keeps the other away, either way round) belongs here.
#[must_use]
pub fn shows(from: &UserId, viewer: &UserId) -> bool {
    from != viewer
}
