//! Subscriptions, through the public door.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod support;

use messenger_proto::ids::{NodeId, ShardId, ThreadId};
use messenger_proto::rpc::{Reset, StreamItem};
use messenger_router::{Interest, Limits, Router, Subscription, SubscriptionItem, Topic};
use std::time::Duration;
use support::*;
use tokio::time::{Instant, sleep, timeout};

fn thread(id: u8) -> Topic {
    Topic::Thread(ThreadId([id; 16]))
}

/// Node 2, which holds a replica of the one shard of nodes 1, 2 and 3.
fn subscribed() -> (Fake, Interest, Subscription) {
    subscribed_within(Limits::default())
}

fn subscribed_within(limits: Limits) -> (Fake, Interest, Subscription) {
    let fake = Fake::new(2);
    let (_, watch) = watch_of(state(4, &[&[1, 2, 3]]));
    let (interest, subscription) = Router::with_limits(fake.clone(), watch, limits).subscribe(ShardId(0));
    (fake, interest, subscription)
}

/// Waits for an addition to be in force.
async fn done<T>(adding: tokio::task::JoinHandle<T>) -> T {
    timeout(Duration::from_mins(1), adding).await.expect("in force").unwrap()
}

/// The next item; one that does not come fails the test rather than holding it up.
async fn next(subscription: &mut Subscription) -> SubscriptionItem {
    timeout(Duration::from_mins(1), subscription.next()).await.expect("an item")
}

async fn nothing(subscription: &mut Subscription) {
    let next = timeout(Duration::from_millis(100), subscription.next()).await;
    assert!(next.is_err(), "{next:?}");
}

#[tokio::test(start_paused = true)]
async fn the_local_replica_is_the_source_and_interest_waits_to_be_in_force() {
    let (fake, interest, mut subscription) = subscribed();
    let mut source = fake.source().await;
    assert_eq!(source.node, NodeId(2));
    let mut adding = tokio::spawn(async move { interest.add(thread(1)).await });
    let change = loop {
        let change = source.changes.recv().await.unwrap();
        if !change.add_threads.is_empty() {
            break change;
        }
        source.put_in_force(change.version).await;
    };
    assert!(timeout(Duration::from_secs(1), &mut adding).await.is_err(), "not in force yet");
    source.put_in_force(change.version).await;
    done(adding).await;
    source.event(7).await;
    assert_eq!(next(&mut subscription).await, SubscriptionItem::Event(event(7)));
    nothing(&mut subscription).await;
}

#[tokio::test(start_paused = true)]
async fn without_a_local_replica_another_node_is_the_source() {
    let fake = Fake::new(4);
    let (_, watch) = watch_of(state(4, &[&[1, 2, 3]]));
    let (_interest, _subscription) = Router::new(fake.clone(), watch).subscribe(ShardId(0));
    assert!([1, 2, 3].contains(&fake.source().await.node.0));
}

#[tokio::test(start_paused = true)]
async fn a_lost_source_is_replaced_with_the_whole_interest_and_a_reset() {
    let (fake, interest, mut subscription) = subscribed();
    let mut source = fake.source().await;
    let wishes = tokio::spawn(async move {
        interest.add(thread(1)).await;
        interest.add(thread(2)).await;
        interest.remove(thread(1));
        interest.add(thread(3)).await;
        interest
    });
    let interest = tokio::select! {
        interest = done(wishes) => interest,
        () = async { loop { source.settle().await; } } => unreachable!("changes go on until the wishes are done"),
    };
    fake.set(2, Health::Down);
    drop(source);
    let mut source = fake.source().await;
    assert_ne!(source.node, NodeId(2));
    let change = source.changes.recv().await.unwrap();
    assert_eq!(change.add_threads, [2, 3].map(|id| ThreadId([id; 16])));
    assert!(change.remove_threads.is_empty());
    source.event(1).await;
    assert_eq!(next(&mut subscription).await, SubscriptionItem::Event(event(1)));
    nothing(&mut subscription).await;
    source.put_in_force(change.version).await;
    assert_eq!(next(&mut subscription).await, SubscriptionItem::Reset, "once storage and stream meet");
    source.event(2).await;
    assert_eq!(next(&mut subscription).await, SubscriptionItem::Event(event(2)));
    let adding = tokio::spawn(async move { interest.add(thread(4)).await });
    assert_eq!(source.settle().await.add_threads, [ThreadId([4; 16])]);
    done(adding).await;
}

