//! Members who keep others away.
//!
//! Owns: when a stretch begins and ends: as a member's list changes, and as members come and go.
//! Must not know: what follows from a block.
//! Invariants: what a list says holds from the event after the one that was the last when it came; what a member's first
//! list says, from its join on; a member that leaves takes its own blocks with it, and stays on the lists of others.

use super::{begin, end, stretch};
use crate::machine::membership::members;
use crate::machine::resend;
use crate::machine::rows::block::BlockRow;
use crate::machine::rows::blocker::{BlockerKey, BlockerRow};
use crate::machine::rows::head::{HeadKey, HeadRow};
use crate::machine::rows::key::KeyWriter;
use crate::machine::rows::member::MemberKey;
use crate::machine::rows::member_blocks::{MemberBlocksKey, MemberBlocksRow};
use crate::machine::rows::member_devices::MemberDevicesKey;
use crate::machine::rows::{self};
use crate::machine::step::{Step, Stop};
use crate::machine::tables::{Direction, TableError, Tables};
use messenger_proto::ids::{Seq, ThreadId, UserId};
use messenger_proto::profile::{NewMember, Profile};

/// Names that are looked up one by one; of a longer list, it is the members that are looked at.
const LOOK_UPS: usize = 32;

/// Takes a member's list, of a profile that the thread did not have; `joined` when it comes with the member.
pub(crate) fn told<T: Tables>(
    step: &mut Step<'_, T>,
    thread: ThreadId,
    user: &UserId,
    profile: &Profile,
    joined: Option<Seq>,
) -> Result<(), Stop> {
    let list = learn(step, user, profile)?;
    let head = step.head(thread)?;
    if list.is_empty() && !head.veiled {
        return Ok(());
    }
    let mut new = head.clone();
    let next = head.seq.next();
    for (pair, since) in in_force_by(step, thread, user)? {
        if list.binary_search(&pair.blocked).is_err() {
            end(step, &mut new, &pair, (since, next))?;
        }
    }
    for blocked in among_members(step, thread, &list)? {
        let pair = BlockerKey { thread, blocker: user.clone(), blocked };
        begin(step, &mut new, &pair, joined.unwrap_or(next))?;
    }
    if new != head {
        step.put(&HeadKey { thread }, &new);
    }
    Ok(())
}

/// Takes the list of one whose stay was over before it came, as if it had come with the member.
pub(crate) fn passed<T: Tables>(
    step: &mut Step<'_, T>,
    new: &NewMember,
    (joined, left): (Seq, Seq),
) -> Result<(), Stop> {
    let (thread, blocker) = (new.thread, &new.user);
    let mut head = step.head(thread)?;
    for blocked in among_members(step, thread, &new.profile.blocks)? {
        let pair = BlockerKey { thread, blocker: blocker.clone(), blocked };
        step.put(&stretch(&pair, joined), &BlockRow { to: Some(left) });
        if step.get(&pair)?.is_none() {
            step.put(&pair, &BlockerRow { since: None });
        }
        head.veiled = true;
    }
    if head.resent {
        resend::hide(step, new, (joined, left))?;
    }
    step.put(&HeadKey { thread }, &head);
    Ok(())
}

/// Keeps the newest list of a user that any thread here was told; gives it.
fn learn<T: Tables>(step: &mut Step<'_, T>, user: &UserId, profile: &Profile) -> Result<Vec<UserId>, TableError> {
    let key = MemberBlocksKey { user: user.clone() };
    match step.get(&key)? {
        Some(row) if row.version >= profile.version => return Ok(row.users),
        // Its version stays when the list is empty, or an older one might come after it.
        None if profile.blocks.is_empty() => {}
        _ => step.put(&key, &MemberBlocksRow { users: profile.blocks.clone(), version: profile.version }),
    }
    Ok(profile.blocks.clone())
}

/// The pairs of which a member's block is in force, and since when.
fn in_force_by<T: Tables>(
    step: &Step<'_, T>,
    thread: ThreadId,
    user: &UserId,
) -> Result<Vec<(BlockerKey, Seq)>, TableError> {
    let range = KeyWriter::of::<BlockerKey>().thread(thread).user(user).range();
    let pairs = rows::collect::<BlockerKey>(&step.rows, &range, Direction::Forward, usize::MAX)?;
    Ok(pairs.into_iter().filter_map(|(pair, row)| row.since.map(|since| (pair, since))).collect())
}

/// Those on a list who are members or were.
fn among_members<T: Tables>(step: &Step<'_, T>, thread: ThreadId, list: &[UserId]) -> Result<Vec<UserId>, TableError> {
    if list.len() > LOOK_UPS {
        let known = members(&step.rows, thread)?.into_iter().map(|(user, _)| user);
        return Ok(known.filter(|user| list.binary_search(user).is_ok()).collect());
    }
    let mut found = Vec::new();
    for user in list {
        if step.get(&MemberKey { thread, user: user.clone() })?.is_some() {
            found.push(user.clone());
        }
    }
    Ok(found)
}

/// Members came: those on the lists of others who are there are kept away from the first.
pub(crate) fn joined<T: Tables>(
    step: &mut Step<'_, T>,
    thread: ThreadId,
    head: &mut HeadRow,
    new: &[(UserId, Seq)],
) -> Result<(), TableError> {
    for (blocker, row) in members(&step.rows, thread)? {
        if !row.present() || new.iter().any(|(user, _)| *user == blocker) {
            continue;
        }
        let Some(MemberBlocksRow { users, .. }) = step.get(&MemberBlocksKey { user: blocker.clone() })? else {
            continue;
        };
        // Who is not told of yet brings its list, and what that says will hold from its own join on.
        if step.get(&MemberDevicesKey { thread, user: blocker.clone() })?.is_none() {
            continue;
        }
        for (blocked, seq) in new.iter().filter(|(user, _)| users.binary_search(user).is_ok()) {
            let pair = BlockerKey { thread, blocker: blocker.clone(), blocked: blocked.clone() };
            begin(step, head, &pair, *seq)?;
        }
    }
    Ok(())
}

/// A member went: its blocks end with the event that took it out.
pub(crate) fn left<T: Tables>(
    step: &mut Step<'_, T>,
    thread: ThreadId,
    head: &mut HeadRow,
    user: &UserId,
    left: Seq,
) -> Result<(), TableError> {
    if !head.veiled {
        return Ok(());
    }
    for (pair, since) in in_force_by(step, thread, user)? {
        end(step, head, &pair, (since, left))?;
    }
    Ok(())
}
