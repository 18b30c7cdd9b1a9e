//! What is told once: who types, and who is there.

use super::cluster::Cluster;
use super::device::Device;
use crate::realtime::presence::book::GRACE;
use messenger_proto::command::{Op, RemoveParticipant, SetPrivacy};
use messenger_proto::ephemeral::{Ephemeral, PrivacyChange};
use messenger_proto::ids::UserId;
use messenger_proto::model::{PresenceAudience, Thread};
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

/// What a device is told of others' presence, frame by frame.
async fn presence(device: &mut Device) -> (String, String, bool) {
    let frame = device.expect("presence").await;
    let text = |member: &str| frame[member].as_str().unwrap_or_default().to_owned();
    (text("user_id"), text("status"), frame["last_seen"].is_string())
}

fn shown(user: &str, status: &str) -> (String, String, bool) {
    (user.to_owned(), status.to_owned(), status == "offline")
}

async fn looks(device: &mut Device, status: &str) {
    device.say(&json!({"t": "presence", "status": status})).await;
}

#[tokio::test]
async fn those_who_share_a_thread_are_told_once_each_how_a_user_is() {
    let cluster = Cluster::start(3).await;
    let thread = cluster.group("alice", &["bob"]).await;
    cluster.group("bob", &["alice", "carol"]).await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    let mut carol = cluster.online(2, "carol", "phone").await;
    assert_eq!(presence(&mut bob).await, shown("carol", "online"));
    assert_eq!(presence(&mut carol).await, shown("bob", "online"), "by then it was there");
    let mut eve = cluster.online(1, "eve", "phone").await;
    let mut alice = cluster.online(3, "alice", "phone").await;
    assert_eq!(presence(&mut bob).await, shown("alice", "online"));
    assert_eq!(presence(&mut carol).await, shown("alice", "online"));
    let mut told = vec![presence(&mut alice).await, presence(&mut alice).await];
    told.sort();
    assert_eq!(told, [shown("bob", "online"), shown("carol", "online")]);
    // A second device looks while the first does not.
    let mut tablet = cluster.online(1, "alice", "tablet").await;
    looks(&mut alice, "away").await;
    looks(&mut tablet, "away").await;
    assert_eq!(presence(&mut bob).await, shown("alice", "away"));
    looks(&mut tablet, "online").await;
    assert_eq!(presence(&mut bob).await, shown("alice", "online"));
    mark(&mut alice, &thread).await;
    let (_, before) = bob.until("msg").await;
    assert!(before.iter().all(|frame| frame["t"] != "presence"), "each change once: {before:?}");
    let own = cluster.group("eve", &[]).await;
    eve.send(own.id, "mark").await;
    let (_, before) = eve.until("msg").await;
    assert!(before.iter().all(|frame| frame["t"] != "presence"), "who shares no thread hears nothing: {before:?}");
}

#[tokio::test]
async fn one_that_comes_back_in_time_never_went() {
    let cluster = Cluster::start(2).await;
    cluster.group("alice", &["bob"]).await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    let mut alice = cluster.online(1, "alice", "phone").await;
    assert_eq!(presence(&mut bob).await, shown("alice", "online"));
    alice.socket.close(None).await.unwrap();
    alice.closed().await;
    let alice = cluster.online(2, "alice", "phone").await;
    let began = std::time::Instant::now();
    drop(alice);
    let (frame, _) = bob.until_within("presence", GRACE * 2).await;
    assert_eq!((&frame["user_id"], &frame["status"]), (&json!("alice"), &json!("offline")), "nothing before that");
    assert!(frame["last_seen"].is_string());
    assert!(began.elapsed() + std::time::Duration::from_millis(500) >= GRACE, "{:?}", began.elapsed());
}

#[tokio::test]
async fn a_new_leader_tells_who_went_with_the_old_one_and_nothing_else() {
    let cluster = Cluster::start(2).await;
    cluster.group("alice", &["bob", "carol"]).await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    let carol = cluster.online(1, "carol", "phone").await;
    let mut alice = cluster.online(1, "alice", "phone").await;
    let mut told = vec![presence(&mut bob).await, presence(&mut bob).await];
    told.sort();
    assert_eq!(told, [shown("alice", "online"), shown("carol", "online")]);
    // Nobody tells the old leader, nor the new one: she is gone with her node, as far as the cluster can see.
    cluster.forget("carol");
    cluster.lead_elsewhere();
    let (frame, _) = bob.until_within("presence", GRACE * 2).await;
    assert_eq!((&frame["user_id"], &frame["status"]), (&json!("carol"), &json!("offline")));
    looks(&mut alice, "away").await;
    assert_eq!(presence(&mut bob).await, shown("alice", "away"), "she never went");
    drop(carol);
}

async fn privacy(cluster: &Cluster, name: &str, presence: PresenceAudience) {
    let user = UserId::new(name).unwrap();
    let op = Op::SetPrivacy(SetPrivacy { user: user.clone(), presence });
    cluster.command(Slot::of_user(&user), op).await.unwrap();
    cluster.nodes[0].tell(&Ephemeral::Privacy(PrivacyChange { user }));
}

#[tokio::test]
async fn who_hides_is_shown_to_nobody_and_is_shown_nobody() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob", "carol"]).await;
    let mut alice = cluster.online(1, "alice", "phone").await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    assert_eq!(presence(&mut alice).await, shown("bob", "online"));
    assert_eq!(presence(&mut bob).await, shown("alice", "online"));
    privacy(&cluster, "alice", PresenceAudience::Nobody).await;
    let taken_back = bob.expect("presence").await;
    assert_eq!((&taken_back["user_id"], &taken_back["status"]), (&json!("alice"), &json!("offline")));
    assert_eq!(taken_back["last_seen"], Value::Null, "which would tell when it hid");
    // Neither she nor carol, who comes after that, is told of the other; bob is told of carol alone.
    let mut carol = cluster.online(1, "carol", "phone").await;
    assert_eq!(presence(&mut bob).await, shown("carol", "online"));
    assert_eq!(presence(&mut carol).await, shown("bob", "online"));
    looks(&mut alice, "away").await;
    types(&mut alice, &thread, false).await;
    assert_eq!(carol.expect("typing").await["user_id"], json!("alice"), "typing is another matter");
    mark(&mut bob, &thread).await;
    let (_, before) = carol.until("msg").await;
    assert!(before.iter().all(|frame| frame["t"] != "presence"), "{before:?}");
    let (_, before) = alice.until("msg").await;
    assert!(before.iter().all(|frame| frame["t"] != "presence"), "{before:?}");
    privacy(&cluster, "alice", PresenceAudience::Everyone).await;
    assert_eq!(presence(&mut carol).await, shown("alice", "away"));
    let mut told = vec![presence(&mut alice).await, presence(&mut alice).await];
    told.sort();
    assert_eq!(told, [shown("bob", "online"), shown("carol", "online")]);
}
