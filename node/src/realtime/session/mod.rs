//! ⑧ What one connection of a device was told, and what it is to be told next.
//!
//! Owns: the threads a device follows, where it is in each, the order of its frames, and what its acknowledgements mean.
//! Must not know: tokio, clocks, sockets, JSON, shards; it is a pure model that a shell feeds and drains.
//! Invariants: in each thread every event is told once per connection and in order, whatever order live events and
//! storage arrive in; `caught_up` comes once, after the first pass over storage of every thread there was at the start;
//! an acknowledgement never speaks of what was not told.

mod behind;
mod cursor;
mod ephemeral;
mod former;
mod frame;
mod stash;
mod window;

#[cfg(test)]
mod tests;

pub use self::frame::{Frame, FrameBody, Progress, Resumed};
pub use self::window::{AckBeyondEnd, FrameSeq, WINDOW_MAX};

use self::cursor::{Cursor, Feed, Stay, Verdict};
use self::window::Window;
use super::ephemeral::audience::Away;
use super::event::{EventKind, LateReads, SharedEvent};
use bytes::Bytes;
use messenger_proto::ids::{Position, Rev, Seq, ThreadId, UserId};
use messenger_proto::query::ResumeFrom;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

/// Threads that were left and whose place is remembered; of those beyond it a part may be told again.
const GONE_MAX: usize = 1_024;

/// Times in a row that storage may say the user left before the index says it came; then storage is believed.
const CONTRADICTIONS_MAX: u8 = 8;

/// One connection of a device.
#[derive(Debug)]
pub struct Session {
    user: UserId,
    /// Whom the user keeps away.
    away: Away,
    threads: BTreeMap<ThreadId, Cursor>,
    /// Threads whose storage is to be asked; entries whose thread is no longer [`Feed::Behind`] are void.
    behind: VecDeque<ThreadId>,
    /// Where the device was in threads its user left: it may come back.
    gone: BTreeMap<ThreadId, Cursor>,
    /// `None`: every thread.
    filter: Option<BTreeSet<ThreadId>>,
    window: Window,
    frames: VecDeque<Frame>,
    listen: Vec<ThreadId>,
    forget: Vec<ThreadId>,
    /// Threads that `caught_up` still waits for; `None` before the index is known and once it was sent.
    replaying: Option<usize>,
    began: bool,
}

impl Session {
    /// A session that follows no thread yet.
    #[must_use]
    pub fn new(user: UserId) -> Self {
        Self {
            user,
            away: Away::default(),
            threads: BTreeMap::new(),
            behind: VecDeque::new(),
            gone: BTreeMap::new(),
            filter: None,
            window: Window::default(),
            frames: VecDeque::new(),
            listen: Vec::new(),
            forget: Vec::new(),
            replaying: None,
            began: false,
        }
    }

    /// The user's threads, as its shard tells them; the first call begins the replay, to which those belong that the user
    /// left of late.
    pub fn index(&mut self, present: &[(ThreadId, Seq)], left: &[(ThreadId, Seq)]) {
        let first = !self.began;
        if first {
            self.began = true;
            self.replaying = Some(0);
        }
        for (thread, source_seq) in present {
            self.enter(*thread, *source_seq, first);
        }
        if first {
            for (thread, source_seq) in left {
                self.enter_former(*thread, *source_seq);
            }
        } else {
            let present: BTreeSet<ThreadId> = present.iter().map(|(thread, _)| *thread).collect();
            let missing: Vec<ThreadId> = self.threads.keys().filter(|id| !present.contains(id)).copied().collect();
            // The answer may be older than what the user's stream told since. So storage is asked; and a thread that is not
            // listened to stays until it is, since storage is then asked about it, too.
            for thread in missing {
                self.lost(thread);
            }
        }
        self.catch_up();
    }

    /// The user joined a thread.
    pub fn joined(&mut self, thread: ThreadId, source_seq: Seq) {
        self.enter(thread, source_seq, false);
    }

