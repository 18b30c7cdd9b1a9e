//! People chat through different nodes: every device hears every message, in one order, and learns who has it.

use futures_util::future::join_all;
use messenger_tests::cluster::Cluster;
use messenger_tests::device::{base64, ids, number, text, text_of, unique};
use messenger_tests::socket::Next;
use messenger_tests::wait::eventually;
use serde_json::json;
use std::time::Duration;

#[tokio::test]
async fn a_message_reaches_every_device_of_every_participant() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let devices = [
        cluster.device(1, &alice, "phone"),
        cluster.device(2, &alice, "laptop"),
        cluster.device(3, &bob, "phone"),
        cluster.device(1, &bob, "tablet"),
    ];
    let thread = devices[0].one_to_one(&bob).await;
    let mut sockets = join_all(devices.iter().map(messenger_tests::device::Device::connect)).await;
    for (socket, device) in sockets.iter_mut().zip(&devices) {
        let hello = socket.next().await;
        assert_eq!(hello["t"], "hello");
        assert_eq!(hello["user_id"], device.user);
        assert_eq!(hello["device_id"], device.device);
        assert_eq!(hello["ping_interval_s"], 30);
        assert!(hello["connection_id"].is_string() && hello["server_time"].is_string(), "{hello}");
        socket.catch_up().await;
    }
    let sent = devices[0].send(&thread, "good morning").await;
    assert_eq!(text(&sent, "thread_id"), thread);
    assert_eq!(text(&sent, "sender_id"), alice);
    assert_eq!(text(&sent, "sender_device_id"), "phone");
    for socket in &mut sockets {
        let frame = socket.next_of("msg").await;
        assert_eq!(text_of(&frame), "good morning");
        for member in ["id", "thread_id", "seq", "sender_id", "sender_device_id", "client_seq", "created_at"] {
            assert_eq!(frame[member], sent[member], "{member}");
        }
    }
}

#[tokio::test]
async fn the_sender_learns_who_received_and_who_read() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let thread = hers.one_to_one(&bob).await;
    let (mut her_socket, mut his_socket) = (hers.connect().await, his.connect().await);
    her_socket.catch_up().await;
    his_socket.catch_up().await;

    let message = hers.send(&thread, "are you there?").await;
    let id = text(&message, "id");
    assert_eq!(message["receipts"], json!({"of": 1, "delivered": 0, "read": 0}));
    let row = hers.recipients(&id).await;
    assert_eq!(row, [json!({"recipient_id": bob, "state": "SENT", "delivered_at": null, "read_at": null})]);

    let frame = his_socket.next_of("msg").await;
    his_socket.ack(&frame).await;
    let delivered = her_socket.next_of("delivered").await;
    assert_eq!((text(&delivered, "thread_id"), text(&delivered, "id")), (thread.clone(), id.clone()));
    assert_eq!(text(&delivered, "by"), bob);
    let row = hers.recipients(&id).await;
    assert_eq!(row[0]["state"], "DELIVERED");
    assert_eq!(row[0]["delivered_at"], delivered["at"]);

    his.read(&thread, &id).await;
    let read = her_socket.next_of("read").await;
    assert_eq!((text(&read, "up_to"), text(&read, "by")), (id.clone(), bob.clone()));
    let row = hers.recipients(&id).await;
    assert_eq!(row[0]["state"], "READ");
    assert_eq!(row[0]["delivered_at"], delivered["at"], "reading moves no earlier time");
    assert_eq!(row[0]["read_at"], read["at"]);
    let seen = hers.get(&format!("/v1/messages/{id}")).await.expect(200);
    assert_eq!(seen["receipts"], json!({"of": 1, "delivered": 1, "read": 1}));
    let as_he_sees = his.get(&format!("/v1/messages/{id}")).await.expect(200);
    assert!(as_he_sees["receipts"].is_null(), "receipts are the sender's: {as_he_sees}");
}

