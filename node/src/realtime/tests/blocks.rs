//! Keeping others away: what is shown live and what is replayed, and who is shown whose typing and presence.

use super::cluster::Cluster;
use super::device::Device;
use messenger_proto::command::{Command, Op, Retention, SendMessage, SetBlock};
use messenger_proto::ephemeral::{BlockChange, Ephemeral, Presence, PresenceChange, PresenceStatus, Typing};
use messenger_proto::ids::{ClientSeq, DeviceId, Term, ThreadId, UserId};
use messenger_proto::model::{ContentType, DeliveryState, Message, Thread};
use messenger_proto::query::{Answer, BlocksQuery, Query};
use messenger_proto::slot::Slot;
use serde_json::{Value, json};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

/// What the gateway does.
async fn block(cluster: &Cluster, name: &str, other: &str, present: bool) {
    let (user, other) = (user(name), user(other));
    let op = Op::SetBlock(SetBlock { user: user.clone(), other: other.clone(), present });
    cluster.command(Slot::of_user(&user), op).await.unwrap();
    let version = version(cluster, name).await;
    cluster.nodes[0].tell(&Ephemeral::Block(BlockChange { user, other, parted: present, version }));
}

async fn version(cluster: &Cluster, name: &str) -> u64 {
    let query = Query::Blocks(BlocksQuery { user: user(name) });
    match cluster.query(Slot::of_user(&user(name)), query).await {
        Ok(Answer::Blocks(list)) => list.version,
        other => panic!("{other:?}"),
    }
}

/// Sends under a key, again if need be.
async fn keyed(cluster: &Cluster, thread: ThreadId, sender: &str, key: u8) {
    let op = Op::SendMessage(SendMessage {
        thread,
        sender: user(sender),
        device: DeviceId::new("rest").unwrap(),
        client_seq: ClientSeq(500),
        ciphertext: vec![7; 3].into(),
        content_type: ContentType::Text,
        attachments: Vec::new(),
        reply_to: None,
        ttl_s: None,
        envelopes: None,
    });
    let id = messenger_proto::ids::CommandId([key; 16]);
    cluster.command_as(Command { id, retention: Retention::Keyed, body_hash: 9, op }, Slot::of_thread(thread)).await;
}

async fn states(cluster: &Cluster, message: &Message) -> Vec<(String, DeliveryState)> {
    let recipients = cluster.recipients(message).await;
    recipients.into_iter().map(|one| (one.user.to_string(), one.state)).collect()
}

fn ids(frames: &[Value]) -> Vec<&str> {
    frames.iter().filter(|frame| frame["t"] == "msg").map(|frame| frame["id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn a_message_of_one_who_is_kept_away_is_a_hole_live_and_on_resume() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob", "carol"]).await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    let before = cluster.say(thread.id, "alice", 1, 3).await;
    assert_eq!(bob.expect("msg").await["id"], json!(before.id.to_string()));
    bob.ack().await;
    block(&cluster, "bob", "alice", true).await;
    let hidden = cluster.say(thread.id, "alice", 2, 3).await;
    let resumes = cluster.shared.resumes.load(std::sync::atomic::Ordering::SeqCst);
    let seen = cluster.say(thread.id, "carol", 1, 3).await;
    let (frame, between) = bob.until("msg").await;
    assert_eq!((&frame["id"], ids(&between)), (&json!(seen.id.to_string()), vec![]));
    assert_eq!(cluster.shared.resumes.load(std::sync::atomic::Ordering::SeqCst), resumes, "no gap, just a hole");
    bob.ack().await;
    let mut tablet = cluster.connect(1, "bob", "tablet", "").await;
    let replayed = tablet.caught_up().await;
    assert_eq!(ids(&replayed), [before.id.to_string(), seen.id.to_string()]);
    tablet.ack().await;
    let mut carol = cluster.connect(1, "carol", "phone", "").await;
    assert_eq!(ids(&carol.caught_up().await).len(), 3);
    let bobs = states(&cluster, &hidden).await.into_iter().find(|(name, _)| name == "bob").unwrap();
    assert_eq!(bobs.1, DeliveryState::Failed);
}

#[tokio::test]
async fn one_sent_again_comes_to_those_it_failed_for_and_is_theirs_once_they_took_it() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob", "carol"]).await;
    block(&cluster, "bob", "alice", true).await;
    keyed(&cluster, thread.id, "alice", 1).await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    let mut carol = cluster.online(1, "carol", "phone").await;
    carol.ack().await;
    block(&cluster, "bob", "alice", false).await;
    keyed(&cluster, thread.id, "alice", 2).await;
    let again = bob.expect("msg").await;
    assert_eq!((&again["seq"], &again["sender_id"]), (&json!(2), &json!("alice")));
    let mark = cluster.say(thread.id, "alice", 9, 3).await;
    let (_, between) = carol.until("msg").await;
    assert!(ids(&between).is_empty(), "{between:?}");
    let mut alice = cluster.online(1, "alice", "rest").await;
    bob.ack().await;
    let told = loop {
        let told = alice.expect("delivered").await;
        if told["by"] == json!("bob") {
            break told;
        }
    };
    assert_eq!(told["id"], again["id"]);
    let sent = Message { id: again["id"].as_str().unwrap().parse().unwrap(), ..mark };
    let bobs = states(&cluster, &sent).await.into_iter().find(|(name, _)| name == "bob").unwrap();
    assert_eq!(bobs.1, DeliveryState::Delivered);
    // Another device of bob's finds it in its place, and again where it came.
    let mut tablet = cluster.connect(1, "bob", "tablet", "").await;
    let replayed = tablet.caught_up().await;
    assert_eq!(ids(&replayed)[..2], [sent.id.to_string(), sent.id.to_string()]);
}

