//! A device that was away catches up: nothing is missing, everything is in order, and then it hears live.

use futures_util::StreamExt;
use futures_util::stream;
use messenger_tests::cluster::Cluster;
use messenger_tests::device::{Device, ids, number, text, unique};
use messenger_tests::socket::Socket;
use messenger_tests::wait::eventually;
use serde_json::{Value, json};
use std::collections::BTreeSet;

async fn pair(cluster: &Cluster) -> (Device, Device, String) {
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let thread = hers.one_to_one(&bob).await;
    (hers, his, thread)
}

async fn send_many(device: &Device, thread: &str, count: usize) -> Vec<String> {
    let mut sent = Vec::new();
    for n in 0..count {
        sent.push(text(&device.send(thread, &format!("text {n}")).await, "id"));
    }
    sent
}

fn messages(frames: &[Value]) -> Vec<String> {
    ids(&frames.iter().filter(|frame| frame["t"] == "msg").cloned().collect::<Vec<_>>())
}

/// Acknowledges the frames up to one, closes, and waits until that is stored. Positions are stored lazily, since losing
/// one only replays: so until then the device may hear again what it took, but never less than what it did not.
async fn ack_and_close(device: &Device, mut socket: Socket, frames: &[Value], up_to: &Value) {
    socket.ack(up_to).await;
    socket.close().await;
    let place = |frame: &Value| Some((frame["thread_id"].as_str()?.to_owned(), frame["seq"].as_u64()?));
    let end = frames.iter().position(|frame| frame == up_to).map_or(frames.len(), |at| at + 1);
    let (taken, left) = frames.split_at(end);
    let places = |frames: &[Value]| frames.iter().filter_map(place).collect::<BTreeSet<_>>();
    let (taken, left) = (places(taken), places(left));
    eventually("the acknowledgement is stored", || async {
        let mut socket = device.connect().await;
        let again = places(&socket.catch_up().await);
        socket.close().await;
        assert!(again.is_superset(&left), "what was not acknowledged comes again");
        again.is_disjoint(&taken).then_some(())
    })
    .await;
}

#[tokio::test]
async fn what_was_missed_is_replayed_in_order_and_live_mode_follows() {
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let group = hers.group("second thread", &[&his.user]).await;
    let missed = send_many(&hers, &thread, 30).await;
    let missed_in_group = send_many(&hers, &group, 20).await;
    let mut socket = his.connect().await;
    let frames = socket.catch_up().await;
    assert_eq!(frames[0]["t"], "hello");
    let of = |wanted: &str| -> Vec<String> {
        let own = |frame: &&Value| frame["t"] == "msg" && frame["thread_id"] == wanted;
        ids(&frames.iter().filter(own).cloned().collect::<Vec<_>>())
    };
    assert_eq!((of(&thread), of(&group)), (missed, missed_in_group));
    let live = hers.send(&thread, "and now live").await;
    assert_eq!(socket.next_of("msg").await["id"], live["id"]);
}

#[tokio::test]
async fn what_was_not_acknowledged_comes_again_and_what_was_does_not() {
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let first = send_many(&hers, &thread, 5).await;
    let mut socket = his.connect().await;
    assert_eq!(messages(&socket.catch_up().await), first);
    socket.close().await;

    let mut socket = his.at(cluster.client_addr(3)).connect().await;
    let frames = socket.catch_up().await;
    assert_eq!(messages(&frames), first, "nothing was acknowledged");
    let third = frames.iter().find(|frame| frame["id"] == json!(first[2])).expect("it was replayed").clone();
    ack_and_close(&his, socket, &frames, &third).await;

    let mut socket = his.at(cluster.client_addr(1)).connect().await;
    let frames = socket.catch_up().await;
    assert_eq!(messages(&frames), first[3..], "only what follows the acknowledged frame");
    ack_and_close(&his, socket, &frames, frames.last().expect("caught_up is one")).await;

    let later = send_many(&hers, &thread, 2).await;
    let mut socket = his.connect().await;
    assert_eq!(messages(&socket.catch_up().await), later);
}

#[tokio::test]
async fn the_earlier_of_last_seen_and_acknowledged_counts() {
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let sent = send_many(&hers, &thread, 10).await;
    let mut socket = his.connect().await;
    let frames = socket.catch_up().await;
    let seventh = frames.iter().find(|frame| frame["id"] == json!(sent[6])).expect("it was replayed").clone();
    ack_and_close(&his, socket, &frames, &seventh).await;

    // The client lost some of what it had acknowledged: its own word is earlier.
    let mut socket = his.connect_from(Some(&sent[3])).await;
    assert_eq!(messages(&socket.catch_up().await), sent[4..]);
    socket.close().await;
    // It saw more than it acknowledged: the acknowledgement is earlier.
    let mut socket = his.connect_from(Some(&sent[8])).await;
    assert_eq!(messages(&socket.catch_up().await), sent[7..]);
}

