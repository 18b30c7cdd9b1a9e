//! What of requests is recorded.

use super::harness::{Fault, START, World, world_audited};
use crate::audit::{Audit, AuditParts, Payload, directory, record::hex};
use crate::auth::Scopes;
use crate::config::AuditConfig;
use axum::body::Body;
use axum::http::{Method, Request};
use messenger_proto::audit::SendersOrder;
use messenger_proto::audit::SendersQuery;
use messenger_proto::ids::Millis;
use serde_json::{Value, json};
use std::path::Path;

fn audit(data: &Path) -> Audit {
    let parts = AuditParts { config: AuditConfig::default(), data: data.to_owned(), node: 1, disk_reserve_bytes: 0 };
    Audit::start(parts, Millis(START)).unwrap()
}

/// The records of both logs, in the order of each, once all are written.
fn records(audit: &Audit, data: &Path) -> Vec<Value> {
    audit.close();
    let text = |name: &str| std::fs::read_to_string(directory(data).join(name)).unwrap();
    let all = text("writes-0000000001.jsonl") + &text("refused-0000000001.jsonl");
    let records = all.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    records.filter(|record| record["kind"] == "request").collect()
}

/// What is to be told of a record here.
fn told(record: &Value) -> (Value, Value, Value, Value) {
    (record["method"].clone(), record["route"].clone(), record["status"].clone(), record["code"].clone())
}

async fn send(world: &World, thread: &str, key: &str, client_seq: u64) -> String {
    let body = json!({"client_seq": client_seq, "ciphertext": "c2VjcmV0LWNhbmFyeQ=="}).to_string();
    let headers = [("Idempotency-Key", key)];
    let answer = world.client("ann").post_text(&format!("/v1/threads/{thread}/messages"), &headers, &body).await;
    answer.expect(202)["id"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn each_write_leaves_a_record_and_no_word_of_what_it_says() {
    let data = tempfile::tempdir().unwrap();
    let audit = audit(data.path());
    let world = world_audited(&audit);
    let (ann, eve) = (world.client("ann"), world.client("eve"));
    let thread = ann.group(&["bob", "cat"]).await;
    let message = send(&world, &thread, "k1", 1).await;
    send(&world, &thread, "k1", 1).await;
    ann.post(&format!("/v1/messages/{message}/reactions"), &json!({"emoji": "canary"})).await.expect(200);
    ann.delete(&format!("/v1/messages/{message}/reactions/canary")).await.expect_empty(204);
    ann.get(&format!("/v1/threads/{thread}")).await.expect(200);
    let path = format!("/v1/threads/{thread}/messages");
    eve.post_as("k2", &path, &json!({"client_seq": 1, "ciphertext": "aGk="})).await.problem(403, "not_a_member");
    world.bearing("no.such.token").post(&path, &json!({})).await.problem(401, "unauthenticated");
    let reader = world.client_with("ann", "phone", Scopes::parse("chat.read"));
    reader.post("/v1/threads", &json!({})).await.problem(403, "missing_scope");
    ann.post("/v1/nowhere", &json!({})).await.problem(404, "not_found");
    world.fault(Fault::Lost);
    ann.delete("/v1/users/me/devices/tablet").await.problem(503, "outcome_unknown");
    world.fault(Fault::NotSent);
    ann.delete("/v1/users/me/devices/tablet").await.problem(503, "unavailable");

    let records = records(&audit, data.path());
    let is = |method: &str, route: &str, status: u16, code: Value| (json!(method), json!(route), json!(status), code);
    let messages = "/v1/threads/{thread_id}/messages";
    let device = "/v1/users/me/devices/{device_id}";
    let expected = [
        is("POST", "/v1/threads", 201, Value::Null),
        is("POST", messages, 202, Value::Null),
        is("POST", messages, 202, Value::Null),
        is("POST", "/v1/messages/{message_id}/reactions", 200, Value::Null),
        is("DELETE", "/v1/messages/{message_id}/reactions/{emoji}", 204, Value::Null),
        is("DELETE", device, 503, json!("outcome_unknown")),
        is("POST", messages, 403, json!("not_a_member")),
        is("POST", messages, 401, json!("unauthenticated")),
        is("POST", "/v1/threads", 403, json!("missing_scope")),
        (json!("POST"), Value::Null, json!(404), json!("not_found")),
        is("DELETE", device, 503, json!("unavailable")),
    ];
    assert_eq!(records.iter().map(told).collect::<Vec<_>>(), expected);
    let (made, sent, again, refused, stranger) = (&records[0], &records[1], &records[2], &records[6], &records[7]);
    assert_eq!(made["thread_id"], json!(thread), "as the answer says");
    assert_eq!((&sent["thread_id"], &sent["message_id"]), (&json!(thread), &json!(message)));
    assert_eq!((&sent["user"], &sent["device"]), (&json!("ann"), &json!("phone")));
    let body = json!({"client_seq": 1, "ciphertext": "c2VjcmV0LWNhbmFyeQ=="}).to_string();
    assert_eq!(sent["sha256"], json!(hex(&Payload::of(body.as_bytes()).sha256)));
    assert_eq!((&again["replayed"], &sent["replayed"]), (&json!(true), &Value::Null));
    assert_eq!(refused["user"], json!("eve"));
    assert_eq!(stranger["user"], Value::Null);
    assert_eq!(records[5]["target_device"], json!("tablet"));
    let all = serde_json::to_string(&records).unwrap();
    for secret in ["canary", "c2VjcmV0", "no.such.token", ann.token()] {
        assert!(!all.contains(secret), "{secret}");
    }
    let query = SendersQuery { user: None, order: SendersOrder::Sends, limit: 5 };
    let counts = audit.senders(&query, Millis(START));
    assert_eq!((counts.len(), counts[0].sends, counts[0].recipients, counts[0].new_threads), (1, 1, 2, 1));
}

#[tokio::test]
async fn a_request_that_its_client_gave_up_leaves_a_record_without_a_status() {
    let data = tempfile::tempdir().unwrap();
    let audit = audit(data.path());
    let world = world_audited(&audit);
    let thread = world.client("ann").group(&["bob"]).await;
    world.fault(Fault::Held);
    {
        let ann = world.client("ann");
        let path = format!("/v1/threads/{thread}/messages");
        let mut sending =
            Box::pin(ann.post_text(&path, &[("Idempotency-Key", "k")], r#"{"client_seq":1,"ciphertext":"aGk="}"#));
        tokio::select! {
            _ = &mut sending => panic!("it is held"),
            () = world.memory.held(1) => {}
        }
    }
    let records = records(&audit, data.path());
    let last = records.last().unwrap();
    assert_eq!((&last["status"], &last["user"], &last["thread_id"]), (&Value::Null, &json!("ann"), &json!(thread)));
}

#[tokio::test]
async fn where_a_request_comes_from_is_recorded() {
    let data = tempfile::tempdir().unwrap();
    let audit = audit(data.path());
    let world = world_audited(&audit);
    let peer = crate::api::peer::PeerAddress([203, 0, 113, 9].into());
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let request = Request::builder()
        .method(Method::POST)
        .uri("/v1/threads")
        .header("x-forwarded-for", "6.6.6.6")
        .header("traceparent", format!("00-{trace}-00f067aa0ba902b7-01"))
        .extension(peer);
    world.request(request.body(Body::empty()).unwrap()).await.problem(401, "unauthenticated");
    let records = records(&audit, data.path());
    assert_eq!((&records[0]["address"], &records[0]["trace_id"]), (&json!("203.0.113.9"), &json!(trace)));
}
