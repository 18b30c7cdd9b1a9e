//! Conversations over a tiny cluster: what people type and see.

mod fixture;

use fixture::Place;
use messenger_client::testing::{Fault, Memory, THREAD};
use messenger_proto::ids::{DeviceId, UserId};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::time::timeout;

const AT: &str = "2030-01-01T10:00:00.000Z";

#[tokio::test]
async fn a_conversation_goes_its_way() {
    let place = Place::new(2).await;
    for text in ["long ago", "hello", "are you there?"] {
        place.cluster.say("bob", text);
    }
    let (mut alice, mut bob) = place.both().await;
    assert!(alice.sees("end-to-end encrypted").await.contains("alice, bob"));
    // What was sent as it is, is told from what was not.
    assert!(alice.sees("1 more").await.contains("/history shows them"));
    assert!(alice.sees("bob: ").await.ends_with("bob: hello (not encrypted)\n"));
    assert!(alice.sees("bob: ").await.ends_with("bob: are you there? (not encrypted)\n"));
    // The history on screen counts as read.
    place.cluster.until(|memory| memory.frames.iter().any(|frame| frame["t"] == "read").then_some(())).await;
    alice.types("yes").await;
    alice.sees("you: yes").await;
    assert!(bob.sees("alice: ").await.ends_with("alice: yes\n"));
    let sent = place.cluster.memory().messages[3].clone();
    assert_eq!((&sent["ciphertext"], sent["envelopes"].as_array().unwrap().len()), (&Value::Null, 1));
    let id = sent["id"].clone();
    place.cluster.show(json!({"t": "delivered", "thread_id": THREAD, "id": id, "by": "bob", "at": AT}));
    assert!(alice.sees("delivered").await.contains("✓ delivered to bob: “yes”"));
    place.cluster.show(json!({"t": "read", "thread_id": THREAD, "up_to": id, "by": "bob", "at": AT}));
    assert!(alice.sees("read by").await.contains("✓✓ read by bob: “yes”"));
    alice.types("/who").await;
    assert!(alice.sees("alice (you)").await.contains("bob, member; ✓✓ read your last message"));
    alice.types("/nope").await;
    alice.sees("/nope is no command").await;
    bob.types("last words").await;
    bob.leaves().await;
    assert!(bob.seen().iter().any(|line| line.contains("you: last words")));
    alice.sees("bob: last words").await;
    alice.leaves().await;
    assert_eq!(place.cluster.memory().messages.len(), 5);
}

#[tokio::test]
async fn a_break_is_shown_and_nothing_is_lost_or_doubled() {
    let place = Place::new(2).await;
    let (mut alice, mut bob) = place.both().await;
    place.connected(2).await;
    alice.types("first").await;
    alice.sees("you: first").await;
    place.cluster.fault(Fault::LoseAnswer);
    alice.types("hi").await;
    alice.sees("connection was lost").await;
    alice.sees("connected again").await;
    alice.sees("you: hi").await;
    alice.leaves().await;
    assert!(!alice.seen().iter().any(|line| line.contains("you: hi")));
    bob.sees("alice: hi").await;
    let memory = place.cluster.memory();
    assert_eq!((memory.messages.len(), memory.keys.len()), (2, 3));
    assert_eq!(memory.keys[1], memory.keys[2], "the same bytes under the same key");
}

