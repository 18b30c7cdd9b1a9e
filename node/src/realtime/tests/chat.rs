//! What devices rely on while nothing breaks.

use super::cluster::Cluster;
use super::device::Device;
use messenger_proto::command::{AddParticipants, MarkRead, Op, RemoveParticipant, UpdateThread};
use messenger_proto::ids::UserId;
use messenger_proto::model::{DeliveryState, TextChange};
use messenger_proto::slot::Slot;
use serde_json::{Value, json};
use std::time::Duration;

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn seqs(frames: &[Value]) -> Vec<u64> {
    frames.iter().filter_map(|frame| frame["seq"].as_u64()).collect()
}

#[tokio::test]
async fn two_devices_chat_through_two_nodes() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let mut alice = cluster.online(1, "alice", "phone").await;
    let mut tablet = cluster.online(2, "alice", "tablet").await;
    let mut bob = cluster.online(2, "bob", "phone").await;

    alice.send(thread.id, "hello").await;
    let (sent, before) = alice.until("sent").await;
    assert_eq!((&sent["request_id"], &sent["client_seq"]), (&json!("r1"), &json!(1)));
    assert_eq!(sent["receipts"], json!({"of": 1, "delivered": 0, "read": 0}));
    assert_eq!(sent.get("replayed"), None);
    // Every device gets it, the sending one included, in whichever order.
    let own = match before.into_iter().find(|frame| frame["t"] == "msg") {
        Some(own) => own,
        None => alice.expect("msg").await,
    };
    let (theirs, other) = (bob.expect("msg").await, tablet.expect("msg").await);
    for msg in [&own, &theirs, &other] {
        assert_eq!((&msg["id"], &msg["ciphertext"]), (&sent["id"], &json!("aGVsbG8=")));
        assert_eq!((&msg["sender_id"], &msg["sender_device_id"]), (&json!("alice"), &json!("phone")));
    }
    assert_eq!(own["receipts"], json!({"of": 1, "delivered": 0, "read": 0}));
    assert_eq!(theirs.get("receipts"), None, "receipts are the sender's");

    // Taking it is what delivers it.
    bob.ack().await;
    let delivered = alice.expect("delivered").await;
    assert_eq!((&delivered["id"], &delivered["by"]), (&sent["id"], &json!("bob")));
    assert_eq!(delivered["thread_id"], json!(thread.id.to_string()));
    tablet.expect("delivered").await;

    bob.say(&json!({"t": "read", "thread_id": thread.id.to_string(), "up_to": sent["id"]})).await;
    let read = alice.expect("read").await;
    assert_eq!((&read["up_to"], &read["by"]), (&sent["id"], &json!("bob")));
    bob.send(thread.id, "hi").await;
    let (_, before) = bob.until("msg").await;
    assert!(before.iter().all(|frame| frame["t"] != "read" && frame["t"] != "delivered"), "one's own receipts");
}

#[tokio::test]
async fn pipelined_sends_commit_in_frame_order() {
    let cluster = Cluster::start(1).await;
    let (one, two) = (cluster.group("alice", &["bob"]).await, cluster.group("alice", &["bob"]).await);
    let (mut alice, mut bob) = (cluster.online(1, "alice", "d").await, cluster.online(1, "bob", "d").await);
    for n in 0..200 {
        alice.send(if n % 2 == 0 { one.id } else { two.id }, &n.to_string()).await;
    }
    let mut last = [0; 2];
    for _ in 0..200 {
        let msg = bob.expect("msg").await;
        let thread = usize::from(msg["thread_id"] != json!(one.id.to_string()));
        let number = msg["client_seq"].as_u64().unwrap();
        assert!(number > last[thread], "{number} after {}", last[thread]);
        last[thread] = number;
    }
    assert_eq!(last, [199, 200]);
}

