//! Sending, looking at a message, and marking as read.

use super::harness::{admission, serving, world, world_with};
use crate::gateway::serve::{ServeLimits, serve};
use crate::gateway::{AdmissionLimits, TakeLimits};
use axum::body::Body;
use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpSocket};

fn path(thread: &str) -> String {
    format!("/v1/threads/{thread}/messages")
}

#[tokio::test]
async fn a_message_is_stored_and_seen() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.pair("bob").await;
    let first = alice.say(&thread, 1).await;
    let body = json!({
        "client_seq": 2, "ciphertext": STANDARD.encode([0, 255, 254]), "content_type": "image_ref",
        "attachments": [{"id": "a", "size": 12}, {"id": "b"}], "reply_to_msg_id": first,
    });
    let sent = alice.post_as("key", &path(&thread), &body).await;
    let location = sent.header("location").map(str::to_owned).unwrap();
    let sent = sent.expect(202);
    let id = sent["id"].as_str().unwrap();
    assert_eq!(location, format!("/v1/messages/{id}"));
    assert!(id > first.as_str());
    for member in ["client_seq", "ciphertext", "content_type", "attachments", "reply_to_msg_id"] {
        assert_eq!(sent[member], body[member], "{member}");
    }
    assert_eq!((&sent["thread_id"], &sent["seq"]), (&json!(thread), &json!(3)));
    assert_eq!((&sent["sender_id"], &sent["sender_device_id"]), (&json!("alice"), &json!("phone")));
    assert_eq!(sent["receipts"], json!({"of": 1, "delivered": 0, "read": 0}));
    assert_eq!(alice.get(&location).await.expect(200), sent);
    let mut others = bob.get(&location).await.expect(200);
    others["receipts"] = sent["receipts"].clone();
    assert_eq!(others, sent, "others see the same, without receipts");
}

#[tokio::test]
async fn sending_twice_is_answered_as_the_table_says() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let body = json!({"client_seq": 1, "ciphertext": "aGk="});
    let other = json!({"client_seq": 1, "ciphertext": "aG8="});
    let first = alice.post_as("k1", &path(&thread), &body).await;
    assert!(first.header("idempotent-replayed").is_none());
    let first = first.expect(202);
    // Key seen, same body: written differently, on another device of the same user.
    let written = "{ \"ciphertext\":\"aGk=\", \"attachments\":[],\"client_seq\":1.0 }";
    let again = alice.post_text(&path(&thread), &[("idempotency-key", "k1")], written).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(202), first);
    // Key seen, another body.
    alice.post_as("k1", &path(&thread), &other).await.problem(422, "idempotency_key_reused");
    let next = json!({"client_seq": 2, "ciphertext": "aGk="});
    alice.post_as("k1", &path(&thread), &next).await.problem(422, "idempotency_key_reused");
    // New key, number seen: the problem is also the message.
    for (body, detail) in [(&body, "sent this message before"), (&other, "for another message")] {
        let problem = alice.post_as("k2", &path(&thread), body).await.problem(409, "duplicate_client_seq");
        assert!(problem["detail"].as_str().is_some_and(|text| text.contains(detail)), "{problem}");
        for (member, value) in first.as_object().unwrap() {
            assert_eq!(&problem[member], value, "{member}");
        }
    }
    // New key, new number; and another device counts for itself.
    assert_ne!(alice.post_as("k2", &path(&thread), &next).await.expect(202)["id"], first["id"]);
    let laptop = world.device("alice", "laptop");
    assert_ne!(laptop.post_as("k3", &path(&thread), &body).await.expect(202)["id"], first["id"]);
    // The same key elsewhere is another key.
    let elsewhere = alice.pair("carol").await;
    alice.post_as("k1", &path(&elsewhere), &body).await.expect(202);
    let seen = alice.get(&path(&thread)).await.expect(200);
    assert_eq!(seen["messages"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn fifty_identical_sends_make_one_message() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let path = path(&thread);
    let body = json!({"client_seq": 1, "ciphertext": "aGk="});
    let sends = (0..50).map(|_| alice.post_as("k", &path, &body));
    let answers = futures_util::future::join_all(sends).await;
    let replayed = answers.iter().filter(|answer| answer.header("idempotent-replayed").is_some()).count();
    assert_eq!(replayed, 49);
    let mut ids: Vec<Value> = answers.into_iter().map(|answer| answer.expect(202)["id"].clone()).collect();
    ids.dedup();
    assert_eq!(ids.len(), 1);
}

#[tokio::test]
async fn a_send_needs_a_key_of_its_own() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let path = path(&thread);
    let good = json!({"client_seq": 1, "ciphertext": "aGk="});
    let problem = alice.post(&path, &good).await.problem(400, "idempotency_key_required");
    assert_eq!(problem["errors"][0]["field"], json!("Idempotency-Key"));
    let bad = json!({"client_seq": -1, "ciphertext": "?", "envelopes": []});
    let expected = ["Idempotency-Key", "ciphertext", "client_seq", "envelopes"];
    assert_eq!(alice.post(&path, &bad).await.bad_fields(), expected);
    let long = "x".repeat(65);
    for key in ["", long.as_str()] {
        assert_eq!(alice.post_as(key, &path, &good).await.bad_fields(), ["Idempotency-Key"]);
        assert_eq!(alice.post_as(key, &path, &bad).await.bad_fields(), expected);
    }
    let twice = [("idempotency-key", "a"), ("idempotency-key", "b")];
    assert_eq!(alice.post_text(&path, &twice, &good.to_string()).await.bad_fields(), ["Idempotency-Key"]);
    alice.post_as(&"é".repeat(64), &path, &good).await.expect(202);
}

