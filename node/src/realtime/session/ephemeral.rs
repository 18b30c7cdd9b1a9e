//! What is told once and replayed never.
//!
//! Owns: whether this session's device is shown it, and whether its user may say it.
//! Must not know: how it came, or whom else it reaches.
//! Invariants: such a frame moves no cursor, and its acknowledgement means nothing; of a thread that the user is not in, or
//! that the device does not want to hear, nothing is shown.

use super::{Feed, Session, Stay, ThreadId};
use crate::realtime::ephemeral::audience;
use crate::realtime::event::{EphemeralFrame, EphemeralKind};

impl Session {
    /// Appends the frame, if the device is to be shown it.
    pub fn show(&mut self, frame: &EphemeralFrame) {
        let heard = match frame.kind {
            EphemeralKind::Presence => true,
            EphemeralKind::Privacy => false,
            EphemeralKind::Typing(thread) => self.hears(thread),
        };
        if heard && audience::shows(&frame.from, &self.user) {
            self.push(frame.body.clone());
        }
    }

    fn hears(&self, thread: ThreadId) -> bool {
        let cursor = self.threads.get(&thread).filter(|cursor| cursor.stay != Stay::Over);
        cursor.is_some_and(|cursor| !matches!(cursor.feed, Feed::Muted))
    }

    /// The replay is over: the device knows what it missed.
    #[must_use]
    pub fn is_caught_up(&self) -> bool {
        self.began && self.replaying.is_none()
    }

    /// The threads that the device hears.
    #[must_use]
    pub fn heard_threads(&self) -> Vec<ThreadId> {
        self.threads.keys().copied().filter(|thread| self.hears(*thread)).collect()
    }

    /// Whether the user is in the thread, as far as its index and the thread's stream have told; `None` before they did.
    #[must_use]
    pub fn is_in(&self, thread: ThreadId) -> Option<bool> {
        match self.threads.get(&thread) {
            Some(cursor) => Some(cursor.stay != Stay::Over),
            None if self.began => Some(false),
            None => None,
        }
    }
}