#[tokio::test]
async fn a_repeated_send_is_the_same_message() {
    let cluster = Cluster::start(1).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let mut alice = cluster.online(1, "alice", "d").await;
    let frame = |text: &str, id: &str| {
        json!({
            "t": "send", "request_id": id, "thread_id": thread.id.to_string(), "client_seq": 5, "ciphertext": text,
            "idempotency_key": id,
        })
    };
    alice.say(&frame("aGk=", "a")).await;
    let first = alice.expect("sent").await;
    alice.say(&frame("aGk=", "a")).await;
    let again = alice.expect("sent").await;
    assert_eq!((&again["id"], &again["replayed"]), (&first["id"], &json!(true)));
    alice.say(&frame("aGk=", "b")).await;
    let again = alice.expect("sent").await;
    assert_eq!((&again["id"], &again["replayed"]), (&first["id"], &json!(true)));
    alice.say(&frame("aGo=", "c")).await;
    let error = alice.expect("error").await;
    assert_eq!(
        (&error["code"], &error["status"], &error["request_id"]),
        (&json!("duplicate_client_seq"), &json!(409), &json!("c"))
    );
    assert_eq!(error["id"], first["id"]);
    alice.say(&frame("aGo=", "a")).await;
    assert_eq!(alice.expect("error").await["code"], "idempotency_key_reused");
}

#[tokio::test]
async fn a_device_resumes_where_it_acknowledged() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let mut bob = cluster.connect(1, "bob", "phone", "").await;
    let replayed = bob.caught_up().await;
    assert_eq!((&replayed[0]["t"], &replayed[0]["op"]), (&json!("thread"), &json!("created")));
    assert_eq!(replayed[0]["thread"]["id"], json!(thread.id.to_string()));
    let first = cluster.say(thread.id, "alice", 1, 10).await;
    bob.expect("msg").await;
    bob.ack().await;
    // The acknowledgement is written when its receipt is.
    let mut alice = cluster.online(1, "alice", "phone").await;
    while cluster.receipts(&first).await.0 == 0 {
        alice.expect("delivered").await;
    }
    drop(bob);

    let (second, third) = (cluster.say(thread.id, "alice", 2, 10).await, cluster.say(thread.id, "alice", 3, 10).await);
    let mut bob = cluster.connect(2, "bob", "phone", "").await;
    let replayed = bob.caught_up().await;
    assert_eq!(seqs(&replayed), [second.seq.0, third.seq.0]);
    assert_eq!(cluster.receipts(&second).await, (0, 0), "nothing is delivered that was not acknowledged");
    drop(bob);
    // Nothing was acknowledged: it all comes again, also when the device says it has seen it.
    let mut bob = cluster.connect(1, "bob", "phone", &format!("?last_seen_id={}", third.id)).await;
    assert_eq!(seqs(&bob.caught_up().await), [second.seq.0, third.seq.0]);
    // And from an earlier place when the device names one.
    bob.ack().await;
    while cluster.receipts(&third).await.0 == 0 {
        alice.expect("delivered").await;
    }
    drop(bob);
    let mut bob = cluster.connect(1, "bob", "phone", &format!("?device_id=phone&last_seen_id={}", second.id)).await;
    assert_eq!(seqs(&bob.caught_up().await), [third.seq.0]);
    // A device that was never here begins at its user's join.
    let mut other = cluster.connect(2, "bob", "tablet", "").await;
    assert_eq!(seqs(&other.caught_up().await), [1, 2, 3, 4]);
}

#[tokio::test]
async fn receipts_are_replayed_as_state() {
    let cluster = Cluster::start(1).await;
    let thread = cluster.group("alice", &["bob", "carol"]).await;
    let mut last = None;
    for n in 1..=5 {
        let message = cluster.say(thread.id, "alice", n, 10).await;
        let op = Op::MarkRead(MarkRead { thread: thread.id, user: user("bob"), up_to: message.id });
        cluster.command(Slot::of_thread(thread.id), op).await.unwrap();
        last = Some(message);
    }
    let mut alice = cluster.connect(1, "alice", "phone", "").await;
    let replayed = alice.caught_up().await;
    let reads: Vec<&Value> = replayed.iter().filter(|frame| frame["t"] == "read").collect();
    assert_eq!(reads.len(), 1, "the latest only");
    assert_eq!(reads[0]["up_to"], json!(last.unwrap().id.to_string()));
    let messages: Vec<&Value> = replayed.iter().filter(|frame| frame["t"] == "msg").collect();
    assert_eq!(messages[0]["receipts"], json!({"of": 2, "delivered": 1, "read": 1}));
}

