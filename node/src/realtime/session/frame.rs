//! What goes in and out of a session.
//!
//! Owns: the shape of a frame to be sent, of what storage told, and of what an acknowledgement means.
//! Must not know: how frames are written, or what a session makes of what it is told.

use super::window::FrameSeq;
use crate::realtime::event::SharedEvent;
use bytes::Bytes;
use messenger_proto::ids::{Position, Seq, ThreadId};
use messenger_proto::query::Gap;
use std::sync::Arc;

/// A numbered frame.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its number.
    pub seq: FrameSeq,
    /// What it says.
    pub body: FrameBody,
}

/// What a frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum FrameBody {
    /// An event; `own` when the viewer sent that message.
    Event {
        /// The event.
        event: Arc<SharedEvent>,
        /// Whether the viewer is its sender.
        own: bool,
    },
    /// Events of a thread were left out.
    Gap {
        /// The thread.
        thread: ThreadId,
        /// Which ones.
        gap: Gap,
    },
    /// The replay is complete.
    CaughtUp,
    /// Anything that is not about a thread: JSON members, as [`SharedEvent::body`].
    Plain(Bytes),
}

/// What storage told of one thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Resumed {
    /// The thread.
    pub thread: ThreadId,
    /// In order of `rev`.
    pub events: Vec<Arc<SharedEvent>>,
    /// Where the device is after them.
    pub position: Position,
    /// There is more from there on.
    pub more: bool,
    /// Older events were left out.
    pub gap: Option<Gap>,
    /// The user is no member now.
    pub left: bool,
}

/// What a client's acknowledgement means for one thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// The thread.
    pub thread: ThreadId,
    /// Others' messages up to here reached the device; 0 when none newly did.
    pub delivered: Seq,
    /// Where the device is now.
    pub position: Option<Position>,
}
