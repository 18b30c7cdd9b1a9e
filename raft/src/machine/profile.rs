//! What threads have to know of a user: its devices, and whom it blocks.
//!
//! Owns: at the user's shard, the version of the profile, the queue of users whose threads are to be told, and who is
//! told when a thread takes the user in; at a thread's shard, what it was told of its members.
//! Must not know: who carries a profile, or when; what a thread does with it.
//! Invariants: the highest version is kept, so repeats and late comers change nothing. A thread that takes a user in is
//! answered with the profile of that moment, and a change is told to all that the index names at some moment after it: no
//! order of the two leaves a thread behind. The answer to a change waits until it was told.

use super::apply::Outcome;
use super::blocks;
use super::keys;
use super::outbox;
use super::rows::key::KeyWriter;
use super::rows::member::{MemberKey, MemberRow};
use super::rows::member_devices::{MemberDevicesKey, MemberDevicesRow};
use super::rows::profile_due::{ProfileDueKey, ProfileDueRow};
use super::rows::user::UserKey;
use super::rows::{self};
use super::step::{Step, Stop};
use super::tables::{Direction, TableError, Tables};
use messenger_proto::command::{OutboxBarrier, ProfileBarrier};
use messenger_proto::event::Event;
use messenger_proto::ids::{ThreadId, UserId};
use messenger_proto::keys::MemberDevices;
use messenger_proto::profile::{NewMember, Profile, ProfileDevice, ProfileTold, UpdateProfile};

/// What changed of a profile.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Change {
    /// The devices.
    Devices,
    /// Whom the user blocks.
    Blocks,
}

/// Counts a change, and has the user's threads told; the answer waits for what is returned.
pub(crate) fn changed<T: Tables>(
    step: &mut Step<'_, T>,
    user: &UserId,
    change: Change,
) -> Result<Option<OutboxBarrier>, Stop> {
    let key = UserKey { user: user.clone() };
    let mut row = step.get(&key)?.unwrap_or_default();
    row.profile = row.profile.saturating_add(1);
    let version = row.profile;
    if change == Change::Devices {
        row.devices_version = version;
    }
    step.put(&key, &row);
    if row.threads == 0 {
        return Ok(None);
    }
    let due = ProfileDueKey { user: user.clone() };
    let told = step.get(&due)?.map_or(0, |row| row.told);
    step.put(&due, &ProfileDueRow { version, told });
    Ok(Some(OutboxBarrier::Profile(ProfileBarrier { user: user.clone(), version })))
}

/// What an answer waits for that changes nothing itself: a change before it may not have been told yet.
pub(crate) fn outstanding<T: Tables>(step: &Step<'_, T>, user: &UserId) -> Result<Option<OutboxBarrier>, Stop> {
    let row = step.get(&ProfileDueKey { user: user.clone() })?;
    let barrier = |row: ProfileDueRow| ProfileBarrier { user: user.clone(), version: row.version };
    Ok(row.map(|row| OutboxBarrier::Profile(barrier(row))))
}

/// A user's profile as it is now.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt.
pub fn profile_of(tables: &impl Tables, user: &UserId) -> Result<Profile, TableError> {
    let row = rows::get(tables, &UserKey { user: user.clone() })?.unwrap_or_default();
    if row.profile == 0 {
        return Ok(Profile::default());
    }
    let device = |(key, row): (rows::device::DeviceKey, rows::device::DeviceRow)| ProfileDevice {
        device: key.device,
        registration: row.registration,
    };
    let devices = keys::devices(tables, user)?.into_iter().map(device).collect();
    let blocks = blocks::own::of(tables, user)?;
    Ok(Profile { version: row.profile, devices_version: row.devices_version, devices, blocks })
}

/// Takes word that all threads have a version.
pub(crate) fn told<T: Tables>(step: &mut Step<'_, T>, op: &ProfileTold) -> Result<Outcome, Stop> {
    let key = ProfileDueKey { user: op.user.clone() };
    if let Some(mut row) = step.get(&key)? {
        row.told = row.told.max(op.version);
        if row.told >= row.version {
            step.delete(&key);
        } else {
            step.put(&key, &row);
        }
    }
    Ok(Outcome::done(None))
}

