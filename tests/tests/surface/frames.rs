//! Every frame either way, and how connections end.

use crate::scene::{EMOJI, Scene, online, saying};
use messenger_tests::device::{Device, base64, number, text, text_of};
use messenger_tests::ledger::{Item, Ledger};
use messenger_tests::socket::{Next, Socket, handshake};
use messenger_tests::wait::{PATIENCE, eventually};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

/// Between two pings, and more than enough.
const PINGED_WITHIN: Duration = Duration::from_mins(1);

/// A connection on which nothing happens for as long as it takes until the node asks whether anybody is there.
pub async fn pinged(device: Device, ledger: Arc<Ledger>) {
    let mut socket = online(&device).await;
    let ping = Item::Shown("ping".to_owned());
    let asked = async {
        while !ledger.has(&ping) {
            // Pings are answered and passed over.
            assert_eq!(socket.next_within(Duration::from_millis(500)).await, Next::Silence);
        }
    };
    tokio::time::timeout(PINGED_WITHIN, asked).await.expect("the node asks");
}

/// What is sent by frame is as good as by POST, and both know of each other.
pub async fn of_sends(scene: &Scene) {
    let (hers, _, thread) = scene.pair().await;
    let mut alice = online(&hers).await;
    let mut frame = saying(1, "hello");
    for (member, value) in [("t", json!("send")), ("request_id", json!("r1")), ("thread_id", json!(thread))] {
        frame[member] = value;
    }
    frame["idempotency_key"] = json!("by frame");
    alice.say(&frame).await;
    let sent = alice.next_of("sent").await;
    assert_eq!((&sent["request_id"], sent.get("replayed")), (&json!("r1"), None));
    alice.say(&frame).await;
    let again = alice.next_of("sent").await;
    assert_eq!((&again["id"], &again["replayed"]), (&sent["id"], &json!(true)));
    let posted = hers.try_send(&thread, "by frame", 1, "hello").await.expect("an answer");
    assert_eq!((&posted.expect(202)["id"], posted.header("idempotent-replayed")), (&sent["id"], Some("true")));
    frame["idempotency_key"] = Value::Null;
    alice.say(&frame).await;
    assert_eq!(alice.next_of("sent").await["replayed"], json!(true), "a number that was seen, with the same body");
    frame["ciphertext"] = json!(base64("another"));
    alice.say(&frame).await;
    let refused = alice.next_of("error").await;
    assert_eq!((&refused["code"], &refused["id"]), (&json!("duplicate_client_seq"), &sent["id"]));
    frame["idempotency_key"] = json!("by frame");
    alice.say(&frame).await;
    assert_eq!(alice.next_of("error").await["code"], "idempotency_key_reused");
}

/// What happens in a thread, told to the other participant and to the sender's other device.
pub async fn of_threads(scene: &Scene) {
    let (hers, his, thread) = scene.pair().await;
    let (mut alice, mut bob) = (online(&hers).await, online(&his).await);
    let mut laptop = online(&scene.device(2, &hers.user, "laptop")).await;
    let sent = hers.send(&thread, "hello").await;
    let id = text(&sent, "id");
    for socket in [&mut bob, &mut laptop] {
        let heard = socket.next_of("msg").await;
        assert_eq!((text(&heard, "id"), text_of(&heard)), (id.clone(), "hello".to_owned()));
        socket.ack(&heard).await;
    }
    let delivered = alice.next_of("delivered").await;
    assert_eq!((&delivered["id"], &delivered["by"]), (&sent["id"], &json!(his.user)));
    bob.say(&json!({"t": "read", "thread_id": thread, "up_to": id})).await;
    let read = alice.next_of("read").await;
    assert_eq!((&read["up_to"], &read["by"]), (&sent["id"], &json!(his.user)));
    let message = format!("/v1/messages/{id}");
    let _edited = hers.patch(&message, &json!({"ciphertext": base64("better")})).await.expect(200);
    assert_eq!(text_of(&bob.next_of("edit").await), "better");
    let _reacted = his.post(&format!("{message}/reactions"), &[], &json!({"emoji": EMOJI.0})).await.expect(200);
    assert_eq!(alice.next_of("reaction").await["op"], json!("added"));
    let _taken_back = his.delete(&format!("{message}/reactions/{}", EMOJI.1)).await.expect(204);
    assert_eq!(alice.next_of("reaction").await["op"], json!("removed"));
    let _pinned = his.post(&format!("/v1/threads/{thread}/pins"), &[], &json!({"message_id": id})).await.expect(200);
    assert_eq!(alice.next_of("thread").await["op"], json!("pinned"));
    let _deleted = hers.delete(&message).await.expect(204);
    assert_eq!(bob.next_of("del").await["reason"], json!("sender"));
    thread_frames(scene, &hers, &his, &mut bob).await;
}

