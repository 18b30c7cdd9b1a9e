//! One command at work.
//!
//! Owns: the overlay that holds a command's writes until it is known to succeed, its time, the ids it makes, and the
//! events it gives.
//! Must not know: what the command does.
//! Invariants: time never goes back and message ids of a shard never repeat; whatever a step that fails wrote is lost
//! with it; the shard's row is written by steps that changed something, and by no others.

use super::rows::head::{HeadKey, HeadRow};
use super::rows::key::Key;
use super::rows::shard::{ShardKey, ShardRow};
use super::rows::{self};
use super::tables::{Overlay, TableError, Tables, Writes};
use messenger_proto::command::{CommandResult, Reply};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::event::{Event, ThreadEvent, ThreadEventBody};
use messenger_proto::ids::{CommandId, MessageId, Millis, Rev, Seq, ThreadId};
use messenger_proto::slot::Slot;

/// Why a command or a query ended early.
#[derive(Debug)]
pub(crate) enum Stop {
    /// The answer is a refusal.
    Refused(Refusal),
    /// Storage failed: fatal.
    Failed(TableError),
}

impl From<TableError> for Stop {
    fn from(error: TableError) -> Self {
        Self::Failed(error)
    }
}

impl From<Refusal> for Stop {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}

/// A refusal, ready for `?`.
pub(crate) fn refuse<R>(code: ErrorCode, detail: &str) -> Result<R, Stop> {
    Err(Stop::Refused(Refusal::new(code, detail)))
}

/// A refusal of one member of the request.
pub(crate) fn refuse_field<R>(field: &str, detail: &str) -> Result<R, Stop> {
    let refusal = Refusal::new(ErrorCode::InvalidRequest, detail);
    Err(Stop::Refused(Refusal { field: Some(field.to_owned()), ..refusal }))
}

/// A command's overlay, time and events.
pub(crate) struct Step<'a, T: Tables> {
    /// The rows as the command left them so far.
    pub(crate) rows: Overlay<'a, T>,
    /// When it happens: not before anything that happened.
    pub(crate) now: Millis,
    /// How far the sweep is, and the clock.
    pub(crate) shard: ShardRow,
    stored: ShardRow,
    events: Vec<Event>,
}

/// Without a row, a shard is at the beginning of time.
const FRESH: ShardRow = ShardRow { last: Millis(0), counter: 0, swept_to: None, sweep_at: Millis(0) };

impl<'a, T: Tables> Step<'a, T> {
    /// A step over `tables` at the time of its pack.
    pub(crate) fn new(tables: &'a T, stamp: Millis) -> Result<Self, TableError> {
        let shard = rows::get(tables, &ShardKey)?.unwrap_or(FRESH);
        let now = shard.last.max(Millis(stamp.0.min(MessageId::MS_MAX)));
        Ok(Self { rows: Overlay::new(tables), now, stored: shard.clone(), shard, events: Vec::new() })
    }

    /// The row at a key.
    pub(crate) fn get<K: Key>(&self, key: &K) -> Result<Option<K::Row>, TableError> {
        rows::get(&self.rows, key)
    }

    /// Puts a row.
    pub(crate) fn put<K: Key>(&mut self, key: &K, row: &K::Row) {
        rows::put(&mut self.rows, key, row);
    }

    /// Deletes a row.
    pub(crate) fn delete<K: Key>(&mut self, key: &K) {
        self.rows.delete(key.encode());
    }

    /// A thread's counters.
    pub(crate) fn head(&self, thread: ThreadId) -> Result<HeadRow, Stop> {
        match self.get(&HeadKey { thread })? {
            Some(head) => Ok(head),
            None => refuse(ErrorCode::NotFound, "there is no such thread"),
        }
    }

    /// Makes the next message id; its time may be a millisecond ahead of `now` when a millisecond's ids are used up.
    pub(crate) fn next_message_id(&mut self, slot: Slot, command: CommandId) -> Result<MessageId, Stop> {
        self.touch();
        if self.shard.counter < MessageId::COUNTER_MAX {
            self.shard.counter += 1;
        } else if self.shard.last.0 < MessageId::MS_MAX {
            self.shard.last = Millis(self.shard.last.0 + 1);
            self.shard.counter = 1;
        } else {
            return refuse(ErrorCode::Internal, "the clock is at the end of time");
        }
        // The low 48 bits are taken.
        let entropy = u128::from_be_bytes(command.0) as u64;
        Ok(MessageId::new(self.shard.last, slot, self.shard.counter, entropy))
    }

    /// Keeps the time, so that what happens next is not before this; counters start at 1 in every millisecond.
    fn touch(&mut self) {
        if self.now > self.shard.last {
            self.shard.last = self.now;
            self.shard.counter = 0;
        }
    }

    /// Gives an event of a thread.
    pub(crate) fn emit(&mut self, thread: ThreadId, rev: Rev, seq: Option<Seq>, at: Millis, body: ThreadEventBody) {
        self.emit_event(Event::Thread(ThreadEvent {
            thread,
            rev,
            seq,
            at,
            body,
            hidden_from: Vec::new(),
            envelopes: Vec::new(),
        }));
    }

    /// Gives any event.
    pub(crate) fn emit_event(&mut self, event: Event) {
        self.events.push(event);
    }

    /// What the step wrote and the events it gave.
    pub(crate) fn finish(mut self) -> (Writes, Vec<Event>) {
        if !self.rows.writes().is_empty() {
            self.touch();
            if self.shard != self.stored {
                rows::put(&mut self.rows, &ShardKey, &self.shard);
            }
        }
        (self.rows.into_writes(), self.events)
    }
}

/// Runs one command in a step of its own and, when it succeeds, takes over its writes and events.
pub(crate) fn run_one<T: Tables>(
    tables: &mut Overlay<'_, T>,
    stamp: Millis,
    events: &mut Vec<Event>,
    command: impl FnOnce(&mut Step<'_, Overlay<'_, T>>) -> Result<Reply, Stop>,
) -> Result<CommandResult, TableError> {
    let mut step = Step::new(&*tables, stamp)?;
    match command(&mut step) {
        Ok(reply) => {
            let (writes, given) = step.finish();
            tables.absorb(writes);
            events.extend(given);
            Ok(Ok(reply))
        }
        Err(Stop::Refused(refusal)) => Ok(Err(refusal)),
        Err(Stop::Failed(error)) => Err(error),
    }
}
