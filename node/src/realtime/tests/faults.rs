//! Losses, interruptions and slow readers: nothing is missing in the end, and nothing is told twice.

use super::cluster::{Cluster, hasty};
use super::device::Device;
use crate::realtime::Tuning;
use crate::realtime::mailbox::MAILBOX_BYTES;
use crate::testing::shard_of;
use messenger_proto::ids::ThreadId;
use messenger_proto::limits::{GAP_TAIL, RESUME_EVENTS_MAX};
use messenger_proto::slot::Slot;
use serde_json::json;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Reads messages until one with `client_seq`, checking that every number from `from` on comes once and in order.
async fn all_up_to(device: &mut Device, from: u64, to: u64) {
    for number in from..=to {
        assert_eq!(device.expect("msg").await["client_seq"], json!(number));
    }
}

async fn say(cluster: &Cluster, thread: ThreadId, numbers: std::ops::RangeInclusive<u64>, size: usize) {
    for number in numbers {
        cluster.say(thread, "alice", number, size).await;
    }
}

/// Waits until something is so, 20 s at most.
async fn within<F: Future<Output = bool>>(so: impl Fn() -> F) {
    let wait = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), wait).await.expect("within 20 s");
}

#[tokio::test]
async fn what_a_stream_lost_comes_from_storage() {
    let cluster = Cluster::start(1).await;
    let thread = cluster.group("alice", &["bob"]).await.id;
    let mut bob = cluster.online(1, "bob", "phone").await;
    say(&cluster, thread, 1..=3, 10).await;
    all_up_to(&mut bob, 1, 3).await;

    // A hole is noticed by the event after it.
    cluster.deaf(true);
    say(&cluster, thread, 4..=6, 10).await;
    cluster.deaf(false);
    say(&cluster, thread, 7..=7, 10).await;
    all_up_to(&mut bob, 4, 7).await;

    // A loss at the end is noticed by the interruption.
    cluster.deaf(true);
    say(&cluster, thread, 8..=9, 10).await;
    cluster.deaf(false);
    cluster.cut_streams();
    all_up_to(&mut bob, 8, 9).await;
    say(&cluster, thread, 10..=10, 10).await;
    cluster.reset_streams();
    say(&cluster, thread, 11..=11, 10).await;
    all_up_to(&mut bob, 10, 11).await;
}

#[tokio::test]
async fn a_lost_change_of_the_index_is_noticed() {
    let cluster = Cluster::start(1).await;
    let mut bob = cluster.online(1, "bob", "phone").await;
    cluster.deaf(true);
    let thread = cluster.group("alice", &["bob"]).await.id;
    cluster.deaf(false);
    cluster.cut_streams();
    assert_eq!(bob.expect("thread").await["thread_id"], json!(thread.to_string()));
    say(&cluster, thread, 1..=1, 10).await;
    all_up_to(&mut bob, 1, 1).await;
}

#[tokio::test]
async fn live_events_that_overtake_storage_wait_for_it() {
    let cluster = Cluster::start(1).await;
    let thread = cluster.group("alice", &["bob"]).await.id;
    say(&cluster, thread, 1..=20, 10).await;
    cluster.storage(false);
    let mut bob = cluster.connect(1, "bob", "phone", "").await;
    while cluster.shared.resumes.load(Ordering::SeqCst) == 0 {
        tokio::task::yield_now().await;
    }
    say(&cluster, thread, 21..=40, 10).await;
    cluster.storage(true);
    all_up_to(&mut bob, 1, 40).await;
}

#[tokio::test]
async fn a_slow_reader_holds_bounded_memory_and_misses_nothing() {
    let cluster = Cluster::start(1).await;
    let thread = cluster.group("alice", &["bob"]).await.id;
    let mut bob = cluster.online(1, "bob", "phone").await;
    let asked = cluster.shared.resumes.load(Ordering::SeqCst);
    // Much more than the mailbox and the transport's buffers hold together.
    let (size, count) = (48 * 1024, 400);
    assert!(size * count > 16 * MAILBOX_BYTES);
    say(&cluster, thread, 1..=count as u64, size).await;
    all_up_to(&mut bob, 1, count as u64).await;
    assert!(cluster.shared.resumes.load(Ordering::SeqCst) > asked, "it went back to storage");
}