#[tokio::test]
async fn a_ciphertext_takes_64_kib() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let body = |seq: u64, length: usize| json!({"client_seq": seq, "ciphertext": STANDARD.encode(vec![7; length])});
    let sent = alice.post_as("a", &path(&thread), &body(1, 65_536)).await.expect(202);
    assert_eq!(sent["ciphertext"], body(1, 65_536)["ciphertext"]);
    let problem = alice.post_as("b", &path(&thread), &body(2, 65_537)).await.problem(413, "ciphertext_too_large");
    assert_eq!(problem["errors"][0]["field"], json!("ciphertext"));
}

#[tokio::test]
async fn a_send_is_for_members_and_to_what_exists() {
    let world = world();
    let (alice, eve) = (world.client("alice"), world.client("eve"));
    let thread = alice.pair("bob").await;
    let body = json!({"client_seq": 1, "ciphertext": "aGk="});
    eve.post_as("k", &path(&thread), &body).await.problem(403, "not_a_member");
    let unknown = "00000000-0000-4000-8000-000000000000";
    alice.post_as("k", &path(unknown), &body).await.problem(404, "not_found");
    assert_eq!(alice.post_as("k", &path("x"), &body).await.bad_fields(), ["thread_id"]);
    let elsewhere = alice.pair("carol").await;
    let foreign = alice.say(&elsewhere, 1).await;
    let reply = json!({"client_seq": 1, "ciphertext": "aGk=", "reply_to_msg_id": foreign});
    assert_eq!(alice.post_as("k", &path(&thread), &reply).await.bad_fields(), ["reply_to_msg_id"]);
    // A refusal is not remembered under the key, and the number stays free.
    alice.post_as("k", &path(&thread), &body).await.expect(202);
}

