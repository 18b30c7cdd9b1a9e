//! Commands that come again.
//!
//! Owns: remembering what was done under a command's id, answering a repeat, and forgetting in time.
//! Must not know: how a command is carried out.
//! Invariants: a remembered command has one dedupe row and one expiry row; an expired one counts as unknown whether or
//! not it was swept; the sweep works off expiry rows in order, so it never steps over the graves of the ones before
//! (every new row expires later than anything swept).

use super::envelopes::{self, Viewer};
use super::query::receipts;
use super::query::view::View;
use super::rows::bundles::BundlesKey;
use super::rows::dedupe::{DedupeKey, DedupeRow, DeviceRef, DoneRef, MessageRef, PinsRef, Reference, ThreadRef};
use super::rows::expiry::{ExpiryKey, ExpiryRow};
use super::rows::key::KeyWriter;
use super::rows::message::MessageKey;
use super::rows::shard::ExpiryWire;
use super::rows::{self};
use super::step::{Step, Stop, refuse};
use super::tables::{Direction, Tables};
use super::{keys, messages, outbox};
use messenger_proto::command::{
    Command, Done, MessageReply, Op, OutboxBarrier, PinsReply, Reply, ReplyBody, Retention, ThreadReply,
};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{Millis, UserId};
use messenger_proto::keys::KeyCountsQuery;
use messenger_proto::limits::{KEYED_RETENTION, MINTED_RETENTION};
use messenger_proto::moderation::ReportReply;

/// Rows that remembering one command sweeps at most: more than one, so that the sweep catches up.
const SWEEP_ROWS: usize = 8;
/// The sweep rests this long once it has caught up, so that not every command looks.
const SWEEP_REST: u64 = 1_000;

/// What is known of a command's id.
pub(crate) enum Known {
    /// It is new.
    Nothing,
    /// It has a row that no longer counts, or was only claimed: expiring then.
    Replaceable(Millis),
    /// It was carried out.
    Done(Reference),
}

/// Looks a command's id up; the id under another body is refused.
pub(crate) fn find<T: Tables>(step: &Step<'_, T>, command: &Command) -> Result<Known, Stop> {
    let Some(row) = step.get(&DedupeKey { command: command.id })? else { return Ok(Known::Nothing) };
    if row.expires <= step.now {
        return Ok(Known::Replaceable(row.expires));
    }
    if row.body_hash != command.body_hash {
        return reused();
    }
    match (row.reference, &command.op) {
        // A claim says nothing of the command, whose own shard may be this one.
        (Reference::Claimed(_), op) if !matches!(op, Op::ClaimKey(_)) => Ok(Known::Replaceable(row.expires)),
        (reference, _) => Ok(Known::Done(reference)),
    }
}

fn reused<R>() -> Result<R, Stop> {
    refuse(ErrorCode::IdempotencyKeyReused, "the key was used with another request")
}

/// Answers a repeat from what is there now; whoever left the thread since is told nothing of it.
pub(crate) fn replay<T: Tables>(step: &Step<'_, T>, command: &Command, reference: Reference) -> Result<Reply, Stop> {
    let (body, barrier) = match (reference, &command.op) {
        (_, Op::ClaimKey(_)) => (ReplyBody::Done(Done {}), None),
        (Reference::Message(MessageRef { thread, seq }), Op::SendMessage(send)) => {
            let message = messages::sent(step, send, MessageKey { thread, seq })?;
            (ReplyBody::Message(MessageReply { message, duplicate: false }), None)
        }
        (Reference::Message(row), Op::EditMessage(op)) => {
            (message(step, &row, Viewer { user: &op.actor, device: op.device.as_ref() })?, None)
        }
        (Reference::Pins(PinsRef { thread }), Op::Pin(op)) => {
            let pins = View::open(&step.rows, thread, &op.actor)?.pins()?;
            (ReplyBody::Pins(PinsReply { pins }), None)
        }
        (Reference::Message(row), Op::React(op)) => {
            (message(step, &row, Viewer { user: &op.actor, device: op.device.as_ref() })?, None)
        }
        (Reference::Thread(row), Op::CreateThread(op)) => thread(step, &row, &op.creator)?,
        (Reference::Thread(row), Op::AddParticipants(op)) => thread(step, &row, &op.actor)?,
        (Reference::Thread(row), Op::UpdateThread(op)) => thread(step, &row, &op.actor)?,
        (Reference::Bundles(_), Op::TakePrekeys(_)) => (keys::replay(step, command)?, None),
        (Reference::Device(row), Op::PublishKeys(_)) => key_counts(step, row)?,
        (Reference::Report(row), Op::FileReport(_)) => (ReplyBody::Report(ReportReply { id: row.id }), None),
        (Reference::Done(DoneRef { barrier }), _) => (ReplyBody::Done(Done {}), barrier),
        _ => return reused(),
    };
    Ok(Reply { replayed: true, body, barrier })
}

