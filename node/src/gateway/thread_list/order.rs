//! Which threads are on a page of the list.
//!
//! Owns: the list's order, the place a page ends at, and what to do about threads that become active meanwhile.
//! Must not know: shards, requests, text.
//! Invariants: a thread that existed when the list was begun is on exactly one page, whatever happens in between, as long
//! as no message takes longer than [`SETTLED_AFTER`] from being stamped to being seen.
//!
//! Threads are ordered by their activity as of the instant the list was begun. Shards have clocks of their own, and a
//! message that was stamped before that instant may become visible after the first page was made, so near the instant
//! the order is not settled. A place therefore remembers which threads were shown with an activity that recent. A thread
//! that seems to be on an earlier page because of such an activity, but is not remembered, is *unsure*: its place is that
//! of its activity before the recent time, which is settled and can be asked for.

use messenger_proto::ids::{Millis, ThreadId};
use messenger_proto::query::ThreadActivity;
use std::cmp::Reverse;
use std::collections::HashMap;

/// How far back activity may still change: clocks apart, and the longest request.
pub(super) const SETTLED_AFTER: u64 = 15_000;
/// Recently active threads that a place remembers at most; beyond it, the recent time is narrowed.
const REMEMBERED_MAX: usize = 500;

/// Sorts latest first.
type Rank = (Reverse<Millis>, ThreadId);

/// Where a page ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Place {
    /// The instant the list was begun.
    pub(super) as_of: Millis,
    /// Activity up to here is settled.
    pub(super) recent_from: Millis,
    /// The last row shown, in order.
    last: (Millis, ThreadId),
    /// The threads that were shown with a recent activity, each by its first bytes.
    shown: Vec<[u8; 4]>,
}

/// A page's threads, and its end unless it is the last.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Chosen {
    pub(super) threads: Vec<ThreadId>,
    pub(super) next: Option<Place>,
}

fn rank(row: &ThreadActivity) -> Rank {
    (Reverse(row.at), row.thread)
}

/// Thread ids are the output of a keyed hash, so a few of their bytes are as good as random.
fn mark(thread: ThreadId) -> [u8; 4] {
    let [a, b, c, d, ..] = thread.0;
    [a, b, c, d]
}

/// The first page, from every thread's activity as of now.
pub(super) fn first_page(activity: &[ThreadActivity], begun: Millis, limit: usize) -> Chosen {
    // Whatever was seen is part of the list, by whichever clock it was stamped.
    let as_of = activity.iter().map(|row| row.at).fold(begun, Millis::max);
    let recent_from = Millis(as_of.0.saturating_sub(SETTLED_AFTER));
    let nowhere = (Millis(u64::MAX), ThreadId([0; 16]));
    let place = Place { as_of, recent_from, last: nowhere, shown: Vec::new() };
    place.go_on(activity.iter().map(|row| (rank(row), row)).collect(), limit)
}

/// The page after a place, from every thread's activity as of [`Place::as_of`], and that of the [`Place::unsure`] ones as
/// of [`Place::recent_from`].
pub(super) fn next_page(
    activity: &[ThreadActivity],
    earlier: &[ThreadActivity],
    place: &Place,
    limit: usize,
) -> Chosen {
    let earlier: HashMap<ThreadId, Rank> = earlier.iter().map(|row| (row.thread, rank(row))).collect();
    let last = place.last_rank();
    let left = activity.iter().filter_map(|row| {
        let rank = if place.is_unsure(row) { *earlier.get(&row.thread)? } else { rank(row) };
        // A thread that was made since is not of this list.
        (row.at <= place.as_of && rank > last).then_some((rank, row))
    });
    place.clone().go_on(left.collect(), limit)
}

impl Place {
    /// The threads of which it must be asked where they were before the recent time.
    pub(super) fn unsure(&self, activity: &[ThreadActivity]) -> Vec<ThreadId> {
        activity.iter().filter(|row| self.is_unsure(row)).map(|row| row.thread).collect()
    }

    fn is_unsure(&self, row: &ThreadActivity) -> bool {
        let is_behind = row.at <= self.as_of && rank(row) <= self.last_rank();
        is_behind && row.at > self.recent_from && !self.shown.contains(&mark(row.thread))
    }