#[tokio::test]
async fn what_is_typed_while_nobody_answers_is_shown_as_waiting_and_sent_in_order_later() {
    let place = Place::new(2).await;
    let (mut alice, mut bob) = place.both().await;
    place.connected(2).await;
    alice.types("zero").await;
    alice.sees("you: zero").await;
    place.cluster.fault(Fault::LoseAnswer);
    for _ in 0..1000 {
        place.cluster.fault(Fault::Refuse(503, "unavailable"));
    }
    alice.types("one").await;
    alice.sees("connection was lost").await;
    assert!(alice.sees("you: one").await.contains("waiting to be sent"));
    for text in ["two", "three"] {
        alice.types(text).await;
        assert!(alice.sees(&format!("you: {text}")).await.contains("waiting to be sent"));
    }
    place.cluster.memory().faults.clear();
    alice.sees("connected again").await;
    for text in ["one", "two", "three"] {
        let shown = alice.sees(&format!("you: {text}")).await;
        assert!(!shown.contains("waiting"), "{shown}");
    }
    alice.leaves().await;
    for text in ["one", "two", "three"] {
        bob.sees(&format!("alice: {text}")).await;
    }
    assert_eq!(place.cluster.memory().messages.len(), 4);
}

#[tokio::test]
async fn what_waits_survives_the_chat_and_a_second_chat_of_the_device_is_refused() {
    let place = Place::new(1).await;
    let (alice, mut bob) = place.both().await;
    alice.types("hello").await;
    bob.sees("alice: hello").await;
    let second = place.sit_down("alice", "phone").chat.await.unwrap().unwrap_err();
    assert!(second.to_string().contains("in use"), "{second}");
    for _ in 0..100_000 {
        place.cluster.fault(Fault::Refuse(503, "unavailable"));
    }
    alice.types("patience").await;
    place.cluster.until(|memory| (memory.keys.len() > 1).then_some(())).await;
    alice.dies().await;
    place.cluster.memory().faults.clear();
    let mut again = place.sit_down("alice", "phone");
    assert!(again.sees("you: hello").await.ends_with("you: hello\n"), "what this device has comes first");
    again.sees("you: patience").await;
    bob.sees("alice: patience").await;
    again.leaves().await;
    let memory = place.cluster.memory();
    assert_eq!(memory.messages.len(), 2);
    assert!(memory.keys[1..].iter().all(|key| *key == memory.keys[1]), "{:?}", memory.keys);
}

#[tokio::test]
async fn history_is_there_when_no_node_is() {
    let place = Place::new(1).await;
    let (alice, mut bob) = place.both().await;
    alice.types("remember me").await;
    bob.sees("alice: remember me").await;
    bob.leaves().await;
    for _ in 0..100_000 {
        place.cluster.fault(Fault::Refuse(503, "unavailable"));
    }
    tokio::time::pause();
    let mut bob = place.sit_down("bob", "phone");
    let wait = async {
        loop {
            let line = bob.sees.recv().await.expect("the chat is over");
            if line.contains("this is what this device has") {
                return;
            }
        }
    };
    timeout(Duration::from_mins(10), wait).await.unwrap();
    tokio::time::resume();
    bob.sees("alice: remember me").await;
}

#[tokio::test]
async fn a_message_waits_until_somebody_can_read_it() {
    let place = Place::new(1).await;
    let mut alice = place.sit_down("alice", "phone");
    place.has_keys(1).await;
    alice.types("is anybody there?").await;
    alice.sees("nobody else here has a device yet").await;
    assert!(alice.sees("anybody").await.contains("waiting to be sent"));
    let mut bob = place.sit_down("bob", "phone");
    bob.sees("alice: is anybody there?").await;
    alice.sees("you: is anybody there?").await;
}

#[tokio::test]
async fn what_nobody_can_read_yet_is_kept_for_the_next_time() {
    let place = Place::new(1).await;
    let mut alice = place.sit_down("alice", "phone");
    place.has_keys(1).await;
    alice.types("later").await;
    alice.sees("nobody else here").await;
    alice.leaves().await;
    assert!(alice.seen().iter().any(|line| line.contains("sent when you chat again: “later”")));
    let mut bob = place.sit_down("bob", "phone");
    place.has_keys(2).await;
    let _alice = place.sit_down("alice", "phone");
    bob.sees("alice: later").await;
}