fn message<T: Tables>(step: &Step<'_, T>, row: &MessageRef, actor: Viewer<'_>) -> Result<ReplyBody, Stop> {
    View::open(&step.rows, row.thread, actor.user)?;
    let key = MessageKey { thread: row.thread, seq: row.seq };
    let mut message = [rows::expect(&step.rows, &key)?.into_message(key)];
    receipts::count_own(&step.rows, actor.user, &mut message)?;
    envelopes::open(&step.rows, actor, &mut message)?;
    let [message] = message;
    Ok(ReplyBody::Message(MessageReply { message, duplicate: false }))
}

fn key_counts<T: Tables>(step: &Step<'_, T>, row: DeviceRef) -> Result<(ReplyBody, Option<OutboxBarrier>), Stop> {
    let DeviceRef { user, device, barrier } = row;
    let counts = keys::query::in_store(&step.rows, &KeyCountsQuery { user, device })?;
    Ok((ReplyBody::KeyCounts(counts), barrier))
}

fn thread<T: Tables>(
    step: &Step<'_, T>,
    row: &ThreadRef,
    actor: &UserId,
) -> Result<(ReplyBody, Option<OutboxBarrier>), Stop> {
    let thread = View::open(&step.rows, row.thread, actor)?.thread()?;
    let barrier = outbox::barrier(row.thread, row.barrier);
    Ok((ReplyBody::Thread(ThreadReply { thread, created: row.created }), Some(barrier)))
}

/// Remembers a command that was carried out, and forgets a few that are due.
pub(crate) fn remember<T: Tables>(
    step: &mut Step<'_, T>,
    command: &Command,
    reference: Reference,
    known: &Known,
) -> Result<(), Stop> {
    if let Known::Replaceable(expires) = known {
        step.delete(&ExpiryKey { expires: *expires, command: command.id });
    }
    sweep(step)?;
    let retention = match command.retention {
        Retention::Keyed => KEYED_RETENTION,
        Retention::Minted | Retention::None => MINTED_RETENTION,
    };
    let expires = later(step.now, u64::try_from(retention.as_millis()).unwrap_or(u64::MAX));
    let bundles = matches!(reference, Reference::Bundles(_));
    step.put(&DedupeKey { command: command.id }, &DedupeRow { body_hash: command.body_hash, expires, reference });
    step.put(&ExpiryKey { expires, command: command.id }, &ExpiryRow { bundles });
    Ok(())
}

fn later(at: Millis, by: u64) -> Millis {
    Millis(at.0.saturating_add(by))
}

fn sweep<T: Tables>(step: &mut Step<'_, T>) -> Result<(), Stop> {
    if step.now < step.shard.sweep_at {
        return Ok(());
    }
    let mut range = KeyWriter::of::<ExpiryKey>().range();
    if let Some(ExpiryWire { expires, command }) = step.shard.swept_to.clone() {
        range = range.after(&ExpiryKey { expires, command });
    }
    let rows = rows::collect::<ExpiryKey>(&step.rows, &range, Direction::Forward, SWEEP_ROWS + 1)?;
    let due = rows.iter().filter(|(key, _)| key.expires <= step.now).count().min(SWEEP_ROWS);
    for (key, row) in rows.iter().take(due) {
        if row.bundles {
            step.delete(&BundlesKey { command: key.command });
        }
        step.delete(&DedupeKey { command: key.command });
        step.delete(key);
        step.shard.swept_to = Some(ExpiryWire { expires: key.expires, command: key.command });
    }
    // Rows put from now on expire after `now` and the shortest retention, which is longer than the rest.
    step.shard.sweep_at = match rows.get(due) {
        Some((next, _)) if next.expires <= step.now => step.now,
        Some((next, _)) => next.expires.min(later(step.now, retention_min())).max(later(step.now, SWEEP_REST)),
        None => later(step.now, retention_min()),
    };
    Ok(())
}

fn retention_min() -> u64 {
    u64::try_from(MINTED_RETENTION.min(KEYED_RETENTION).as_millis()).unwrap_or(u64::MAX)
}