    fn last_rank(&self) -> Rank {
        (Reverse(self.last.0), self.last.1)
    }

    /// Shows the first of the rows that are left, each with its rank as of the beginning.
    fn go_on(mut self, mut left: Vec<(Rank, &ThreadActivity)>, limit: usize) -> Chosen {
        left.sort_unstable_by_key(|(rank, _)| *rank);
        let page = left.get(..limit).unwrap_or(&left);
        for ((Reverse(at), thread), row) in page {
            self.last = (*at, *thread);
            if row.at > self.recent_from {
                self.remember(row);
            }
        }
        let threads = page.iter().map(|(_, row)| row.thread).collect();
        Chosen { threads, next: (left.len() > page.len()).then_some(self) }
    }

    fn remember(&mut self, row: &ThreadActivity) {
        if self.shown.len() < REMEMBERED_MAX {
            self.shown.push(mark(row.thread));
        } else {
            // Rows come latest first: this one and those after it are, but for a few, older than those remembered.
            self.recent_from = row.at;
        }
    }

    /// What a cursor holds.
    pub(super) fn bytes(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(40 + 4 * self.shown.len());
        for at in [self.as_of, self.recent_from, self.last.0] {
            bytes.extend_from_slice(&at.0.to_be_bytes());
        }
        bytes.extend_from_slice(&self.last.1.0);
        self.shown.iter().for_each(|mark| bytes.extend_from_slice(mark));
        bytes
    }

    /// The other way; `None` for what no place gives.
    pub(super) fn of_bytes(bytes: &[u8]) -> Option<Self> {
        let (as_of, rest) = take_millis(bytes)?;
        let (recent_from, rest) = take_millis(rest)?;
        let (at, rest) = take_millis(rest)?;
        let (thread, rest) = rest.split_first_chunk()?;
        let (shown, rest) = rest.as_chunks();
        let place = Self { as_of, recent_from, last: (at, ThreadId(*thread)), shown: shown.to_vec() };
        (rest.is_empty() && place.shown.len() <= REMEMBERED_MAX).then_some(place)
    }
}