#[tokio::test]
async fn new_devices_join_are_told_and_read_what_comes() {
    let place = Place::new(1).await;
    let (mut alice, mut bob) = place.both().await;
    alice.types("before").await;
    bob.sees("alice: before").await;
    let mut tablet = place.sit_down("bob", "tablet");
    tablet.sees("1 earlier message was not sent to this device").await;
    place.has_keys(3).await;
    alice.types("after").await;
    assert!(alice.sees("new device").await.contains("bob has a new device, tablet"));
    bob.sees("alice: after").await;
    tablet.sees("alice: after").await;
    tablet.types("from the tablet").await;
    alice.sees("bob: from the tablet").await;
    bob.sees("you: from the tablet").await;
}

#[tokio::test]
async fn safety_numbers_are_the_same_on_both_sides() {
    let place = Place::new(1).await;
    let (mut alice, mut bob) = place.both().await;
    place.connected(2).await;
    alice.types("/verify").await;
    bob.types("/verify").await;
    let digits = |text: String| text.chars().filter(char::is_ascii_digit).skip(1).collect::<String>();
    let hers = digits(alice.sees("nobody sits between").await);
    let his = digits(bob.sees("nobody sits between").await);
    assert_eq!((hers.len(), &hers), (60, &his));
    alice.types("/devices").await;
    let shown = alice.sees("phone, this one").await;
    assert!(shown.contains("bob:\n    phone"), "{shown}");
}

#[tokio::test]
async fn lost_keys_are_told_and_the_conversation_goes_on() {
    let place = Place::new(1).await;
    let (mut alice, mut bob) = place.both().await;
    alice.types("one").await;
    bob.sees("alice: one").await;
    bob.leaves().await;
    std::fs::remove_dir_all(place.disks.path().join("bob")).unwrap();
    let mut bob = place.sit_down("bob", "phone");
    bob.sees("end-to-end").await;
    let renewed = |memory: &messenger_client::testing::Memory| {
        let puts = memory.devices.values().filter(|row| row["spent"] == 0).count();
        (puts == 2).then_some(())
    };
    place.cluster.until(renewed).await;
    alice.types("two").await;
    assert!(alice.sees("new keys").await.contains("bob's device phone"));
    bob.sees("alice: two").await;
    bob.types("three").await;
    alice.sees("bob: three").await;
}

#[tokio::test]
async fn edits_deletions_reactions_typing_and_presence_are_shown() {
    let place = Place::new(1).await;
    let (mut alice, mut bob) = place.both().await;
    alice.types("helo").await;
    bob.sees("alice: helo").await;
    alice.types("/edit hello").await;
    alice.sees("you changed “helo” to “hello”").await;
    assert!(bob.sees("changed").await.contains("alice changed “helo” to “hello”\n"));
    bob.types("/react +1").await;
    alice.sees("bob: +1 on “hello”").await;
    alice.types("/delete").await;
    bob.sees("alice deleted the message of").await;
    place.cluster.show(json!({"t": "typing", "thread_id": THREAD, "user_id": "bob", "ttl_s": 5}));
    alice.sees("bob is typing").await;
    place.cluster.show(json!({"t": "presence", "user_id": "bob", "status": "online", "last_seen": null}));
    alice.sees("bob is here").await;
    let plain = place.cluster.say("bob", "for all to read");
    bob.sees("for all to read").await;
    place
        .cluster
        .change(json!({"t": "del", "id": plain.to_string(), "thread_id": THREAD, "seq": 99, "reason": "expired"}));
    alice.sees("has disappeared").await;
    alice.types("/history").await;
    alice.sees("the last 2 messages").await;
    assert!(alice.sees("you: ").await.contains("you: (deleted)"));
    assert!(alice.sees("bob: ").await.contains("bob: (disappeared)"));
}

