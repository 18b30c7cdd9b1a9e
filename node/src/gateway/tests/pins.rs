//! Messages that stand out in their threads.

use super::harness::world;
use serde_json::{Value, json};

const UNKNOWN: &str = "/v1/threads/00000000-0000-4000-8000-000000000000/pins";

fn pinned(list: &Value) -> Vec<&str> {
    list["pins"].as_array().unwrap().iter().map(|pin| pin["message_id"].as_str().unwrap()).collect()
}

#[tokio::test]
async fn three_messages_are_pinned_and_the_fourth_is_not() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.group(&["bob"]).await;
    let path = format!("/v1/threads/{thread}/pins");
    assert_eq!(bob.get(&path).await.expect(200), json!({"pins": []}));
    let mut ids = Vec::new();
    for number in 1..=4 {
        ids.push(alice.say(&thread, number).await);
    }
    let body = |id: &str| json!({"message_id": id});
    let first = bob.post(&path, &body(&ids[0])).await.expect(200);
    assert_eq!((&first["pins"][0]["message_id"], &first["pins"][0]["by"]), (&json!(ids[0]), &json!("bob")));
    assert!(first["pins"][0]["at"].as_str().is_some_and(|at| at.ends_with('Z')));
    for id in [&ids[1], &ids[2], &ids[0]] {
        alice.post(&path, &body(id)).await.expect(200);
    }
    alice.post(&path, &body(&ids[3])).await.problem(409, "too_many_pins");
    for _ in 0..2 {
        alice.delete(&format!("{path}/{}", ids[1])).await.expect_empty(204);
    }
    assert_eq!(pinned(&alice.post(&path, &body(&ids[3])).await.expect(200)), [&ids[0], &ids[2], &ids[3]]);
    alice.delete(&format!("/v1/messages/{}", ids[0])).await.expect_empty(204);
    assert_eq!(pinned(&bob.get(&path).await.expect(200)), [&ids[2], &ids[3]]);
    alice.post(&path, &body(&ids[0])).await.problem(409, "message_deleted");
}

#[tokio::test]
async fn a_pin_s_key_is_good_for_one_message() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.group(&["bob"]).await;
    let path = format!("/v1/threads/{thread}/pins");
    let (one, two) =
        (json!({"message_id": alice.say(&thread, 1).await}), json!({"message_id": alice.say(&thread, 2).await}));
    let first = alice.post_as("k", &path, &one).await.expect(200);
    let again = alice.post_as("k", &path, &one).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(200), first);
    alice.post_as("k", &path, &two).await.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn pins_that_may_not_be_are_refused() {
    let world = world();
    let (alice, eve) = (world.client("alice"), world.client("eve"));
    let bad = json!({"message_id": "x", "y": 1});
    let fields = ["Idempotency-Key", "message_id", "thread_id", "y"];
    assert_eq!(alice.post_as("", "/v1/threads/x/pins", &bad).await.bad_fields(), fields);
    assert_eq!(alice.post(UNKNOWN, &json!({})).await.bad_fields(), ["message_id"]);
    assert_eq!(alice.get("/v1/threads/x/pins").await.bad_fields(), ["thread_id"]);
    assert_eq!(alice.delete("/v1/threads/x/pins/y").await.bad_fields(), ["message_id", "thread_id"]);
    assert_eq!(world.commands(), 0);
    let thread = alice.group(&["bob"]).await;
    let (path, id) = (format!("/v1/threads/{thread}/pins"), alice.say(&thread, 1).await);
    let elsewhere = alice.pair("bob").await;
    let other = json!({"message_id": alice.say(&elsewhere, 1).await});
    alice.post(&path, &other).await.problem(404, "not_found");
    alice.get(UNKNOWN).await.problem(404, "not_found");
    eve.get(&path).await.problem(403, "not_a_member");
    eve.post(&path, &json!({"message_id": id})).await.problem(403, "not_a_member");
    eve.delete(&format!("{path}/{id}")).await.problem(403, "not_a_member");
}
