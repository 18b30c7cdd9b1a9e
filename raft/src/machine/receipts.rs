//! Delivery and reading.
//!
//! Owns: the watermarks of members, their history, and the positions of devices.
//! Must not know: sockets and acknowledgement frames.
//! Invariants: marks and positions only move forward; `read` is never ahead of `delivered`; each step of a mark takes
//! one `rev`, gives one receipt and leaves one row of history, so that the time at which any message was passed is
//! exact. A read that runs ahead of delivery moves both marks at once, with one receipt, of kind read, which implies
//! the other. One's own messages are never delivered to oneself: an acknowledgement that covers no others moves nothing.
//! Who left a thread still takes what it saw of it, up to its removal, which its devices may hear of later.

use super::apply::Outcome;
use super::blocks::veil::Veil;
use super::membership;
use super::resend::{self, Taken};
use super::rows::head::{HeadKey, HeadRow};
use super::rows::history::{HistoryKey, HistoryRow};
use super::rows::member::{MemberKey, MemberRow};
use super::rows::message::{self, MessageKey};
use super::rows::message_id::MessageIdKey;
use super::rows::position::{PositionKey, PositionRow};
use super::rows::resent::ResentKey;
use super::rows::watermark::{Mark, WatermarkKey, WatermarkRow};
use super::rows::{self};
use super::step::{Step, Stop, refuse};
use super::tables::{Direction, TableError, Tables};
use messenger_proto::command::{Acknowledge, Acknowledgement, MarkRead};
use messenger_proto::error::ErrorCode;
use messenger_proto::event::{Receipt, ThreadEventBody};
use messenger_proto::ids::{MessageId, Position, Seq, ThreadId, UserId};
use messenger_proto::model::ReceiptKind;
use std::collections::BTreeSet;
use std::ops::ControlFlow;

/// Messages that one step of a mark looks at for their senders; beyond it everyone is told.
const SENDERS_SCAN: usize = 256;
/// Messages that it steps over since the marks don't speak of them; beyond it what lies before them stays as it is.
const HIDDEN_SCAN: usize = 2_000;

/// Moves a member's read mark.
pub(crate) fn mark_read<T: Tables>(step: &mut Step<'_, T>, op: &MarkRead) -> Result<Outcome, Stop> {
    let mut head = step.head(op.thread)?;
    let member = membership::present(step, op.thread, &op.user)?;
    let place = step.get(&MessageIdKey { id: op.up_to })?.filter(|place| place.thread == op.thread);
    let Some(place) = place else {
        return refuse(ErrorCode::NotFound, "there is no such message in the thread");
    };
    if !member.sees(place.seq) {
        return refuse(ErrorCode::Forbidden, "the message was sent while the reader was no participant");
    }
    let veil = Veil::of(&step.rows, op.thread, &head, &op.user)?;
    if veil.hides_at(&step.rows, place.seq)? {
        return refuse(ErrorCode::NotFound, "there is no such message in the thread");
    }
    let key = WatermarkKey { thread: op.thread, user: op.user.clone() };
    let mut marks = step.get(&key)?.unwrap_or_default();
    let again = resend::read(step, &head, (op.thread, &op.user), place.seq)?;
    if place.seq <= marks.read_seq() {
        touch(step, (op.thread, &mut head), ReceiptKind::Read, (key, marks), again)?;
        return Ok(Outcome::done(None));
    }
    let reader = Member { thread: op.thread, user: &op.user, row: &member, veil: &veil, resent: head.resent };
    let covered = covered(&step.rows, &reader, (marks.read_seq(), place.seq))?;
    let mark = Mark { seq: place.seq, id: op.up_to, at: step.now, rev: head.next_rev()? };
    if place.seq > marks.delivered_seq() {
        marks.delivered = Some(mark.clone());
        keep(step, op.thread, ReceiptKind::Delivered, &op.user, &mark);
    }
    marks.read = Some(mark.clone());
    keep(step, op.thread, ReceiptKind::Read, &op.user, &mark);
    step.put(&key, &marks);
    step.put(&HeadKey { thread: op.thread }, &head);
    tell(step, (op.thread, head.members), ReceiptKind::Read, &op.user, &mark, covered.senders());
    Ok(Outcome::done(None))
}