    /// The user left a thread, or was taken out; what it may still see of it comes from storage. One that is not listened
    /// to is dropped at once.
    pub fn left(&mut self, thread: ThreadId, source_seq: Seq) {
        match self.threads.get(&thread) {
            Some(cursor) if cursor.source_seq >= source_seq => {}
            Some(cursor) if matches!(cursor.feed, Feed::Muted) => self.remove(thread),
            Some(_) => self.lost(thread),
            None => {}
        }
        self.catch_up();
    }

    fn enter(&mut self, thread: ThreadId, source_seq: Seq, initial: bool) {
        if let Some(cursor) = self.threads.get_mut(&thread) {
            let back = cursor.stay == Stay::Over && source_seq > cursor.source_seq;
            cursor.source_seq = cursor.source_seq.max(source_seq);
            if back {
                self.back(thread);
            }
            if initial {
                self.told_early(thread);
            }
            return;
        }
        // What is missed at the start is replayed even if the device asked to hear less from now on.
        let feed = if initial || self.wants(thread) { Feed::Unheard } else { Feed::Muted };
        if matches!(feed, Feed::Unheard) {
            self.listen.push(thread);
        }
        if initial {
            self.replaying = self.replaying.map(|replaying| replaying + 1);
        }
        let fresh = Cursor::new(source_seq, feed, initial);
        let cursor = match self.gone.remove(&thread) {
            Some(gone) => Cursor { at: gone.at, floor: gone.floor, last_frame: gone.last_frame, ..fresh },
            None => fresh,
        };
        self.threads.insert(thread, cursor);
    }

    /// The stream told of a thread before the index did: it is replayed, and waited for, all the same.
    fn told_early(&mut self, thread: ThreadId) {
        let Some(cursor) = self.threads.get_mut(&thread) else { return };
        if matches!(cursor.feed, Feed::Live) || std::mem::replace(&mut cursor.initial, true) {
            return;
        }
        self.replaying = self.replaying.map(|replaying| replaying + 1);
        if matches!(cursor.feed, Feed::Muted) {
            cursor.feed = Feed::Unheard;
            self.listen.push(thread);
        }
    }

    fn remove(&mut self, thread: ThreadId) {
        let Some(cursor) = self.threads.remove(&thread) else { return };
        let former = cursor.stay != Stay::Present;
        if !matches!(cursor.feed, Feed::Muted) && !former {
            self.forget.push(thread);
        }
        self.replayed(cursor.initial);
        if former && cursor.last_frame == 0 {
            return;
        }
        if self.gone.len() == GONE_MAX {
            self.gone.pop_first();
        }
        self.gone.insert(thread, cursor);
    }

    fn replayed(&mut self, initial: bool) {
        if initial && let Some(replaying) = &mut self.replaying {
            *replaying = replaying.saturating_sub(1);
        }
    }

    fn catch_up(&mut self) {
        if self.replaying == Some(0) {
            self.replaying = None;
            let seq = self.window.stamp();
            self.frames.push_back(Frame { seq, body: FrameBody::CaughtUp });
        }
    }

    fn wants(&self, thread: ThreadId) -> bool {
        self.filter.as_ref().is_none_or(|filter| filter.contains(&thread))
    }

    /// From now on the device hears these threads only; what was missed at the start is still replayed.
    pub fn narrow(&mut self, threads: BTreeSet<ThreadId>) {
        self.filter = Some(threads);
        let ids: Vec<ThreadId> = self.threads.keys().copied().collect();
        for thread in ids {
            let wanted = self.wants(thread);
            let Some(cursor) = self.threads.get_mut(&thread) else { continue };
            match (&cursor.feed, wanted) {
                (Feed::Muted, true) => {
                    cursor.feed = Feed::Unheard;
                    self.listen.push(thread);
                }
                (Feed::Live, false) => {
                    cursor.feed = Feed::Muted;
                    self.forget.push(thread);
                }
                (Feed::Behind, false) if !cursor.initial => {
                    cursor.feed = Feed::Muted;
                    self.forget.push(thread);
                }
                _ => {}
            }
        }
    }

    /// The stream of its shard carries the thread from now on.
    pub fn listening(&mut self, thread: ThreadId) {
        if let Some(cursor) = self.threads.get_mut(&thread)
            && matches!(cursor.feed, Feed::Unheard)
        {
            cursor.feed = Feed::Behind;
            self.behind.push_back(thread);
        }
    }