fn take_millis(bytes: &[u8]) -> Option<(Millis, &[u8])> {
    let (ms, rest) = bytes.split_first_chunk()?;
    Some((Millis(u64::from_be_bytes(*ms)), rest))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BEGUN: u64 = 1_000_000;

    fn thread(n: u16) -> ThreadId {
        let mut bytes = [0; 16];
        bytes[..2].copy_from_slice(&n.to_be_bytes());
        ThreadId(bytes)
    }

    /// Each thread's activity over time: when it became visible, and its stamp.
    type World = Vec<Vec<(u64, u64)>>;

    /// What the shards answer at a moment.
    fn ask(world: &World, moment: u64, as_of: u64) -> Vec<ThreadActivity> {
        let rows = world.iter().enumerate().filter_map(|(n, stamps)| {
            let visible = stamps.iter().filter(|(at, _)| *at <= moment).map(|(_, stamp)| *stamp);
            // The first stamp is the creation, which counts even when it is later than asked for.
            let created = stamps.first().filter(|(at, _)| *at <= moment).map(|(_, stamp)| *stamp)?;
            let latest = visible.filter(|stamp| *stamp <= as_of).max().unwrap_or(created);
            Some(ThreadActivity { thread: thread(n as u16), at: Millis(latest) })
        });
        rows.collect()
    }

    /// Reads the whole list, with time going on between pages.
    fn read(world: &World, limit: usize, step: u64) -> Vec<ThreadId> {
        let (mut moment, mut seen) = (BEGUN, Vec::new());
        let mut chosen = first_page(&ask(world, moment, u64::MAX), Millis(BEGUN), limit);
        loop {
            assert!(chosen.threads.len() <= limit);
            seen.extend(chosen.threads);
            let Some(place) = chosen.next else { return seen };
            let place = Place::of_bytes(&place.bytes()).unwrap();
            moment += step;
            let activity = ask(world, moment, place.as_of.0);
            let earlier: Vec<_> = ask(world, moment, place.recent_from.0)
                .into_iter()
                .filter(|row| place.unsure(&activity).contains(&row.thread))
                .collect();
            chosen = next_page(&activity, &earlier, &place, limit);
        }
    }

    fn still_world() -> impl Strategy<Value = World> {
        let stamps = proptest::collection::vec(BEGUN - 30_000..BEGUN + 500, 1..4);
        let settled = stamps.prop_map(|mut stamps| {
            stamps.sort_unstable();
            stamps.into_iter().map(|stamp| (0, stamp)).collect::<Vec<_>>()
        });
        proptest::collection::vec(settled, 0..60)
    }

    fn busy_world() -> impl Strategy<Value = World> {
        // Messages become visible at any time from their stamp's, clocks apart, to the settling time after it.
        let late = (BEGUN - 14_000..BEGUN + 3_000, 0..14_000_u64);
        let late = proptest::collection::vec(late, 0..5);
        (still_world(), proptest::collection::vec(late, 60)).prop_map(|(mut world, late)| {
            for (stamps, late) in world.iter_mut().zip(late) {
                stamps.extend(late.into_iter().map(|(stamp, after)| (stamp + after, stamp)));
            }
            world
        })
    }

    proptest! {
        #[test]
        fn a_still_list_is_read_in_order(world in still_world(), limit in 1usize..20) {
            let mut expected: Vec<_> = ask(&world, BEGUN, u64::MAX);
            expected.sort_by_key(rank);
            let expected: Vec<_> = expected.iter().map(|row| row.thread).collect();
            prop_assert_eq!(read(&world, limit, 0), expected);
        }

        #[test]
        fn a_busy_list_skips_and_repeats_nothing(
            world in busy_world(), limit in 1usize..20, step in 1u64..5_000,
        ) {
            let mut seen = read(&world, limit, step);
            let mut first: Vec<_> = ask(&world, BEGUN, u64::MAX);
            first.sort_by_key(rank);
            let is_still = |thread: &ThreadId| {
                world[usize::from(u16::from_be_bytes([thread.0[0], thread.0[1]]))].iter().all(|(at, _)| *at <= BEGUN)
            };
            let expected: Vec<_> = first.iter().map(|row| row.thread).filter(is_still).collect();
            let still: Vec<_> = seen.iter().copied().filter(is_still).collect();
            prop_assert_eq!(still, expected, "what did not move is in order");
            let count = seen.len();
            seen.sort_unstable();
            seen.dedup();
            prop_assert_eq!(count, seen.len(), "a row was repeated");
            for row in first {
                prop_assert!(seen.contains(&row.thread), "a row was skipped");
            }
        }

        #[test]
        fn a_place_comes_back(
            as_of in any::<u64>(), recent in any::<u64>(), at in any::<u64>(), thread in any::<[u8; 16]>(),
            shown in proptest::collection::vec(any::<[u8; 4]>(), 0..20),
        ) {
            let last = (Millis(at), ThreadId(thread));
            let place = Place { as_of: Millis(as_of), recent_from: Millis(recent), last, shown };
            prop_assert_eq!(Place::of_bytes(&place.bytes()), Some(place.clone()));
            prop_assert_eq!(Place::of_bytes(&place.bytes()[1..]), None);
        }
    }

    #[test]
    fn a_place_stays_small_however_much_is_going_on() {
        let world: World = (0..3_000).map(|n| vec![(0, BEGUN - n)]).collect();
        assert_eq!(read(&world, 100, 1).len(), 3_000);
        let chosen = first_page(&ask(&world, BEGUN, u64::MAX), Millis(BEGUN), 2_000);
        assert!(chosen.next.unwrap().bytes().len() <= 40 + 4 * REMEMBERED_MAX);
    }

    #[test]
    fn a_thread_made_later_is_not_of_the_list() {
        let mut world: World = vec![vec![(0, BEGUN - 100_000)], vec![(0, BEGUN - 200_000)]];
        world.push(vec![(BEGUN + 1, BEGUN + 1)]);
        assert_eq!(read(&world, 1, 10), [thread(0), thread(1)]);
    }
}
