//! Messages in envelopes, by REST through a node that leads none of the shards.

use super::harness::{Client, World, world};
use axum::body::Body;
use axum::http::Method;
use messenger_proto::limits::BODY_MAX;
use serde_json::{Value, json};

impl Client<'_> {
    async fn publish_as(&self, device: &str, registration: u64) {
        let key = json!({"key_id": 1, "public_key": "a2V5", "signature": "c2ln"});
        let body = json!({"registration_id": registration, "identity_key": "aWQ=", "signed_prekey": key});
        let path = format!("/v1/users/me/devices/{device}/prekeys");
        let headers = [("content-type", "application/json")];
        self.request(Method::PUT, &path, &headers, Body::from(body.to_string())).await.expect(200);
    }
}

fn envelope(user: &str, device: &str, ciphertext: &str) -> Value {
    json!({"user_id": user, "device_id": device, "ciphertext": ciphertext, "type": 1})
}

fn whole() -> Value {
    json!([envelope("alice", "tablet", "YXQ="), envelope("bob", "phone", "YnA="), envelope("bob", "pc", "YmM=")])
}

fn body(client_seq: u64, envelopes: &Value) -> Value {
    json!({"client_seq": client_seq, "envelopes": envelopes})
}

/// A group of three: Alice's phone sends, and Cid has published nothing.
async fn made(world: &World) -> String {
    for (user, device, registration) in
        [("alice", "phone", 1), ("alice", "tablet", 2), ("bob", "phone", 3), ("bob", "pc", 4)]
    {
        world.device(user, device).publish_as(device, registration).await;
    }
    world.client("alice").group(&["bob", "cid"]).await
}

fn names(names: &[(&str, &str)]) -> Value {
    names.iter().map(|(user, device)| json!({"user_id": user, "device_id": device})).collect()
}

#[tokio::test]
async fn each_device_reads_its_own() {
    let world = world();
    let alice = world.client("alice");
    let messages = format!("/v1/threads/{}/messages", made(&world).await);
    let sent = alice.post_as("k", &messages, &body(1, &whole())).await.expect(202);
    assert_eq!((&sent["ciphertext"], sent.get("envelope_type")), (&Value::Null, None));
    let again = alice.post_as("k", &messages, &body(1, &whole())).await;
    assert_eq!((again.header("idempotent-replayed"), again.json()), (Some("true"), sent.clone()));
    let path = format!("/v1/messages/{}", sent["id"].as_str().unwrap());
    let cases = [
        ("alice", "tablet", Some("YXQ=")),
        ("bob", "phone", Some("YnA=")),
        ("bob", "pc", Some("YmM=")),
        ("bob", "new", None),
        ("cid", "phone", None),
    ];
    for (user, device, expected) in cases {
        let client = world.device(user, device);
        let one = client.get(&path).await.expect(200);
        assert_eq!(
            (one["ciphertext"].as_str(), one.get("envelope_type").cloned()),
            (expected, expected.map(|_| json!(1)))
        );
        assert_eq!(client.get(&messages).await.expect(200)["messages"][0], one);
        assert_eq!(client.get("/v1/threads").await.expect(200)["threads"][0]["last_message"], one);
    }
    let duplicate = alice.post_as("other", &messages, &body(1, &whole())).await.problem(409, "duplicate_client_seq");
    assert_eq!((&duplicate["id"], &duplicate["ciphertext"]), (&sent["id"], &Value::Null));
    alice.post_as("k", &messages, &body(1, &json!([]))).await.problem(422, "idempotency_key_reused");
    let edited = alice.patch(&path, &json!({"ciphertext": "aGk="})).await.expect(200);
    assert_eq!(edited["ciphertext"], json!("aGk="));
    assert_eq!(world.device("bob", "new").get(&path).await.expect(200)["ciphertext"], json!("aGk="));
    alice.patch(&path, &json!({"envelopes": whole()})).await.expect(200);
    let reacted =
        world.device("bob", "pc").post(&format!("{path}/reactions"), &json!({"emoji": "+"})).await.expect(200);
    assert_eq!(reacted["ciphertext"], json!("YmM="));
    alice.delete(&path).await.expect_empty(204);
    assert_eq!(world.device("bob", "pc").get(&path).await.expect(200)["ciphertext"], Value::Null);
}