/// Up to `limit` users after one whose threads are yet to be told something.
///
/// # Errors
/// [`TableError`] when storage fails or a row is corrupt.
pub fn profiles_due(tables: &impl Tables, after: Option<UserId>, limit: usize) -> Result<Vec<UserId>, TableError> {
    let mut range = KeyWriter::of::<ProfileDueKey>().range();
    if let Some(user) = after {
        range = range.after(&ProfileDueKey { user });
    }
    let rows = rows::collect::<ProfileDueKey>(tables, &range, Direction::Forward, limit)?;
    Ok(rows.into_iter().map(|(key, _)| key.user).collect())
}

/// Whether some thread may not have a version yet.
///
/// # Errors
/// [`TableError`] when storage fails or the row is corrupt.
pub(crate) fn pending(tables: &impl Tables, barrier: &ProfileBarrier) -> Result<bool, TableError> {
    let row = rows::get(tables, &ProfileDueKey { user: barrier.user.clone() })?;
    Ok(row.is_some_and(|row| row.told < barrier.version))
}

/// Takes a profile for threads here.
pub(crate) fn update<T: Tables>(step: &mut Step<'_, T>, op: &UpdateProfile) -> Result<Outcome, Stop> {
    for thread in &op.threads {
        let former = take(step, *thread, &op.user, &op.profile)?;
        if former.is_some_and(|former| former < op.profile.devices_version) {
            let (thread, user, version) = (*thread, op.user.clone(), op.profile.devices_version);
            step.emit_event(Event::MemberDevices(MemberDevices { thread, user, version }));
        }
    }
    Ok(Outcome::done(None))
}

/// Takes the profile that a new member's shard answered with.
pub(crate) fn enter<T: Tables>(step: &mut Step<'_, T>, new: &NewMember) -> Result<(), Stop> {
    take(step, new.thread, &new.user, &new.profile)?;
    // Stays that were over before anybody answered: what was said in them is hidden like what is said now.
    let member = step.get(&MemberKey { thread: new.thread, user: new.user.clone() })?;
    for span in member.iter().flat_map(|member| &member.spans) {
        let Some(end) = &span.end else { continue };
        if outbox::is_posted(&step.rows, new.thread, span.joined_seq, &new.user)? {
            blocks::thread::passed(step, new, (span.joined_seq, end.left_seq))?;
        }
    }
    Ok(())
}

/// Forgets what is known of someone who is no member any more; a stay that follows is told anew.
pub(crate) fn leave<T: Tables>(step: &mut Step<'_, T>, thread: ThreadId, user: &UserId) -> Result<(), Stop> {
    let devices = MemberDevicesKey { thread, user: user.clone() };
    if step.get(&devices)?.is_some() {
        step.delete(&devices);
    }
    Ok(())
}

/// Keeps a profile that is newer than what is known; the version of the devices known until now, if it was kept.
fn take<T: Tables>(
    step: &mut Step<'_, T>,
    thread: ThreadId,
    user: &UserId,
    profile: &Profile,
) -> Result<Option<u64>, Stop> {
    let member = step.get(&MemberKey { thread, user: user.clone() })?;
    let Some(joined) = member.as_ref().and_then(MemberRow::current).map(|stay| stay.joined_seq) else {
        return Ok(None);
    };
    let key = MemberDevicesKey { thread, user: user.clone() };
    let known = step.get(&key)?;
    let (version, devices_version) = known.as_ref().map_or((0, 0), |row| (row.version, row.devices_version));
    if profile.version <= version {
        return Ok(None);
    }
    let Profile { version, devices_version: newest, devices, .. } = profile.clone();
    step.put(&key, &MemberDevicesRow { version, devices_version: newest, devices });
    // Until its user's shard has answered that it joined, what comes first was so when it did.
    let enters = known.is_none() && outbox::is_posted(&step.rows, thread, joined, user)?;
    blocks::thread::told(step, thread, user, profile, enters.then_some(joined))?;
    Ok(Some(devices_version))
}
