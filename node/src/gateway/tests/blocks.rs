//! Keeping others away, and sending again what failed.

use super::harness::{Client, World, world};
use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

async fn put(client: &Client<'_>, user: &str) -> super::harness::Answer {
    client.request(Method::PUT, &format!("/v1/users/me/blocks/{user}"), &[], Body::empty()).await
}

async fn blocks(client: &Client<'_>) -> Value {
    client.get("/v1/users/me/blocks").await.expect(200)["blocks"].take()
}

/// How far a message got, by user.
async fn states(sender: &Client<'_>, message: &str) -> Vec<(String, String)> {
    let answer = sender.get(&format!("/v1/messages/{message}/recipients")).await.expect(200);
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    let recipients = answer["recipients"].as_array().unwrap().iter();
    recipients.map(|one| (text(&one["recipient_id"]), text(&one["state"]))).collect()
}

async fn shown(client: &Client<'_>, thread: &str) -> Vec<String> {
    let answer = client.get(&format!("/v1/threads/{thread}/messages")).await.expect(200);
    let messages = answer["messages"].as_array().unwrap().iter();
    messages.map(|message| message["id"].as_str().unwrap().to_owned()).collect()
}

fn state(user: &str, state: &str) -> (String, String) {
    (user.to_owned(), state.to_owned())
}

#[tokio::test]
async fn the_list_is_the_user_s_own_sorted_and_changed_as_often_as_one_likes() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    assert_eq!(blocks(&alice).await, json!([]));
    for name in ["mallory", "bob", "nobody.of.that.name", "bob"] {
        put(&alice, name).await.expect_empty(204);
    }
    assert_eq!(blocks(&alice).await, json!(["bob", "mallory", "nobody.of.that.name"]));
    assert_eq!(blocks(&bob).await, json!([]));
    for _ in 0..2 {
        alice.delete("/v1/users/me/blocks/bob").await.expect_empty(204);
    }
    assert_eq!(blocks(&alice).await, json!(["mallory", "nobody.of.that.name"]));
    for oneself in ["me", "alice"] {
        assert_eq!(put(&alice, oneself).await.bad_fields(), ["user_id"]);
    }
    assert_eq!(put(&alice, "a%20b").await.bad_fields(), ["user_id"]);
    let reader = world.client_with("alice", "phone", crate::auth::Scopes::parse("chat.read"));
    put(&reader, "bob").await.problem(403, "missing_scope");
    let answer = alice.post("/v1/users/me/blocks/bob", &json!({})).await;
    assert_eq!(answer.header("allow"), Some("PUT, DELETE, OPTIONS"));
    answer.problem(405, "method_not_allowed");
}

#[tokio::test]
async fn a_list_has_its_bound() {
    let world = world();
    let alice = world.client("alice");
    for number in 0..messenger_proto::limits::USER_BLOCKS_MAX {
        put(&alice, &format!("u{number}")).await.expect_empty(204);
    }
    put(&alice, "u0").await.expect_empty(204);
    put(&alice, "one.more").await.problem(409, "too_many_blocks");
}

#[tokio::test]
async fn what_is_sent_after_the_answer_fails_and_is_shown_to_the_others_alone() {
    let world = world();
    let (alice, bob, carol) = (world.client("alice"), world.client("bob"), world.client("carol"));
    let (group, pair) = (alice.group(&["bob", "carol"]).await, bob.pair("alice").await);
    let before = bob.say(&group, 1).await;
    put(&alice, "bob").await.expect_empty(204);
    let (after, alone) = (bob.say(&group, 2).await, bob.say(&pair, 3).await);
    assert_eq!(states(&bob, &before).await, [state("alice", "SENT"), state("carol", "SENT")]);
    assert_eq!(states(&bob, &after).await, [state("alice", "FAILED"), state("carol", "SENT")]);
    assert_eq!(states(&bob, &alone).await, [state("alice", "FAILED")]);
    assert_eq!(shown(&alice, &group).await, [before.as_str()]);
    assert_eq!(shown(&carol, &group).await, [after.as_str(), &before]);
    assert!(shown(&alice, &pair).await.is_empty());
    for path in [format!("/v1/messages/{after}"), format!("/v1/messages/{after}/recipients")] {
        alice.get(&path).await.problem(404, "not_found");
        carol.get(&path).await.expect(200);
    }
    let path = format!("/v1/threads/{group}/read");
    alice.post(&path, &json!({"up_to_msg_id": after})).await.problem(404, "not_found");
    let list = alice.get("/v1/threads").await.expect(200);
    let group_row = list["threads"].as_array().unwrap().iter().find(|row| row["id"] == json!(group)).unwrap();
    assert_eq!((&group_row["last_message"]["id"], &group_row["unread_count"]), (&json!(before), &json!(1)));
    // Who is kept away may make a thread all the same, and reaches nobody in it.
    let fresh = bob.group(&["alice"]).await;
    let third = bob.say(&fresh, 4).await;
    assert_eq!(states(&bob, &third).await, [state("alice", "FAILED")]);
    // And is shown when that is over.
    alice.delete("/v1/users/me/blocks/bob").await.expect_empty(204);
    let later = bob.say(&group, 5).await;
    assert_eq!(shown(&alice, &group).await, [later, before]);
}