#[tokio::test]
async fn joining_and_leaving_show_at_once() {
    let cluster = Cluster::start(2).await;
    let mut carol = cluster.online(2, "carol", "phone").await;
    let mut bob = cluster.online(1, "bob", "phone").await;
    let thread = cluster.group("alice", &["bob"]).await;
    let slot = Slot::of_thread(thread.id);
    let created = bob.expect("thread").await;
    assert_eq!((&created["op"], &created["seq"], &created["by"]), (&json!("created"), &json!(1), &json!("alice")));
    cluster.say(thread.id, "alice", 1, 10).await;
    bob.expect("msg").await;

    let add = AddParticipants { thread: thread.id, actor: user("alice"), users: vec![user("carol")] };
    cluster.command(slot, Op::AddParticipants(add)).await.unwrap();
    let added = carol.expect("thread").await;
    assert_eq!((&added["op"], &added["participant"]["user_id"]), (&json!("participant_added"), &json!("carol")));
    bob.expect("thread").await;
    let heard = cluster.say(thread.id, "alice", 2, 10).await;
    assert_eq!(carol.expect("msg").await["id"], json!(heard.id.to_string()), "nothing from before the join");

    let remove = RemoveParticipant { thread: thread.id, actor: user("alice"), user: user("carol") };
    cluster.command(slot, Op::RemoveParticipant(remove)).await.unwrap();
    let removed = carol.expect("thread").await;
    assert_eq!((&removed["op"], &removed["user_id"]), (&json!("participant_removed"), &json!("carol")));
    cluster.say(thread.id, "alice", 3, 10).await;
    bob.expect("thread").await;
    // She hears nothing of it: the next thing she hears is what comes after she is back.
    let add = AddParticipants { thread: thread.id, actor: user("alice"), users: vec![user("carol")] };
    cluster.command(slot, Op::AddParticipants(add)).await.unwrap();
    assert_eq!(carol.next().await["op"], "participant_added");
    let last = cluster.say(thread.id, "bob", 4, 10).await;
    assert_eq!(carol.next().await["id"], json!(last.id.to_string()));
}

#[tokio::test]
async fn a_newer_connection_of_a_device_replaces_the_older() {
    let cluster = Cluster::start(2).await;
    let mut old = cluster.online(1, "alice", "phone").await;
    let mut other = cluster.online(1, "alice", "tablet").await;
    let mut new = cluster.online(2, "alice", "phone").await;
    let closed = tokio::time::timeout(Duration::from_secs(2), old.closed()).await.unwrap();
    assert_eq!(closed, Some(4409));
    let newest = cluster.online(2, "alice", "phone").await;
    assert_eq!(new.closed().await, Some(4409));
    let thread = cluster.group("alice", &["bob"]).await;
    other.expect("thread").await;
    drop((newest, thread));
}

#[tokio::test]
async fn a_device_hears_what_it_subscribed_to() {
    let cluster = Cluster::start(1).await;
    let (one, two) = (cluster.group("alice", &["bob"]).await, cluster.group("alice", &["bob"]).await);
    let mut bob = cluster.online(1, "bob", "phone").await;
    bob.say(&json!({"t": "subscribe", "request_id": 7, "thread_ids": [one.id.to_string()]})).await;
    let subscribed = bob.expect("subscribed").await;
    assert_eq!(subscribed["thread_ids"], json!([one.id.to_string()]));
    assert_eq!(subscribed["request_id"], 7);
    let unheard = cluster.say(two.id, "alice", 1, 10).await;
    let heard = cluster.say(one.id, "alice", 1, 10).await;
    assert_eq!(bob.next().await["id"], json!(heard.id.to_string()));
    // Widening brings what was not heard meanwhile.
    bob.say(&json!({"t": "subscribe", "thread_ids": [one.id.to_string(), two.id.to_string()]})).await;
    bob.expect("subscribed").await;
    assert_eq!(bob.next().await["id"], json!(unheard.id.to_string()));
}