#[tokio::test]
async fn a_new_device_starts_at_its_users_join() {
    let cluster = Cluster::shared();
    let (alice, bob, carol) = (unique("alice"), unique("bob"), unique("carol"));
    let hers = cluster.device(1, &alice, "phone");
    let thread = hers.group("growing", &[&bob]).await;
    let before = send_many(&hers, &thread, 3).await;
    let path = format!("/v1/threads/{thread}/participants");
    let _thread = hers.post(&path, &[], &json!({"user_ids": [carol]})).await.expect(200);
    let after = send_many(&hers, &thread, 3).await;

    let mut socket = cluster.device(3, &carol, "phone").connect().await;
    assert_eq!(messages(&socket.catch_up().await), after);
    let mut socket = cluster.device(2, &bob, "tablet").connect().await;
    assert_eq!(messages(&socket.catch_up().await), [before, after].concat());
}

#[tokio::test]
async fn receipts_are_replayed_as_state() {
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let mut her_socket = hers.connect().await;
    let frames = her_socket.catch_up().await;
    ack_and_close(&hers, her_socket, &frames, frames.last().expect("caught_up is one")).await;
    let sent = send_many(&hers, &thread, 4).await;
    for id in &sent {
        his.read(&thread, id).await;
    }
    let mut her_socket = hers.connect().await;
    let frames = her_socket.catch_up().await;
    let of = |kind: &str| frames.iter().filter(|frame| frame["t"] == kind).cloned().collect::<Vec<_>>();
    let (read, delivered) = (of("read"), of("delivered"));
    assert!(read.len() == 1 && delivered.len() <= 1, "at most one of a kind per member: {frames:?}");
    assert_eq!((text(&read[0], "by"), text(&read[0], "up_to")), (his.user.clone(), sent[3].clone()));
    assert_eq!(messages(&frames), sent);
}

