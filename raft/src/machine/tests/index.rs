//! Tests of a user's index of threads.

use super::properties::{family, run_packs};
use super::*;
use crate::machine::rows::departure::DepartureKey;
use crate::machine::rows::user::UserKey;
use messenger_proto::command::IndexMembership;
use messenger_proto::event::UserEvent;
use messenger_proto::limits::{DEPARTURE_RETENTION, DEPARTURES_MAX, USER_THREADS_MAX};
use messenger_proto::query::{RoomQuery, UserThreadsQuery};
use proptest::prelude::*;
use std::collections::BTreeMap;

fn change(thread: u8, source_seq: u64, present: bool) -> Op {
    let (thread, source_seq) = (ThreadId([thread; 16]), Seq(source_seq));
    Op::IndexMembership(IndexMembership { user: user("ann"), thread, source_seq, present })
}

fn threads(shard: &Shard) -> Vec<(u8, u64)> {
    match shard.ask(&Query::UserThreads(UserThreadsQuery { user: user("ann"), left_since: None })).unwrap() {
        Answer::UserThreads(answer) => {
            answer.threads.into_iter().map(|one| (one.thread.0[0], one.source_seq.0)).collect()
        }
        other => panic!("{other:?}"),
    }
}

/// The threads that the user left at a time or later, the last first.
fn left(shard: &Shard, since: u64) -> Vec<(ThreadId, u64)> {
    let query = UserThreadsQuery { user: user("ann"), left_since: Some(Millis(since)) };
    match shard.ask(&Query::UserThreads(query)).unwrap() {
        Answer::UserThreads(answer) => answer.left.into_iter().map(|one| (one.thread, one.source_seq.0)).collect(),
        other => panic!("{other:?}"),
    }
}

/// Departures that are stored, which the user's count must equal.
fn kept(shard: &Shard) -> Vec<DepartureKey> {
    let keys: Vec<_> = family::<DepartureKey>(&shard.tables).into_iter().map(|(key, _)| key).collect();
    let counted: Vec<_> = family::<UserKey>(&shard.tables).into_iter().map(|(_, row)| row).collect();
    assert_eq!(counted.iter().map(|row| row.departures as usize).sum::<usize>(), keys.len());
    assert!(keys.iter().all(|key| counted.iter().all(|row| row.departures_from <= key.at)));
    keys
}

fn retention() -> u64 {
    u64::try_from(DEPARTURE_RETENTION.as_millis()).unwrap()
}

fn told(shard: &Shard) -> Vec<(bool, u64)> {
    let event = |event: &Event| match event {
        Event::User(UserEvent { present, source_seq, .. }) => Some((*present, source_seq.0)),
        _ => None,
    };
    shard.events.iter().filter_map(event).collect()
}

#[test]
fn only_news_is_told() {
    let mut shard = Shard::new();
    for (seq, present) in [(4, true), (4, true), (2, false), (6, false), (5, true), (9, true), (12, true), (8, false)] {
        shard.run(change(1, seq, present)).unwrap();
    }
    assert_eq!(told(&shard), [(true, 4), (false, 6), (true, 9), (true, 12)]);
    assert_eq!(threads(&shard), [(1, 12)]);
}

#[test]
fn a_full_index_says_so_and_takes_what_comes_all_the_same() {
    let mut shard = Shard::new();
    let thread = |number: usize| ThreadId(u128::try_from(number).unwrap().to_be_bytes());
    let change = |number, seq, present| {
        Op::IndexMembership(IndexMembership {
            user: user("ann"),
            thread: thread(number),
            source_seq: Seq(seq),
            present,
        })
    };
    let full = |shard: &Shard, number, creates| {
        let users = vec![user("bob"), user("ann")];
        match shard.ask(&Query::Room(RoomQuery { users, thread: thread(number), creates })).unwrap() {
            Answer::Room(answer) => answer.full,
            other => panic!("{other:?}"),
        }
    };
    let join = |number| Command {
        id: CommandId(thread(number).0),
        retention: Retention::None,
        body_hash: 0,
        op: change(number, 1, true),
    };
    shard.pack((1..USER_THREADS_MAX).map(join).collect());
    assert!(full(&shard, 0, true).is_empty());
    shard.run(change(0, 1, true)).unwrap();
    assert_eq!(full(&shard, USER_THREADS_MAX, true), [user("ann")]);
    assert!(full(&shard, 3, false).is_empty(), "it is in that thread");
    // The thread took the user in meanwhile: the user is to hear it.
    shard.run(change(USER_THREADS_MAX, 1, true)).unwrap();
    assert_eq!(threads(&shard).len(), USER_THREADS_MAX + 1);
    assert_eq!(told(&shard).len(), USER_THREADS_MAX + 1);
    shard.run(change(3, 2, false)).unwrap();
    assert_eq!(full(&shard, 3, false), [user("ann")], "coming back takes room again");
    assert!(full(&shard, 3, true).is_empty(), "a creation of the same thread is a repeat");
    shard.run(change(4, 2, false)).unwrap();
    assert!(full(&shard, USER_THREADS_MAX + 1, true).is_empty(), "leaving makes room");
}

