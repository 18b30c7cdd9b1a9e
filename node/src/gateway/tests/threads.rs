//! Making threads, and looking at one.

use super::harness::{Client, world};
use axum::body::Body;
use axum::http::Method;
use serde_json::{Value, json};

fn names(thread: &Value) -> Vec<(&str, &str)> {
    let participants = thread["participants"].as_array().unwrap().iter();
    participants.map(|one| (one["user_id"].as_str().unwrap(), one["role"].as_str().unwrap())).collect()
}

async fn refused(client: &Client<'_>, body: Value) -> Vec<String> {
    client.post("/v1/threads", &body).await.bad_fields()
}

#[tokio::test]
async fn a_pair_has_one_thread_whoever_asks() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let made = alice.post("/v1/threads", &json!({"type": "1_TO_1", "participants": ["bob"]})).await;
    let location = made.header("location").map(str::to_owned);
    let thread = made.expect(201);
    assert_eq!(location, Some(format!("/v1/threads/{}", thread["id"].as_str().unwrap())));
    assert_eq!(
        (&thread["type"], &thread["title"], &thread["created_by"]),
        (&json!("1_TO_1"), &json!(null), &json!("alice"))
    );
    assert_eq!(names(&thread).len(), 2);
    let again = bob.post("/v1/threads", &json!({"type": "1_TO_1", "participants": ["alice", "bob"]})).await;
    assert!(again.header("location").is_none() && again.header("idempotent-replayed").is_none());
    assert_eq!(again.expect(200)["id"], thread["id"]);
    let path = format!("/v1/threads/{}", thread["id"].as_str().unwrap());
    assert_eq!(bob.get(&path).await.expect(200), thread);
}

#[tokio::test]
async fn a_group_has_its_creator_and_each_of_the_others_once() {
    let world = world();
    let alice = world.client("alice");
    let body = json!({
        "type": "GROUP", "participants": ["bob", "alice", "carol", "bob"], "title": "Café ☕", "description": "d",
    });
    let thread = alice.post("/v1/threads", &body).await.expect(201);
    assert_eq!((&thread["title"], &thread["description"]), (&json!("Café ☕"), &json!("d")));
    let mut members = names(&thread);
    members.sort_unstable();
    assert_eq!(members, [("alice", "admin"), ("bob", "member"), ("carol", "member")]);
    assert_eq!(thread["settings"], json!({}));
    assert_ne!(alice.post("/v1/threads", &body).await.expect(201)["id"], thread["id"], "two groups without a key");
}

#[tokio::test]
async fn every_bad_field_of_a_creation_is_named() {
    let world = world();
    let alice = world.client("alice");
    let bad = json!({
        "type": "CHANNEL", "participants": ["bob", "me", 7, ""], "title": "t".repeat(257), "description": 1, "x": 1,
    });
    let expected = ["description", "participants[1]", "participants[2]", "participants[3]", "title", "type", "x"];
    assert_eq!(refused(&alice, bad).await, expected);
    assert_eq!(refused(&alice, json!({})).await, ["participants", "type"]);
    assert_eq!(refused(&alice, json!({"type": "GROUP", "participants": "bob"})).await, ["participants"]);
    for participants in [json!([]), json!(["alice"]), json!(["bob", "carol"])] {
        let body = json!({"type": "1_TO_1", "participants": participants});
        assert_eq!(refused(&alice, body).await, ["participants"]);
    }
    for participants in [json!([]), json!(["alice"])] {
        let body = json!({"type": "GROUP", "participants": participants});
        assert_eq!(refused(&alice, body).await, ["participants"]);
    }
    assert_eq!(world.commands(), 0, "nothing of it reached a shard");
}

