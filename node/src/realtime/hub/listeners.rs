//! Whom something ephemeral is shown to.
//!
//! Owns: a set of mailboxes, gathered once for one frame.
//! Must not know: topics, streams.
//! Invariants: a mailbox is in it once, however many threads it was found by.

use crate::metric_names as names;
use crate::realtime::event::EphemeralFrame;
use crate::realtime::mailbox::Mailbox;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Mailboxes, by their address.
#[derive(Debug, Default)]
pub struct Listeners {
    mailboxes: BTreeMap<usize, Arc<Mailbox>>,
}

impl Listeners {
    pub(super) fn add<'a>(&mut self, found: impl Iterator<Item = &'a Arc<Mailbox>>) {
        for mailbox in found {
            self.mailboxes.entry(Arc::as_ptr(mailbox).addr()).or_insert_with(|| Arc::clone(mailbox));
        }
    }

    /// Whether there is nobody.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.mailboxes.is_empty()
    }

    /// Hands each of them the frame.
    pub fn show(&self, frame: EphemeralFrame) {
        let frame = Arc::new(frame);
        for mailbox in self.mailboxes.values() {
            if !mailbox.push_ephemeral(&frame) {
                metrics::counter!(names::EPHEMERAL_DROPPED, names::WHERE => "mailbox").increment(1);
            }
        }
    }
}
