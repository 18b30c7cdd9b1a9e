//! Carrying out a pack.
//!
//! Owns: the order of a command's parts: a repeat is answered first, then the rule runs, then it is remembered.
//! Must not know: what a rule does.
//! Invariants: commands of a pack see the ones before them; a refusal touches none of them and is not remembered;
//! results don't depend on how commands are grouped in packs.

use super::rows::Nothing;
use super::rows::dedupe::{DoneRef, Reference};
use super::step::{Step, Stop, refuse, run_one};
use super::tables::{Overlay, TableError, Tables};
use super::{
    blocks, changes, dedupe, disappear, index, keys, membership, messages, outbox, pins, privacy, profile, reactions,
    receipts, reports, suspension, threads,
};
use messenger_proto::command::{Command, CommandResult, Done, Op, OutboxBarrier, Pack, Reply, ReplyBody, Retention};
use messenger_proto::error::ErrorCode;
use messenger_proto::event::Event;
use messenger_proto::ids::LogIndex;

/// What a pack gave.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Applied {
    /// One per command, in order.
    pub results: Vec<CommandResult>,
    /// For the shard's stream, in order.
    pub events: Vec<Event>,
}

/// What a rule did.
pub(crate) struct Outcome {
    /// The answer.
    pub(crate) reply: Reply,
    /// Where a repeat finds it; `None` leaves the command forgotten, since nothing was done.
    pub(crate) reference: Option<Reference>,
}

impl Outcome {
    /// Nothing to say but that it is done.
    pub(crate) fn done(barrier: Option<OutboxBarrier>) -> Self {
        let reply = Reply { replayed: false, body: ReplyBody::Done(Done {}), barrier: barrier.clone() };
        Self { reply, reference: Some(Reference::Done(DoneRef { barrier })) }
    }

    /// The command's id is taken, and nothing else was done.
    fn claimed() -> Self {
        Self { reference: Some(Reference::Claimed(Nothing {})), ..Self::done(None) }
    }
}

/// Applies the log entry at `index` to the tables.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt; the overlay is then worth nothing.
pub fn apply(tables: &mut Overlay<'_, impl Tables>, index: LogIndex, pack: &Pack) -> Result<Applied, TableError> {
    let mut applied = Applied { results: Vec::with_capacity(pack.commands.len()), events: Vec::new() };
    for command in &pack.commands {
        let result = run_one(tables, pack.stamp, &mut applied.events, |step| run(step, command))
            .map_err(|TableError(error)| TableError(format!("applying log entry {index}: {error}")))?;
        applied.results.push(result);
    }
    Ok(applied)
}

fn run<T: Tables>(step: &mut Step<'_, T>, command: &Command) -> Result<Reply, Stop> {
    let mut reply = answer(step, command)?;
    disappear::conceal_in_reply(&mut reply, step.now);
    Ok(reply)
}

fn answer<T: Tables>(step: &mut Step<'_, T>, command: &Command) -> Result<Reply, Stop> {
    let remembered = command.retention != Retention::None;
    let known = if remembered { dedupe::find(step, command)? } else { dedupe::Known::Nothing };
    if let dedupe::Known::Done(reference) = known {
        return dedupe::replay(step, command, reference);
    }
    let Outcome { reply, reference } = carry_out(step, command)?;
    if let (true, Some(reference)) = (remembered, reference) {
        dedupe::remember(step, command, reference, &known)?;
    }
    Ok(reply)
}

fn carry_out<T: Tables>(step: &mut Step<'_, T>, command: &Command) -> Result<Outcome, Stop> {
    match &command.op {
        Op::CreateThread(op) => threads::create(step, op),
        Op::UpdateThread(op) => threads::update(step, op),
        Op::AddParticipants(op) => membership::add(step, op),
        Op::RemoveParticipant(op) => membership::remove(step, op),
        Op::SendMessage(op) => messages::send(step, op, command),
        Op::EditMessage(op) => changes::edit(step, op),
        Op::DeleteMessage(op) => changes::delete(step, op),
        Op::React(op) => reactions::react(step, op),
        Op::Pin(op) => pins::pin(step, op),
        Op::ExpireMessages(op) => disappear::expire(step, op),
        Op::SetPrivacy(op) => privacy::set(step, op),
        Op::MarkRead(op) => receipts::mark_read(step, op),
        Op::Acknowledge(op) => receipts::acknowledge(step, op),
        Op::OutboxDelivered(op) => outbox::delivered(step, op),
        Op::IndexMembership(op) => index::index_membership(step, op),
        Op::PublishKeys(op) => keys::publish(step, op),
        Op::TakePrekeys(op) => keys::take(step, op, command),
        Op::DeleteDevice(op) => keys::delete(step, op),
        Op::UpdateProfile(op) => profile::update(step, op),
        Op::ProfileTold(op) => profile::told(step, op),
        Op::Suspend(op) => suspension::set(step, op),
        Op::FileReport(op) => reports::file(step, op, command),
        Op::SetBlock(op) => blocks::own::set(step, op),
        // Being remembered is all there is to it.
        Op::ClaimKey(_) => Ok(Outcome::claimed()),
        Op::Meta(_) => refuse(ErrorCode::Internal, "the cluster's record is not kept by a shard"),
    }
}
