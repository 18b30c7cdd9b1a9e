//! What is told once: who types, and who is there.

use super::cluster::Cluster;
use super::device::Device;
use messenger_proto::command::{Op, RemoveParticipant};
use messenger_proto::ids::UserId;
use messenger_proto::model::Thread;
use messenger_proto::slot::Slot;
use serde_json::{Value, json};

async fn types(device: &mut Device, thread: &Thread, stop: bool) {
    device.say(&json!({"t": "typing", "thread_id": thread.id.to_string(), "stop": stop})).await;
}

/// Marks the end of what was told so far: whoever hears the message has heard what was before it.
async fn mark(device: &mut Device, thread: &Thread) {
    device.send(thread.id, "mark").await;
    device.expect("sent").await;
}

fn typings(frames: &[Value]) -> Vec<(String, u64)> {
    let typing = frames.iter().filter(|frame| frame["t"] == "typing");
    typing.map(|frame| (frame["user_id"].as_str().unwrap().to_owned(), frame["ttl_s"].as_u64().unwrap())).collect()
}

#[tokio::test]
async fn typing_is_shown_to_the_others_through_every_node_and_stops_at_once() {
    let cluster = Cluster::start(3).await;
    let thread = cluster.group("alice", &["bob", "carol"]).await;
    let mut alice = cluster.online(1, "alice", "phone").await;
    let mut tablet = cluster.online(2, "alice", "tablet").await;
    let mut others = [cluster.online(1, "bob", "phone").await, cluster.online(3, "carol", "phone").await];
    for _ in 0..5 {
        types(&mut alice, &thread, false).await;
    }
    for other in &mut others {
        let typing = other.expect("typing").await;
        assert_eq!((&typing["user_id"], &typing["ttl_s"]), (&json!("alice"), &json!(5)));
        assert_eq!(typing["thread_id"], json!(thread.id.to_string()));
    }
    for _ in 0..5 {
        types(&mut alice, &thread, true).await;
        types(&mut alice, &thread, false).await;
    }
    for other in &mut others {
        assert_eq!(other.expect("typing").await["ttl_s"], json!(0));
    }
    mark(&mut alice, &thread).await;
    for other in &mut others {
        assert_eq!(typings(&other.until("msg").await.1), [], "once an interval, and one stop for it");
    }
    assert_eq!(typings(&tablet.until("msg").await.1), [], "the user itself is not shown it");
}

#[tokio::test]
async fn typing_disturbs_no_order_and_takes_no_number() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let mut alice = cluster.online(1, "alice", "phone").await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    let resumes = cluster.shared.resumes.load(std::sync::atomic::Ordering::SeqCst);
    mark(&mut alice, &thread).await;
    types(&mut alice, &thread, false).await;
    bob.expect("typing").await;
    mark(&mut alice, &thread).await;
    assert_eq!(bob.expect("msg").await["seq"], json!(3));
    bob.ack().await;
    alice.expect("delivered").await;
    let asked = cluster.shared.resumes.load(std::sync::atomic::Ordering::SeqCst);
    assert_eq!(asked, resumes, "nothing had to be read again");
}

#[tokio::test]
async fn who_left_neither_types_nor_is_shown_it() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob", "carol"]).await;
    let mut alice = cluster.online(1, "alice", "phone").await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    let mut carol = cluster.online(1, "carol", "phone").await;
    let user = |name: &str| UserId::new(name).unwrap();
    let op = Op::RemoveParticipant(RemoveParticipant { thread: thread.id, actor: user("alice"), user: user("bob") });
    cluster.command(Slot::of_thread(thread.id), op).await.unwrap();
    bob.expect("thread").await;
    types(&mut bob, &thread, false).await;
    assert_eq!(bob.expect("error").await["code"], json!("not_a_member"));
    types(&mut alice, &thread, false).await;
    assert_eq!(carol.expect("typing").await["user_id"], json!("alice"));
    // Whatever bob was told would come before this.
    let other = cluster.group("alice", &["bob"]).await;
    alice.send(other.id, "mark").await;
    let (_, before) = bob.until("msg").await;
    assert_eq!(typings(&before), []);
}

#[tokio::test]
async fn a_device_that_asked_to_hear_less_is_shown_less() {
    let cluster = Cluster::start(1).await;
    let (heard, muted) = (cluster.group("alice", &["bob"]).await, cluster.group("alice", &["bob"]).await);
    let mut alice = cluster.online(1, "alice", "phone").await;
    let mut bob = cluster.online(1, "bob", "phone").await;
    bob.say(&json!({"t": "subscribe", "request_id": 1, "thread_ids": [heard.id.to_string()]})).await;
    bob.expect("subscribed").await;
    types(&mut alice, &muted, false).await;
    types(&mut alice, &heard, false).await;
    assert_eq!(bob.expect("typing").await["thread_id"], json!(heard.id.to_string()));
    // It may type where it listens to nothing.
    types(&mut bob, &muted, false).await;
    assert_eq!(alice.expect("typing").await["thread_id"], json!(muted.id.to_string()));
}