    /// Events of the thread may have been lost on the way.
    pub fn lost(&mut self, thread: ThreadId) {
        if self.threads.get_mut(&thread).is_some_and(Cursor::lose) {
            self.behind.push_back(thread);
        }
    }

    /// Events of any thread for which `affected` holds may have been lost on the way.
    pub fn lost_where(&mut self, affected: impl Fn(ThreadId) -> bool) {
        for (thread, cursor) in &mut self.threads {
            if affected(*thread) && cursor.lose() {
                self.behind.push_back(*thread);
            }
        }
    }

    /// An event from a shard's stream.
    pub fn live(&mut self, event: &Arc<SharedEvent>) {
        let Some(cursor) = self.threads.get_mut(&event.thread) else { return };
        match cursor.judge(event) {
            Verdict::Drop => {}
            Verdict::Missing => self.lost(event.thread),
            Verdict::Next => self.next_event(event),
        }
    }

    fn next_event(&mut self, event: &Arc<SharedEvent>) {
        let Some(cursor) = self.threads.get_mut(&event.thread) else { return };
        let told = event.concerns(&self.user) && !matches!(event.kind, EventKind::Read { deferred: true, .. });
        let removed = matches!(&event.kind, EventKind::Thread { removed: Some(user) } if *user == self.user);
        let back = event.seq.is_some_and(|seq| seq < cursor.source_seq);
        if removed && (back || cursor.floor.is_some()) {
            // The user is back already: storage knows what it may see of the time between. Or reads were stepped over, which
            // nobody would tell once the thread is gone.
            self.lost(event.thread);
            return;
        }
        cursor.advance(event, event.concerns(&self.user));
        if told {
            self.tell(event);
        }
        if removed {
            self.remove(event.thread);
            self.catch_up();
        }
    }

    /// Appends the frame of an event that the cursor has taken already.
    fn tell(&mut self, event: &Arc<SharedEvent>) {
        let Some(cursor) = self.threads.get_mut(&event.thread) else { return };
        let own = matches!(&event.kind, EventKind::Message { sender, .. } if *sender == self.user);
        let message = matches!(event.kind, EventKind::Message { .. });
        let delivered = event.seq.filter(|_| message && !own).unwrap_or_default();
        let seq = self.window.stamp_thread(event.thread, delivered, cursor.resume_from());
        cursor.last_frame = seq.0;
        self.frames.push_back(Frame { seq, body: FrameBody::Event { event: Arc::clone(event), own } });
    }

    /// Whether [`Session::take_behind`] may have anything to give.
    #[must_use]
    pub fn is_behind(&self) -> bool {
        !self.behind.is_empty()
    }

    /// Storage could not be asked; it will be again.
    pub fn unresumed(&mut self, thread: ThreadId) {
        if let Some(cursor) = self.threads.get_mut(&thread)
            && matches!(cursor.feed, Feed::Resuming { .. })
        {
            cursor.feed = Feed::Behind;
            self.behind.push_back(thread);
        }
    }

    /// What storage told of a thread that [`Session::take_behind`] gave.
    pub fn resumed(&mut self, resumed: &Resumed) {
        let thread = resumed.thread;
        let Some(cursor) = self.threads.get_mut(&thread) else { return };
        if !matches!(cursor.feed, Feed::Resuming { .. }) {
            return;
        }
        // The last event that lies before what storage told.
        let first = resumed.events.iter().find_map(|event| event.seq);
        let covers = first.map_or(resumed.position.seq, |first| Seq(first.0.saturating_sub(1)));
        cursor.at.get_or_insert(Position { seq: covers, rev: Rev(0) });
        if let Some(gap) = &resumed.gap {
            // It moves no position: receipts that are older than what follows it come after it.
            let seq = self.window.stamp_thread(thread, covers, None);
            cursor.last_frame = seq.0;
            self.frames.push_back(Frame { seq, body: FrameBody::Gap { thread, gap: gap.clone() } });
        }
        for event in &resumed.events {
            let Some(cursor) = self.threads.get_mut(&thread) else { return };
            if !cursor.is_news(event) {
                continue;
            }
            let before = cursor.at.unwrap_or_default();
            if event.rev > before.rev {
                cursor.at = Some(event.position_after(before));
            }
            self.tell(event);
        }
        self.settle(resumed);
        self.catch_up();
    }

