//! Who is in a thread.

use super::harness::world;
use serde_json::{Value, json};

fn users(thread: &Value) -> Vec<&str> {
    let mut users: Vec<&str> =
        thread["participants"].as_array().unwrap().iter().map(|one| one["user_id"].as_str().unwrap()).collect();
    users.sort_unstable();
    users
}

#[tokio::test]
async fn an_admin_adds_and_removes() {
    let world = world();
    let (alice, bob, dave) = (world.client("alice"), world.client("bob"), world.client("dave"));
    let thread = alice.group(&["bob"]).await;
    let path = format!("/v1/threads/{thread}/participants");
    let added = alice.post(&path, &json!({"user_ids": ["carol", "dave", "bob", "carol"]})).await.expect(200);
    assert_eq!(users(&added), ["alice", "bob", "carol", "dave"]);
    assert_eq!(dave.get("/v1/threads").await.expect(200)["threads"][0]["id"], json!(thread), "indexed before the 200");
    bob.post(&path, &json!({"user_ids": ["eve"]})).await.problem(403, "forbidden");
    world.client("eve").post(&path, &json!({"user_ids": ["eve"]})).await.problem(403, "not_a_member");
    bob.delete(&format!("{path}/carol")).await.problem(403, "forbidden");
    alice.delete(&format!("{path}/carol")).await.expect_empty(204);
    world.client("carol").get(&format!("/v1/threads/{thread}")).await.problem(403, "not_a_member");
    alice.delete(&format!("{path}/carol")).await.problem(404, "not_found");
    bob.delete(&format!("{path}/bob")).await.expect_empty(204);
    let left = alice.get(&format!("/v1/threads/{thread}")).await.expect(200);
    assert_eq!(users(&left), ["alice", "dave"]);
}

#[tokio::test]
async fn the_group_outlives_its_admin() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.group(&["bob"]).await;
    alice.delete(&format!("/v1/threads/{thread}/participants/alice")).await.expect_empty(204);
    let seen = bob.get(&format!("/v1/threads/{thread}")).await.expect(200);
    assert_eq!((users(&seen), &seen["participants"][0]["role"]), (vec!["bob"], &json!("admin")));
}

#[tokio::test]
async fn what_cannot_be_changed_says_so() {
    let world = world();
    let alice = world.client("alice");
    let pair = alice.pair("bob").await;
    let path = format!("/v1/threads/{pair}/participants");
    alice.post(&path, &json!({"user_ids": ["carol"]})).await.problem(409, "not_a_group");
    alice.delete(&format!("{path}/bob")).await.problem(409, "not_a_group");
    let unknown = "/v1/threads/00000000-0000-4000-8000-000000000000/participants";
    alice.post(unknown, &json!({"user_ids": ["carol"]})).await.problem(404, "not_found");
    alice.delete(&format!("{unknown}/carol")).await.problem(404, "not_found");
    assert_eq!(alice.delete("/v1/threads/x/participants/me").await.bad_fields(), ["thread_id", "user_id"]);
    for body in [json!({}), json!({"user_ids": []}), json!({"user_ids": "carol"}), json!({"user_ids": ["a b"]})] {
        let fields = alice.post(&path, &body).await.bad_fields();
        assert!(fields == ["user_ids"] || fields == ["user_ids[0]"], "{fields:?}");
    }
    assert_eq!(alice.post(&path, &json!({"user_id": "carol"})).await.bad_fields(), ["user_id", "user_ids"]);
}

#[tokio::test]
async fn a_full_thread_takes_no_more() {
    let world = world();
    let alice = world.client("alice");
    let others: Vec<String> = (0..249).map(|n| format!("user{n}")).collect();
    let others: Vec<&str> = others.iter().map(String::as_str).collect();
    let thread = alice.group(&others).await;
    let path = format!("/v1/threads/{thread}/participants");
    alice.post(&path, &json!({"user_ids": ["one-more"]})).await.problem(409, "thread_full");
    alice.post(&path, &json!({"user_ids": ["user0"]})).await.expect(200);
    let many: Vec<String> = (0..300).map(|n| format!("new{n}")).collect();
    alice.post(&path, &json!({"user_ids": many})).await.problem(409, "thread_full");
}

#[tokio::test]
async fn a_key_adds_once() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.group(&["bob"]).await;
    let path = format!("/v1/threads/{thread}/participants");
    alice.post_as("k", &path, &json!({"user_ids": ["carol"]})).await.expect(200);
    alice.delete(&format!("{path}/carol")).await.expect_empty(204);
    let again = alice.post_as("k", &path, &json!({"user_ids": ["carol"]})).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(users(&again.expect(200)), ["alice", "bob"], "nobody was added again");
    alice.post_as("k", &path, &json!({"user_ids": ["dave"]})).await.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn whoever_is_in_as_many_threads_as_there_may_be_is_not_invited() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.group(&["carol"]).await;
    let (path, invite) = (format!("/v1/threads/{thread}/participants"), json!({"user_ids": ["bob", "dave"]}));
    world.memory.fill("bob", 1);
    // The last one; its repeat finds it, though there is no room for another.
    let group = json!({"type": "GROUP", "participants": ["bob"]});
    let last = alice.post_as("g", "/v1/threads", &group).await.expect(201);
    let commands = world.commands();
    let said = alice.post("/v1/threads", &group).await.problem(409, "conflict");
    assert!(said["detail"].as_str().unwrap().contains("bob"), "{said}");
    world
        .client("bob")
        .post("/v1/threads", &json!({"type": "GROUP", "participants": ["dave"]}))
        .await
        .problem(409, "conflict");
    alice.post("/v1/threads", &json!({"type": "1_TO_1", "participants": ["bob"]})).await.problem(409, "conflict");
    alice.post(&path, &invite).await.problem(409, "conflict");
    assert_eq!(world.commands(), commands, "nothing of it reached a shard");
    assert_eq!(alice.post_as("g", "/v1/threads", &group).await.expect(201)["id"], last["id"]);
    let theirs = format!("/v1/threads/{}/participants", last["id"].as_str().unwrap());
    alice.post(&theirs, &invite).await.expect(200);
    world.client("bob").delete(&format!("{theirs}/bob")).await.expect_empty(204);
    alice.post(&path, &invite).await.expect(200);
}