#[tokio::test]
async fn what_cannot_be_read_is_shown_as_such_and_stops_nothing() {
    let place = Place::new(1).await;
    let (alice, mut bob) = place.both().await;
    alice.types("one").await;
    bob.sees("alice: one").await;
    let mut again = place.cluster.memory().messages[0].clone();
    again["client_seq"] = json!(1);
    let who = (UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap());
    place.cluster.put(&who, &again);
    bob.sees("alice: (cannot be decrypted: ").await;
    alice.types("two").await;
    bob.sees("alice: two").await;
}

#[tokio::test]
async fn after_a_message_that_cannot_be_read_a_new_session_begins() {
    let place = Place::new(1).await;
    let (mut alice, mut bob) = place.both().await;
    for _ in 0..2 {
        alice.types("hers").await;
        bob.sees("alice: hers").await;
        bob.types("his").await;
        alice.sees("bob: his").await;
    }
    let taken = |of: &str| {
        let memory = place.cluster.memory();
        memory.devices[&(of.to_owned(), "phone".to_owned())]["spent"].as_u64().unwrap()
    };
    assert_eq!(taken("alice"), 0, "one session does for both");
    // As if the session were lost on one side: its check fails.
    let mut damaged = place.cluster.memory().messages[2].clone();
    let ciphertext = damaged["envelopes"][0]["ciphertext"].as_str().unwrap();
    let cut = ciphertext.len() - 8;
    let other = if ciphertext[cut..].starts_with('A') { "B" } else { "A" };
    damaged["envelopes"][0]["ciphertext"] = json!(format!("{}{other}{}", &ciphertext[..cut], &ciphertext[cut + 1..]));
    damaged["client_seq"] = json!(7);
    place.cluster.put(&(UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap()), &damaged);
    bob.sees("alice: (cannot be decrypted: ").await;
    bob.types("pardon?").await;
    alice.sees("bob: pardon?").await;
    assert!(taken("alice") > 0, "a new session takes a key");
    alice.types("again").await;
    bob.sees("alice: again").await;
}

#[tokio::test]
async fn keys_that_run_out_are_made_anew() {
    let place = Place::new(1).await;
    let (mut alice, _bob) = place.both().await;
    place.connected(2).await;
    alice.sees("end-to-end").await;
    let hers = ("alice".to_owned(), "phone".to_owned());
    let count =
        |memory: &messenger_client::testing::Memory| memory.devices[&hers]["one_time_prekeys"].as_array().map(Vec::len);
    place.cluster.until(|memory| (count(memory) == Some(50)).then_some(())).await;
    place.cluster.memory().devices.get_mut(&hers).unwrap()["one_time_prekeys"].as_array_mut().unwrap().truncate(3);
    place.cluster.show(json!({"t": "prekeys_low", "device_id": "phone", "remaining": 3}));
    place.cluster.until(|memory| (count(memory) == Some(50)).then_some(())).await;
}

#[tokio::test]
async fn who_has_no_device_is_named_once() {
    let place = Place::new(1).await;
    place.cluster.memory().members.push("carol".into());
    let (mut alice, mut bob) = place.both().await;
    for text in ["one", "two"] {
        alice.types(text).await;
        bob.sees(&format!("alice: {text}")).await;
    }
    alice.leaves().await;
    let told = alice.seen().iter().filter(|line| line.contains("carol has no device yet")).count();
    assert_eq!(told, 1);
}

#[tokio::test]
async fn messages_are_shown_in_the_order_of_the_thread() {
    let place = Place::new(1).await;
    let (mut alice, _bob) = place.both().await;
    place.connected(2).await;
    alice.sees("end-to-end").await;
    place.cluster.fault(Fault::Overtake);
    alice.types("second").await;
    let first = alice.sees(": ").await;
    assert!(first.contains("bob: in front"), "{first}");
    alice.sees("you: second").await;
}

