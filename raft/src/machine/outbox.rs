//! Membership changes on their way to the users' shards.
//!
//! Owns: the rows a change leaves, their removal, and reading them for whoever carries them; what an answer waits for.
//! Must not know: who carries them, or when.
//! Invariants: a row stays until its receiver is known to have applied it; rows of a thread are in order of the event.

use super::apply::Outcome;
use super::profile;
use super::rows::key::KeyWriter;
use super::rows::outbox::{OutboxRow, OutboxRowKey};
use super::rows::{self};
use super::step::{Step, Stop};
use super::tables::{Direction, TableError, Tables};
use messenger_proto::command::{IndexMembership, OutboxBarrier, OutboxDelivered, OutboxKey, ThreadBarrier};
use messenger_proto::ids::{Seq, ThreadId, UserId};

/// Leaves word that event `seq` made `user` a member, or ended that.
pub(crate) fn post<T: Tables>(step: &mut Step<'_, T>, thread: ThreadId, seq: Seq, user: &UserId, present: bool) {
    step.put(&OutboxRowKey { thread, seq, user: user.clone() }, &OutboxRow { present });
}

/// Whether word of an event about a user is still on its way.
pub(crate) fn is_posted(tables: &impl Tables, thread: ThreadId, seq: Seq, user: &UserId) -> Result<bool, TableError> {
    Ok(rows::get(tables, &OutboxRowKey { thread, seq, user: user.clone() })?.is_some())
}

/// What an answer waits for: every row of the thread up to an event.
pub(crate) fn barrier(thread: ThreadId, seq: Seq) -> OutboxBarrier {
    OutboxBarrier::Thread(ThreadBarrier { thread, seq })
}

/// Takes what receivers answered and drops rows that arrived; those already gone are fine.
pub(crate) fn delivered<T: Tables>(step: &mut Step<'_, T>, op: &OutboxDelivered) -> Result<Outcome, Stop> {
    for new in &op.members {
        profile::enter(step, new)?;
    }
    for OutboxKey { thread, seq, user } in &op.rows {
        let key = OutboxRowKey { thread: *thread, seq: *seq, user: user.clone() };
        if step.get(&key)?.is_some() {
            step.delete(&key);
        }
    }
    Ok(Outcome::done(None))
}

/// Whether anything that an answer waits for is still on its way.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt.
pub fn outbox_pending(tables: &impl Tables, barrier: &OutboxBarrier) -> Result<bool, TableError> {
    match barrier {
        OutboxBarrier::Thread(ThreadBarrier { thread, seq }) => {
            let mut prefix = KeyWriter::of::<OutboxRowKey>();
            rows::any(tables, &prefix.thread(*thread).numbers(Seq(0), *seq))
        }
        OutboxBarrier::Profile(barrier) => profile::pending(tables, barrier),
    }
}

/// Up to `limit` rows after a key, in order, each with what to tell the user's shard.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt.
pub fn outbox_scan(
    tables: &impl Tables,
    after: Option<OutboxKey>,
    limit: usize,
) -> Result<Vec<(OutboxKey, IndexMembership)>, TableError> {
    let mut range = KeyWriter::of::<OutboxRowKey>().range();
    if let Some(OutboxKey { thread, seq, user }) = after {
        range = range.after(&OutboxRowKey { thread, seq, user });
    }
    let rows = rows::collect::<OutboxRowKey>(tables, &range, Direction::Forward, limit)?;
    let message = |(OutboxRowKey { thread, seq, user }, row): (OutboxRowKey, OutboxRow)| {
        let change = IndexMembership { user: user.clone(), thread, source_seq: seq, present: row.present };
        (OutboxKey { thread, seq, user }, change)
    };
    Ok(rows.into_iter().map(message).collect())
}