#[tokio::test]
async fn membership_changes_are_replayed() {
    let cluster = Cluster::shared();
    let (alice, bob, carol) = (unique("alice"), unique("bob"), unique("carol"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let thread = hers.group("changing", &[&bob]).await;
    let mut socket = his.connect().await;
    let first = socket.catch_up().await;
    ack_and_close(&his, socket, &first, first.last().expect("caught_up is one")).await;

    let path = format!("/v1/threads/{thread}/participants");
    let _thread = hers.post(&path, &[], &json!({"user_ids": [carol]})).await.expect(200);
    let said = hers.send(&thread, "hello carol").await;
    let _nothing = hers.delete(&format!("{path}/{carol}")).await.expect(204);
    let mut socket = his.connect().await;
    let frames = socket.catch_up().await;
    let told: Vec<&Value> = frames.iter().filter(|frame| frame["thread_id"] == json!(thread)).collect();
    let kinds: Vec<&str> = told.iter().map(|frame| frame["op"].as_str().unwrap_or("msg")).collect();
    assert_eq!(kinds, ["participant_added", "msg", "participant_removed"], "{first:?} and then {frames:?}");
    assert_eq!(told[1]["id"], said["id"]);
}

/// The frames of a thread: what each says, and its number.
fn told_of(frames: &[Value], thread: &str) -> Vec<(String, u64)> {
    let own = frames.iter().filter(|frame| frame["thread_id"] == thread && frame["seq"].is_u64());
    own.map(|frame| (frame["op"].as_str().unwrap_or("msg").to_owned(), number(frame, "seq"))).collect()
}

#[tokio::test]
async fn a_device_that_was_away_hears_of_its_users_removal_once() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(1, &alice, "phone");
    let (phone, tablet) = (cluster.device(2, &bob, "phone"), cluster.device(3, &bob, "tablet"));
    let thread = hers.group("without bob", &[&bob]).await;
    let other = hers.group("with bob", &[&bob]).await;
    let mut socket = phone.connect().await;
    let frames = socket.catch_up().await;
    ack_and_close(&phone, socket, &frames, frames.last().expect("caught_up is one")).await;
    let mut online = tablet.connect().await;
    let first = online.catch_up().await;

    // The phone is away, the tablet is not.
    let missed = hers.send(&thread, "the last that bob sees").await;
    let path = format!("/v1/threads/{thread}");
    let _nothing = hers.delete(&format!("{path}/participants/{bob}")).await.expect(204);
    let hidden = hers.send(&thread, "not for bob").await;
    let mut live = vec![online.next_of("msg").await];
    live.push(online.next_where("thread", |frame| frame["op"] == "participant_removed").await);
    let seq = number(&missed, "seq");
    let expected = [("msg".to_owned(), seq), ("participant_removed".to_owned(), seq + 1)];
    assert_eq!(told_of(&live, &thread), expected);

    let mut socket = phone.connect().await;
    let frames = socket.catch_up().await;
    assert_eq!(told_of(&frames, &thread), expected, "{frames:?}");
    let removal = frames.iter().find(|frame| frame["op"] == "participant_removed").expect("it was told").clone();
    assert_eq!(removal["user_id"], bob);
    // Nothing comes after it, and what REST says does not change.
    phone.get(&path).await.expect_problem(403, "not_a_member");
    phone.get(&format!("{path}/messages")).await.expect_problem(403, "not_a_member");
    phone.get(&format!("/v1/messages/{}", text(&hidden, "id"))).await.expect_problem(403, "not_a_member");
    let listed = phone.get("/v1/threads").await.expect(200);
    assert_eq!(ids(listed["threads"].as_array().expect("threads are a list")), [other]);

    // It comes until it is taken, and then not again: not to the phone, nor to the tablet, which heard it live.
    ack_and_close(&phone, socket, &frames, frames.last().expect("caught_up is one")).await;
    let delivered = hers.recipients(&text(&missed, "id")).await;
    assert_eq!((&delivered[0]["recipient_id"], &delivered[0]["state"]), (&json!(bob), &json!("DELIVERED")));
    let all = [first, live].concat();
    ack_and_close(&tablet, online, &all, all.last().expect("it was told")).await;
    for device in [&phone, &tablet] {
        let mut socket = device.connect().await;
        assert_eq!(told_of(&socket.catch_up().await, &thread), []);
        socket.close().await;
    }
    let mut stranger = cluster.device(1, &bob, "laptop").connect().await;
    assert_eq!(told_of(&stranger.catch_up().await, &thread), [], "it never was in the thread");
}

#[tokio::test]
async fn a_user_that_left_and_came_back_hears_both() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let thread = hers.group("there and back", &[&bob]).await;
    let mut socket = his.connect().await;
    let frames = socket.catch_up().await;
    ack_and_close(&his, socket, &frames, frames.last().expect("caught_up is one")).await;

    let path = format!("/v1/threads/{thread}/participants");
    // By another of his devices.
    let laptop = cluster.device(3, &bob, "laptop");
    let _nothing = laptop.delete(&format!("{path}/{bob}")).await.expect(204);
    let left = told_of(&his.connect().await.catch_up().await, &thread);
    assert_eq!(left.iter().map(|(op, _)| op.as_str()).collect::<Vec<_>>(), ["participant_removed"]);

    // It had not taken that when it came back.
    hers.send(&thread, "between the stays").await;
    let _thread = hers.post(&path, &[], &json!({"user_ids": [bob]})).await.expect(200);
    let said = hers.send(&thread, "welcome back").await;
    let mut socket = his.connect().await;
    let frames = socket.catch_up().await;
    let ops: Vec<_> = told_of(&frames, &thread).into_iter().map(|(op, _)| op).collect();
    assert_eq!(ops, ["participant_removed", "participant_added", "msg"]);
    assert_eq!(messages(&frames), [text(&said, "id")]);
    let live = hers.send(&thread, "and now live").await;
    assert_eq!(socket.next_of("msg").await["id"], live["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn too_long_an_absence_is_a_gap_that_history_fills() {
    const MISSED: usize = 10_050;
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let mut socket = his.connect().await;
    let first = hers.send(&thread, "before the absence").await;
    let heard = socket.next_of("msg").await;
    ack_and_close(&his, socket, std::slice::from_ref(&heard), &heard).await;

    let (hers, thread) = (&hers, thread.as_str());
    stream::iter(0..MISSED).for_each_concurrent(64, |_| async { drop(hers.send(thread, "missed").await) }).await;
    let mut socket = his.connect().await;
    let frames = socket.catch_up().await;
    let gap = frames.iter().find(|frame| frame["t"] == "gap").expect("so many are not replayed one by one").clone();
    assert_eq!(gap["thread_id"], thread);
    assert_eq!(gap["after_id"], first["id"]);
    assert_eq!(gap["after_seq"], first["seq"]);
    let replayed = messages(&frames);
    assert_eq!(replayed.len(), 1_000);
    assert_eq!(replayed.first(), gap["before_id"].as_str().map(str::to_owned).as_ref());

    // What the gap stands for is in the history, and both together are everything.
    let mut all = Vec::new();
    let mut query = format!("changed_since={}&page_size=100", gap["after_seq"]);
    while all.last() != replayed.first() {
        let page = his.get(&format!("/v1/threads/{thread}/messages?{query}")).await.expect(200);
        for id in ids(page["messages"].as_array().expect("messages are a list")) {
            all.push(id);
            if all.last() == replayed.first() {
                break;
            }
        }
        query = format!("page_size=100&cursor={}", page["next_cursor"].as_str().unwrap_or("the list ended too early"));
    }
    all.extend(replayed.into_iter().skip(1));
    assert_eq!(all.len(), MISSED);
    assert!(all.is_sorted_by(|a, b| a < b));

    ack_and_close(&his, socket, &frames, frames.last().expect("caught_up is one")).await;
    let mut socket = his.connect().await;
    assert!(messages(&socket.catch_up().await).is_empty(), "acknowledging the gap took what it covers");
}
