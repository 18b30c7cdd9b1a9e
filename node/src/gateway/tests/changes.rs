//! Changing messages that were sent.

use super::harness::world;
use serde_json::{Value, json};

const UNKNOWN: &str = "/v1/messages/01ARZ3NDEKTSV4RRFFQ69G5FAV";

fn seqs(page: &Value) -> Vec<u64> {
    page["messages"].as_array().unwrap().iter().map(|message| message["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_sender_edits_and_deletes_what_it_sent() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.group(&["bob"]).await;
    let id = alice.say(&thread, 1).await;
    let path = format!("/v1/messages/{id}");
    let sent = alice.get(&path).await.expect(200);
    world.advance(1_000);
    let edited = alice.patch(&path, &json!({"ciphertext": "bmV3"})).await.expect(200);
    assert_eq!((&edited["ciphertext"], &edited["seq"]), (&json!("bmV3"), &sent["seq"]));
    assert!(edited["edited_at"].as_str() > sent["created_at"].as_str());
    assert_eq!(edited["receipts"], json!({"of": 1, "delivered": 0, "read": 0}));
    assert_eq!(alice.get(&path).await.expect(200), edited);
    for _ in 0..2 {
        alice.delete(&path).await.expect_empty(204);
    }
    let deleted = bob.get(&path).await.expect(200);
    assert_eq!((&deleted["ciphertext"], &deleted["deleted"]), (&Value::Null, &json!(true)));
    alice.patch(&path, &json!({"ciphertext": "bmV3"})).await.problem(409, "message_deleted");
    assert_eq!(alice.get(&format!("{path}/recipients")).await.expect(200)["recipients"].as_array().unwrap().len(), 1);
    let listed = bob.get("/v1/threads").await.expect(200);
    assert_eq!(listed["threads"][0]["unread_count"], json!(0), "a deleted message is not unread");
}

#[tokio::test]
async fn others_and_latecomers_change_nothing() {
    let world = world();
    let (alice, bob, eve) = (world.client("alice"), world.client("bob"), world.client("eve"));
    let thread = alice.group(&["bob"]).await;
    let path = format!("/v1/messages/{}", alice.say(&thread, 1).await);
    let body = json!({"ciphertext": "bmV3"});
    bob.patch(&path, &body).await.problem(403, "forbidden");
    bob.delete(&path).await.problem(403, "forbidden");
    eve.patch(&path, &body).await.problem(403, "not_a_member");
    eve.delete(&path).await.problem(403, "not_a_member");
    alice.patch(UNKNOWN, &body).await.problem(404, "not_found");
    alice.delete(UNKNOWN).await.problem(404, "not_found");
    world.advance(15 * 60 * 1_000 + 1);
    alice.patch(&path, &body).await.problem(403, "change_window_closed");
    alice.delete(&path).await.problem(403, "change_window_closed");
    assert_eq!(alice.get(&path).await.expect(200)["ciphertext"], json!("aGk="));
}

#[tokio::test]
async fn every_bad_field_of_an_edit_is_named() {
    let world = world();
    let alice = world.client("alice");
    let bad = json!({"ciphertext": "?", "client_seq": 1});
    assert_eq!(alice.patch("/v1/messages/x", &bad).await.bad_fields(), ["ciphertext", "client_seq", "message_id"]);
    assert_eq!(alice.patch(UNKNOWN, &json!({})).await.bad_fields(), ["ciphertext"]);
    assert_eq!(alice.delete("/v1/messages/x").await.bad_fields(), ["message_id"]);
    assert_eq!(alice.get("/v1/messages/x").await.bad_fields(), ["message_id"]);
    assert_eq!(world.commands(), 0);
}

#[tokio::test]
async fn changed_since_gives_each_message_once_at_its_latest_change() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.group(&["bob"]).await;
    let mut ids = Vec::new();
    for number in 1..=5 {
        ids.push(alice.say(&thread, number).await);
    }
    for (id, ciphertext) in [(&ids[1], "b25l"), (&ids[0], "b25l"), (&ids[1], "dHdv")] {
        alice.patch(&format!("/v1/messages/{id}"), &json!({"ciphertext": ciphertext})).await.expect(200);
    }
    alice.delete(&format!("/v1/messages/{}", ids[3])).await.expect_empty(204);
    let path = |since: u64| format!("/v1/threads/{thread}/messages?changed_since={since}");
    let all = bob.get(&path(0)).await.expect(200);
    assert_eq!((seqs(&all), &all["next_cursor"]), (vec![4, 6, 2, 3, 5], &Value::Null));
    assert_eq!(all["messages"][3]["ciphertext"], json!("dHdv"));
    assert_eq!(seqs(&bob.get(&path(7)).await.expect(200)), [2, 3, 5]);
    assert_eq!(seqs(&bob.get(&path(11)).await.expect(200)), [] as [u64; 0]);
    let (mut paged, mut cursor) = (Vec::new(), String::new());
    loop {
        let page = bob.get(&format!("{}&page_size=2{cursor}", path(0))).await.expect(200);
        paged.extend(seqs(&page));
        let Some(next) = page["next_cursor"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(paged, [4, 6, 2, 3, 5]);
}

#[tokio::test]
async fn members_react_and_take_it_back() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.group(&["bob"]).await;
    let path = format!("/v1/messages/{}", alice.say(&thread, 1).await);
    let all = format!("{path}/reactions");
    let emoji = |emoji: &str| json!({"emoji": emoji});
    let reacted = bob.post(&all, &emoji("\u{1f44d}")).await.expect(200);
    assert_eq!(reacted["reactions"], json!([{"emoji": "\u{1f44d}", "by": ["bob"]}]));
    assert_eq!(bob.post(&all, &emoji("\u{1f44d}")).await.expect(200), reacted);
    assert_eq!(bob.get(&path).await.expect(200), reacted);
    bob.post(&all, &emoji("a/b c?")).await.expect(200);
    for _ in 0..2 {
        bob.delete(&format!("{all}/a%2Fb%20c%3F")).await.expect_empty(204);
        bob.delete(&format!("{all}/%F0%9F%91%8D")).await.expect_empty(204);
    }
    assert_eq!(alice.get(&path).await.expect(200)["reactions"], json!([]));
    let thread = alice.get(&format!("/v1/threads/{thread}")).await.expect(200);
    assert_eq!(thread["last_seq"], json!(6), "what changes nothing takes no seq");
}

#[tokio::test]
async fn a_reaction_s_key_is_good_for_one_emoji_on_one_message() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.group(&["bob"]).await;
    let (one, two) = (alice.say(&thread, 1).await, alice.say(&thread, 2).await);
    let path = |id: &str| format!("/v1/messages/{id}/reactions");
    alice.post_as("k", &path(&one), &json!({"emoji": "+"})).await.expect(200);
    let again = alice.post_as("k", &path(&one), &json!({"emoji": "+"})).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    again.expect(200);
    alice.post_as("k", &path(&one), &json!({"emoji": "-"})).await.problem(422, "idempotency_key_reused");
    assert!(alice.post_as("k", &path(&two), &json!({"emoji": "-"})).await.header("idempotent-replayed").is_none());
}

#[tokio::test]
async fn reactions_that_may_not_be_are_refused() {
    let world = world();
    let (alice, eve) = (world.client("alice"), world.client("eve"));
    for emoji in [json!(""), json!("x".repeat(65)), json!("a\nb"), json!(".."), json!(7), Value::Null] {
        let body = json!({"emoji": emoji});
        assert_eq!(alice.post(&format!("{UNKNOWN}/reactions"), &body).await.bad_fields(), ["emoji"], "{body}");
    }
    let bad = json!({"emoji": "", "x": 1});
    let all = ["Idempotency-Key", "emoji", "message_id", "x"];
    assert_eq!(alice.post_as("", "/v1/messages/x/reactions", &bad).await.bad_fields(), all);
    assert_eq!(alice.delete("/v1/messages/x/reactions/%0A").await.bad_fields(), ["emoji", "message_id"]);
    assert_eq!(world.commands(), 0);
    alice.post(&format!("{UNKNOWN}/reactions"), &json!({"emoji": "+"})).await.problem(404, "not_found");
    let thread = alice.group(&["bob"]).await;
    let path = format!("/v1/messages/{}", alice.say(&thread, 1).await);
    eve.post(&format!("{path}/reactions"), &json!({"emoji": "+"})).await.problem(403, "not_a_member");
    eve.delete(&format!("{path}/reactions/+")).await.problem(403, "not_a_member");
    for number in 0..20 {
        alice.post(&format!("{path}/reactions"), &json!({"emoji": number.to_string()})).await.expect(200);
    }
    alice.post(&format!("{path}/reactions"), &json!({"emoji": "+"})).await.problem(409, "too_many_reactions");
    alice.delete(&path).await.expect_empty(204);
    alice.post(&format!("{path}/reactions"), &json!({"emoji": "+"})).await.problem(409, "message_deleted");
}
