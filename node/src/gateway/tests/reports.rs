//! Abuse: what users report, and what a suspended one is told.

use super::harness::{START, world, world_limited};
use crate::auth::Scopes;
use crate::config::{ClassLimits, RateLimitsConfig};
use messenger_proto::ids::{MessageId, Millis, ReportId};
use messenger_proto::limits::REPORT_NOTE_MAX;
use serde_json::json;

const PATH: &str = "/v1/reports";

#[tokio::test]
async fn what_one_can_see_is_reported_and_kept_once() {
    let world = world();
    let (ann, bob) = (world.client("ann"), world.client("bob"));
    let thread = bob.group(&["ann"]).await;
    let message = bob.say(&thread, 1).await;
    let mut ids = Vec::new();
    for subject in [json!({"message_id": message}), json!({"thread_id": thread}), json!({"user_id": "bob"})] {
        let mut body = subject;
        body["reason"] = json!("spam");
        let answer = ann.post(PATH, &body).await.expect(202);
        let id: ReportId = answer["report_id"].as_str().unwrap().parse().unwrap();
        assert!(id.filed_at() >= Millis(START));
        ids.push(id);
    }
    assert!(ids.windows(2).all(|pair| pair[0] < pair[1]));
    let body = json!({"message_id": message, "reason": "abuse", "note": "again and again"});
    let first = ann.post_as("k", PATH, &body).await.expect(202);
    let again = ann.post_as("k", PATH, &body).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(again.expect(202), first);
    let other = json!({"message_id": message, "reason": "abuse", "note": "something else"});
    ann.post_as("k", PATH, &other).await.problem(422, "idempotency_key_reused");
}

#[tokio::test]
async fn what_one_can_not_see_is_not_reported() {
    let world = world();
    let (ann, bob, eve) = (world.client("ann"), world.client("bob"), world.client("eve"));
    let thread = bob.group(&["ann"]).await;
    let message = bob.say(&thread, 1).await;
    let spam = |member: &str, id: &str| json!({member: id, "reason": "spam"});
    for (member, id) in [("message_id", message.as_str()), ("thread_id", thread.as_str())] {
        eve.post(PATH, &spam(member, id)).await.problem(403, "not_a_member");
    }
    eve.post(PATH, &spam("user_id", "bob")).await.problem(403, "forbidden");
    eve.post(PATH, &spam("user_id", "nobody")).await.problem(403, "forbidden");
    ann.post(PATH, &spam("message_id", &MessageId(7).to_string())).await.problem(404, "not_found");
    let reader = world.client_with("ann", "phone", Scopes::parse("chat.read"));
    reader.post(PATH, &spam("message_id", &message)).await.problem(403, "missing_scope");
}

#[tokio::test]
async fn all_that_is_wrong_with_a_report_is_said() {
    let world = world();
    let ann = world.client("ann");
    let bad = ann.post(PATH, &json!({"reason": "boredom", "note": "x".repeat(REPORT_NOTE_MAX + 1), "more": 1})).await;
    assert_eq!(bad.bad_fields(), ["message_id", "more", "note", "reason"]);
    let both = json!({"user_id": "bob", "thread_id": "09090909-0909-0909-0909-090909090909", "reason": "spam"});
    assert_eq!(ann.post(PATH, &both).await.bad_fields(), ["message_id"]);
    assert_eq!(ann.post(PATH, &json!({"user_id": "ann", "reason": "spam"})).await.bad_fields(), ["user_id"]);
    assert_eq!(ann.post(PATH, &json!({"user_id": "b b", "reason": "spam"})).await.bad_fields(), ["user_id"]);
}

#[tokio::test]
async fn reports_have_a_limit_of_their_own() {
    let reports = ClassLimits { window_s: 3_600, per_user: 2, per_device: 2, per_address: 0 };
    let world = world_limited(&RateLimitsConfig { reports, ..RateLimitsConfig::never_met() });
    let (ann, bob) = (world.client("ann"), world.client("bob"));
    bob.pair("ann").await;
    let body = json!({"user_id": "bob", "reason": "other"});
    for _ in 0..2 {
        ann.post(PATH, &body).await.expect(202);
    }
    ann.post(PATH, &body).await.problem(429, "rate_limited");
    ann.get("/v1/threads").await.expect(200);
}

#[tokio::test]
async fn who_is_suspended_is_told_so_on_every_route_and_what_is_sent_to_it_is_kept() {
    let world = world();
    let (ann, bob) = (world.client("ann"), world.client("bob"));
    let thread = ann.group(&["bob"]).await;
    world.memory.suspend("bob", None, true);
    let path = format!("/v1/threads/{thread}");
    bob.get(&path).await.problem(401, "suspended");
    bob.post_as("k", &format!("{path}/messages"), &json!({"client_seq": 1})).await.problem(401, "suspended");
    bob.post(PATH, &json!({})).await.problem(401, "suspended");
    bob.delete("/v1/users/me/devices/phone").await.problem(401, "suspended");
    let message = ann.say(&thread, 1).await;
    let refused = bob.get("/v1/threads").await;
    assert!(refused.header("www-authenticate").is_some_and(|challenge| challenge.contains("invalid_token")));

    world.memory.suspend("cat", Some("phone"), true);
    world.client("cat").get("/v1/threads").await.problem(401, "suspended");
    world.device("cat", "tablet").get("/v1/threads").await.expect(200);
    assert_eq!(ann.get(&format!("/v1/messages/{message}")).await.expect(200)["id"], json!(message));
}
