//! Messages that stand out in their threads.
//!
//! Owns: which messages of a thread are pinned, by whom, and how many there may be.
//! Must not know: how they are shown.
//! Invariants: a message is pinned once; what is pinned again, or unpinned when it is not, is no event; a deleted message
//! is not pinned, and its deletion is all the event there is of that.

use super::apply::Outcome;
use super::changes;
use super::query::view::View;
use super::rows::dedupe::{PinsRef, Reference};
use super::rows::message::MessageKey;
use super::rows::message_id::MessageIdKey;
use super::rows::thread::{PinnedMessage, ThreadKey};
use super::rows::{self};
use super::step::{Step, Stop, refuse};
use super::tables::Tables;
use messenger_proto::command::{PinMessage, PinsReply, Reply, ReplyBody};
use messenger_proto::error::ErrorCode;
use messenger_proto::event::{Pinned, ThreadEventBody};
use messenger_proto::limits::PINS_MAX;
use messenger_proto::model::Pin;

/// Pins a message, or unpins it.
pub(crate) fn pin<T: Tables>(step: &mut Step<'_, T>, op: &PinMessage) -> Result<Outcome, Stop> {
    let View { member, veil, .. } = View::open(&step.rows, op.thread, &op.actor)?;
    let place = step.get(&MessageIdKey { id: op.id })?.filter(|place| place.thread == op.thread);
    let Some(place) = place else {
        return refuse(ErrorCode::NotFound, "there is no such message in the thread");
    };
    if !member.sees(place.seq) {
        return refuse(ErrorCode::Forbidden, "the message was sent while the member was no participant");
    }
    if veil.hides_at(&step.rows, place.seq)? {
        return refuse(ErrorCode::NotFound, "there is no such message in the thread");
    }
    let key = MessageKey { thread: op.thread, seq: place.seq };
    if op.present { add(step, op, key) } else { remove(step, op, key) }
}

fn add<T: Tables>(step: &mut Step<'_, T>, op: &PinMessage, key: MessageKey) -> Result<Outcome, Stop> {
    let message = rows::expect(&step.rows, &key)?;
    changes::check_present(step, &message)?;
    let mut thread = rows::expect(&step.rows, &ThreadKey { thread: op.thread })?;
    if !thread.pins.iter().any(|pinned| pinned.seq == key.seq) {
        if thread.pins.len() >= PINS_MAX {
            return refuse(ErrorCode::TooManyPins, "a thread has at most 3 pinned messages");
        }
        let pin = Pin { message: op.id, by: op.actor.clone(), at: step.now };
        thread.pins.push(PinnedMessage { seq: key.seq, pin });
        step.put(&ThreadKey { thread: op.thread }, &thread);
        let body = |of| ThreadEventBody::Pinned(Pinned { of, by: op.actor.clone(), present: true });
        changes::tell(step, key, &message, body)?;
    }
    let pins = View::open(&step.rows, op.thread, &op.actor)?.pins()?;
    Ok(Outcome {
        reply: Reply { replayed: false, body: ReplyBody::Pins(PinsReply { pins }), barrier: None },
        reference: Some(Reference::Pins(PinsRef { thread: op.thread })),
    })
}

fn remove<T: Tables>(step: &mut Step<'_, T>, op: &PinMessage, key: MessageKey) -> Result<Outcome, Stop> {
    if forget(step, key)? {
        let message = rows::expect(&step.rows, &key)?;
        let body = |of| ThreadEventBody::Pinned(Pinned { of, by: op.actor.clone(), present: false });
        changes::tell(step, key, &message, body)?;
    }
    Ok(Outcome::done(None))
}

/// Unpins a message without an event; whether it was pinned.
pub(crate) fn forget<T: Tables>(step: &mut Step<'_, T>, key: MessageKey) -> Result<bool, Stop> {
    let thread_key = ThreadKey { thread: key.thread };
    let mut thread = rows::expect(&step.rows, &thread_key)?;
    let before = thread.pins.len();
    thread.pins.retain(|pinned| pinned.seq != key.seq);
    let pinned = thread.pins.len() < before;
    if pinned {
        step.put(&thread_key, &thread);
    }
    Ok(pinned)
}
