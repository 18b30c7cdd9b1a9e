//! A user's index of threads, kept by the user's shard.
//!
//! Owns: taking membership changes from threads' shards, in whatever order and however often they come.
//! Must not know: where a change comes from.
//! Invariants: the entry is that of the highest source event seen, so repeats and late comers change nothing; the count
//! of entries equals the entries that are no tombstones. The user is a member already, so no change is refused: the bound
//! on a user's threads is checked before a thread's shard is asked.

use super::apply::Outcome;
use super::rows::user::UserKey;
use super::rows::user_thread::{UserThreadKey, UserThreadRow};
use super::step::{Step, Stop};
use super::tables::Tables;
use messenger_proto::command::IndexMembership;
use messenger_proto::event::{Event, UserEvent};

/// Takes a change.
pub(crate) fn index_membership<T: Tables>(step: &mut Step<'_, T>, op: &IndexMembership) -> Result<Outcome, Stop> {
    let key = UserThreadKey { user: op.user.clone(), thread: op.thread };
    let known = step.get(&key)?;
    if known.as_ref().is_some_and(|row| row.source_seq >= op.source_seq) {
        return Ok(Outcome::done(None));
    }
    let was_present = known.is_some_and(|row| row.present);
    if was_present != op.present {
        count(step, op)?;
    }
    step.put(&key, &UserThreadRow { source_seq: op.source_seq, present: op.present });
    // A stay that follows an unseen removal is news too: whoever saw the removal in the thread waits for it.
    if was_present || op.present {
        let IndexMembership { user, thread, source_seq, present } = op.clone();
        step.emit_event(Event::User(UserEvent { user, thread, present, source_seq }));
    }
    Ok(Outcome::done(None))
}

fn count<T: Tables>(step: &mut Step<'_, T>, op: &IndexMembership) -> Result<(), Stop> {
    let key = UserKey { user: op.user.clone() };
    let mut row = step.get(&key)?.unwrap_or_default();
    row.threads = if op.present { row.threads.saturating_add(1) } else { row.threads.saturating_sub(1) };
    step.put(&key, &row);
    Ok(())
}
