//! A message that failed for somebody, sent again.
//!
//! Owns: when a repeat of a send does that, what it does, and how far the message gets with those it is sent to again.
//! Must not know: watermarks of other messages; see [`super::receipts`].
//! Invariants: a message is sent again under a new key with the same body, up to a day after it failed for somebody; those
//! it failed for, are in the thread and don't keep the sender away have it as if it were new, from an event of its own,
//! which is a hole for all others. Its place, its id and what else is known of it stay; if it had disappeared, it says again
//! what it said at first. Whoever takes the event, or reads the message, has taken this message, whatever its marks said.

use super::blocks;
use super::disappear;
use super::envelopes::{self, Viewer};
use super::membership::members;
use super::query::receipts::{Failed, Standings};
use super::rows::event::{EventKey, EventRow};
use super::rows::head::{HeadKey, HeadRow};
use super::rows::key::KeyWriter;
use super::rows::message::{MessageKey, MessageRow};
use super::rows::resent::{self, ResentKey, ResentRow};
use super::rows::unread_resent::{self, UnreadResentKey, UnreadResentRow};
use super::rows::{self};
use super::step::{Step, Stop};
use super::tables::{Direction, TableError, Tables};
use messenger_proto::command::{Command, Retention, SendMessage};
use messenger_proto::envelope::Envelopes;
use messenger_proto::event::{Deleted, Event, Resent, Subject, ThreadEvent, ThreadEventBody};
use messenger_proto::ids::{MessageId, Millis, Seq, ThreadId, UserId};
use messenger_proto::limits::RESEND_WINDOW;
use messenger_proto::model::DeletionReason;
use messenger_proto::profile::NewMember;
use std::collections::{BTreeMap, BTreeSet};

/// How a message got on with those it was sent to again.
pub(crate) fn standings(
    tables: &impl Tables,
    thread: ThreadId,
    seq: Seq,
) -> Result<BTreeMap<UserId, ResentRow>, TableError> {
    let range = resent::resent_to(thread, seq);
    let rows = rows::collect::<ResentKey>(tables, &range, Direction::Forward, usize::MAX)?;
    Ok(rows.into_iter().map(|(key, row)| (key.user, row)).collect())
}

/// Takes a repeat of the send of the message at `seq` for another try; whether that is what it is.
pub(crate) fn attempt<T: Tables>(
    step: &mut Step<'_, T>,
    op: &SendMessage,
    command: &Command,
    seq: Seq,
) -> Result<bool, Stop> {
    let head = step.head(op.thread)?;
    let key = MessageKey { thread: op.thread, seq };
    let row = rows::expect(&step.rows, &key)?;
    // Or it stayed failed for somebody when it was sent again to others, and its time is a new one.
    let may_have_failed = head.veiled || head.resent || disappear::is_over(row.expires_at, step.now);
    if command.retention != Retention::Keyed || !may_have_failed || was_deleted(step, key, &row)? {
        return Ok(false);
    }
    let failed = Standings::of(&step.rows, op.thread)?.failed(&step.rows, &row.clone().into_message(key), step.now)?;
    let window = u64::try_from(RESEND_WINDOW.as_millis()).unwrap_or(u64::MAX);
    if !failed.iter().any(|failed| step.now.0 < failed.since.0.saturating_add(window)) {
        return Ok(false);
    }
    let blockers = blocks::keeping_away(&step.rows, &head, op.thread, &op.sender)?;
    let (to, not): (Vec<_>, Vec<_>) =
        failed.into_iter().partition(|failed| failed.present && !blockers.contains(&failed.user));
    let to: Vec<UserId> = to.into_iter().map(|failed| failed.user).collect();
    if !to.is_empty() || row.expires_at.is_some() {
        stay_failed(step, key, not, &blockers)?;
        send_again(step, op, head, (key, row), &to)?;
    }
    Ok(true)
}

/// Whether its sender took it away, rather than its time. A deleted message does not change any more.
fn was_deleted<T: Tables>(step: &Step<'_, T>, key: MessageKey, row: &MessageRow) -> Result<bool, TableError> {
    if !row.meta.deleted {
        return Ok(false);
    }
    let deletion = rows::expect(&step.rows, &EventKey { thread: key.thread, seq: row.meta.changed })?.body;
    Ok(!matches!(deletion, ThreadEventBody::Deleted(Deleted { reason: DeletionReason::Expired, .. })))
}