#[tokio::test]
async fn leaving_reads_on_until_what_was_sent_is_answered() {
    let place = Place::new(1).await;
    let (mut alice, _bob) = place.both().await;
    place.connected(2).await;
    // More than waits anywhere between the socket and the screen.
    place.cluster.fault(Fault::Crowd(300));
    alice.types("last words").await;
    alice.leaves().await;
    let lines = alice.seen();
    assert!(lines.last().is_some_and(|line| line.contains("you: last words")), "{:?}", lines.last());
}

#[tokio::test]
async fn a_second_terminal_ends_the_first() {
    let place = Place::new(1).await;
    place.cluster.fault(Fault::Close(4409));
    let alice = place.sit_down("alice", "phone");
    let error = alice.chat.await.unwrap().unwrap_err();
    assert_eq!(error.to_string(), "this device connected elsewhere");
}

/// Of whom the nodes were told that they type, or stopped.
fn told_of_typing(memory: &Memory) -> Vec<bool> {
    let typing = memory.frames.iter().filter(|frame| frame["t"] == "typing");
    typing.map(|frame| frame["stop"].as_bool().unwrap_or(false)).collect()
}

#[tokio::test]
async fn others_are_told_of_typing_unless_it_is_kept_from_them() {
    let place = Place::new(1).await;
    let (mut alice, mut bob) = place.both().await;
    place.connected(2).await;
    let told = |count: usize| {
        let cluster = &place.cluster;
        async move { cluster.until(|memory| Some(told_of_typing(memory)).filter(|told| told.len() >= count)).await }
    };
    // Bob wants it kept to himself.
    bob.edits.send(true).unwrap();
    bob.types("hello").await;
    alice.sees("hello").await;
    for _ in 0..5 {
        alice.edits.send(true).unwrap();
        tokio::task::yield_now().await;
    }
    assert_eq!(told(1).await, [false]);
    alice.types("hi").await;
    assert_eq!(told(2).await, [false, true]);
    bob.sees("hi").await;
    // The interval since the last start is not over.
    alice.edits.send(true).unwrap();
    alice.edits.send(false).unwrap();
    alice.types("there").await;
    bob.sees("there").await;
    assert_eq!(told(2).await, [false, true]);
    alice.leaves().await;
    bob.leaves().await;
}

#[tokio::test]
async fn what_a_long_absence_left_out_is_read_with_its_changes_and_shown_in_order() {
    let place = Place::new(1).await;
    let mut alice = place.sit_down("alice", "phone");
    place.has_keys(1).await;
    let known = place.cluster.say("bob", "before");
    alice.sees("before").await;
    alice.leaves().await;
    let missed: Vec<_> = (0..150).map(|number| place.cluster.say("bob", &format!("missed {number}"))).collect();
    for (id, text) in [(known, "before, edited"), (missed[149], "the last, edited"), (missed[0], "the first, edited")] {
        let ciphertext = messenger_client::testing::encoded(text);
        place.cluster.change(json!({"t": "edit", "id": id.to_string(), "thread_id": THREAD, "seq": 1_000, "at": AT,
            "edited_at": AT, "ciphertext": ciphertext}));
    }
    place.cluster.memory().replayed_max = Some(1);
    let mut alice = place.sit_down("alice", "phone");
    alice.sees("148 more messages came").await;
    // The newest, in the order of the thread and not of changes.
    assert!(alice.sees("missed").await.contains("missed 148"));
    alice.sees("the last, edited").await;
    alice.types("/history 1000").await;
    let mut shown = vec![alice.sees("before").await];
    for text in ["the first, edited", "missed 1", "missed 148", "the last, edited"] {
        shown.push(alice.sees(text).await);
    }
    assert!(shown[0].contains("before, edited"), "{shown:?}");
    alice.leaves().await;
    // Whoever comes again has lost nothing, and is told nothing twice.
    let mut alice = place.sit_down("alice", "phone");
    alice.sees("the last, edited").await;
    place.cluster.say("bob", "news");
    alice.sees("news").await;
    assert!(!alice.seen().iter().any(|line| line.contains("more messages")));
}