/// What a device says of what it has, and of what it wants to hear.
pub async fn of_reception(scene: &Scene) {
    let (hers, his, thread) = scene.pair().await;
    let mut bob = online(&his).await;
    // What came by REST counts as delivered once the device says so.
    let other = hers.send(&thread, "by another way").await;
    bob.next_of("msg").await;
    let id = text(&other, "id");
    bob.say(&json!({"t": "delivered", "thread_id": thread, "up_to": id})).await;
    eventually("it is delivered", || async {
        (text(&hers.recipients(&id).await[0], "state") == "DELIVERED").then_some(())
    })
    .await;
    let other = hers.group("not listened to", &[&his.user]).await;
    bob.say(&json!({"t": "subscribe", "request_id": 7, "thread_ids": [thread]})).await;
    let narrowed = bob.next_of("subscribed").await;
    assert_eq!((&narrowed["request_id"], &narrowed["thread_ids"]), (&json!(7), &json!([thread])));
    let (_unheard, heard) = (hers.send(&other, "unheard").await, hers.send(&thread, "heard").await);
    assert_eq!(bob.next_of("msg").await["id"], heard["id"]);
}

/// Every `op` of the `thread` frame.
async fn thread_frames(scene: &Scene, hers: &Device, his: &Device, bob: &mut Socket) {
    let group = scene.group(hers, &[&his.user]).await;
    let carol = scene.user("carol");
    let at = format!("/v1/threads/{group}");
    let message = text(&hers.send(&group, "x").await, "id");
    let _grown = hers.post(&format!("{at}/participants"), &[], &json!({"user_ids": [carol]})).await.expect(200);
    let _removed = hers.delete(&format!("{at}/participants/{carol}")).await.expect(204);
    let _updated = hers.patch(&at, &json!({"title": "t"})).await.expect(200);
    let _pinned = hers.post(&format!("{at}/pins"), &[], &json!({"message_id": message})).await.expect(200);
    let _unpinned = hers.delete(&format!("{at}/pins/{message}")).await.expect(204);
    let mut last = 0;
    for op in ["created", "participant_added", "participant_removed", "updated", "pinned", "unpinned"] {
        let frame = bob.next_where("thread", |frame| frame["thread_id"] == json!(group)).await;
        assert_eq!(frame["op"], json!(op));
        assert!(number(&frame, "seq") > last, "in the thread's order");
        last = number(&frame, "seq");
    }
}

/// What is told of people and their devices.
pub async fn of_people(scene: &Scene) {
    let (hers, his, thread) = scene.pair().await;
    let mut bob = his.connect().await;
    let replayed = bob.catch_up().await;
    let hello = &replayed[0];
    assert_eq!(
        (&hello["t"], &hello["user_id"], &hello["device_id"]),
        (&json!("hello"), &json!(his.user), &json!("phone"))
    );
    assert_eq!(hello["ping_interval_s"], json!(30));
    let mut alice = online(&hers).await;
    let status = async |bob: &mut Socket, wanted: &str| {
        bob.next_where("presence", |frame| frame["user_id"] == json!(hers.user) && frame["status"] == wanted).await
    };
    status(&mut bob, "online").await;
    alice.say(&json!({"t": "presence", "status": "away"})).await;
    status(&mut bob, "away").await;
    for stop in [false, true] {
        alice.say(&json!({"t": "typing", "thread_id": thread, "stop": stop})).await;
        let typing = bob.next_of("typing").await;
        assert_eq!((&typing["user_id"], &typing["ttl_s"]), (&json!(hers.user), &json!(if stop { 0 } else { 5 })));
    }
    let _counts = his.publish(1, 1..=20).await.expect(200);
    assert_eq!(alice.next_of("device").await["user_id"], json!(his.user));
    let _taken = hers.get(&format!("/v1/users/{}/prekeys", his.user)).await.expect(200);
    assert_eq!(bob.next_of("prekeys_low").await["remaining"], json!(19));
    drop(bob);
    let again = his.connect().await.next_of("prekeys_low").await;
    assert_eq!(again["device_id"], json!("phone"), "and on connect while it is");
}

