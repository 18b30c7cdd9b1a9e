//! Threads that the user left while the device was away.
//!
//! Owns: telling the device what it had not seen of them, its user's removal last, and the user's coming back meanwhile.
//! Must not know: which devices are owed something; storage knows, by what they acknowledged.
//! Invariants: such a thread is not listened to: after the removal nothing comes. As soon as the index or storage says
//! that the user is back, it is a thread as any other, which goes on from what was told.

use super::{Cursor, Feed, Seq, Session, Stay, ThreadId};

impl Session {
    /// The user left a thread not long ago.
    pub(super) fn enter_former(&mut self, thread: ThreadId, source_seq: Seq) {
        if self.threads.contains_key(&thread) {
            // The stream told that the user came; whether it left again since, storage will say.
            self.told_early(thread);
            return;
        }
        // Came and left, and all of it was told before the index was.
        if self.gone.contains_key(&thread) {
            return;
        }
        self.replaying = self.replaying.map(|replaying| replaying + 1);
        let cursor = Cursor { stay: Stay::Over, ..Cursor::new(source_seq, Feed::Behind, true) };
        self.threads.insert(thread, cursor);
        self.behind.push_back(thread);
    }

    /// The index says that the user is back in a thread that it had left.
    pub(super) fn back(&mut self, thread: ThreadId) {
        let Some(cursor) = self.threads.get_mut(&thread) else { return };
        if matches!(cursor.feed, Feed::Resuming { .. }) {
            // Nothing else is asked before that is answered.
            cursor.stay = Stay::Back;
            return;
        }
        cursor.stay = Stay::Present;
        cursor.feed = Feed::Unheard;
        self.listen.push(thread);
    }
}

impl Cursor {
    /// Takes note of whether storage says that the user left; whether the thread is to be listened to from now on.
    pub(super) fn comes_back(&mut self, left: bool) -> bool {
        let back = match self.stay {
            Stay::Present => false,
            Stay::Over => !left,
            Stay::Back => true,
        };
        if back {
            self.stay = Stay::Present;
            self.feed = Feed::Unheard;
        }
        back
    }
}
