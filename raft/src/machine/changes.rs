//! Changing messages.
//!
//! Owns: what may be done to a message after it was sent, and by whom; the event each change leaves.
//! Must not know: what a ciphertext says.
//! Invariants: a change is one event, and the message's row names the latest; what changes nothing is none. The row alone
//! holds what the message says, so a deleted message says nothing anywhere, and keeps its place and its recipients. Whoever
//! may not see the message is not told of its changes.

use super::apply::Outcome;
use super::blocks;
use super::blocks::veil::Veil;
use super::disappear;
use super::envelopes::{self, Viewer};
use super::membership::members;
use super::pins;
use super::query::{message, receipts};
use super::resend;
use super::rows::dedupe::{MessageRef, Reference};
use super::rows::event::{EventKey, EventRow};
use super::rows::head::{HeadKey, HeadRow};
use super::rows::message::{MessageKey, MessageRow};
use super::rows::{self};
use super::step::{Step, Stop, refuse};
use super::tables::{TableError, Tables};
use messenger_proto::command::{DeleteMessage, EditMessage, MessageReply, Reply, ReplyBody};
use messenger_proto::error::ErrorCode;
use messenger_proto::event::{Deleted, Edited, Event, Subject, ThreadEvent, ThreadEventBody};
use messenger_proto::ids::{Millis, Seq, UserId};
use messenger_proto::limits::{CHANGE_WINDOW, CIPHERTEXT_MAX};
use messenger_proto::model::DeletionReason;

/// Replaces what a message says.
pub(crate) fn edit<T: Tables>(step: &mut Step<'_, T>, op: &EditMessage) -> Result<Outcome, Stop> {
    let (key, mut row) = message::find(&step.rows, op.id, &op.actor)?;
    check_sender(&row, &op.actor)?;
    check_present(step, &row)?;
    let same = match &op.envelopes {
        Some(sent) => row.enveloped && envelopes::same(&step.rows, key, sent)?,
        None => row.ciphertext.as_ref() == Some(&op.ciphertext),
    };
    // A retry may come late, to find that its first try did it.
    if !(same && row.edited_at.is_some()) {
        check_window(&row, step.now)?;
    }
    if op.ciphertext.len() > CIPHERTEXT_MAX {
        return refuse(ErrorCode::CiphertextTooLarge, "a ciphertext has at most 65536 bytes");
    }
    let actor = Viewer { user: &op.actor, device: op.device.as_ref() };
    if !same {
        let sealed = match &op.envelopes {
            Some(sent) => Some(envelopes::check(step, key.thread, actor, sent)?),
            None => None,
        };
        clear(step, key, &mut row)?;
        row.ciphertext = sealed.is_none().then(|| op.ciphertext.clone());
        row.enveloped = sealed.is_some();
        envelopes::put(step, key, &sealed.unwrap_or_default());
        row.edited_at = Some(step.now);
        let body = |of| ThreadEventBody::Edited(Edited { of, ciphertext: None, kind: None });
        change(step, key, &mut row, body)?;
    }
    answer(step, key, row, actor)
}

/// Takes away what a message says.
pub(crate) fn delete<T: Tables>(step: &mut Step<'_, T>, op: &DeleteMessage) -> Result<Outcome, Stop> {
    let (key, row) = message::find(&step.rows, op.id, &op.actor)?;
    check_sender(&row, &op.actor)?;
    let is_over = row.meta.deleted || disappear::is_over(row.expires_at, step.now);
    match check_window(&row, step.now) {
        // It says nothing any more, and is as good as deleted.
        Err(_) if is_over => {}
        Err(late) => return Err(late),
        Ok(()) if row.meta.deleted => stay_deleted(step, key, &row)?,
        Ok(()) => take_away(step, key, row, DeletionReason::Sender)?,
    }
    Ok(Outcome::done(None))
}

/// A message that disappeared may be sent again; one that its sender deleted as well may not.
fn stay_deleted<T: Tables>(step: &mut Step<'_, T>, key: MessageKey, row: &MessageRow) -> Result<(), TableError> {
    let at = EventKey { thread: key.thread, seq: row.meta.changed };
    let mut event = rows::expect(&step.rows, &at)?;
    if let ThreadEventBody::Deleted(deleted) = &mut event.body
        && deleted.reason == DeletionReason::Expired
    {
        deleted.reason = DeletionReason::Sender;
        step.put(&at, &event);
    }
    Ok(())
}

/// Takes away what a message says, with the event of it.
pub(crate) fn take_away<T: Tables>(
    step: &mut Step<'_, T>,
    key: MessageKey,
    mut row: MessageRow,
    reason: DeletionReason,
) -> Result<(), Stop> {
    clear(step, key, &mut row)?;
    row.attachments = Vec::new();
    row.reactions = Vec::new();
    row.meta.deleted = true;
    pins::forget(step, key)?;
    disappear::unschedule(step, key, &row);
    change(step, key, &mut row, |of| ThreadEventBody::Deleted(Deleted { of, reason }))
}