async fn types(device: &mut Device, thread: &Thread) {
    device.say(&json!({"t": "typing", "thread_id": thread.id.to_string()})).await;
}

fn of_kind(frames: &[Value], kind: &str) -> Vec<(String, String)> {
    let told = frames.iter().filter(|frame| frame["t"] == kind);
    told.map(|frame| (frame["user_id"].as_str().unwrap().to_owned(), frame["status"].to_string())).collect()
}

async fn presence(device: &mut Device) -> (String, String) {
    let frame = device.expect("presence").await;
    (frame["user_id"].as_str().unwrap().to_owned(), frame["status"].as_str().unwrap().to_owned())
}

fn shown(user: &str, status: &str) -> (String, String) {
    (user.to_owned(), status.to_owned())
}

#[tokio::test]
async fn typing_and_presence_stop_both_ways_and_come_back() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob", "carol"]).await;
    let mut alice = cluster.online(1, "alice", "phone").await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    assert_eq!(presence(&mut alice).await, shown("bob", "online"));
    assert_eq!(presence(&mut bob).await, shown("alice", "online"));
    block(&cluster, "alice", "bob", true).await;
    assert_eq!(presence(&mut alice).await, shown("bob", "offline"));
    assert_eq!(presence(&mut bob).await, shown("alice", "offline"));
    // Carol is shown both, and both are shown her: she comes after all that.
    let mut carol = cluster.online(1, "carol", "phone").await;
    let mut told = vec![presence(&mut carol).await, presence(&mut carol).await];
    told.sort();
    assert_eq!(told, [shown("alice", "online"), shown("bob", "online")]);
    assert_eq!(presence(&mut alice).await, shown("carol", "online"));
    assert_eq!(presence(&mut bob).await, shown("carol", "online"));
    for typist in [&mut alice, &mut bob] {
        typist.say(&json!({"t": "presence", "status": "away"})).await;
        types(typist, &thread).await;
        carol.expect("typing").await;
    }
    // A device that comes now is not told of the other one either.
    let mut tablet = cluster.online(1, "bob", "tablet").await;
    let mark = cluster.say(thread.id, "carol", 1, 3).await;
    let mark = json!(mark.id.to_string());
    for device in [&mut alice, &mut bob, &mut tablet] {
        let (frame, before) = device.until("msg").await;
        assert_eq!(frame["id"], mark);
        assert!(of_kind(&before, "typing").is_empty(), "{before:?}");
        assert!(of_kind(&before, "presence").iter().all(|(name, _)| name == "carol"), "{before:?}");
    }
    block(&cluster, "alice", "bob", false).await;
    let told = bob.until("presence").await.0;
    assert_eq!(told["user_id"], json!("alice"));
    let mut told = vec![presence(&mut alice).await.0, presence(&mut alice).await.0];
    told.sort();
    assert_eq!(told, ["bob", "carol"]);
    types(&mut carol, &thread).await;
    assert_eq!(alice.expect("typing").await["user_id"], json!("carol"));
}

/// What a leader tells of alice, by her list of a version, in which nobody was.
fn told_by(cluster: &Cluster, thread: &Thread, status: PresenceStatus, version: u64) -> Ephemeral {
    let of = Presence { user: user("alice"), status, last_seen: None };
    let shard = cluster.nodes[0].shard_of_user(&of.user);
    Ephemeral::Presence(PresenceChange { of, threads: vec![thread.id], shard, term: Term(1), away: vec![], version })
}

#[tokio::test]
async fn presence_that_was_told_before_a_block_is_not_shown_after_it() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob", "carol"]).await;
    let mut bob = cluster.online(2, "bob", "phone").await;
    let mut carol = cluster.online(2, "carol", "phone").await;
    assert_eq!(presence(&mut bob).await, shown("carol", "online"));
    assert_eq!(presence(&mut carol).await, shown("bob", "online"));
    let before = version(&cluster, "alice").await;
    block(&cluster, "alice", "bob", true).await;
    assert_eq!(presence(&mut bob).await, shown("alice", "offline"));
    // It was on its way when she blocked him; to carol it is news all the same.
    cluster.nodes[0].tell(&told_by(&cluster, &thread, PresenceStatus::Online, before));
    assert_eq!(presence(&mut carol).await, shown("alice", "online"));
    let typing = |version| Typing { thread: thread.id, user: user("alice"), stop: false, away: vec![], version };
    cluster.nodes[0].tell(&Ephemeral::Typing(typing(before)));
    assert_eq!(carol.expect("typing").await["user_id"], json!("alice"));
    // Word of a block that has ended since takes nothing back.
    let during = version(&cluster, "alice").await;
    block(&cluster, "alice", "bob", false).await;
    let after = version(&cluster, "alice").await;
    let parted = BlockChange { user: user("alice"), other: user("bob"), parted: true, version: during };
    cluster.nodes[0].tell(&Ephemeral::Block(parted));
    cluster.nodes[0].tell(&told_by(&cluster, &thread, PresenceStatus::Away, after));
    let (frame, between) = bob.until("presence").await;
    assert_eq!((&frame["user_id"], &frame["status"]), (&json!("alice"), &json!("away")), "{between:?}");
    assert!(of_kind(&between, "typing").is_empty(), "{between:?}");
}