#[tokio::test(start_paused = true)]
async fn an_addition_that_lost_its_source_is_in_force_at_the_next() {
    let (fake, interest, _subscription) = subscribed();
    let mut source = fake.source().await;
    let adding = tokio::spawn(async move { interest.add(thread(1)).await });
    while source.changes.recv().await.unwrap().add_threads.is_empty() {}
    drop(source);
    let mut source = fake.source().await;
    assert!(!adding.is_finished());
    assert_eq!(source.settle().await.add_threads, [ThreadId([1; 16])]);
    done(adding).await;
}

#[tokio::test(start_paused = true)]
async fn what_the_source_lost_is_passed_on() {
    let (fake, _interest, mut subscription) = subscribed();
    let source = fake.source().await;
    source.items.send(StreamItem::Reset(Reset {})).await.unwrap();
    assert_eq!(next(&mut subscription).await, SubscriptionItem::Reset);
    source.event(1).await;
    assert_eq!(next(&mut subscription).await, SubscriptionItem::Event(event(1)));
}

#[tokio::test(start_paused = true)]
async fn a_slow_consumer_is_bounded_and_sent_to_storage() {
    let limits = Limits { subscription_events: 8, ..Limits::default() };
    let (fake, interest, mut subscription) = subscribed_within(limits);
    let mut source = fake.source().await;
    let adding = tokio::spawn(async move { interest.add(thread(1)).await });
    // Nobody takes any of these, and still the source is read.
    for seq in 0..1_000 {
        source.event(seq).await;
    }
    source.settle().await;
    timeout(Duration::from_secs(5), adding).await.expect("interest comes into force all the same").unwrap();
    for seq in 0..8 {
        assert_eq!(next(&mut subscription).await, SubscriptionItem::Event(event(seq)), "in order, none left out");
    }
    assert_eq!(next(&mut subscription).await, SubscriptionItem::Reset);
    nothing(&mut subscription).await;
    source.event(1_000).await;
    assert_eq!(next(&mut subscription).await, SubscriptionItem::Event(event(1_000)));
}