/// Takes away what a message says, in whichever form.
fn clear<T: Tables>(step: &mut Step<'_, T>, key: MessageKey, row: &mut MessageRow) -> Result<(), TableError> {
    row.ciphertext = None;
    if std::mem::take(&mut row.enveloped) {
        envelopes::forget(step, key)?;
    }
    Ok(())
}

fn check_sender(row: &MessageRow, actor: &UserId) -> Result<(), Stop> {
    if row.meta.sender == *actor {
        return Ok(());
    }
    refuse(ErrorCode::Forbidden, "only its sender may change a message")
}

/// Refuses a message that was deleted, or has disappeared.
pub(crate) fn check_present<T: Tables>(step: &Step<'_, T>, row: &MessageRow) -> Result<(), Stop> {
    if row.meta.deleted || disappear::is_over(row.expires_at, step.now) {
        return refuse(ErrorCode::MessageDeleted, "a deleted message stays as it is");
    }
    Ok(())
}

fn check_window(row: &MessageRow, now: Millis) -> Result<(), Stop> {
    let age = u128::from(now.0.saturating_sub(row.meta.id.created_at().0));
    if age <= CHANGE_WINDOW.as_millis() {
        return Ok(());
    }
    refuse(ErrorCode::ChangeWindowClosed, "a message may be changed for 15 minutes after it was sent")
}

/// Stores a changed message, and the event of it.
pub(crate) fn change<T: Tables>(
    step: &mut Step<'_, T>,
    key: MessageKey,
    row: &mut MessageRow,
    body: impl FnOnce(Subject) -> ThreadEventBody,
) -> Result<(), Stop> {
    let seq = tell(step, key, row, body)?;
    row.meta.changed = seq;
    step.put(&key, row);
    Ok(())
}

/// Stores and gives an event about a message.
pub(crate) fn tell<T: Tables>(
    step: &mut Step<'_, T>,
    key: MessageKey,
    row: &MessageRow,
    body: impl FnOnce(Subject) -> ThreadEventBody,
) -> Result<Seq, Stop> {
    let MessageKey { thread, seq: of } = key;
    let mut head = step.head(thread)?;
    let (seq, rev) = head.next_event()?;
    step.put(&HeadKey { thread }, &head);
    let mut body = body(Subject { id: row.meta.id, seq: of });
    let at = step.now;
    step.put(&EventKey { thread, seq }, &EventRow { rev, at, body: body.clone() });
    let mut sealed = Vec::new();
    if let ThreadEventBody::Edited(edited) = &mut body {
        edited.ciphertext.clone_from(&row.ciphertext);
        if row.enveloped {
            sealed = envelopes::all(&step.rows, key)?;
        }
    }
    let hidden_from = hidden_from(step, &head, key, &row.meta.sender)?;
    let event = ThreadEvent { thread, rev, seq: Some(seq), at, body, hidden_from, envelopes: sealed };
    step.emit_event(Event::Thread(event));
    Ok(seq)
}

/// Members who may not see the message.
fn hidden_from<T: Tables>(
    step: &Step<'_, T>,
    head: &HeadRow,
    key: MessageKey,
    sender: &UserId,
) -> Result<Vec<UserId>, TableError> {
    let MessageKey { thread, seq } = key;
    // Beside those that a block says so of, those to whom it was not sent again.
    let mut failed = blocks::failed_for(&step.rows, head, thread, sender, seq)?;
    if head.veiled && head.resent {
        failed.extend(resend::standings(&step.rows, thread, seq)?.into_keys());
    }
    let mut hidden = Vec::new();
    for (user, member) in members(&step.rows, thread)? {
        if !member.present() {
            continue;
        }
        let veiled =
            failed.contains(&user) && Veil::of(&step.rows, thread, head, &user)?.hides(&step.rows, sender, seq)?;
        if veiled || !member.sees(seq) {
            hidden.push(user);
        }
    }
    Ok(hidden)
}

/// An answer with a message as `actor` sees it.
pub(crate) fn answer<T: Tables>(
    step: &Step<'_, T>,
    key: MessageKey,
    row: MessageRow,
    actor: Viewer<'_>,
) -> Result<Outcome, Stop> {
    let mut message = [row.into_message(key)];
    receipts::count_own(&step.rows, actor.user, &mut message)?;
    envelopes::open(&step.rows, actor, &mut message)?;
    let [message] = message;
    let body = ReplyBody::Message(MessageReply { message, duplicate: false });
    Ok(Outcome {
        reply: Reply { replayed: false, body, barrier: None },
        reference: Some(Reference::Message(MessageRef { thread: key.thread, seq: key.seq })),
    })
}
