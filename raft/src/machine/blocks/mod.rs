//! Whom users keep away, and what of a thread that hides from whom.
//!
//! Owns: at the user's shard, the list ([`own`]); at a thread's shard, the stretches of events in which a member kept
//! another one away ([`thread`]), and with them which messages failed for whom and are hidden from it ([`veil`]).
//! Must not know: who carries a list from shard to shard; sockets.
//! Invariants: of every member in the thread whose profile came, a stretch is open for each on its list who is or was a
//! member, and for no other. A block that was there before the member joined counts from its join on, whenever the profile
//! comes. What fails for somebody is decided by where the message stands, so a message's row does not name anybody, and a
//! thread without blocks costs nothing.

pub(crate) mod own;
pub(crate) mod thread;
pub(crate) mod veil;

use super::rows::block::{self, BlockKey, BlockRow};
use super::rows::blocker::{BlockerKey, BlockerRow};
use super::rows::head::HeadRow;
use super::rows::{self};
use super::step::Step;
use super::tables::{Direction, TableError, Tables};
use messenger_proto::ids::{Seq, ThreadId, UserId};

/// Whether a message of `sender` at `seq` failed for `blocker` because of a block.
fn in_force(
    tables: &impl Tables,
    thread: ThreadId,
    sender: &UserId,
    blocker: &UserId,
    seq: Seq,
) -> Result<bool, TableError> {
    let range = block::stretches(thread, sender, blocker, seq);
    let last = rows::collect::<BlockKey>(tables, &range, Direction::Backward, 1)?;
    Ok(last.first().is_some_and(|(_, row)| row.to.is_none_or(|to| seq < to)))
}

/// Everyone who ever kept a member away here, in order of name; one look-up for each.
fn blockers(tables: &impl Tables, thread: ThreadId, blocked: &UserId) -> Result<Vec<UserId>, TableError> {
    let (mut range, mut found) = (block::blocks_of(thread, blocked), Vec::new());
    while let Some((key, _)) = rows::collect::<BlockKey>(tables, &range, Direction::Forward, 1)?.pop() {
        range = range.after(&BlockKey { from: Seq(u64::MAX), ..key.clone() });
        found.push(key.blocker);
    }
    Ok(found)
}

/// Those of them who do so now.
pub(crate) fn keeping_away(
    tables: &impl Tables,
    head: &HeadRow,
    thread: ThreadId,
    sender: &UserId,
) -> Result<Vec<UserId>, TableError> {
    let mut found = Vec::new();
    if head.blocks == 0 {
        return Ok(found);
    }
    for blocker in blockers(tables, thread, sender)? {
        let key = BlockerKey { thread, blocker, blocked: sender.clone() };
        if rows::get(tables, &key)?.is_some_and(|row| row.since.is_some()) {
            found.push(key.blocker);
        }
    }
    Ok(found)
}

/// Those for whom a message failed because of a block; it may have been sent again to them since.
pub(crate) fn failed_for(
    tables: &impl Tables,
    head: &HeadRow,
    thread: ThreadId,
    sender: &UserId,
    seq: Seq,
) -> Result<Vec<UserId>, TableError> {
    let mut found = Vec::new();
    if !head.veiled {
        return Ok(found);
    }
    for blocker in blockers(tables, thread, sender)? {
        if in_force(tables, thread, sender, &blocker, seq)? {
            found.push(blocker);
        }
    }
    Ok(found)
}

/// Whether a message of a sender's in a thread failed for one member because of a block.
pub(crate) fn has_failed(
    tables: &impl Tables,
    head: &HeadRow,
    (thread, sender): (ThreadId, &UserId),
    member: &UserId,
    seq: Seq,
) -> Result<bool, TableError> {
    Ok(head.veiled && in_force(tables, thread, sender, member, seq)?)
}

/// Begins a stretch, unless one is open.
fn begin<T: Tables>(
    step: &mut Step<'_, T>,
    head: &mut HeadRow,
    pair: &BlockerKey,
    from: Seq,
) -> Result<(), TableError> {
    if step.get(pair)?.is_some_and(|row| row.since.is_some()) {
        return Ok(());
    }
    step.put(&stretch(pair, from), &BlockRow { to: None });
    step.put(pair, &BlockerRow { since: Some(from) });
    head.blocks = head.blocks.saturating_add(1);
    head.veiled = true;
    Ok(())
}

/// Ends the stretch that began at `since`; one without events is as if it had not been.
fn end<T: Tables>(
    step: &mut Step<'_, T>,
    head: &mut HeadRow,
    pair: &BlockerKey,
    (since, to): (Seq, Seq),
) -> Result<(), TableError> {
    head.blocks = head.blocks.saturating_sub(1);
    if since < to {
        step.put(&stretch(pair, since), &BlockRow { to: Some(to) });
        step.put(pair, &BlockerRow { since: None });
        return Ok(());
    }
    step.delete(&stretch(pair, since));
    let rest = block::stretches(pair.thread, &pair.blocked, &pair.blocker, Seq(u64::MAX));
    if rows::any(&step.rows, &rest)? {
        step.put(pair, &BlockerRow { since: None });
    } else {
        step.delete(pair);
    }
    Ok(())
}

fn stretch(pair: &BlockerKey, from: Seq) -> BlockKey {
    let BlockerKey { thread, blocker, blocked } = pair.clone();
    BlockKey { thread, blocked, blocker, from }
}
