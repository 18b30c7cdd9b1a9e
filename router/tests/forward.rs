//! Calls to shard leaders, through the public door, against scripted nodes and a paused clock.

#![allow(clippy::unwrap_used)]

mod support;

use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{ConnectionId, DeviceId, Millis, NodeId, ShardId, UserId};
use messenger_proto::rpc::{RegisterSession, SessionCall};
use messenger_router::{Limits, Router};
use std::time::Duration;
use support::*;
use tokio::time::{Instant, sleep};

/// One shard on nodes 1, 2 and 3 of four, led by 1.
fn one_shard() -> (Fake, Router) {
    let fake = Fake::new(1);
    fake.lead(0, 1);
    let (_, watch) = watch_of(state(4, &[&[1, 2, 3]]));
    (fake.clone(), Router::new(fake, watch))
}

fn code<T: std::fmt::Debug>(result: Result<T, messenger_proto::error::Refusal>) -> ErrorCode {
    result.unwrap_err().code
}

#[tokio::test(start_paused = true)]
async fn a_call_goes_to_the_preferred_leader_and_no_further() {
    let (fake, router) = one_shard();
    let reply = router.command(slot_of(0, 1), command(1), in_secs(5)).await.unwrap();
    assert!(!reply.replayed);
    assert_eq!(router.query(slot_of(0, 1), query(), in_secs(5)).await, Ok(shard_answer(ShardId(0))));
    assert_eq!(fake.called(), [1, 1]);
    assert_eq!(router.leader_of(ShardId(0)), Some(NodeId(1)));
}

#[tokio::test(start_paused = true)]
async fn a_redirect_is_followed_at_once_and_remembered() {
    let (fake, router) = one_shard();
    fake.lead(0, 3);
    let began = Instant::now();
    router.command(slot_of(0, 1), command(1), in_secs(5)).await.unwrap();
    assert_eq!(Instant::now(), began, "no pause");
    router.command(slot_of(0, 1), command(2), in_secs(5)).await.unwrap();
    assert_eq!(fake.called(), [1, 3, 3]);
}

#[tokio::test(start_paused = true)]
async fn a_leader_outside_the_placement_is_followed_too() {
    let (fake, router) = one_shard();
    fake.lead(0, 4);
    router.command(slot_of(0, 1), command(1), in_secs(5)).await.unwrap();
    assert_eq!(fake.called(), [1, 4]);
}

#[tokio::test(start_paused = true)]
async fn a_group_that_is_still_elsewhere_is_found_without_hints() {
    let (fake, router) = one_shard();
    fake.lead(0, 4);
    for id in 1..=3 {
        fake.world().hearsay.insert(NodeId(id), None);
    }
    router.command(slot_of(0, 1), command(1), in_secs(5)).await.unwrap();
    assert_eq!(fake.called().last(), Some(&4));
}

