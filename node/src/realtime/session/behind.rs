//! What a session fell behind with, and how it makes up for it.
//!
//! Owns: which threads are to be read from storage next, and the reads that were held back in large threads.
//! Must not know: how storage is read.

use super::stash::Stash;
use super::{Feed, LateReads, ResumeFrom, Session, Stay};

impl Session {
    /// The reads that were stepped over, as far as storage did not tell them meanwhile.
    pub fn late(&mut self, late: &LateReads) {
        let Some(cursor) = self.threads.get_mut(&late.thread) else { return };
        let Some(last) = late.reads.last() else { return };
        match &mut cursor.feed {
            // They are in the stash, and would be stepped over for good when it is drained.
            Feed::Resuming { again, .. } => *again = true,
            Feed::Live if cursor.at.is_some_and(|at| last.rev <= at.rev) => {
                let Some(floor) = cursor.floor.take() else { return };
                for read in late.reads.iter().filter(|read| read.rev > floor.rev) {
                    if read.concerns(&self.user) {
                        self.tell(read);
                    }
                }
            }
            // What they follow was lost on the way.
            Feed::Live => self.lost(late.thread),
            Feed::Unheard | Feed::Muted | Feed::Behind => {}
        }
    }

    /// Up to `max` threads whose storage is to be asked now; each is answered by [`Session::resumed`] or
    /// [`Session::unresumed`].
    pub fn take_behind(&mut self, max: usize) -> Vec<ResumeFrom> {
        let mut asked = Vec::new();
        while asked.len() < max
            && let Some(thread) = self.behind.pop_front()
        {
            if let Some(cursor) = self.threads.get_mut(&thread)
                && matches!(cursor.feed, Feed::Behind)
            {
                cursor.feed = Feed::Resuming { stash: Stash::default(), again: false };
                let position = cursor.resume_from();
                asked.push(ResumeFrom { thread, position, unless_new: cursor.stay == Stay::Over });
            }
        }
        if self.behind.is_empty() {
            self.behind.shrink_to(16);
        }
        asked
    }
}