#[tokio::test]
async fn what_is_not_for_the_devices_there_are_is_refused_and_nothing_is_used_up() {
    let world = world();
    let alice = world.client("alice");
    let messages = format!("/v1/threads/{}/messages", made(&world).await);
    let mut wrong =
        json!([envelope("bob", "pc", "YQ=="), envelope("alice", "phone", "YQ=="), envelope("dan", "x", "YQ==")]);
    wrong[0]["registration_id"] = json!(5);
    let problem = alice.post_as("k", &messages, &body(1, &wrong)).await.problem(409, "device_mismatch");
    assert_eq!(problem["missing_devices"], names(&[("alice", "tablet"), ("bob", "phone")]));
    assert_eq!(problem["extra_devices"], names(&[("alice", "phone"), ("dan", "x")]));
    assert_eq!(problem["stale_devices"], names(&[("bob", "pc")]));
    let sent = alice.post_as("k", &messages, &body(1, &whole())).await.expect(202);
    let path = format!("/v1/messages/{}", sent["id"].as_str().unwrap());
    alice.patch(&path, &json!({"envelopes": []})).await.problem(409, "device_mismatch");
    alice.patch(&format!("{path}?allow_mismatch=true"), &json!({"envelopes": []})).await.expect(200);
    assert_eq!(world.device("bob", "pc").get(&path).await.expect(200)["ciphertext"], Value::Null);
    // A device that was published meanwhile is missed.
    world.device("cid", "new").publish_as("new", 9).await;
    let missed = alice.post_as("l", &messages, &body(2, &whole())).await.problem(409, "device_mismatch");
    assert_eq!(missed["missing_devices"], names(&[("cid", "new")]));
    let allowed = format!("{messages}?allow_mismatch=true");
    let sent = alice.post_as("l", &allowed, &body(2, &whole())).await.expect(202);
    let path = format!("/v1/messages/{}", sent["id"].as_str().unwrap());
    assert_eq!(world.device("cid", "new").get(&path).await.expect(200)["ciphertext"], Value::Null);
    let mut all = whole();
    all.as_array_mut().unwrap().push(envelope("cid", "new", "Y24="));
    let sent = alice.post_as("m", &messages, &body(3, &all)).await.expect(202);
    let path = format!("/v1/messages/{}", sent["id"].as_str().unwrap());
    assert_eq!(world.device("cid", "new").get(&path).await.expect(200)["ciphertext"], json!("Y24="));
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let world = world();
    let alice = world.client("alice");
    let thread = made(&world).await;
    let messages = format!("/v1/threads/{thread}/messages");
    let twice =
        json!([envelope("bob", "pc", "YQ=="), envelope("bob", "pc", "YQ=="), {"user_id": "bob", "device_id": "me"}]);
    let both = json!({"client_seq": -1, "ciphertext": "aGk=", "envelopes": twice, "allow_mismatch": true});
    let fields = alice.post_as("k", &format!("{messages}?allow_mismatch=1"), &both).await.bad_fields();
    let expected = [
        "allow_mismatch",
        "allow_mismatch",
        "client_seq",
        "envelopes",
        "envelopes[1]",
        "envelopes[2].ciphertext",
        "envelopes[2].device_id",
    ];
    assert_eq!(fields, expected);
    assert_eq!(alice.post_as("k", &messages, &json!({"client_seq": 1})).await.bad_fields(), ["ciphertext"]);
    let large = envelope("bob", "pc", &"AAAA".repeat(64 * 1024 / 3 + 1));
    alice.post_as("k", &messages, &body(1, &json!([large]))).await.problem(413, "ciphertext_too_large");
}

#[tokio::test]
async fn a_body_holds_as_many_envelopes_as_fit() {
    let world = world();
    let alice = world.client("alice");
    let messages = format!("/v1/threads/{}/messages", made(&world).await);
    let filled = |ciphertext: usize| {
        let one = |n: usize| envelope("bob", &format!("d{n}"), &"AAAA".repeat(ciphertext / 4));
        body(1, &(0..12).map(one).collect())
    };
    let fits = filled(87_000);
    assert!(fits.to_string().len() <= BODY_MAX && fits.to_string().len() > BODY_MAX - 8_192);
    alice.post_as("k", &format!("{messages}?allow_mismatch=true"), &fits).await.expect(202);
    let beyond = filled(87_380);
    assert!(beyond.to_string().len() > BODY_MAX);
    alice.post_as("l", &messages, &beyond).await.problem(413, "body_too_large");
}
