//! Messages that disappear.
//!
//! Owns: what happens when a message's time has come, which messages that is, and what is shown of one between that
//! moment and the command that takes it away.
//! Must not know: who keeps the time.
//! Invariants: a message that is to disappear has a due row until it is taken away, by its time or by its sender; from its
//! time on nobody reads what it said, whether or not the command has come; its place and its recipients stay.

use super::apply::Outcome;
use super::changes;
use super::rows::due::DueKey;
use super::rows::key::KeyWriter;
use super::rows::message::{MessageKey, MessageRow};
use super::rows::{self, Nothing};
use super::step::{Step, Stop};
use super::tables::{Direction, TableError, Tables};
use messenger_proto::command::{DueMessage, ExpireMessages, Reply, ReplyBody};
use messenger_proto::event::ThreadEventBody;
use messenger_proto::ids::Millis;
use messenger_proto::model::{DeletionReason, Message};
use messenger_proto::query::Answer;

/// Has a message that was just stored taken away in time.
pub(crate) fn schedule<T: Tables>(step: &mut Step<'_, T>, key: MessageKey, row: &MessageRow) {
    if let Some(at) = row.expires_at {
        step.put(&due(key, at), &Nothing {});
    }
}

/// Nobody need take the message away any more.
pub(crate) fn unschedule<T: Tables>(step: &mut Step<'_, T>, key: MessageKey, row: &MessageRow) {
    if let Some(at) = row.expires_at {
        step.delete(&due(key, at));
    }
}

fn due(MessageKey { thread, seq }: MessageKey, at: Millis) -> DueKey {
    DueKey { at, thread, seq }
}

/// Takes messages away whose time has come.
pub(crate) fn expire<T: Tables>(step: &mut Step<'_, T>, op: &ExpireMessages) -> Result<Outcome, Stop> {
    for DueMessage { at, thread, seq } in op.due.iter().cloned() {
        if at > step.now || step.get(&DueKey { at, thread, seq })?.is_none() {
            continue;
        }
        let key = MessageKey { thread, seq };
        let row = rows::expect(&step.rows, &key)?;
        changes::take_away(step, key, row, DeletionReason::Expired)?;
    }
    Ok(Outcome::done(None))
}

/// The first messages in order of their time, `limit` at most.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt.
pub fn due_messages(tables: &impl Tables, limit: usize) -> Result<Vec<DueMessage>, TableError> {
    let range = KeyWriter::of::<DueKey>().range();
    let rows = rows::collect::<DueKey>(tables, &range, Direction::Forward, limit)?;
    Ok(rows.into_iter().map(|(DueKey { at, thread, seq }, _)| DueMessage { at, thread, seq }).collect())
}

/// Whether a message's time has come.
pub(crate) fn is_over(expires_at: Option<Millis>, now: Millis) -> bool {
    expires_at.is_some_and(|at| at <= now)
}

fn conceal(message: &mut Message, now: Millis) {
    if is_over(message.expires_at, now) {
        message.ciphertext = None;
        message.enveloped = None;
        message.attachments = Vec::new();
        message.reactions = Vec::new();
        message.deleted = true;
    }
}

/// Takes out of an answer what nobody may read any more.
pub(crate) fn conceal_in_answer(answer: &mut Answer, now: Millis) {
    match answer {
        Answer::Message(message) => conceal(message, now),
        Answer::Messages(page) => page.messages.iter_mut().for_each(|message| conceal(message, now)),
        Answer::Summaries(page) => {
            let last = page.summaries.iter_mut().filter_map(|summary| summary.last_message.as_mut());
            last.for_each(|message| conceal(message, now));
        }
        Answer::Resume(answer) => {
            for event in answer.threads.iter_mut().flat_map(|thread| &mut thread.events) {
                if let ThreadEventBody::Message(message) = &mut event.body {
                    conceal(message, now);
                }
            }
        }
        Answer::Thread(_)
        | Answer::Recipients(_)
        | Answer::UserThreads(_)
        | Answer::Activity(_)
        | Answer::ClusterState(_)
        | Answer::Room(_)
        | Answer::Pins(_)
        | Answer::Privacy(_)
        | Answer::Blocks(_)
        | Answer::Devices(_)
        | Answer::KeyCounts(_)
        | Answer::DeviceStatus(_)
        | Answer::Suspension(_)
        | Answer::Reports(_) => {}
    }
}

/// Likewise out of the reply to a command, which may be the one to an old one.
pub(crate) fn conceal_in_reply(reply: &mut Reply, now: Millis) {
    if let ReplyBody::Message(reply) = &mut reply.body {
        conceal(&mut reply.message, now);
    }
}
