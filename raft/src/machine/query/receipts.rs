//! How far a message got.
//!
//! Owns: counting and listing a message's recipients from members, marks and their history.
//! Must not know: which query asks.
//! Invariants: the recipients of a message are those who were members when it was sent, less its sender; times are
//! those of the step that first passed the message. A message that disappeared before it was delivered has failed, and so
//! has one for whoever kept its sender away; of one that was sent again, only what came after that counts.

use super::super::blocks;
use super::super::disappear;
use super::super::membership::members;
use super::super::resend;
use super::super::rows::head::{HeadKey, HeadRow};
use super::super::rows::history::{self, HistoryKey};
use super::super::rows::key::KeyWriter;
use super::super::rows::member::MemberRow;
use super::super::rows::resent::ResentRow;
use super::super::rows::watermark::{WatermarkKey, WatermarkRow};
use super::super::rows::{self};
use super::super::tables::{Direction, TableError, Tables};
use messenger_proto::ids::{Millis, Seq, ThreadId, UserId};
use messenger_proto::model::{DeliveryState, Message, ReceiptCounts, ReceiptKind, Recipient};
use std::collections::BTreeMap;

/// Every member there ever was and how far it got: what counting a page of messages takes, read once.
pub(crate) struct Standings {
    head: HeadRow,
    members: Vec<(UserId, MemberRow, WatermarkRow)>,
}

/// Somebody for whom a message failed.
pub(crate) struct Failed {
    pub(crate) user: UserId,
    /// Whether it is in the thread now.
    pub(crate) present: bool,
    /// When it failed.
    pub(crate) since: Millis,
    /// Whether a block that was in force when it was sent says so, and nothing else has to.
    pub(crate) blocked: bool,
}

/// What a message's recipients are judged by, beside their marks.
struct Judge<'a, T: Tables> {
    tables: &'a T,
    message: &'a Message,
    /// For whom it failed by a block.
    blockers: Vec<UserId>,
    /// To whom it was sent again.
    again: BTreeMap<UserId, ResentRow>,
}

impl<T: Tables> Judge<'_, T> {
    fn is_plain(&self) -> bool {
        self.blockers.is_empty() && self.again.is_empty() && self.message.expires_at.is_none()
    }

    fn times(&self, user: &UserId, marks: &WatermarkRow) -> Result<Times, TableError> {
        match self.again.get(user) {
            Some(row) => Ok(Times { delivered_at: row.delivered_at, read_at: row.read_at }),
            None if self.blockers.contains(user) => Ok(Times { delivered_at: None, read_at: None }),
            None => times(self.tables, self.message, user, marks),
        }
    }

    /// Since when it has failed, of a recipient that did not take it.
    fn failed_since(&self, user: &UserId, now: Millis) -> Option<Millis> {
        let over = self.message.expires_at.filter(|at| *at <= now);
        match self.again.get(user) {
            Some(row) => row.failed_at.or(over),
            None if self.blockers.contains(user) => Some(self.message.id.created_at()),
            None => over,
        }
    }
}

impl Standings {
    /// The standings of a thread.
    pub(crate) fn of(tables: &impl Tables, thread: ThreadId) -> Result<Self, TableError> {
        let mut marks: BTreeMap<UserId, WatermarkRow> = marks(tables, thread)?.into_iter().collect();
        let standing = |(user, member)| {
            let marks = marks.remove(&user).unwrap_or_default();
            (user, member, marks)
        };
        let members = members(tables, thread)?.into_iter().map(standing).collect();
        Ok(Self { head: rows::expect(tables, &HeadKey { thread })?, members })
    }

    fn judge<'a, T: Tables>(&self, tables: &'a T, message: &'a Message) -> Result<Judge<'a, T>, TableError> {
        let Message { thread, seq, ref sender, .. } = *message;
        let blockers = blocks::failed_for(tables, &self.head, thread, sender, seq)?;
        let again = if self.head.resent { resend::standings(tables, thread, seq)? } else { BTreeMap::new() };
        Ok(Judge { tables, message, blockers, again })
    }

    /// Those for whom a message failed as of now.
    pub(crate) fn failed<T: Tables>(
        &self,
        tables: &T,
        message: &Message,
        now: Millis,
    ) -> Result<Vec<Failed>, TableError> {
        let (judge, mut failed) = (self.judge(tables, message)?, Vec::new());
        for (user, member, marks) in self.recipients(&message.sender, message.seq) {
            if let Some(since) = judge.failed_since(user, now)
                && judge.times(user, marks)?.delivered_at.is_none()
            {
                let blocked = judge.blockers.contains(user) && !judge.again.contains_key(user);
                failed.push(Failed { user: user.clone(), present: member.present(), since, blocked });
            }
        }
        Ok(failed)
    }