    fn settle(&mut self, resumed: &Resumed) {
        let thread = resumed.thread;
        let wanted = self.wants(thread);
        let Some(cursor) = self.threads.get_mut(&thread) else { return };
        cursor.settle_at(resumed.position);
        if cursor.comes_back(resumed.left) {
            self.listen.push(thread);
            return;
        }
        // Unless it is older than what the index said since: then the user is back already.
        let outdated = resumed.left
            && cursor.stay == Stay::Present
            && resumed.position.seq < cursor.source_seq
            && cursor.contradictions < CONTRADICTIONS_MAX;
        cursor.contradictions = if outdated { cursor.contradictions + 1 } else { 0 };
        if resumed.left && !resumed.more && !outdated {
            self.remove(thread);
            return;
        }
        let Feed::Resuming { stash, again } = std::mem::replace(&mut cursor.feed, Feed::Behind) else { return };
        if resumed.more || again || outdated {
            self.behind.push_back(thread);
            return;
        }
        let initial = std::mem::take(&mut cursor.initial);
        if wanted {
            cursor.feed = Feed::Live;
        } else {
            cursor.feed = Feed::Muted;
            self.forget.push(thread);
        }
        self.replayed(initial);
        for event in stash.into_events() {
            self.live(&event);
        }
    }

    /// Appends a frame that is not about a thread.
    pub fn push(&mut self, members: Bytes) {
        let seq = self.window.stamp();
        self.frames.push_back(Frame { seq, body: FrameBody::Plain(members) });
    }

    /// The next frame to send.
    pub fn next_frame(&mut self) -> Option<Frame> {
        let frame = self.frames.pop_front();
        if self.frames.is_empty() {
            self.frames.shrink_to(16);
        }
        frame
    }

    /// How many frames wait to be sent.
    #[must_use]
    pub fn pending(&self) -> usize {
        self.frames.len()
    }

    /// Threads that are to be listened to; each is answered by [`Session::listening`] once its stream carries it.
    pub fn take_listen(&mut self) -> Vec<ThreadId> {
        std::mem::take(&mut self.listen)
    }

    /// Threads that are no longer to be listened to.
    pub fn take_forget(&mut self) -> Vec<ThreadId> {
        std::mem::take(&mut self.forget)
    }

    /// The threads it follows.
    #[cfg(test)]
    fn threads(&self) -> impl Iterator<Item = ThreadId> + '_ {
        self.threads.keys().copied()
    }

    /// The threads of which its device may have acknowledged something: those it follows and those it left.
    pub fn known(&self) -> impl Iterator<Item = ThreadId> + '_ {
        self.threads.keys().chain(self.gone.keys()).copied()
    }

    /// The threads that may be listened to when the connection ends: those it follows, and those it was about to forget.
    pub fn take_heard(&mut self) -> Vec<ThreadId> {
        self.threads.keys().copied().chain(std::mem::take(&mut self.forget)).collect()
    }

    /// The client took `frame` and all before it; what that means for each thread.
    ///
    /// # Errors
    /// [`AckBeyondEnd`] when no such frame was sent.
    pub fn ack(&mut self, frame: FrameSeq) -> Result<Vec<Progress>, AckBeyondEnd> {
        let taken = self.window.ack(frame)?;
        let progress = taken.into_values().map(|taken| {
            let thread = taken.thread;
            let cursor = self.threads.get(&thread).or_else(|| self.gone.get(&thread));
            // With nothing on its way, what was stepped over silently is behind the device too.
            let all = cursor.filter(|cursor| cursor.last_frame <= frame.0);
            let position = all.map_or(taken.position, Cursor::resume_from);
            Progress { thread, delivered: taken.delivered, position }
        });
        Ok(progress.collect())
    }
}
