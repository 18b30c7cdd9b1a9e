//! Live events of one thread, kept while its storage is being asked.
//!
//! Owns: how many are kept, and that nothing is lost silently when more come.
//! Must not know: the cursor, or what is made of the events.
//! Invariants: what is kept is a beginning of what came, in its order, bounded by count and by bytes.

use crate::realtime::event::SharedEvent;
use std::sync::Arc;

/// Events kept at most.
pub(super) const EVENTS_MAX: usize = 256;
/// Their bytes at most, of which other sessions may hold the same; the first event is kept whatever its size.
const BYTES_MAX: usize = 128 * 1024;

/// What came since storage was asked.
#[derive(Debug, Default)]
pub(super) struct Stash {
    events: Vec<Arc<SharedEvent>>,
    bytes: usize,
    full: bool,
}

impl Stash {
    /// Keeps an event; whether there was room. There is none for those behind one that was not kept.
    pub(super) fn keep(&mut self, event: &Arc<SharedEvent>) -> bool {
        let bytes = self.bytes.saturating_add(event.weight());
        let room = self.events.is_empty() || (self.events.len() < EVENTS_MAX && bytes <= BYTES_MAX);
        self.full |= !room;
        if !self.full {
            self.events.push(Arc::clone(event));
            self.bytes = bytes;
        }
        !self.full
    }

    /// Everything kept, in the order of arrival.
    pub(super) fn into_events(self) -> Vec<Arc<SharedEvent>> {
        self.events
    }
}
