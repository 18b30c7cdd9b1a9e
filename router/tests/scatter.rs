//! Many questions at once, through the public door.

mod support;

use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_router::Router;
use std::time::Duration;
use support::*;
use tokio::time::Instant;

const SHARDS: u32 = 12;

/// Twelve shards dealt out over three nodes, each led by its first replica.
fn cluster() -> (Fake, Router) {
    let fake = Fake::new(1);
    let replicas: Vec<[u64; 3]> =
        (0..u64::from(SHARDS)).map(|shard| [0, 1, 2].map(|nth| (shard + nth) % 3 + 1)).collect();
    for (shard, replicas) in (0..).zip(&replicas) {
        fake.lead(shard, replicas[0]);
    }
    let shards: Vec<&[u64]> = replicas.iter().map(<[u64; 3]>::as_slice).collect();
    let (_, watch) = watch_of(state(3, &shards));
    (fake.clone(), Router::new(fake, watch))
}

fn all() -> Vec<(ShardId, messenger_proto::query::Query)> {
    (0..SHARDS).rev().map(|shard| (ShardId(shard), query())).collect()
}

#[tokio::test(start_paused = true)]
async fn one_call_per_node_and_answers_in_the_order_asked() {
    let (fake, router) = cluster();
    let expected: Vec<_> = (0..SHARDS).rev().map(|shard| Ok(shard_answer(ShardId(shard)))).collect();
    for _ in 0..2 {
        assert_eq!(router.scatter(all(), in_secs(5)).await, expected);
        let mut called = fake.called();
        called.sort_unstable();
        assert_eq!(called, [1, 2, 3], "whether leaders were known before or not");
        fake.world().calls.clear();
    }
}

#[tokio::test(start_paused = true)]
async fn several_queries_to_one_shard_travel_together() {
    let (fake, router) = cluster();
    let queries = vec![(ShardId(4), query()), (ShardId(4), query()), (ShardId(1), query())];
    let answers = router.scatter(queries, in_secs(5)).await;
    assert_eq!(answers, [4, 4, 1].map(|shard| Ok(shard_answer(ShardId(shard)))));
    assert_eq!(fake.called(), [2]);
}

#[tokio::test(start_paused = true)]
async fn what_was_redirected_is_grouped_again() {
    let (fake, router) = cluster();
    for shard in 0..SHARDS {
        fake.lead(shard, 3);
    }
    let answers = router.scatter(all(), in_secs(5)).await;
    assert!(answers.iter().all(Result::is_ok));
    let calls = fake.world().calls.len();
    assert!(calls <= 5, "{calls} calls: three, and one for what each of two nodes redirected");
}

#[tokio::test(start_paused = true)]
async fn a_dead_node_costs_its_shards_alone() {
    let (fake, router) = cluster();
    for id in [1, 2, 3] {
        fake.world().hearsay.insert(NodeId(id), None);
    }
    fake.set(2, Health::Down);
    fake.lead(1, 3);
    let began = Instant::now();
    let answers = router.scatter(all(), in_secs(2)).await;
    for (shard, answer) in (0..SHARDS).rev().zip(answers) {
        match shard % 3 {
            1 if shard != 1 => assert_eq!(answer.unwrap_err().code, ErrorCode::Unavailable),
            _ => assert_eq!(answer, Ok(shard_answer(ShardId(shard)))),
        }
    }
    assert_eq!(began.elapsed().as_millis() / 10, 200);
}

#[tokio::test(start_paused = true)]
async fn a_hung_node_holds_nobody_beyond_the_deadline() {
    let (fake, router) = cluster();
    fake.set(1, Health::Hung);
    let began = Instant::now();
    let answers = router.scatter(all(), began + Duration::from_millis(800)).await;
    assert_eq!(answers.iter().filter(|answer| answer.is_ok()).count(), 8);
    assert!((800..=802).contains(&began.elapsed().as_millis()));
}

#[tokio::test(start_paused = true)]
async fn nothing_asked_and_unknown_shards() {
    let (fake, router) = cluster();
    assert!(router.scatter(Vec::new(), in_secs(5)).await.is_empty());
    let answers = router.scatter(vec![(ShardId(99), query())], in_secs(5)).await;
    assert_eq!(answers[0].as_ref().unwrap_err().code, ErrorCode::Unavailable);
    assert!(fake.called().is_empty());
}