    fn recipients(&self, sender: &UserId, seq: Seq) -> impl Iterator<Item = &(UserId, MemberRow, WatermarkRow)> {
        self.members.iter().filter(move |(user, member, _)| user != sender && member.sees(seq))
    }

    /// Counts for one message.
    pub(crate) fn count(&self, tables: &impl Tables, message: &mut Message) -> Result<(), TableError> {
        let mut counts = ReceiptCounts { of: 0, delivered: 0, read: 0 };
        let judge = self.judge(tables, message)?;
        for (user, _, marks) in self.recipients(&message.sender, message.seq) {
            // When a mark came by matters only to what disappears.
            let (delivered, read) = if judge.is_plain() {
                (marks.delivered_seq() >= message.seq, marks.read_seq() >= message.seq)
            } else {
                let times = judge.times(user, marks)?;
                (times.delivered_at.is_some(), times.read_at.is_some())
            };
            counts.of += 1;
            counts.delivered += u32::from(delivered);
            counts.read += u32::from(read);
        }
        message.receipts = Some(counts);
        Ok(())
    }
}

/// The marks of a thread's members, in order of name.
pub(crate) fn marks(tables: &impl Tables, thread: ThreadId) -> Result<Vec<(UserId, WatermarkRow)>, TableError> {
    let range = KeyWriter::of::<WatermarkKey>().thread(thread).range();
    let rows = rows::collect::<WatermarkKey>(tables, &range, Direction::Forward, usize::MAX)?;
    Ok(rows.into_iter().map(|(key, row)| (key.user, row)).collect())
}

/// Counts the receipts of those of a page that are the viewer's own.
pub(crate) fn count_own(tables: &impl Tables, viewer: &UserId, page: &mut [Message]) -> Result<(), TableError> {
    let mut standings: Option<(ThreadId, Standings)> = None;
    for message in page.iter_mut().filter(|message| message.sender == *viewer) {
        let known = standings.take().filter(|(thread, _)| *thread == message.thread);
        let (_, standings) = standings.insert(match known {
            Some(known) => known,
            None => (message.thread, Standings::of(tables, message.thread)?),
        });
        standings.count(tables, message)?;
    }
    Ok(())
}

/// Lists the recipients of a message as of now, in order of name.
pub(crate) fn recipients(tables: &impl Tables, message: &Message, now: Millis) -> Result<Vec<Recipient>, TableError> {
    let mut recipients = Vec::new();
    let standings = Standings::of(tables, message.thread)?;
    let judge = standings.judge(tables, message)?;
    for (user, _, marks) in standings.recipients(&message.sender, message.seq) {
        let times = judge.times(user, marks)?;
        let state = match times {
            Times { read_at: Some(_), .. } => DeliveryState::Read,
            Times { delivered_at: Some(_), .. } => DeliveryState::Delivered,
            _ if judge.failed_since(user, now).is_some() => DeliveryState::Failed,
            _ => DeliveryState::Sent,
        };
        let Times { delivered_at, read_at } = times;
        recipients.push(Recipient { user: user.clone(), state, delivered_at, read_at });
    }
    Ok(recipients)
}

/// When a message got how far with one recipient.
struct Times {
    delivered_at: Option<Millis>,
    read_at: Option<Millis>,
}

/// A mark that passed the message when it had disappeared says nothing of it: there was nothing to take.
fn times(tables: &impl Tables, message: &Message, user: &UserId, marks: &WatermarkRow) -> Result<Times, TableError> {
    let Message { thread, seq, expires_at, .. } = *message;
    let passed = |kind, mark: Seq| if mark >= seq { passed(tables, thread, kind, user, seq) } else { Ok(None) };
    let delivered_at = passed(ReceiptKind::Delivered, marks.delivered_seq())?;
    if delivered_at.is_none_or(|at| disappear::is_over(expires_at, at)) {
        return Ok(Times { delivered_at: None, read_at: None });
    }
    Ok(Times { delivered_at, read_at: passed(ReceiptKind::Read, marks.read_seq())? })
}

/// When a mark passed a message.
fn passed(
    tables: &impl Tables,
    thread: ThreadId,
    kind: ReceiptKind,
    user: &UserId,
    seq: Seq,
) -> Result<Option<Millis>, TableError> {
    let range = history::steps_from(thread, kind, user, seq);
    let step = rows::collect::<HistoryKey>(tables, &range, Direction::Forward, 1)?;
    match step.into_iter().next() {
        Some((_, step)) => Ok(Some(step.at)),
        None => Err(TableError("a watermark has no history".into())),
    }
}