fn first_frame(device: &Device) -> http::Request<()> {
    handshake(device.http.addr(), "device_id=phone", None)
}

async fn unknown(device: &Device) -> Socket {
    let socket = Socket::try_open(device.http.addr(), first_frame(device)).await.expect("a connection");
    socket.watched(device.http.watch().expect("it is watched").clone())
}

/// A first frame authenticates, and one that does not ends the connection.
pub async fn authenticated_by_a_frame(scene: &Scene) {
    let device = scene.phone(1, "alice");
    let mut socket = unknown(&device).await;
    socket.say(&json!({"t": "auth", "token": device.token})).await;
    assert_eq!(text(&socket.catch_up().await[0], "user_id"), device.user);
    let mut forged = unknown(&device).await;
    forged.say(&json!({"t": "auth", "token": "not.a.token"})).await;
    assert_eq!(forged.next_of("error").await["code"], "unauthenticated");
    assert_eq!(forged.closed_within(PATIENCE).await, Some(4401));
}

/// How connections end that are not left: each in its own way.
pub async fn closed(scene: &Scene) {
    let device = scene.phone(2, "alice");
    let mut old = online(&device).await;
    let newer = online(&device.at(scene.cluster.client_addr(1))).await;
    assert_eq!(old.closed_within(Duration::from_secs(2)).await, Some(4409));
    newer.close().await;

    let mut binary = online(&device).await;
    binary.say_binary(b"\x00\x01").await;
    assert_eq!(binary.closed_within(PATIENCE).await, Some(1003));

    let mut garbled = online(&device).await;
    // A masked text frame (mask 0) of two bytes that are no UTF-8.
    garbled.tcp().write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]).await.expect("the connection is open");
    assert_eq!(garbled.closed_within(PATIENCE).await, Some(1007));

    let mut noisy = online(&device).await;
    // A frame with an opcode and bits that are reserved.
    noisy.tcp().write_all(&[0xff; 16]).await.expect("the connection is open");
    assert_eq!(noisy.closed_within(PATIENCE).await, Some(1002));

    let mut long = online(&device).await;
    // A masked text frame that says it will be a byte longer than it may be.
    let head = [&[0x81, 0xff][..], &(1_048_577_u64.to_be_bytes()), &[0; 4]].concat();
    long.tcp().write_all(&head).await.expect("the connection is open");
    assert_eq!(long.closed_within(PATIENCE).await, Some(1009));

    let mut abusive = online(&device).await;
    let mut errors = 0;
    let code = loop {
        if errors < 100 {
            abusive.say_text("nonsense").await;
        }
        match abusive.next_within(PATIENCE).await {
            Next::Frame(frame) => {
                assert_eq!(frame["code"], json!("invalid_request"));
                errors += 1;
            }
            Next::Closed(code) => break code,
            Next::Silence => panic!("the connection is still open"),
        }
    };
    assert!((20..100).contains(&errors) && code == Some(1008), "{errors}: {code:?}");

    let key = scene.cluster.key();
    let mut late = key.claims(&device.user, "phone", "chat.read");
    // Good for two or three seconds more: clocks may differ by ten.
    late["exp"] = json!(key.now() - 7);
    let mut expired = online(&scene.bearing(1, &device.user, key.sign(&late))).await;
    assert_eq!(expired.closed_within(PATIENCE).await, Some(4401));

    let mut deleted = online(&device).await;
    let other = scene.device(1, &device.user, "tablet");
    let _nothing: Value = other.delete("/v1/users/me/devices/phone").await.expect(204);
    assert_eq!(deleted.closed_within(PATIENCE).await, Some(4401));
}