/// Takes what the devices behind one gateway acknowledged; whatever makes no sense is left out.
pub(crate) fn acknowledge<T: Tables>(step: &mut Step<'_, T>, op: &Acknowledge) -> Result<Outcome, Stop> {
    for item in &op.items {
        let Some(mut head) = step.get(&HeadKey { thread: item.thread })? else { continue };
        let key = MemberKey { thread: item.thread, user: item.user.clone() };
        let Some(member) = step.get(&key)? else { continue };
        if item.delivered > Seq(0) {
            deliver(step, &mut head, item, &member)?;
        }
        if let Some(position) = item.position {
            let end = member.end().unwrap_or_else(|| head.end());
            advance(step, end, item, position)?;
        }
    }
    Ok(Outcome::done(None))
}

fn deliver<T: Tables>(
    step: &mut Step<'_, T>,
    head: &mut HeadRow,
    item: &Acknowledgement,
    member: &MemberRow,
) -> Result<(), Stop> {
    let key = WatermarkKey { thread: item.thread, user: item.user.clone() };
    let mut marks = step.get(&key)?.unwrap_or_default();
    let up_to = item.delivered.min(head.seq);
    let again = resend::delivered(step, head, (item.thread, &item.user), (marks.delivered_seq(), up_to))?;
    let veil = Veil::of(&step.rows, item.thread, head, &item.user)?;
    let taker = Member { thread: item.thread, user: &item.user, row: member, veil: &veil, resent: head.resent };
    let mut covered = covered(&step.rows, &taker, (marks.delivered_seq(), up_to))?;
    let Some((seq, id)) = covered.highest else {
        return touch(step, (item.thread, head), ReceiptKind::Delivered, (key, marks), again);
    };
    covered.others.extend(again.senders);
    let mark = Mark { seq, id, at: step.now, rev: head.next_rev()? };
    marks.delivered = Some(mark.clone());
    step.put(&key, &marks);
    step.put(&HeadKey { thread: item.thread }, head);
    keep(step, item.thread, ReceiptKind::Delivered, &item.user, &mark);
    tell(step, (item.thread, head.members), ReceiptKind::Delivered, &item.user, &mark, covered.senders());
    Ok(())
}

fn advance<T: Tables>(
    step: &mut Step<'_, T>,
    end: Position,
    item: &Acknowledgement,
    position: Position,
) -> Result<(), Stop> {
    let key = PositionKey { thread: item.thread, user: item.user.clone(), device: item.device.clone() };
    let stored = step.get(&key)?.map(|row| row.position);
    let old = stored.unwrap_or_default();
    let new = Position { seq: position.seq.min(end.seq).max(old.seq), rev: position.rev.min(end.rev).max(old.rev) };
    if stored != Some(new) {
        step.put(&key, &PositionRow { position: new });
    }
    Ok(())
}

fn keep<T: Tables>(step: &mut Step<'_, T>, thread: ThreadId, kind: ReceiptKind, user: &UserId, mark: &Mark) {
    step.put(&HistoryKey { thread, kind, user: user.clone(), up_to: mark.seq }, &HistoryRow { at: mark.at });
}

fn tell<T: Tables>(
    step: &mut Step<'_, T>,
    (thread, members): (ThreadId, u32),
    kind: ReceiptKind,
    by: &UserId,
    mark: &Mark,
    senders: Option<Vec<UserId>>,
) {
    let receipt = Receipt { kind, by: by.clone(), up_to: mark.id, up_to_seq: mark.seq, senders, members };
    step.emit(thread, mark.rev, None, mark.at, ThreadEventBody::Receipt(receipt));
}

