//! Where a session is in one thread.
//!
//! Owns: the rule by which live events and resumed ones become one sequence.
//! Must not know: other threads, frames, tokio, clocks, JSON.
//! Invariants: the cursor never goes back; an event is taken when it is the next by `rev`, dropped when it is behind,
//! and anything else means that storage is asked. So replicas are interchangeable and nothing is lost silently.

use super::stash::Stash;
use crate::realtime::event::{EventKind, SharedEvent};
use messenger_proto::ids::{Position, Seq};
use std::sync::Arc;

/// How a thread's events reach the session.
#[derive(Debug)]
pub(super) enum Feed {
    /// Waiting until the shard's stream carries the thread.
    Unheard,
    /// The device does not want to hear it.
    Muted,
    /// Storage is to be asked.
    Behind,
    /// Storage is being asked.
    Resuming {
        /// Live events since.
        stash: Stash,
        /// Something was lost meanwhile: ask once more.
        again: bool,
    },
    /// The stream carries on from the cursor.
    Live,
}

/// Whether the user is in the thread, as far as its index says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Stay {
    /// It is.
    Present,
    /// It left while the device was away: storage is asked for the rest, and no stream carries the thread.
    Over,
    /// It came back while storage was being asked for the rest, so that the answer may be older than that.
    Back,
}

/// What to do with a live event.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// It is the next one.
    Next,
    /// It is old, or storage will tell it.
    Drop,
    /// Something before it is missing.
    Missing,
}

/// A session's place in one thread.
#[derive(Debug)]
pub(super) struct Cursor {
    /// The event that made the user a member, or no member, as far as its index says.
    pub(super) source_seq: Seq,
    /// Everything up to here was told; `None` until storage placed the device.
    pub(super) at: Option<Position>,
    /// Where reads began that were stepped over and are to be told later.
    pub(super) floor: Option<Box<Position>>,
    pub(super) feed: Feed,
    /// The last frame that was of this thread.
    pub(super) last_frame: u64,
    /// One of those that `caught_up` waits for.
    pub(super) initial: bool,
    /// Times that storage contradicted the index in a row.
    pub(super) contradictions: u8,
    pub(super) stay: Stay,
}

impl Cursor {
    pub(super) fn new(source_seq: Seq, feed: Feed, initial: bool) -> Self {
        Self { source_seq, at: None, floor: None, feed, last_frame: 0, initial, contradictions: 0, stay: Stay::Present }
    }

    /// Where storage is asked to go on from.
    pub(super) fn resume_from(&self) -> Option<Position> {
        self.floor.as_deref().copied().or(self.at)
    }

    /// Something may have been lost; whether storage is newly to be asked.
    pub(super) fn lose(&mut self) -> bool {
        match &mut self.feed {
            Feed::Live => {
                self.feed = Feed::Behind;
                true
            }
            Feed::Resuming { again, .. } => {
                *again = true;
                false
            }
            Feed::Unheard | Feed::Muted | Feed::Behind => false,
        }
    }

    /// Judges a live event, and keeps it if storage is being asked.
    pub(super) fn judge(&mut self, event: &Arc<SharedEvent>) -> Verdict {
        match (&mut self.feed, self.at) {
            (Feed::Live, Some(at)) if event.rev <= at.rev => Verdict::Drop,
            (Feed::Live, Some(at)) if event.rev == at.rev.next() => Verdict::Next,
            (Feed::Live, _) => Verdict::Missing,
            (Feed::Resuming { stash, again }, _) => {
                *again |= !stash.keep(event);
                Verdict::Drop
            }
            // What is asked of storage from now on includes the event.
            (Feed::Unheard | Feed::Muted | Feed::Behind, _) => Verdict::Drop,
        }
    }

    /// Takes the next live event, which may concern the viewer.
    pub(super) fn advance(&mut self, event: &SharedEvent, concerns: bool) {
        let before = self.at.unwrap_or_default();
        if concerns && matches!(event.kind, EventKind::Read { deferred: true, .. }) {
            self.floor.get_or_insert_with(|| Box::new(before));
        }
        self.at = Some(event.position_after(before));
    }

    /// Whether an event that storage told is news to the device.
    pub(super) fn is_news(&self, event: &SharedEvent) -> bool {
        let known = self.at.is_some_and(|at| event.rev <= at.rev);
        // A read that was stepped over lies behind the cursor and is news all the same.
        !known || (self.floor.is_some() && event.seq.is_none())
    }

    /// Takes over the end of what storage told.
    pub(super) fn settle_at(&mut self, end: Position) {
        let at = self.at.map_or(end, |at| if end.rev > at.rev { end } else { at });
        self.floor = (end.rev < at.rev && self.floor.is_some()).then(|| Box::new(end));
        self.at = Some(at);
    }
}