#[tokio::test]
async fn reading_undelivered_messages_delivers_them_in_the_same_write() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(3, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let thread = hers.one_to_one(&bob).await;
    let messages =
        [hers.send(&thread, "one").await, hers.send(&thread, "two").await, hers.send(&thread, "three").await];
    his.read(&thread, &text(&messages[1], "id")).await;
    // Going back changes nothing.
    his.read(&thread, &text(&messages[0], "id")).await;
    for (message, state) in messages.iter().zip(["READ", "READ", "SENT"]) {
        let row = &hers.recipients(&text(message, "id")).await[0];
        assert_eq!(row["state"], state);
        assert_eq!(row["delivered_at"], row["read_at"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_hear_one_order_whoever_sends_through_whichever_node() {
    const EACH: usize = 25;
    let cluster = Cluster::shared();
    let users = [unique("ann"), unique("ben"), unique("cid")];
    let devices: Vec<_> = cluster.nodes().zip(&users).map(|(node, user)| cluster.device(node, user, "phone")).collect();
    let thread = devices[0].group("order", &[&users[1], &users[2]]).await;
    let mut sockets = join_all(devices.iter().map(messenger_tests::device::Device::connect)).await;
    for socket in &mut sockets {
        socket.catch_up().await;
    }
    let sends = devices.iter().flat_map(|device| (0..EACH).map(move |n| (device, n)));
    let thread = &thread;
    join_all(sends.map(|(device, n)| async move { device.send(thread, &format!("{} {n}", device.user)).await })).await;

    let history = devices[0].history(thread).await;
    assert_eq!(history.len(), 3 * EACH);
    let order = ids(&history);
    assert!(order.is_sorted_by(|a, b| a < b), "ids increase along the order");
    let first = number(&history[0], "seq");
    for (place, message) in (first..).zip(&history) {
        assert_eq!(number(message, "seq"), place, "seq has no gaps");
    }
    for device in &devices {
        assert_eq!(ids(&device.history(thread).await), order, "every node tells one history");
    }
    for socket in &mut sockets {
        let mut heard = Vec::new();
        while heard.len() < order.len() {
            heard.push(text(&socket.next_of("msg").await, "id"));
        }
        assert_eq!(heard, order);
    }
}

#[tokio::test]
async fn members_come_and_go_before_everyones_eyes() {
    let cluster = Cluster::shared();
    let (alice, bob, carol) = (unique("alice"), unique("bob"), unique("carol"));
    let a = cluster.device(1, &alice, "phone");
    let b = cluster.device(2, &bob, "phone");
    let c = cluster.device(3, &carol, "phone");
    let (mut on_a, mut on_b, mut on_c) = (a.connect().await, b.connect().await, c.connect().await);
    for socket in [&mut on_a, &mut on_b, &mut on_c] {
        socket.catch_up().await;
    }

    let thread = a.group("hikers", &[&bob]).await;
    for socket in [&mut on_a, &mut on_b] {
        let frame = socket.next_of("thread").await;
        assert_eq!((text(&frame, "op"), text(&frame, "thread_id")), ("created".to_owned(), thread.clone()));
    }
    let before = a.send(&thread, "before carol").await;
    let path = format!("/v1/threads/{thread}/participants");
    b.post(&path, &[], &json!({"user_ids": [carol]})).await.expect_problem(403, "forbidden");
    let changed = a.post(&path, &[], &json!({"user_ids": [carol]})).await.expect(200);
    assert_eq!(changed["participants"].as_array().map(Vec::len), Some(3));
    for socket in [&mut on_a, &mut on_b, &mut on_c] {
        let frame = socket.next_where("thread", |frame| frame["op"] == "participant_added").await;
        assert_eq!(frame["thread_id"], thread);
    }

    let after = a.send(&thread, "welcome").await;
    let heard = on_c.next_of("msg").await;
    assert_eq!(heard["id"], after["id"], "a member sees the thread from its join on");
    assert_eq!(ids(&c.history(&thread).await), [text(&after, "id")]);
    c.get(&format!("/v1/messages/{}", text(&before, "id"))).await.expect_problem(403, "forbidden");

    let gone = b.delete(&format!("{path}/{alice}")).await;
    gone.expect_problem(403, "forbidden");
    let _nothing = a.delete(&format!("{path}/{carol}")).await.expect(204);
    for socket in [&mut on_a, &mut on_b, &mut on_c] {
        let frame = socket.next_where("thread", |frame| frame["op"] == "participant_removed").await;
        assert_eq!(frame["thread_id"], thread);
    }
    let unheard = a.send(&thread, "carol has left").await;
    c.get(&format!("/v1/threads/{thread}")).await.expect_problem(403, "not_a_member");
    c.get(&format!("/v1/messages/{}", text(&unheard, "id"))).await.expect_problem(403, "not_a_member");
    let listed = c.get("/v1/threads").await.expect(200);
    assert_eq!(listed["threads"], json!([]));

    // The last admin leaves: the longest-standing member takes over.
    let _nothing = a.delete(&format!("{path}/{alice}")).await.expect(204);
    let left = b.thread(&thread).await;
    let members = left["participants"].as_array().expect("participants are a list");
    assert_eq!((members.len(), text(&members[0], "user_id"), text(&members[0], "role")), (1, bob, "admin".to_owned()));

    // What carol's device could hear since its removal, it did not.
    loop {
        match on_c.next_within(Duration::from_millis(300)).await {
            Next::Frame(frame) => assert_ne!(frame["id"], unheard["id"], "heard after its removal"),
            other => break assert_eq!(other, Next::Silence),
        }
    }
}

#[tokio::test]
async fn a_socket_sends_as_the_post_does() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(2, &alice, "phone"), cluster.device(3, &bob, "phone"));
    let thread = hers.one_to_one(&bob).await;
    let (mut her_socket, mut his_socket) = (hers.connect().await, his.connect().await);
    her_socket.catch_up().await;
    his_socket.catch_up().await;

    let mut frame = json!({"t": "send", "request_id": "r1", "idempotency_key": unique("key"), "thread_id": thread,
        "client_seq": 7, "ciphertext": base64("over the socket")});
    her_socket.say(&frame).await;
    let sent = her_socket.next_of("sent").await;
    assert_eq!(sent["request_id"], "r1");
    assert_eq!(text_of(&sent), "over the socket");
    assert_eq!(his_socket.next_of("msg").await["id"], sent["id"]);

    frame["request_id"] = json!("r2");
    her_socket.say(&frame).await;
    let again = her_socket.next_where("sent", |frame| frame["request_id"] == "r2").await;
    assert_eq!((&again["id"], &again["replayed"]), (&sent["id"], &json!(true)));

    frame["request_id"] = json!("r3");
    frame["idempotency_key"] = json!(unique("key"));
    her_socket.say(&frame).await;
    let again = her_socket.next_where("sent", |frame| frame["request_id"] == "r3").await;
    assert_eq!(again["id"], sent["id"], "a known client_seq with the same body is the same message");

    frame["request_id"] = json!("r4");
    frame["idempotency_key"] = json!(unique("key"));
    frame["ciphertext"] = json!(base64("something else"));
    her_socket.say(&frame).await;
    let refused = her_socket.next_of("error").await;
    assert_eq!((&refused["request_id"], &refused["status"]), (&json!("r4"), &json!(409)));
    assert_eq!(refused["code"], "duplicate_client_seq");
    assert_eq!(hers.history(&thread).await.len(), 1);
}

#[tokio::test]
async fn one_sockets_sends_commit_in_frame_order() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(3, &alice, "phone");
    let thread = hers.one_to_one(&bob).await;
    let mut socket = hers.connect().await;
    socket.catch_up().await;
    for n in 0..100 {
        socket
            .say(&json!({"t": "send", "request_id": n.to_string(), "thread_id": thread, "client_seq": n,
                "ciphertext": base64(&n.to_string())}))
            .await;
    }
    let history = eventually("all hundred are stored", || async {
        let history = hers.history(&thread).await;
        (history.len() == 100).then_some(history)
    })
    .await;
    let order: Vec<u64> = history.iter().map(|message| number(message, "client_seq")).collect();
    assert!(order.is_sorted(), "{order:?}");
}
