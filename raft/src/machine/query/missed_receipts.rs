//! The receipts a device missed, as state.
//!
//! Owns: which members' marks moved since the device's place, and whom that concerns.
//! Must not know: how events and receipts are put together.
//! Invariants: at most one receipt of each kind per member, the latest, and none of the user's own; a delivery that a
//! read implied is told by the read alone; deliveries are told only to those who sent something they cover.

use super::super::blocks;
use super::super::rows::client_seq::ClientSeqKey;
use super::super::rows::key::KeyWriter;
use super::super::rows::watermark::Mark;
use super::super::rows::{self};
use super::super::tables::{Direction, TableError, Tables};
use super::receipts;
use super::resume::Missed;
use messenger_proto::event::{Receipt, ThreadEvent, ThreadEventBody};
use messenger_proto::ids::{Seq, UserId};
use messenger_proto::model::ReceiptKind;

/// Messages of the user that are looked at to find its first; with more, it is told of deliveries it need not be.
const OWN_SCAN: usize = 64;

/// The receipts after the device's place.
pub(crate) fn collect<T: Tables>(missed: &Missed<'_, T>) -> Result<Vec<ThreadEvent>, TableError> {
    let mut events = Vec::new();
    if missed.start.rev >= missed.end.rev {
        return Ok(events);
    }
    let is_new = |mark: &Mark| {
        missed.start.rev < mark.rev
            && mark.rev <= missed.end.rev
            && !missed.behind.is_some_and(|behind| behind.covers_receipt(mark.rev, mark.at))
    };
    let mut own = None;
    for (by, marks) in receipts::marks(missed.tables, missed.thread)? {
        if by == missed.query.user {
            continue;
        }
        let implied = marks.read.as_ref().map(|read| read.rev);
        if let Some(mark) = marks.delivered.filter(|mark| is_new(mark) && Some(mark.rev) != implied) {
            let known = match own.take() {
                Some(own) => own,
                None => Own::of(missed)?,
            };
            if own.insert(known).sent_up_to(missed, mark.seq, &by)? {
                let senders = Some(vec![missed.query.user.clone()]);
                events.push(event(missed, ReceiptKind::Delivered, &by, &mark, senders));
            }
        }
        if let Some(mark) = marks.read.filter(is_new) {
            events.push(event(missed, ReceiptKind::Read, &by, &mark, None));
        }
    }
    Ok(events)
}

fn event<T: Tables>(
    missed: &Missed<'_, T>,
    kind: ReceiptKind,
    by: &UserId,
    mark: &Mark,
    senders: Option<Vec<UserId>>,
) -> ThreadEvent {
    let receipt = Receipt { kind, by: by.clone(), up_to: mark.id, up_to_seq: mark.seq, senders, members: 0 };
    let body = ThreadEventBody::Receipt(receipt);
    ThreadEvent {
        thread: missed.thread,
        rev: mark.rev,
        seq: None,
        at: mark.at,
        body,
        hidden_from: Vec::new(),
        envelopes: Vec::new(),
    }
}

/// What the user sent in the thread.
struct Own {
    /// In order.
    messages: Vec<Seq>,
    too_many: bool,
}

impl Own {
    fn of<T: Tables>(missed: &Missed<'_, T>) -> Result<Self, TableError> {
        let range = KeyWriter::of::<ClientSeqKey>().thread(missed.thread).user(&missed.query.user).range();
        let rows = rows::collect::<ClientSeqKey>(missed.tables, &range, Direction::Forward, OWN_SCAN)?;
        let (mut messages, too_many) = (Vec::new(), rows.len() == OWN_SCAN);
        messages.extend(rows.into_iter().map(|(_, row)| row.seq));
        messages.sort_unstable();
        Ok(Self { messages, too_many })
    }

    /// Whether a message of the user's that did not fail for `by` may be among those up to `seq`.
    fn sent_up_to<T: Tables>(&self, missed: &Missed<'_, T>, seq: Seq, by: &UserId) -> Result<bool, TableError> {
        if self.too_many {
            return Ok(true);
        }
        for own in self.messages.iter().take_while(|own| **own <= seq) {
            let user = &missed.query.user;
            if !blocks::has_failed(missed.tables, &missed.head, (missed.thread, user), by, *own)? {
                return Ok(true);
            }
        }
        Ok(false)
    }
}