#[tokio::test]
async fn one_message_is_for_those_who_may_see_it() {
    let world = world();
    let (alice, bob, eve) = (world.client("alice"), world.client("bob"), world.client("eve"));
    let thread = alice.group(&["bob"]).await;
    let early = alice.say(&thread, 1).await;
    alice.post(&format!("/v1/threads/{thread}/participants"), &json!({"user_ids": ["late"]})).await.expect(200);
    bob.get(&format!("/v1/messages/{early}")).await.expect(200);
    eve.get(&format!("/v1/messages/{early}")).await.problem(403, "not_a_member");
    world.client("late").get(&format!("/v1/messages/{early}")).await.problem(403, "forbidden");
    for suffix in ["", "/recipients"] {
        alice.get(&format!("/v1/messages/01ARZ3NDEKTSV4RRFFQ69G5FAV{suffix}")).await.problem(404, "not_found");
        for id in ["x", "8ZZZZZZZZZZZZZZZZZZZZZZZZZ", "01ARZ3NDEKTSV4RRFFQ69G5FA"] {
            assert_eq!(alice.get(&format!("/v1/messages/{id}{suffix}")).await.bad_fields(), ["message_id"]);
        }
    }
}

#[tokio::test]
async fn reading_moves_the_recipients_on() {
    let world = world();
    let (alice, bob, carol) = (world.client("alice"), world.client("bob"), world.client("carol"));
    let thread = alice.group(&["bob", "carol"]).await;
    let ids = [alice.say(&thread, 1).await, alice.say(&thread, 2).await];
    let states = async |id: &str| {
        let seen = carol.get(&format!("/v1/messages/{id}/recipients")).await.expect(200);
        let rows = seen["recipients"].as_array().unwrap().clone();
        rows.iter().map(|row| format!("{} {}", row["recipient_id"], row["state"]).replace('"', "")).collect::<Vec<_>>()
    };
    assert_eq!(states(&ids[0]).await, ["bob SENT", "carol SENT"]);
    let read = format!("/v1/threads/{thread}/read");
    let up_to = |id: &str| json!({"up_to_msg_id": id});
    bob.post(&read, &up_to(&ids[0])).await.expect_empty(204);
    assert_eq!(states(&ids[0]).await, ["bob READ", "carol SENT"]);
    assert_eq!(states(&ids[1]).await, ["bob SENT", "carol SENT"]);
    bob.post(&read, &up_to(&ids[1])).await.expect_empty(204);
    bob.post(&read, &up_to(&ids[0])).await.expect_empty(204);
    assert_eq!(states(&ids[1]).await, ["bob READ", "carol SENT"], "never back");
    let row = carol.get(&format!("/v1/messages/{}/recipients", ids[1])).await.expect(200)["recipients"][0].clone();
    assert!(row["delivered_at"].is_string() && row["read_at"].is_string(), "{row}");
    let seen = alice.get(&format!("/v1/messages/{}", ids[1])).await.expect(200);
    assert_eq!(seen["receipts"], json!({"of": 2, "delivered": 1, "read": 1}));

    let repeat = async || carol.post_as("r", &read, &up_to(&ids[0])).await.expect_empty(204);
    assert_eq!(repeat().await.header("idempotent-replayed"), None);
    assert_eq!(repeat().await.header("idempotent-replayed"), Some("true"));
    carol.post_as("r", &read, &up_to(&ids[1])).await.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn a_bad_read_mark_is_refused() {
    let world = world();
    let (alice, eve) = (world.client("alice"), world.client("eve"));
    let thread = alice.pair("bob").await;
    let id = alice.say(&thread, 1).await;
    let read = format!("/v1/threads/{thread}/read");
    eve.post(&read, &json!({"up_to_msg_id": id})).await.problem(403, "not_a_member");
    let elsewhere = alice.pair("carol").await;
    let foreign = alice.say(&elsewhere, 1).await;
    alice.post(&read, &json!({"up_to_msg_id": foreign})).await.problem(404, "not_found");
    alice.post(&read, &json!({"up_to_msg_id": "01ARZ3NDEKTSV4RRFFQ69G5FAV"})).await.problem(404, "not_found");
    let group = alice.group(&["bob"]).await;
    let early = alice.say(&group, 7).await;
    alice.post(&format!("/v1/threads/{group}/participants"), &json!({"user_ids": ["late"]})).await.expect(200);
    let (late, read_group) = (world.client("late"), format!("/v1/threads/{group}/read"));
    late.post(&read_group, &json!({"up_to_msg_id": early})).await.problem(403, "forbidden");
    for body in [json!({}), json!({"up_to_msg_id": 7}), json!({"up_to_msg_id": "x"}), json!({"up_to_msg_id": null})] {
        assert_eq!(alice.post(&read, &body).await.bad_fields(), ["up_to_msg_id"]);
    }
    let both = alice.post_text(&read, &[("idempotency-key", "")], "{\"up_to_msg_id\": 7, \"x\": 1}").await;
    assert_eq!(both.bad_fields(), ["Idempotency-Key", "up_to_msg_id", "x"]);
    let answer = alice.request(Method::POST, &read, &[], Body::empty()).await;
    answer.problem(415, "unsupported_media_type");
}

#[tokio::test]
async fn a_send_that_was_carried_out_is_said_so_however_much_waits_to_be_taken() {
    let world = world_with(AdmissionLimits { answer_bytes: 1_000, ..admission() }, axum::Router::new());
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let body = json!({"client_seq": 1, "ciphertext": STANDARD.encode(vec![7; 65_536])});
    let sent = alice.post_as("a", &path(&thread), &body).await.expect(202);
    let one = format!("/v1/messages/{}", sent["id"].as_str().unwrap());
    alice.get(&one).await.problem(503, "overloaded");
}

#[tokio::test]
async fn a_bad_path_is_named_with_everything_else_that_is_bad() {
    let world = world();
    let alice = world.client("alice");
    let sent = alice.post(&path("x"), &json!({"client_seq": -1, "ciphertext": "aGk="})).await;
    assert_eq!(sent.bad_fields(), ["Idempotency-Key", "client_seq", "thread_id"]);
    let read = alice.post("/v1/threads/x/read", &json!({"up_to_msg_id": 7})).await;
    assert_eq!(read.bad_fields(), ["thread_id", "up_to_msg_id"]);
    let added = alice.post("/v1/threads/x/participants", &json!({"user_ids": []})).await;
    assert_eq!(added.bad_fields(), ["thread_id", "user_ids"]);
    let good = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let listed = alice.get(&format!("{}?page_size=0&before={good}", path("x"))).await;
    assert_eq!(listed.bad_fields(), ["page_size", "thread_id"]);
    assert_eq!(alice.get("/v1/threads/x").await.bad_fields(), ["thread_id"]);
}

#[tokio::test]
async fn a_client_that_takes_its_answer_in_drops_does_not_hold_it_for_ever() {
    let world = world_with(AdmissionLimits { answer_bytes: 12_000_000, ..admission() }, axum::Router::new());
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let ciphertext = STANDARD.encode(vec![7; 65_536]);
    for seq in 0..100_u64 {
        let body = json!({"client_seq": seq, "ciphertext": ciphertext});
        alice.post_as(&seq.to_string(), &path(&thread), &body).await.expect(202);
    }
    let take = TakeLimits { time: Duration::from_millis(300), bytes_per_second: u32::MAX };
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let socket = TcpSocket::new_v4().unwrap();
    socket.set_recv_buffer_size(4_096).unwrap();
    let address = listener.local_addr().unwrap();
    let limits = ServeLimits { take, ..serving() };
    tokio::spawn(serve(listener, None, world.app.clone(), limits, std::future::pending()));
    let mut slow = socket.connect(address).await.unwrap();
    let page = format!("{}?page_size=100", path(&thread));
    let head = format!("GET {page} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {}\r\n\r\n", alice.token());
    slow.write_all(head.as_bytes()).await.unwrap();
    let mut drop_by_drop = [0; 64];
    slow.read_exact(&mut drop_by_drop).await.unwrap();
    assert!(drop_by_drop.starts_with(b"HTTP/1.1 200"));
    alice.get(&page).await.problem(503, "overloaded");
    // It takes a little all the time, and would for minutes.
    let taking = async {
        while alice.get(&page).await.status != 200 {
            let _ = slow.read(&mut drop_by_drop).await;
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(10), taking).await.expect("cut off, and its room given back");
}