fn send_again<T: Tables>(
    step: &mut Step<'_, T>,
    op: &SendMessage,
    mut head: HeadRow,
    (key, mut row): (MessageKey, MessageRow),
    to: &[UserId],
) -> Result<(), Stop> {
    let MessageKey { thread, seq: of } = key;
    let (seq, rev) = head.next_event()?;
    head.resent = true;
    step.put(&HeadKey { thread }, &head);
    disappear::unschedule(step, key, &row);
    row.expires_at = op.ttl_s.map(|ttl| Millis(step.now.0.saturating_add(u64::from(ttl) * 1_000)));
    if row.meta.deleted {
        say_again(step, op, key, &mut row)?;
        row.attachments.clone_from(&op.attachments);
        row.edited_at = None;
        row.meta.deleted = false;
    }
    row.meta.changed = seq;
    step.put(&key, &row);
    disappear::schedule(step, key, &row);
    for user in to {
        begin_again(step, ResentKey { thread, seq: of, user: user.clone() }, seq)?;
    }
    let at = step.now;
    let subject = Subject { id: row.meta.id, seq: of };
    let stored = ThreadEventBody::Resent(Resent { of: subject, to: to.to_vec() });
    step.put(&EventKey { thread, seq }, &EventRow { rev, at, body: stored });
    let others = members(&step.rows, thread)?.into_iter().filter(|(user, row)| row.present() && !to.contains(user));
    let hidden_from = others.map(|(user, _)| user).collect();
    let envelopes = if row.enveloped { envelopes::all(&step.rows, key)? } else { Vec::new() };
    let body = ThreadEventBody::Message(row.into_message(key));
    step.emit_event(Event::Thread(ThreadEvent { thread, rev, seq: Some(seq), at, body, hidden_from, envelopes }));
    Ok(())
}

/// Whatever devices there are by now: the body has to be the one that was sent at first.
fn say_again<T: Tables>(
    step: &mut Step<'_, T>,
    op: &SendMessage,
    key: MessageKey,
    row: &mut MessageRow,
) -> Result<(), Stop> {
    let Some(sent) = &op.envelopes else {
        row.ciphertext = Some(op.ciphertext.clone());
        return Ok(());
    };
    let sender = Viewer { user: &op.sender, device: Some(&op.device) };
    let sent = Envelopes { allow_mismatch: true, ..sent.clone() };
    let sealed = envelopes::check(step, key.thread, sender, &sent)?;
    envelopes::put(step, key, &sealed);
    row.enveloped = true;
    Ok(())
}

/// Those for whom it stays failed are noted, unless a block says so: the message's new time does not any more.
fn stay_failed<T: Tables>(
    step: &mut Step<'_, T>,
    key: MessageKey,
    not: Vec<Failed>,
    blockers: &[UserId],
) -> Result<(), TableError> {
    for Failed { user, since, .. } in not.into_iter().filter(|failed| !failed.blocked) {
        let key = ResentKey { thread: key.thread, seq: key.seq, user };
        let before = forget_unread(step, &key)?;
        let hidden = before.is_some_and(|row| row.hidden) || blockers.contains(&key.user);
        step.put(&key, &ResentRow { failed_at: Some(since), hidden, ..ResentRow::default() });
    }
    Ok(())
}

/// A user's list came, in order of name, that hides what was said from one event to another: what of that had failed for it
/// before, and was sent again to others, too.
pub(crate) fn hide<T: Tables>(
    step: &mut Step<'_, T>,
    new: &NewMember,
    (from, to): (Seq, Seq),
) -> Result<(), TableError> {
    let range = KeyWriter::of::<ResentKey>().thread(new.thread).numbers(from, to);
    let known = rows::collect::<ResentKey>(&step.rows, &range, Direction::Forward, usize::MAX)?;
    for (key, row) in known.into_iter().filter(|(key, row)| key.user == new.user && row.event == Seq(0)) {
        let meta = rows::expect(&step.rows, &MessageKey { thread: key.thread, seq: key.seq })?.meta;
        if new.profile.blocks.binary_search(&meta.sender).is_ok() {
            step.put(&key, &ResentRow { failed_at: Some(meta.id.created_at()), hidden: true, ..row });
        }
    }
    Ok(())
}

