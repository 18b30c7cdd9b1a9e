//! Tests of a user's index of threads.

use super::*;
use messenger_proto::command::IndexMembership;
use messenger_proto::event::UserEvent;
use messenger_proto::limits::USER_THREADS_MAX;
use messenger_proto::query::{RoomQuery, UserThreadsQuery};
use proptest::prelude::*;

fn change(thread: u8, source_seq: u64, present: bool) -> Op {
    let (thread, source_seq) = (ThreadId([thread; 16]), Seq(source_seq));
    Op::IndexMembership(IndexMembership { user: user("ann"), thread, source_seq, present })
}

fn threads(shard: &Shard) -> Vec<(u8, u64)> {
    match shard.ask(&Query::UserThreads(UserThreadsQuery { user: user("ann") })).unwrap() {
        Answer::UserThreads(answer) => {
            answer.threads.into_iter().map(|one| (one.thread.0[0], one.source_seq.0)).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn told(shard: &Shard) -> Vec<(bool, u64)> {
    let event = |event: &Event| match event {
        Event::User(UserEvent { present, source_seq, .. }) => Some((*present, source_seq.0)),
        Event::Thread(_) => None,
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

proptest! {
    #[test]
    fn changes_in_any_order_and_number_end_the_same(
        order in proptest::collection::vec((0u8..3, 1u64..8), 1..40),
    ) {
        let mut shard = Shard::new();
        let mut highest = std::collections::BTreeMap::new();
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