#[tokio::test(start_paused = true)]
async fn a_leader_that_knows_no_leader_is_asked_again() {
    let (fake, router) = one_shard();
    fake.script([redirect(None)]);
    router.command(slot_of(0, 1), command(1), in_secs(5)).await.unwrap();
    assert_eq!(fake.called(), [1, 1]);
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_asked_for_again_under_the_same_id() {
    let (fake, router) = one_shard();
    fake.world().script.push_back((lost(), true));
    let reply = router.command(slot_of(0, 1), command(1), in_secs(5)).await.unwrap();
    assert!(reply.replayed, "the first attempt did it");
    let world = fake.world();
    assert!(world.calls.len() > 1);
    assert_eq!(command_ids(&world.calls).len(), 1);
    assert_eq!(world.done.len(), 1);
}

#[tokio::test(start_paused = true)]
async fn the_shards_refusal_is_the_answer() {
    let (fake, router) = one_shard();
    for refusal in [ErrorCode::NotAMember, ErrorCode::ThreadFull, ErrorCode::Overloaded, ErrorCode::Internal] {
        fake.script([refused(refusal)]);
        assert_eq!(code(router.command(slot_of(0, 1), command(1), in_secs(5)).await), refusal);
    }
    assert_eq!(fake.called().len(), 4, "one attempt each");
}

#[tokio::test(start_paused = true)]
async fn what_surely_had_no_effect_is_unavailable_at_the_deadline() {
    let (fake, router) = one_shard();
    for id in 1..=4 {
        fake.set(id, Health::Down);
    }
    let began = Instant::now();
    assert_eq!(code(router.command(slot_of(0, 1), command(1), in_secs(3)).await), ErrorCode::Unavailable);
    assert_eq!(began.elapsed().as_millis() / 10, 300, "neither early nor late");
    assert!((30..=256).contains(&fake.called().len()), "{} attempts", fake.called().len());
}

#[tokio::test(start_paused = true)]
async fn what_may_have_had_effects_is_unknown_at_the_deadline() {
    let (fake, router) = one_shard();
    fake.script([lost()]);
    for id in 2..=4 {
        fake.set(id, Health::Down);
    }
    fake.world().leaders.clear();
    assert_eq!(code(router.command(slot_of(0, 1), command(1), in_secs(3)).await), ErrorCode::OutcomeUnknown);
    fake.script([lost()]);
    assert_eq!(code(router.query(slot_of(0, 1), query(), in_secs(3)).await), ErrorCode::Unavailable);
}

#[tokio::test(start_paused = true)]
async fn overload_after_a_lost_answer_does_not_hide_that_the_outcome_is_unknown() {
    let (fake, router) = one_shard();
    fake.script([lost()]);
    fake.script((0..1_000).map(|_| refused(ErrorCode::Overloaded)));
    assert_eq!(code(router.command(slot_of(0, 1), command(1), in_secs(3)).await), ErrorCode::OutcomeUnknown);
}

#[tokio::test(start_paused = true)]
async fn the_deadline_holds_while_an_attempt_is_under_way() {
    let (fake, router) = one_shard();
    fake.set(1, Health::Hung);
    let began = Instant::now();
    let deadline = began + Duration::from_millis(700);
    assert_eq!(code(router.command(slot_of(0, 1), command(1), deadline).await), ErrorCode::OutcomeUnknown);
    assert!((700..=702).contains(&began.elapsed().as_millis()), "{:?}", began.elapsed());
    let told = fake.world().calls[0].requests[0].deadline_ms;
    assert_eq!(told, 700, "the node is told how long the caller waits");
}

#[tokio::test(start_paused = true)]
async fn a_caller_in_a_hurry_does_not_unseat_a_leader() {
    let (fake, router) = one_shard();
    router.query(slot_of(0, 1), query(), in_secs(5)).await.unwrap();
    fake.world().latency = Duration::from_millis(100);
    let deadline = Instant::now() + Duration::from_millis(50);
    assert_eq!(code(router.query(slot_of(0, 1), query(), deadline).await), ErrorCode::Unavailable);
    assert_eq!(router.leader_of(ShardId(0)), Some(NodeId(1)));
}

#[tokio::test(start_paused = true)]
async fn a_deadline_that_has_passed_is_not_tried() {
    let (fake, router) = one_shard();
    assert_eq!(code(router.command(slot_of(0, 1), command(1), Instant::now()).await), ErrorCode::Unavailable);
    assert!(fake.called().is_empty());
}

#[tokio::test(start_paused = true)]
async fn a_hung_leader_is_left_for_its_successor() {
    let (fake, router) = one_shard();
    router.command(slot_of(0, 1), command(1), in_secs(5)).await.unwrap();
    fake.set(1, Health::Hung);
    fake.lead(0, 2);
    let began = Instant::now();
    router.command(slot_of(0, 1), command(2), in_secs(10)).await.unwrap();
    assert!(began.elapsed() < Duration::from_millis(2_300), "{:?}", began.elapsed());
}

#[tokio::test(start_paused = true)]
async fn circles_of_redirects_are_bounded() {
    let (fake, router) = one_shard();
    fake.world().leaders.clear();
    for (from, to) in [(1, 2), (2, 3), (3, 1)] {
        fake.world().hearsay.insert(NodeId(from), Some(NodeId(to)));
    }
    assert_eq!(code(router.command(slot_of(0, 1), command(1), in_secs(2)).await), ErrorCode::Unavailable);
    assert!(fake.called().len() <= 100, "{} attempts in two seconds", fake.called().len());
}

#[tokio::test(start_paused = true)]
async fn many_calls_that_wait_for_an_election_search_as_one() {
    let (fake, router) = one_shard();
    fake.world().latency = Duration::from_millis(1);
    router.command(slot_of(0, 1), command(1), in_secs(5)).await.unwrap();
    fake.world().calls.clear();
    // The leader dies; its followers name it until they elect node 3, 1.2 s later.
    fake.set(1, Health::Down);
    let began = Instant::now();
    let call = |id: u8| {
        let router = router.clone();
        tokio::spawn(async move { router.command(slot_of(0, 1), command(id), in_secs(5)).await })
    };
    let calls: Vec<_> = (2..=201).map(call).collect();
    sleep(Duration::from_millis(1_200)).await;
    let before_election = fake.called().len();
    fake.lead(0, 3);
    for call in calls {
        call.await.unwrap().unwrap();
    }
    assert!(began.elapsed() < Duration::from_millis(1_320), "{:?}", began.elapsed());
    assert!(before_election < 200 + 100, "{before_election} attempts, the first ones included");
    assert_eq!(fake.world().done.len(), 201);
}

#[tokio::test(start_paused = true)]
async fn no_more_is_in_hand_than_the_limits_allow() {
    let fake = Fake::new(1);
    fake.set(1, Health::Hung);
    let (_, watch) = watch_of(state(1, &[&[1]]));
    let router = Router::with_limits(fake.clone(), watch, Limits { calls: 2, ..Limits::default() });
    let call = || {
        let router = router.clone();
        tokio::spawn(async move { router.query(slot_of(0, 1), query(), in_secs(1)).await })
    };
    let waiting = [call(), call()];
    sleep(Duration::from_millis(10)).await;
    let began = Instant::now();
    assert_eq!(code(router.query(slot_of(0, 1), query(), in_secs(1)).await), ErrorCode::Overloaded);
    assert_eq!(Instant::now(), began);
    for call in waiting {
        assert_eq!(code(call.await.unwrap()), ErrorCode::Unavailable);
    }
    fake.set(1, Health::Up);
    fake.lead(0, 1);
    assert!(router.query(slot_of(0, 1), query(), in_secs(1)).await.is_ok(), "places come back");
}

#[tokio::test(start_paused = true)]
async fn calls_wait_for_the_cluster_to_have_shards() {
    let fake = Fake::new(1);
    fake.lead(1, 2);
    let (sender, watch) = watch_of(state(3, &[]));
    let router = Router::new(fake.clone(), watch);
    let began = Instant::now();
    assert_eq!(code(router.query(slot_of(0, 1), query(), in_secs(1)).await), ErrorCode::Unavailable);
    assert_eq!(began.elapsed().as_millis() / 10, 100);
    let waiting = tokio::spawn({
        let router = router.clone();
        async move { router.query(slot_of(1, 2), query(), in_secs(5)).await }
    });
    sleep(Duration::from_millis(10)).await;
    sender.send_replace(state(3, &[&[1], &[2]]));
    assert_eq!(waiting.await.unwrap(), Ok(shard_answer(ShardId(1))));
    assert_eq!(router.shard_of(slot_of(1, 2)), ShardId(1));
}

#[tokio::test(start_paused = true)]
async fn a_changed_placement_is_picked_up_by_a_call_that_waits() {
    let fake = Fake::new(1);
    let (sender, watch) = watch_of(state(1, &[&[1]]));
    let router = Router::new(fake.clone(), watch);
    fake.set(1, Health::Down);
    fake.lead(0, 2);
    let waiting = tokio::spawn({
        let router = router.clone();
        async move { router.query(slot_of(0, 1), query(), in_secs(5)).await }
    });
    sleep(Duration::from_millis(500)).await;
    assert!(!fake.called().contains(&2));
    sender.send_replace(state(2, &[&[2]]));
    assert!(waiting.await.unwrap().is_ok());
}

#[tokio::test(start_paused = true)]
async fn a_session_reaches_the_leader_of_its_shard() {
    let fake = Fake::new(1);
    fake.lead(1, 2);
    let (_, watch) = watch_of(state(3, &[&[1, 2, 3], &[2, 3, 1]]));
    let router = Router::new(fake.clone(), watch);
    let call = SessionCall::Register(RegisterSession {
        user: UserId::new("alice").unwrap(),
        device: DeviceId::new("phone").unwrap(),
        connection: ConnectionId([1; 16]),
        node: NodeId(1),
        opened_at: Millis(1),
        away: false,
        settled: false,
    });
    assert!(router.session(slot_of(1, 2), call, in_secs(5)).await.unwrap().replaced);
    assert_eq!(fake.called(), [2]);
}