#[tokio::test]
async fn a_reader_that_stands_still_is_closed_with_4429() {
    let tuning = Tuning { stall: Duration::from_millis(300), close: Duration::from_secs(5), ..hasty() };
    let cluster = Cluster::start_with(1, tuning, 10).await;
    let thread = cluster.group("alice", &["bob"]).await.id;
    let mut bob = cluster.online(1, "bob", "phone").await;
    let mut carol = cluster.online(1, "carol", "phone").await;
    say(&cluster, thread, 1..=400, 48 * 1024).await;
    // Not a single byte is read until the node has given up on it.
    within(|| async { cluster.nodes[0].connections() <= 1 }).await;
    assert_eq!(bob.closed().await, Some(4429));
    // Whoever reads is not disturbed.
    cluster.group("alice", &["carol"]).await;
    carol.expect("thread").await;
}

/// The close frame queues behind all that the transport took before, and the node does not wait for ever.
#[tokio::test]
async fn a_reader_that_comes_back_after_the_close_was_given_up_finds_no_code() {
    let tuning = Tuning { stall: Duration::from_millis(300), close: Duration::from_millis(300), ..hasty() };
    let cluster = Cluster::start_with(1, tuning, 1).await;
    let thread = cluster.group("alice", &["bob"]).await.id;
    let mut bob = cluster.online(1, "bob", "phone").await;
    say(&cluster, thread, 1..=400, 48 * 1024).await;
    // The only place is free again: the node has let go of the connection.
    let token = cluster.token("carol", "phone");
    within(|| async { Device::open(cluster.addresses[0], &token, "").await.is_ok() }).await;
    // What came is whole and in order, and then it ends.
    assert_eq!(bob.closed().await, None);
}

#[tokio::test]
async fn a_shard_that_does_not_answer_holds_no_other_thread_back() {
    let cluster = Cluster::start(1).await;
    let one = cluster.group("alice", &["bob"]).await.id;
    let mut two = cluster.group("alice", &["bob"]).await.id;
    while shard_of(Slot::of_thread(two)) == shard_of(Slot::of_thread(one)) {
        two = cluster.group("alice", &["bob"]).await.id;
    }
    say(&cluster, one, 1..=3, 10).await;
    say(&cluster, two, 11..=13, 10).await;
    cluster.stuck(Some(shard_of(Slot::of_thread(one))));
    let mut bob = cluster.connect(1, "bob", "phone", "").await;
    let heard = tokio::time::timeout(Duration::from_secs(3), all_up_to(&mut bob, 11, 13)).await;
    heard.expect("within the time that the other shard is given");
    say(&cluster, two, 14..=14, 10).await;
    all_up_to(&mut bob, 14, 14).await;
    cluster.stuck(None);
    all_up_to(&mut bob, 1, 3).await;
    bob.caught_up().await;
}

#[tokio::test]
async fn a_send_that_waited_for_others_all_its_time_is_not_begun() {
    let tuning = Tuning { request: Duration::from_millis(300), ..hasty() };
    let cluster = Cluster::start_with(1, tuning, 10).await;
    let thread = cluster.group("alice", &["bob"]).await.id;
    let mut alice = cluster.online(1, "alice", "phone").await;
    cluster.shared.taking.send_replace(false);
    alice.send_together(thread, &["one", "two"]).await;
    let (first, second) = (alice.expect("error").await, alice.expect("error").await);
    assert_eq!((&first["request_id"], &first["code"]), (&json!("r1"), &json!("outcome_unknown")));
    assert_eq!((&second["request_id"], &second["code"]), (&json!("r2"), &json!("unavailable")));
}

#[tokio::test]
async fn a_long_absence_ends_in_a_gap_and_the_newest_thousand() {
    let cluster = Cluster::start(1).await;
    let thread = cluster.group("alice", &["bob"]).await.id;
    let mut bob = cluster.online(1, "bob", "phone").await;
    say(&cluster, thread, 1..=1, 10).await;
    all_up_to(&mut bob, 1, 1).await;
    bob.ack().await;
    drop(bob);
    within(|| async { cluster.nodes[0].connections() == 0 }).await;
    let last = 1 + RESUME_EVENTS_MAX + 500;
    say(&cluster, thread, 2..=last, 10).await;
    let mut bob = cluster.connect(1, "bob", "phone", "").await;
    let (gap, before) = bob.until("gap").await;
    assert!(before.iter().all(|frame| frame["t"] != "msg"), "{before:?}");
    assert_eq!(gap["thread_id"], json!(thread.to_string()));
    all_up_to(&mut bob, last - GAP_TAIL + 1, last).await;
    bob.caught_up().await;
    say(&cluster, thread, last + 1..=last + 1, 10).await;
    all_up_to(&mut bob, last + 1, last + 1).await;
}