#[tokio::test]
async fn a_group_has_at_most_250_participants() {
    let world = world();
    let alice = world.client("alice");
    let others: Vec<String> = (0..250).map(|n| format!("user{n}")).collect();
    let body = |others: &[String]| json!({"type": "GROUP", "participants": others});
    assert_eq!(refused(&alice, body(&others)).await, ["participants"]);
    let thread = alice.post("/v1/threads", &body(&others[..249])).await.expect(201);
    assert_eq!(names(&thread).len(), 250);
    let many: Vec<String> = (0..2000).map(|n| format!("user{n}")).collect();
    assert_eq!(refused(&alice, body(&many)).await, ["participants"]);
}

#[tokio::test]
async fn a_key_makes_one_thread() {
    let world = world();
    let alice = world.client("alice");
    let group = json!({"type": "GROUP", "participants": ["bob"], "title": "t"});
    let pair = json!({"type": "1_TO_1", "participants": ["bob"]});
    for (key, body) in [("g", &group), ("p", &pair)] {
        let first = alice.post_as(key, "/v1/threads", body).await;
        assert!(first.header("idempotent-replayed").is_none());
        let first = first.expect(201);
        let again = alice.post_text("/v1/threads", &[("idempotency-key", key)], &reordered(body)).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert!(again.header("location").is_some());
        assert_eq!(again.expect(201)["id"], first["id"], "the first answer again, status included");
    }
    // The pair exists now, so another key finds it rather than makes it, and remembers that.
    for replayed in [None, Some("true")] {
        let found = alice.post_as("p2", "/v1/threads", &pair).await;
        assert_eq!(found.header("idempotent-replayed"), replayed);
        found.expect(200);
    }
    // Someone else's key of the same name is another key.
    world.client("carol").post_as("g", "/v1/threads", &group).await.expect(201);
}

/// The same JSON with its members the other way round.
fn reordered(body: &Value) -> String {
    let members = body.as_object().unwrap().iter().rev().map(|(name, value)| format!(" {} : {value}", json!(name)));
    format!("{{{}}}", members.collect::<Vec<_>>().join(","))
}

#[tokio::test]
async fn a_key_is_good_for_one_body_whatever_shard_that_leads_to() {
    let world = world();
    let alice = world.client("alice");
    let group = |other: &str| json!({"type": "GROUP", "participants": [other]});
    let pair = |other: &str| json!({"type": "1_TO_1", "participants": [other]});
    // Enough pairs to fall on every shard.
    for other in ["b", "c", "d", "e", "f", "g", "h", "i"] {
        let (pair_key, group_key) = (format!("pair-{other}"), format!("group-{other}"));
        alice.post_as(&pair_key, "/v1/threads", &pair(other)).await.expect(201);
        alice.post_as(&group_key, "/v1/threads", &group(other)).await.expect(201);
        for key in [&pair_key, &group_key] {
            for body in [pair("z"), group("z")] {
                alice.post_as(key, "/v1/threads", &body).await.problem(422, "idempotency_key_reused");
            }
        }
        assert_eq!(alice.post_as(&pair_key, "/v1/threads", &pair(other)).await.status, 201);
        assert_eq!(alice.post_as(&group_key, "/v1/threads", &group(other)).await.status, 201);
    }
}

#[tokio::test]
async fn a_thread_is_for_its_members() {
    let world = world();
    let (alice, eve) = (world.client("alice"), world.client("eve"));
    let thread = alice.group(&["bob"]).await;
    eve.get(&format!("/v1/threads/{thread}")).await.problem(403, "not_a_member");
    alice.get("/v1/threads/00000000-0000-4000-8000-000000000000").await.problem(404, "not_found");
    for id in ["x", "00000000000040008000000000000000", "%7B", "..", "%ff"] {
        let answer = alice.get(&format!("/v1/threads/{id}")).await;
        assert_eq!(answer.status, 400, "{id}");
        answer.problem(400, "invalid_request");
    }
    assert_eq!(alice.get("/v1/threads/x").await.bad_fields(), ["thread_id"]);
    let upper = thread.to_uppercase();
    assert_eq!(alice.get(&format!("/v1/threads/{upper}")).await.expect(200)["id"], json!(thread));
}