fn forget_unread<T: Tables>(step: &mut Step<'_, T>, key: &ResentKey) -> Result<Option<ResentRow>, TableError> {
    let before = step.get(key)?;
    if let Some(before) = &before {
        let unread = UnreadResentKey { thread: key.thread, user: key.user.clone(), event: before.event };
        if step.get(&unread)?.is_some() {
            step.delete(&unread);
        }
    }
    Ok(before)
}

fn begin_again<T: Tables>(step: &mut Step<'_, T>, key: ResentKey, event: Seq) -> Result<(), TableError> {
    forget_unread(step, &key)?;
    step.put(&key, &ResentRow { event, ..ResentRow::default() });
    let ResentKey { thread, seq: of, user } = key;
    step.put(&UnreadResentKey { thread, user, event }, &UnreadResentRow { of });
    Ok(())
}

/// Messages that came twice and were newly taken or read.
#[derive(Debug, Default)]
pub(crate) struct Taken {
    /// The last of them.
    pub(crate) highest: Option<(Seq, MessageId)>,
    pub(crate) senders: BTreeSet<UserId>,
}

/// A member's devices took what happened after one event up to another.
pub(crate) fn delivered<T: Tables>(
    step: &mut Step<'_, T>,
    head: &HeadRow,
    (thread, user): (ThreadId, &UserId),
    (after, up_to): (Seq, Seq),
) -> Result<Taken, TableError> {
    let mut taken = Taken::default();
    if !head.resent {
        return Ok(taken);
    }
    for (key, UnreadResentRow { of }) in unread(step, thread, user, up_to)? {
        if key.event > after {
            take(step, &mut taken, &ResentKey { thread, seq: of, user: user.clone() }, false)?;
        }
    }
    Ok(taken)
}

/// A member read up to a message.
pub(crate) fn read<T: Tables>(
    step: &mut Step<'_, T>,
    head: &HeadRow,
    (thread, user): (ThreadId, &UserId),
    up_to: Seq,
) -> Result<Taken, TableError> {
    let mut taken = Taken::default();
    if !head.resent {
        return Ok(taken);
    }
    for (key, UnreadResentRow { of }) in unread(step, thread, user, up_to)? {
        step.delete(&key);
        take(step, &mut taken, &ResentKey { thread, seq: of, user: user.clone() }, true)?;
    }
    // Who names the message itself has seen it, wherever its new event stands.
    let itself = ResentKey { thread, seq: up_to, user: user.clone() };
    if let Some(row) = step.get(&itself)? {
        let key = UnreadResentKey { thread, user: user.clone(), event: row.event };
        if step.get(&key)?.is_some() {
            step.delete(&key);
            take(step, &mut taken, &itself, true)?;
        }
    }
    Ok(taken)
}

fn unread<T: Tables>(
    step: &Step<'_, T>,
    thread: ThreadId,
    user: &UserId,
    up_to: Seq,
) -> Result<Vec<(UnreadResentKey, UnreadResentRow)>, TableError> {
    let range = unread_resent::unread_up_to(thread, user, up_to);
    rows::collect::<UnreadResentKey>(&step.rows, &range, Direction::Forward, usize::MAX)
}

/// One that has disappeared meanwhile is not taken any more.
fn take<T: Tables>(step: &mut Step<'_, T>, taken: &mut Taken, key: &ResentKey, read: bool) -> Result<(), TableError> {
    let MessageRow { meta, expires_at, .. } =
        rows::expect(&step.rows, &MessageKey { thread: key.thread, seq: key.seq })?;
    let mut row = rows::expect(&step.rows, key)?;
    let (late, done) = (disappear::is_over(expires_at, step.now), row.delivered_at.is_some());
    if (done && !read) || (late && !done) {
        return Ok(());
    }
    let now = Some(step.now);
    row.delivered_at = row.delivered_at.or(now);
    row.read_at = row.read_at.or(now.filter(|_| read));
    step.put(key, &row);
    taken.highest = taken.highest.max(Some((key.seq, meta.id)));
    taken.senders.insert(meta.sender);
    Ok(())
}
