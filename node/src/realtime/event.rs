//! One event of a thread in the form that all sessions of a node share.
//!
//! Owns: the facts a session decides by, beside the frame's body, which is encoded once.
//! Must not know: who is connected, sockets, storage.
//! Invariants: `body` is the same for every viewer; what differs (`frame_seq`, the sender's counts, what is in a device's
//! envelope) is not in it.

use bytes::Bytes;
use messenger_proto::ids::{Position, Rev, Seq, ThreadId, UserId};
use messenger_proto::weight::ITEM;

/// An event, and the JSON members of its frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SharedEvent {
    /// The thread it happened in.
    pub thread: ThreadId,
    /// Its place among events and receipts.
    pub rev: Rev,
    /// Its place among events; `None` for receipts.
    pub seq: Option<Seq>,
    /// What a session needs to know of it.
    pub kind: EventKind,
    /// The frame's members as JSON text, with neither the outer braces nor `frame_seq`.
    pub body: Bytes,
    /// Members for the sender of a message only, as `body`; empty when there are none.
    pub for_sender: Bytes,
    /// Members for the viewer's device only, likewise; what it has in an envelope.
    pub for_device: Bytes,
}

/// What a session needs to know of an event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EventKind {
    /// A message.
    Message {
        /// Who sent it.
        sender: UserId,
        /// Members for whom it failed, or who have it already.
        hidden_from: Vec<UserId>,
    },
    /// Something about an older message changed.
    Change {
        /// Members who may not see the message.
        hidden_from: Vec<UserId>,
    },
    /// The thread, or its membership, changed.
    Thread {
        /// The member that it took out, if any.
        removed: Option<UserId>,
    },
    /// A member's devices took messages.
    Delivered {
        /// The member.
        by: UserId,
        /// Whose messages; `None` when they were too many to name.
        senders: Option<Vec<UserId>>,
    },
    /// A member read messages.
    Read {
        /// The member.
        by: UserId,
        /// Not to be told now: a gathering of such reads follows, see [`LateReads`].
        deferred: bool,
    },
}

/// Something that is told once and stored nowhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EphemeralFrame {
    /// Whom it is about, and comes from.
    pub from: UserId,
    /// What it is about.
    pub kind: EphemeralKind,
    /// As [`SharedEvent::body`].
    pub body: Bytes,
    /// Whom that user keeps away.
    pub away: Vec<UserId>,
    /// Of [`EphemeralKind::Blocked`]: the version of the list of the session's own user that says so.
    pub version: u64,
}

/// What an [`EphemeralFrame`] is about; of the same kind and user, a later one takes the place of an earlier one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum EphemeralKind {
    /// The session's own user changed who may see its presence. It is no frame, and tells the session to look again.
    Privacy,
    /// The session's own user keeps the user away from now on, who is shown as not being there.
    Blocked,
    /// The user keeps the session's own away from now on, and is shown as not being there.
    Parted,
    /// The user came, went or is away.
    Presence,
    /// The user types in the thread, or stopped.
    Typing(ThreadId),
}

/// The reads of one thread that were held back, the latest of each member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LateReads {
    /// The thread.
    pub thread: ThreadId,
    /// In order of `rev`.
    pub reads: Vec<std::sync::Arc<SharedEvent>>,
}

impl SharedEvent {
    /// Whether `viewer`, a member at the time, is told of it.
    #[must_use]
    pub fn concerns(&self, viewer: &UserId) -> bool {
        match &self.kind {
            EventKind::Thread { .. } => true,
            EventKind::Message { hidden_from, .. } | EventKind::Change { hidden_from } => !hidden_from.contains(viewer),
            EventKind::Read { by, .. } => by != viewer,
            EventKind::Delivered { by, senders } => {
                by != viewer && senders.as_ref().is_none_or(|senders| senders.contains(viewer))
            }
        }
    }

    /// The position of a device that was at `before` and took this event.
    #[must_use]
    pub fn position_after(&self, before: Position) -> Position {
        Position { seq: self.seq.unwrap_or(before.seq), rev: self.rev }
    }

    /// About how much memory it holds.
    #[must_use]
    pub fn weight(&self) -> usize {
        let names = match &self.kind {
            EventKind::Message { hidden_from, .. } | EventKind::Change { hidden_from } => hidden_from.len(),
            EventKind::Delivered { senders, .. } => senders.as_ref().map_or(0, Vec::len),
            EventKind::Thread { .. } | EventKind::Read { .. } => 0,
        };
        size_of::<Self>() + self.body.len() + self.for_sender.len() + self.for_device.len() + names * ITEM
    }
}
