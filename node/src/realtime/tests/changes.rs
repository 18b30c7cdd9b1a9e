//! What devices are told of changes to messages.

use super::cluster::Cluster;
use super::device::Device;
use messenger_proto::command::{AddParticipants, DeleteMessage, EditMessage, Op, PinMessage, React};
use messenger_proto::emoji::Emoji;
use messenger_proto::ids::{MessageId, ThreadId, UserId};
use messenger_proto::slot::Slot;
use serde_json::{Value, json};

fn user(name: &str) -> UserId {
    UserId::new(name).unwrap()
}

fn edit(id: MessageId, text: &str) -> Op {
    Op::EditMessage(EditMessage {
        id,
        actor: user("alice"),
        ciphertext: text.as_bytes().to_vec().into(),
        envelopes: None,
        device: None,
    })
}

fn delete(id: MessageId) -> Op {
    Op::DeleteMessage(DeleteMessage { id, actor: user("alice") })
}

/// The next `count` frames of the thread's events, less their numbers on the connection.
async fn events(device: &mut Device, count: usize) -> Vec<Value> {
    let mut events = Vec::new();
    while events.len() < count {
        let mut frame = device.next().await;
        if frame.get("seq").is_some() {
            frame.as_object_mut().unwrap().remove("frame_seq");
            events.push(frame);
        }
    }
    events
}

async fn run(cluster: &Cluster, thread: ThreadId, ops: impl IntoIterator<Item = Op>) {
    for op in ops {
        cluster.command(Slot::of_thread(thread), op).await.unwrap();
    }
}

#[tokio::test]
async fn an_edit_and_a_deletion_are_told_to_every_device_and_replayed_in_order() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let (mut alice, mut bob) = (cluster.online(1, "alice", "d").await, cluster.online(2, "bob", "d").await);
    let sent = cluster.say(thread.id, "alice", 1, 8).await;
    run(&cluster, thread.id, [edit(sent.id, "new")]).await;
    let (hers, his) = (events(&mut alice, 2).await, events(&mut bob, 2).await);
    assert_eq!(hers[1], his[1]);
    let edited_at = his[1]["edited_at"].clone();
    assert!(edited_at.is_string());
    let expected = json!({
        "t": "edit", "id": sent.id.to_string(), "thread_id": thread.id.to_string(), "seq": 3,
        "ciphertext": "bmV3", "edited_at": edited_at,
    });
    assert_eq!(his[1], expected);
    let replayed = events(&mut cluster.connect(1, "bob", "new", "").await, 3).await;
    assert_eq!((&replayed[1]["ciphertext"], &replayed[2]), (&json!("bmV3"), &expected));

    run(&cluster, thread.id, [delete(sent.id)]).await;
    let his = events(&mut bob, 1).await.remove(0);
    let named = [&his["t"], &his["id"], &his["seq"], &his["reason"]];
    assert_eq!(named, [&json!("del"), &json!(sent.id.to_string()), &json!(4), &json!("sender")]);
    let replayed = events(&mut cluster.connect(1, "bob", "newer", "").await, 4).await;
    let kinds: Vec<_> = replayed.iter().map(|frame| (frame["t"].as_str().unwrap(), &frame["ciphertext"])).collect();
    assert_eq!(kinds, [("thread", &Value::Null), ("msg", &Value::Null), ("edit", &Value::Null), ("del", &Value::Null)]);
    assert_eq!((&replayed[1]["deleted"], &replayed[3]), (&json!(true), &his));
}

#[tokio::test]
async fn a_member_hears_nothing_of_what_it_may_not_see() {
    let cluster = Cluster::start(1).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let old = cluster.say(thread.id, "alice", 1, 8).await;
    let add = AddParticipants { thread: thread.id, actor: user("alice"), users: vec![user("carol")] };
    run(&cluster, thread.id, [Op::AddParticipants(add)]).await;
    let new = cluster.say(thread.id, "alice", 2, 8).await;
    let (mut carol, mut bob) = (cluster.online(1, "carol", "d").await, cluster.online(1, "bob", "d").await);
    run(&cluster, thread.id, [edit(old.id, "secret"), delete(old.id), edit(new.id, "hi")]).await;
    assert_eq!(events(&mut bob, 3).await[0]["ciphertext"], json!("c2VjcmV0"));
    let live = events(&mut carol, 1).await;
    assert_eq!((&live[0]["id"], &live[0]["seq"]), (&json!(new.id.to_string()), &json!(7)));
    let replayed = events(&mut cluster.connect(1, "carol", "new", "").await, 3).await;
    let seen: Vec<_> = replayed.iter().map(|frame| frame["seq"].as_u64().unwrap()).collect();
    assert_eq!((seen, &replayed[2]), (vec![3, 4, 7], &live[0]));
}

#[tokio::test]
async fn a_reaction_is_told_and_replayed_alike() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let mut alice = cluster.online(1, "alice", "d").await;
    let sent = cluster.say(thread.id, "alice", 1, 8).await;
    let emoji = Emoji::new("\u{1f44d}").unwrap();
    let react =
        |present| Op::React(React { id: sent.id, actor: user("bob"), emoji: emoji.clone(), present, device: None });
    run(&cluster, thread.id, [react(true), react(true), react(false)]).await;
    let told = events(&mut alice, 3).await;
    for (frame, (seq, op)) in told[1..].iter().zip([(3, "added"), (4, "removed")]) {
        let expected = json!({
            "t": "reaction", "id": sent.id.to_string(), "thread_id": thread.id.to_string(), "seq": seq,
            "at": frame["at"], "emoji": "\u{1f44d}", "by": "bob", "op": op,
        });
        assert_eq!(frame, &expected);
    }
    let replayed = events(&mut cluster.connect(2, "alice", "new", "").await, 4).await;
    assert_eq!(replayed[2..], told[1..]);
}

#[tokio::test]
async fn a_pin_is_told_and_replayed_alike() {
    let cluster = Cluster::start(2).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let mut alice = cluster.online(1, "alice", "d").await;
    let sent = cluster.say(thread.id, "alice", 1, 8).await;
    let pin = |present| Op::Pin(PinMessage { thread: thread.id, id: sent.id, actor: user("bob"), present });
    run(&cluster, thread.id, [pin(true), pin(true), pin(false)]).await;
    let told = events(&mut alice, 3).await;
    for (frame, (seq, op)) in told[1..].iter().zip([(3, "pinned"), (4, "unpinned")]) {
        let expected = json!({
            "t": "thread", "op": op, "thread_id": thread.id.to_string(), "seq": seq, "at": frame["at"], "by": "bob",
            "message_id": sent.id.to_string(),
        });
        assert_eq!(frame, &expected);
    }
    let replayed = events(&mut cluster.connect(2, "alice", "new", "").await, 4).await;
    assert_eq!(replayed[2..], told[1..]);
}