async fn send(client: &Client<'_>, thread: &str, key: &str) -> super::harness::Answer {
    let body = json!({"client_seq": 1, "ciphertext": "aGk=", "ttl_seconds": 60});
    client.post_as(key, &format!("/v1/threads/{thread}/messages"), &body).await
}

async fn failed(world: &World) -> (String, String) {
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.pair("bob").await;
    put(&alice, "bob").await.expect_empty(204);
    let first = send(&bob, &thread, "first").await.expect(202);
    (thread, first["id"].as_str().unwrap().to_owned())
}

#[tokio::test]
async fn a_new_key_with_the_same_body_sends_again_what_failed() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let (thread, id) = failed(&world).await;
    world.advance(30_000);
    let second = send(&bob, &thread, "second").await.expect(202);
    assert_eq!(second["id"], json!(id), "the same message");
    assert_eq!(states(&bob, &id).await, [state("alice", "FAILED")], "she still keeps him away");
    assert!(shown(&alice, &thread).await.is_empty());
    alice.delete("/v1/users/me/blocks/bob").await.expect_empty(204);
    world.advance(60_000);
    let third = send(&bob, &thread, "third").await.expect(202);
    assert_eq!((&third["id"], &third["deleted"], &third["ciphertext"]), (&json!(id), &json!(false), &json!("aGk=")));
    assert!(third["expires_at"].as_str() > second["expires_at"].as_str(), "its time begins anew");
    assert_eq!(states(&bob, &id).await, [state("alice", "SENT")]);
    assert_eq!(shown(&alice, &thread).await, [id.as_str()]);
    let again = send(&bob, &thread, "third").await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(202)["id"], json!(id));
    // Nobody is left for whom it failed.
    let problem = send(&bob, &thread, "fourth").await.problem(409, "duplicate_client_seq");
    assert_eq!(problem["id"], json!(id));
    alice.post(&format!("/v1/threads/{thread}/read"), &json!({"up_to_msg_id": id})).await.expect_empty(204);
    assert_eq!(states(&bob, &id).await, [state("alice", "READ")]);
}

#[tokio::test]
async fn another_body_or_a_day_later_it_is_a_duplicate() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let (thread, id) = failed(&world).await;
    alice.delete("/v1/users/me/blocks/bob").await.expect_empty(204);
    let body = json!({"client_seq": 1, "ciphertext": "b3RoZXI=", "ttl_seconds": 60});
    let path = format!("/v1/threads/{thread}/messages");
    assert_eq!(bob.post_as("k", &path, &body).await.problem(409, "duplicate_client_seq")["id"], json!(id));
    world.advance(24 * 3_600_000);
    let bob = world.device_now("bob", "phone");
    assert_eq!(send(&bob, &thread, "late").await.problem(409, "duplicate_client_seq")["id"], json!(id));
}

#[tokio::test]
async fn a_block_hides_two_users_from_each_other() {
    let world = world();
    let (alice, bob, carol) = (world.client("alice"), world.client("bob"), world.client("carol"));
    alice.group(&["bob", "carol"]).await;
    put(&alice, "bob").await.expect_empty(204);
    bob.get("/v1/users/alice/presence").await.problem(403, "presence_hidden");
    alice.get("/v1/users/bob/presence").await.problem(403, "presence_hidden");
    carol.get("/v1/users/alice/presence").await.expect(200);
    bob.get("/v1/users/carol/presence").await.expect(200);
    alice.delete("/v1/users/me/blocks/bob").await.expect_empty(204);
    bob.get("/v1/users/alice/presence").await.expect(200);
}
