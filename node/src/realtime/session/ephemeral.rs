//! What is told once and replayed never.
//!
//! Owns: whether this session's device is shown it, and whether its user may say it.
//! Must not know: how it came, or whom else it reaches.
//! Invariants: such a frame moves no cursor, and its acknowledgement means nothing; of a thread that the user is not in, or
//! that the device does not want to hear, nothing is shown.

use super::{Feed, Session, Stay, ThreadId, UserId};
use crate::realtime::ephemeral::audience::{self, Viewer};
use crate::realtime::event::{EphemeralFrame, EphemeralKind};

impl Session {
    /// Appends the frame, if the device is to be shown it.
    pub fn show(&mut self, frame: &EphemeralFrame) {
        let viewer = Viewer { user: &self.user, away: &self.away };
        let shown = match frame.kind {
            EphemeralKind::Privacy => false,
            // It takes back what was shown before.
            EphemeralKind::Parted => true,
            EphemeralKind::Blocked => self.away.blocked(&frame.from, frame.version),
            EphemeralKind::Presence => audience::shows(&frame.from, &frame.away, viewer),
            EphemeralKind::Typing(thread) => self.hears(thread) && audience::shows(&frame.from, &frame.away, viewer),
        };
        if shown {
            self.push(frame.body.clone());
        }
    }

    /// Whom the user keeps away, as its shard tells it, and in which version of its list.
    pub fn keep_away(&mut self, users: Vec<UserId>, version: u64) {
        self.away.told(users, version);
    }

    /// Whom the user keeps away, and the version up to which that is complete.
    #[must_use]
    pub fn kept_away(&self) -> (Vec<UserId>, u64) {
        self.away.list()
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