#[tokio::test]
async fn an_admin_changes_what_a_group_is_called() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.group(&["bob"]).await;
    let path = format!("/v1/threads/{thread}");
    let changed = alice.patch(&path, &json!({"title": "t", "description": "d"})).await.expect(200);
    assert_eq!((&changed["title"], &changed["description"]), (&json!("t"), &json!("d")));
    assert_eq!(bob.get(&path).await.expect(200), changed);
    let partly = alice.patch(&path, &json!({"title": null})).await.expect(200);
    assert_eq!((&partly["title"], &partly["description"], &partly["last_seq"]), (&json!(null), &json!("d"), &json!(3)));
    assert_eq!(alice.patch(&path, &json!({})).await.expect(200), partly);
    bob.patch(&path, &json!({"title": "b"})).await.problem(403, "forbidden");
    world.client("eve").patch(&path, &json!({"title": "e"})).await.problem(403, "not_a_member");
    let pair = alice.pair("bob").await;
    alice.patch(&format!("/v1/threads/{pair}"), &json!({"title": "p"})).await.problem(409, "not_a_group");
    let unknown = "/v1/threads/00000000-0000-4000-8000-000000000000";
    alice.patch(unknown, &json!({"title": "p"})).await.problem(404, "not_found");
    let before = world.commands();
    let bad = json!({"title": "t".repeat(257), "description": 1, "type": "GROUP"});
    assert_eq!(alice.patch("/v1/threads/x", &bad).await.bad_fields(), ["description", "thread_id", "title", "type"]);
    assert_eq!(world.commands(), before);
}

#[tokio::test]
async fn a_thread_that_did_not_change_is_not_sent_again() {
    let world = world();
    let (alice, bob) = (world.client("alice"), world.client("bob"));
    let thread = alice.group(&["bob"]).await;
    let path = format!("/v1/threads/{thread}");
    let ask = async |client: &Client<'_>, method: Method, tag: &str| {
        client.request(method, &path, &[("if-none-match", tag)], Body::empty()).await
    };
    let first = alice.get(&path).await;
    let tag = first.header("etag").unwrap().to_owned();
    assert!(tag.starts_with("W/\""), "{tag}");
    for method in [Method::GET, Method::HEAD] {
        for held in [&tag, &format!("\"x\", {}", tag.trim_start_matches("W/")), "*"] {
            let same = ask(&alice, method.clone(), held).await.expect_empty(304);
            assert_eq!((same.header("etag"), same.header("cache-control")), (Some(&*tag), Some("private, no-cache")));
        }
    }
    assert_eq!(ask(&alice, Method::GET, "\"x\"").await.expect(200), first.json());

    // Whatever changes what is seen changes the tag, through every device alike.
    let mut tags = vec![tag];
    let mut changed = async |what: &str| {
        let held = tags.last().unwrap();
        let answer = ask(&world.device("alice", "tablet"), Method::GET, held).await;
        let tag = answer.header("etag").unwrap().to_owned();
        assert_eq!(answer.expect(200)["id"], json!(thread), "{what}");
        assert!(!tags.contains(&tag), "{what}");
        ask(&alice, Method::GET, &tag).await.expect_empty(304);
        tags.push(tag);
    };
    alice.say(&thread, 1).await;
    changed("a message").await;
    alice.patch(&path, &json!({"title": "t"})).await.expect(200);
    changed("a title").await;
    alice.post(&format!("{path}/participants"), &json!({"user_ids": ["carol"]})).await.expect(200);
    changed("a participant").await;

    // A tag lets nobody see more than without it.
    bob.delete(&format!("{path}/participants/bob")).await.expect_empty(204);
    ask(&bob, Method::GET, "*").await.problem(403, "not_a_member");
    let patched = alice.request(Method::PATCH, &path, &[("if-none-match", "*")], Body::empty()).await;
    patched.problem(415, "unsupported_media_type");
}