#[tokio::test]
async fn what_came_by_another_way_can_be_reported_delivered() {
    let cluster = Cluster::start(1).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let message = cluster.say(thread.id, "alice", 1, 10).await;
    let mut alice = cluster.online(1, "alice", "phone").await;
    let mut bob = cluster.online(1, "bob", "phone").await;
    let frame =
        |thread: String, id: String| json!({"t": "delivered", "request_id": "x", "thread_id": thread, "up_to": id});
    let other = cluster.group("alice", &["bob"]).await;
    bob.say(&frame(other.id.to_string(), message.id.to_string())).await;
    assert_eq!(bob.expect("error").await["code"], "not_found");
    bob.say(&frame(thread.id.to_string(), message.id.to_string())).await;
    assert_eq!(alice.expect("delivered").await["id"], json!(message.id.to_string()));
    let states: Vec<_> = cluster.recipients(&message).await.into_iter().map(|row| row.state).collect();
    assert_eq!(states, [DeliveryState::Delivered]);
}

#[tokio::test]
async fn reads_in_a_large_thread_are_told_once_a_second() {
    let cluster = Cluster::start(1).await;
    let names: Vec<String> = (0..40).map(|n| format!("u{n}")).collect();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    let thread = cluster.group("alice", &names).await;
    let mut messages = Vec::new();
    for n in 1..=6 {
        messages.push(cluster.say(thread.id, "alice", n, 10).await);
    }
    let mut alice = cluster.online(1, "alice", "phone").await;
    for message in &messages {
        let op = Op::MarkRead(MarkRead { thread: thread.id, user: user("u3"), up_to: message.id });
        cluster.command(Slot::of_thread(thread.id), op).await.unwrap();
    }
    let read = alice.expect("read").await;
    assert_eq!(read["up_to"], json!(messages[5].id.to_string()), "the latest stands for all");
    let end = cluster.say(thread.id, "alice", 7, 10).await;
    let (msg, before) = alice.until("msg").await;
    assert_eq!(msg["id"], json!(end.id.to_string()));
    assert!(before.is_empty(), "{before:?}");
}

#[tokio::test]
async fn acknowledgements_of_many_devices_travel_together() {
    let cluster = Cluster::start(1).await;
    let names: Vec<String> = (0..30).map(|n| format!("u{n}")).collect();
    let others: Vec<&str> = names.iter().map(String::as_str).collect();
    let thread = cluster.group("alice", &others).await;
    let mut devices: Vec<Device> = Vec::new();
    for name in &names {
        devices.push(cluster.online(1, name, "phone").await);
    }
    let before = cluster.acknowledgements();
    let message = cluster.say(thread.id, "alice", 1, 10).await;
    for device in &mut devices {
        device.expect("msg").await;
        device.ack().await;
    }
    let mut alice = cluster.online(1, "alice", "phone").await;
    while cluster.receipts(&message).await.0 < 30 {
        alice.expect("delivered").await;
    }
    let commands = cluster.acknowledgements() - before;
    assert!((1..=10).contains(&commands), "{commands} commands for thirty devices");
}

#[tokio::test]
async fn a_new_title_is_told_and_replayed_alike() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    let title = Some(TextChange { to: Some("new".into()) });
    let (slot, actor) = (Slot::of_thread(thread.id), user("alice"));
    let update = UpdateThread { thread: thread.id, actor, title, description: None };
    cluster.command(slot, Op::UpdateThread(update)).await.unwrap();
    let live = bob.expect("thread").await;
    assert_eq!((&live["op"], &live["seq"], &live["by"]), (&json!("updated"), &json!(2), &json!("alice")));
    assert_eq!((&live["title"], live.get("description")), (&json!("new"), None));
    let missed = cluster.connect(1, "bob", "tablet", "").await.caught_up().await;
    let mut replayed = missed.into_iter().find(|frame| frame["op"] == "updated").unwrap();
    replayed["frame_seq"] = live["frame_seq"].clone();
    assert_eq!(replayed, live);
}
