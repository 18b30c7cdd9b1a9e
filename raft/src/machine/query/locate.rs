//! Places in a thread by id or time.
//!
//! Owns: finding the last message below a given id, without an index: ids grow with `seq`.
//! Must not know: who looks.
//! Invariants: costs O(log distance from the end) look-ups, since most look for a recent place.

use super::super::rows::head::HeadRow;
use super::super::rows::member::SeqRange;
use super::super::rows::message::{self, MessageKey};
use super::super::rows::{self};
use super::super::tables::{Direction, TableError, Tables};
use messenger_proto::ids::{MessageId, Millis, Position, Seq, ThreadId};
use std::ops::ControlFlow;

/// The place of the last message with an id below `bound`; the beginning when there is none.
pub(crate) fn last_below(
    tables: &impl Tables,
    thread: ThreadId,
    head: &HeadRow,
    bound: MessageId,
) -> Result<Position, TableError> {
    let Some(last) = &head.last else { return Ok(Position::default()) };
    // Every message up to `floor` is below the bound, the one at `ceiling` or after it is not.
    let (mut floor, mut ceiling, mut found) = (0, last.seq.0.saturating_add(1), Position::default());
    // Steps back from the end double until they go below the bound; then the interval is halved.
    let mut back = Some(1u64);
    while floor + 1 < ceiling {
        let probe = match back {
            Some(step) if step < ceiling - floor => ceiling - step,
            _ => floor + (ceiling - floor) / 2,
        };
        match nearest(tables, thread, Seq(floor + 1), Seq(probe))? {
            Some((place, id)) if id >= bound => {
                ceiling = place.seq.0;
                back = back.and_then(|step| step.checked_mul(2));
            }
            Some((place, _)) => {
                (floor, found, back) = (probe, place, None);
            }
            None => floor = probe,
        }
    }
    Ok(found)
}

/// The place of the last message created before `at`.
pub(crate) fn last_before(
    tables: &impl Tables,
    thread: ThreadId,
    head: &HeadRow,
    at: Millis,
) -> Result<Position, TableError> {
    last_below(tables, thread, head, floor(at))
}

/// The smallest id of a time, also of one that no id can carry.
pub(crate) fn floor(at: Millis) -> MessageId {
    if at.0 > MessageId::MS_MAX { MessageId(u128::MAX) } else { MessageId::floor(at) }
}

/// The last message of `first..=last`.
fn nearest(
    tables: &impl Tables,
    thread: ThreadId,
    first: Seq,
    last: Seq,
) -> Result<Option<(Position, MessageId)>, TableError> {
    let mut found = None;
    let range = message::messages(thread, SeqRange { first, last });
    rows::scan::<MessageKey>(tables, &range, Direction::Backward, |key, row| {
        let meta = message::meta_of(row)?;
        found = Some((Position { seq: key.seq, rev: meta.rev }, meta.id));
        Ok(ControlFlow::Break(()))
    })?;
    Ok(found)
}
