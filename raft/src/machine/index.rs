//! A user's index of threads, kept by the user's shard.
//!
//! Owns: taking membership changes from threads' shards, in whatever order and however often they come; and which of
//! the threads that the user left its devices are still to be told of.
//! Must not know: where a change comes from.
//! Invariants: the entry is that of the highest source event seen, so repeats and late comers change nothing; the count
//! of entries equals the entries that are no tombstones. The user is a member already, so no change is refused: the bound
//! on a user's threads is checked before a thread's shard is asked.
//!
//! A tombstone is never dropped, since a change might still come late. A *departure* is: it only makes a device that was
//! away ask the thread what it missed. There is one for each of the newest tombstones, [`DEPARTURES_MAX`] at most; those
//! beyond it, and those that are too old, go as new ones come, a few per command.

use super::apply::Outcome;
use super::profile;
use super::rows::departure::{DepartureKey, DepartureRow};
use super::rows::user::{UserKey, UserRow};
use super::rows::user_thread::{UserThreadKey, UserThreadRow};
use super::rows::{self};
use super::step::{Step, Stop};
use super::tables::{Direction, Tables};
use messenger_proto::command::{IndexMembership, Reply, ReplyBody};
use messenger_proto::event::{Event, UserEvent};
use messenger_proto::ids::{Millis, UserId};
use messenger_proto::limits::{DEPARTURE_RETENTION, DEPARTURES_MAX};
use messenger_proto::profile::Profile;

/// Departures that a new one drops at most: more than one, so that dropping catches up.
const DROPS_MAX: usize = 2;

/// Takes a change.
pub(crate) fn index_membership<T: Tables>(step: &mut Step<'_, T>, op: &IndexMembership) -> Result<Outcome, Stop> {
    let key = UserThreadKey { user: op.user.clone(), thread: op.thread };
    let known = step.get(&key)?;
    if known.as_ref().is_some_and(|row| row.source_seq >= op.source_seq) {
        return answer(step, op);
    }
    let was_present = known.as_ref().is_some_and(|row| row.present);
    count(step, op, known.as_ref())?;
    let left_at = (!op.present).then_some(step.now);
    step.put(&key, &UserThreadRow { source_seq: op.source_seq, present: op.present, left_at });
    // A stay that follows an unseen removal is news too: whoever saw the removal in the thread waits for it.
    if was_present || op.present {
        let IndexMembership { user, thread, source_seq, present } = op.clone();
        step.emit_event(Event::User(UserEvent { user, thread, present, source_seq }));
    }
    answer(step, op)
}

/// A thread that takes the user in hears what it has to know of the user, a repeat too.
fn answer<T: Tables>(step: &Step<'_, T>, op: &IndexMembership) -> Result<Outcome, Stop> {
    let profile = if op.present { profile::profile_of(&step.rows, &op.user)? } else { Profile::default() };
    if profile.is_blank() {
        return Ok(Outcome::done(None));
    }
    let reply = Reply { replayed: false, body: ReplyBody::Profile(profile), barrier: None };
    Ok(Outcome { reply, reference: None })
}

/// Keeps the user's counts and departures in step with a change of an entry.
fn count<T: Tables>(step: &mut Step<'_, T>, op: &IndexMembership, known: Option<&UserThreadRow>) -> Result<(), Stop> {
    let key = UserKey { user: op.user.clone() };
    let stored = step.get(&key)?.unwrap_or_default();
    let mut row = stored.clone();
    match (known.is_some_and(|known| known.present), op.present) {
        (false, true) => row.threads = row.threads.saturating_add(1),
        (true, false) => row.threads = row.threads.saturating_sub(1),
        (false, false) | (true, true) => {}
    }
    if let Some(at) = known.and_then(|known| known.left_at) {
        drop_departure(step, &mut row, &DepartureKey { user: op.user.clone(), at, thread: op.thread })?;
    }
    if !op.present {
        let departure = DepartureKey { user: op.user.clone(), at: step.now, thread: op.thread };
        step.put(&departure, &DepartureRow { source_seq: op.source_seq });
        row.departures = row.departures.saturating_add(1);
        drop_old(step, &mut row, &op.user)?;
    }
    if row != stored {
        step.put(&key, &row);
    }
    Ok(())
}

/// Drops the oldest departures as far as they are too many or too old.
fn drop_old<T: Tables>(step: &mut Step<'_, T>, row: &mut UserRow, user: &UserId) -> Result<(), Stop> {
    let retention = u64::try_from(DEPARTURE_RETENTION.as_millis()).unwrap_or(u64::MAX);
    let range = DepartureKey::since(user, row.departures_from);
    for (key, _) in rows::collect::<DepartureKey>(&step.rows, &range, Direction::Forward, DROPS_MAX)? {
        row.departures_from = key.at;
        let ends = Millis(key.at.0.saturating_add(retention));
        if row.departures as usize <= DEPARTURES_MAX && step.now <= ends {
            break;
        }
        drop_departure(step, row, &key)?;
    }
    Ok(())
}

fn drop_departure<T: Tables>(step: &mut Step<'_, T>, row: &mut UserRow, key: &DepartureKey) -> Result<(), Stop> {
    if step.get(key)?.is_some() {
        step.delete(key);
        row.departures = row.departures.saturating_sub(1);
    }
    Ok(())
}