#[test]
fn departures_are_told_of_for_a_while_and_the_newest_only() {
    let mut shard = Shard::new();
    let thread = |number: usize| ThreadId((number as u128).to_be_bytes());
    let leave = |number: usize| Command {
        id: CommandId(thread(number).0),
        retention: Retention::None,
        body_hash: 0,
        op: Op::IndexMembership(IndexMembership {
            user: user("ann"),
            thread: thread(number),
            source_seq: Seq(2),
            present: false,
        }),
    };
    shard.pack((0..5).map(leave).collect());
    shard.now += retention();
    let since = shard.now - retention();
    assert_eq!(left(&shard, since).len(), 5);
    assert!(left(&shard, since + 1).is_empty());
    // Of those that are too old each new one drops two.
    shard.now += 1;
    shard.pack(vec![leave(5)]);
    assert_eq!(kept(&shard).len(), 4);
    shard.pack((6..DEPARTURES_MAX + 20).map(leave).collect());
    let newest: Vec<_> = (20..DEPARTURES_MAX + 20).map(thread).collect();
    assert_eq!(kept(&shard).into_iter().map(|key| key.thread).collect::<Vec<_>>(), newest);
    assert_eq!(left(&shard, 0).len(), DEPARTURES_MAX);
    // What is no longer told of is a tombstone all the same: what comes late is known to be older.
    shard.run(change(0, 1, true)).unwrap();
    assert!(threads(&shard).is_empty());
}

proptest! {
    #[test]
    fn departures_are_the_tombstones_in_order_of_time(
        order in proptest::collection::vec((0u8..4, 1u64..12, 0u64..3, 1usize..4), 1..60),
    ) {
        let (mut shard, mut model) = (Shard::new(), BTreeMap::new());
        for (thread, seq, later, times) in order {
            shard.now += later;
            for _ in 0..times {
                shard.run(change(thread, seq, seq % 2 == 1)).unwrap();
            }
            let known = model.entry(thread).or_insert((0, 0));
            if seq > known.0 {
                *known = (seq, shard.now);
            }
            let mut expected: Vec<_> = model.iter().filter(|(_, (seq, _))| seq % 2 == 0).collect();
            expected.sort_by_key(|(thread, (_, at))| std::cmp::Reverse((*at, **thread)));
            let expected: Vec<_> =
                expected.into_iter().map(|(thread, (seq, _))| (ThreadId([*thread; 16]), *seq)).collect();
            prop_assert_eq!(left(&shard, 0), expected);
            kept(&shard);
        }
        // However the commands are packed, and as often as the log is played.
        let once = run_packs(&shard.log);
        let mut packs: Vec<Pack> = Vec::new();
        for pack in &shard.log {
            match packs.last_mut().filter(|last| last.stamp == pack.stamp) {
                Some(last) => last.commands.extend(pack.commands.iter().cloned()),
                None => packs.push(pack.clone()),
            }
        }
        prop_assert_eq!(&once, &run_packs(&packs));
        prop_assert_eq!(&once.0, &shard.tables);
    }

    #[test]
    fn changes_in_any_order_and_number_end_the_same(
        order in proptest::collection::vec((0u8..3, 1u64..8), 1..40),
    ) {
        let mut shard = Shard::new();
        let mut highest = BTreeMap::new();
        for (thread, seq) in order {
            // A thread's changes alternate, as joining and leaving do.
            shard.run(change(thread, seq, seq % 2 == 1)).unwrap();
            let known = highest.entry(thread).or_insert(seq);
            *known = seq.max(*known);
        }
        let expected: Vec<_> = highest.into_iter().filter(|(_, seq)| seq % 2 == 1).collect();
        prop_assert_eq!(threads(&shard), expected);
    }
}