#[tokio::test(start_paused = true)]
async fn bytes_are_bounded_too() {
    // Room for three events of about 256 bytes.
    let limits = Limits { subscription_bytes: 800, ..Limits::default() };
    let (fake, _interest, mut subscription) = subscribed_within(limits);
    let mut source = fake.source().await;
    source.greet().await;
    for seq in 0..50 {
        source.event(seq).await;
    }
    for seq in 0..3 {
        assert_eq!(next(&mut subscription).await, SubscriptionItem::Event(event(seq)));
    }
    assert_eq!(next(&mut subscription).await, SubscriptionItem::Reset);
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_is_late_but_in_time_loses_nothing() {
    let limits = Limits { subscription_events: 4, ..Limits::default() };
    let (fake, _interest, mut subscription) = subscribed_within(limits);
    let mut source = fake.source().await;
    source.greet().await;
    tokio::spawn(async move {
        for seq in 0..40 {
            source.event(seq).await;
        }
        std::future::pending::<()>().await;
    });
    for seq in 0..40 {
        sleep(Duration::from_millis(300)).await;
        assert_eq!(next(&mut subscription).await, SubscriptionItem::Event(event(seq)));
    }
}

#[tokio::test(start_paused = true)]
async fn a_consumer_that_trickles_does_not_keep_interest_waiting() {
    let limits = Limits { subscription_events: 4, ..Limits::default() };
    let (fake, interest, mut subscription) = subscribed_within(limits);
    let mut source = fake.source().await;
    source.greet().await;
    let feeding = tokio::spawn(async move {
        for seq in 0..10 {
            source.event(seq).await;
        }
        let adding = tokio::spawn(async move { interest.add(thread(1)).await });
        let change = source.changes.recv().await.unwrap();
        // Many events are on their way before it.
        for seq in 10..500 {
            source.event(seq).await;
        }
        source.put_in_force(change.version).await;
        timeout(Duration::from_secs(3), adding).await.expect("in force in time").unwrap();
        source
    });
    let mut reset = false;
    while !feeding.is_finished() {
        sleep(Duration::from_millis(700)).await;
        reset |= next(&mut subscription).await == SubscriptionItem::Reset;
    }
    let _source = feeding.await.unwrap();
    while !reset {
        let next = timeout(Duration::from_secs(1), subscription.next()).await.expect("what was dropped is told");
        reset = next == SubscriptionItem::Reset;
    }
}

#[tokio::test(start_paused = true)]
async fn without_any_source_tries_are_paced() {
    let fake = Fake::new(2);
    fake.world().refuse_streams = true;
    let (_, watch) = watch_of(state(3, &[&[1, 2, 3]]));
    let (_interest, _subscription) = Router::new(fake.clone(), watch).subscribe(ShardId(0));
    sleep(Duration::from_secs(20)).await;
    let opens = fake.world().opens.clone();
    assert!((15..=60).contains(&opens.len()), "{} tries in 20 s", opens.len());
    let tried: std::collections::BTreeSet<_> = opens.iter().map(|(_, node)| *node).collect();
    assert_eq!(tried.len(), 3);
}

#[tokio::test(start_paused = true)]
async fn sources_that_end_at_once_are_not_opened_in_a_loop() {
    let (fake, _interest, _subscription) = subscribed();
    let until = Instant::now() + Duration::from_secs(20);
    while Instant::now() < until {
        drop(fake.source().await);
    }
    let opens = fake.world().opens.len();
    assert!((15..=60).contains(&opens), "{opens} streams in 20 s");
}

#[tokio::test(start_paused = true)]
async fn a_source_that_puts_nothing_in_force_is_given_up() {
    let (fake, interest, _subscription) = subscribed();
    let silent = fake.source().await;
    let adding = tokio::spawn(async move { interest.add(thread(1)).await });
    let mut second = fake.source().await;
    assert_ne!(second.node, silent.node);
    second.settle().await;
    done(adding).await;
}

#[tokio::test(start_paused = true)]
async fn a_source_that_lost_its_replica_is_left() {
    let fake = Fake::new(2);
    let (sender, watch) = watch_of(state(4, &[&[1, 2, 3]]));
    let (_interest, mut subscription) = Router::new(fake.clone(), watch).subscribe(ShardId(0));
    let mut source = fake.source().await;
    source.greet().await;
    sender.send_replace(state(4, &[&[1, 3, 4]]));
    let mut second = fake.source().await;
    assert!([1, 3, 4].contains(&second.node.0));
    assert!(source.changes.recv().await.is_none(), "the old stream is closed");
    second.greet().await;
    assert_eq!(next(&mut subscription).await, SubscriptionItem::Reset);
}

#[tokio::test(start_paused = true)]
async fn a_dropped_subscription_closes_its_stream_and_frees_who_waits() {
    let (fake, interest, subscription) = subscribed();
    let mut source = fake.source().await;
    let adding = tokio::spawn(async move { interest.add(thread(1)).await });
    while source.changes.recv().await.unwrap().add_threads.is_empty() {}
    drop(subscription);
    assert!(source.changes.recv().await.is_none());
    timeout(Duration::from_secs(1), adding).await.expect("nobody listens any more").unwrap();
}
