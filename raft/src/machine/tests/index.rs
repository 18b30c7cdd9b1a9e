//! Tests of a user's index of threads.

use super::*;
use messenger_proto::command::IndexMembership;
use messenger_proto::event::UserEvent;
use messenger_proto::limits::USER_THREADS_MAX;
use messenger_proto::query::UserThreadsQuery;
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
fn an_index_is_bounded_and_leaving_makes_room() {
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
    let fill = |number| Command {
        id: CommandId(thread(number).0),
        retention: Retention::None,
        body_hash: 0,
        op: change(number, 1, true),
    };
    assert!(shard.pack((0..USER_THREADS_MAX).map(fill).collect()).results.iter().all(Result::is_ok));
    assert_eq!(shard.refused(change(USER_THREADS_MAX, 1, true)), ErrorCode::Conflict);
    shard.run(change(3, 2, false)).unwrap();
    shard.run(change(USER_THREADS_MAX, 1, true)).unwrap();
    assert_eq!(threads(&shard).len(), USER_THREADS_MAX);
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
