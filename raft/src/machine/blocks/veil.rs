//! What of a thread blocks hide from one of its members.
//!
//! Owns: whether a message is shown to a viewer that may have been keeping its sender away.
//! Must not know: membership; which query asks.
//! Invariants: what failed for the viewer by a block is hidden from it by whatever asks here, until it was sent again to
//! it; a thread in which nobody ever kept anybody away costs no look-up.

use super::in_force;
use crate::machine::rows::blocker::BlockerKey;
use crate::machine::rows::head::HeadRow;
use crate::machine::rows::key::KeyWriter;
use crate::machine::rows::message::{MessageKey, MessageMeta};
use crate::machine::rows::resent::ResentKey;
use crate::machine::rows::{self};
use crate::machine::tables::{Direction, TableError, Tables};
use messenger_proto::ids::{Seq, ThreadId, UserId};
use std::collections::BTreeSet;

/// A viewer's blocks in a thread.
#[derive(Debug)]
pub(crate) struct Veil {
    thread: ThreadId,
    viewer: UserId,
    /// Whom it keeps away here or once did.
    blocked: BTreeSet<UserId>,
    /// Some message was sent again.
    resent: bool,
}

impl Veil {
    /// The veil of a thread's member.
    pub(crate) fn of(
        tables: &impl Tables,
        thread: ThreadId,
        head: &HeadRow,
        viewer: &UserId,
    ) -> Result<Self, TableError> {
        let mut blocked = BTreeSet::new();
        if head.veiled {
            let range = KeyWriter::of::<BlockerKey>().thread(thread).user(viewer).range();
            let pairs = rows::collect::<BlockerKey>(tables, &range, Direction::Forward, usize::MAX)?;
            blocked.extend(pairs.into_iter().map(|(pair, _)| pair.blocked));
        }
        Ok(Self { thread, viewer: viewer.clone(), blocked, resent: head.resent })
    }

    /// Whether nothing can be hidden.
    pub(crate) fn is_open(&self) -> bool {
        self.blocked.is_empty()
    }

    /// Whether a message is hidden from the viewer.
    pub(crate) fn hides(&self, tables: &impl Tables, sender: &UserId, seq: Seq) -> Result<bool, TableError> {
        if !self.blocked.contains(sender) {
            return Ok(false);
        }
        if self.resent {
            let key = ResentKey { thread: self.thread, seq, user: self.viewer.clone() };
            if let Some(row) = rows::get(tables, &key)? {
                return Ok(row.hidden);
            }
        }
        in_force(tables, self.thread, sender, &self.viewer, seq)
    }

    /// Likewise of one whose sender is yet to be looked up.
    pub(crate) fn hides_at(&self, tables: &impl Tables, seq: Seq) -> Result<bool, TableError> {
        if self.is_open() {
            return Ok(false);
        }
        let MessageMeta { sender, .. } = rows::expect(tables, &MessageKey { thread: self.thread, seq })?.meta;
        self.hides(tables, &sender, seq)
    }
}