/// What a step of a mark newly covers.
#[derive(Default)]
struct Covered {
    /// The highest message of someone else that the member saw; any visible one when there were too many to look at.
    highest: Option<(Seq, MessageId)>,
    others: BTreeSet<UserId>,
    too_many: bool,
}

impl Covered {
    fn senders(self) -> Option<Vec<UserId>> {
        (!self.too_many).then(|| self.others.into_iter().collect())
    }
}

/// A member, and what it sees.
struct Member<'a> {
    thread: ThreadId,
    user: &'a UserId,
    row: &'a MemberRow,
    veil: &'a Veil,
    /// Some message was sent again, which has a standing of its own.
    resent: bool,
}

impl Member<'_> {
    /// Whether a message is none that its marks speak of.
    fn passes_over(&self, tables: &impl Tables, sender: &UserId, seq: Seq) -> Result<bool, TableError> {
        if self.veil.hides(tables, sender, seq)? {
            return Ok(true);
        }
        let key = ResentKey { thread: self.thread, seq, user: self.user.clone() };
        Ok(self.resent && rows::get(tables, &key)?.is_some())
    }
}

fn covered(tables: &impl Tables, member: &Member<'_>, (after, up_to): (Seq, Seq)) -> Result<Covered, TableError> {
    let (mut covered, mut newest) = (Covered::default(), None);
    let (mut left, mut hidden) = (SENDERS_SCAN, HIDDEN_SCAN);
    for range in member.row.visible(after, up_to).into_iter().rev() {
        if covered.too_many {
            break;
        }
        let range = message::messages(member.thread, range);
        rows::scan::<MessageKey>(tables, &range, Direction::Backward, |key, row| {
            if left == 0 || hidden == 0 {
                covered.too_many = true;
                return Ok(ControlFlow::Break(()));
            }
            let meta = message::meta_of(row)?;
            if member.passes_over(tables, &meta.sender, key.seq)? {
                hidden -= 1;
                return Ok(ControlFlow::Continue(()));
            }
            left -= 1;
            newest = newest.or(Some((key.seq, meta.id)));
            if meta.sender != *member.user {
                covered.highest = covered.highest.or(Some((key.seq, meta.id)));
                covered.others.insert(meta.sender);
            }
            Ok(ControlFlow::Continue(()))
        })?;
    }
    if covered.too_many {
        covered.highest = covered.highest.or(newest);
    }
    Ok(covered)
}

/// Tells that messages which came twice were taken or read, where no mark moves. The mark says so anew, so that whoever
/// misses it is told of the mark; where there is none yet, it begins at the last of them, as nothing before is missing.
fn touch<T: Tables>(
    step: &mut Step<'_, T>,
    (thread, head): (ThreadId, &mut HeadRow),
    kind: ReceiptKind,
    (key, mut marks): (WatermarkKey, WatermarkRow),
    taken: Taken,
) -> Result<(), Stop> {
    let Some((seq, id)) = taken.highest else { return Ok(()) };
    let (at, rev) = (step.now, head.next_rev()?);
    let told = Mark { seq, id, at, rev };
    let moved = |mark: Option<Mark>| match mark {
        Some(mark) if mark.seq >= seq => (Mark { at, rev, ..mark }, false),
        _ => (told.clone(), true),
    };
    let delivered = moved(marks.delivered.take());
    let mut steps = vec![(ReceiptKind::Delivered, delivered.clone())];
    if kind == ReceiptKind::Read {
        let read = moved(marks.read.take());
        steps.push((ReceiptKind::Read, read.clone()));
        marks.read = Some(read.0);
    }
    marks.delivered = Some(delivered.0);
    for (kind, (mark, moved)) in &steps {
        if *moved {
            keep(step, thread, *kind, &key.user, mark);
        }
    }
    step.put(&key, &marks);
    step.put(&HeadKey { thread }, head);
    tell(step, (thread, head.members), kind, &key.user, &told, Some(taken.senders.into_iter().collect()));
    Ok(())
}
