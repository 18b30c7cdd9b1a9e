//! Devices and the keys they publish for each other.

use super::harness::{Answer, Client, Fault, world};
use crate::auth::Scopes;
use axum::body::Body;
use axum::http::Method;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use messenger_proto::limits::{CURVE_KEY_MAX, PREKEYS_PER_PUT};
use serde_json::{Value, json};

fn key(id: u64) -> Value {
    json!({"key_id": id, "public_key": STANDARD.encode(format!("key {id}"))})
}

fn signed(id: u64) -> Value {
    let mut key = key(id);
    key["signature"] = json!("c2ln");
    key
}

fn keys(registration: u64, ids: impl IntoIterator<Item = u64>) -> Value {
    json!({"registration_id": registration, "identity_key": "aWQ=", "signed_prekey": signed(1),
        "one_time_prekeys": ids.into_iter().map(key).collect::<Vec<_>>()})
}

fn own(device: &str) -> String {
    format!("/v1/users/me/devices/{device}/prekeys")
}

impl Client<'_> {
    async fn put(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.request(Method::PUT, path, &headers, Body::from(body.to_string())).await
    }

    async fn take(&self, headers: &[(&str, &str)], path: &str) -> Answer {
        self.request(Method::GET, path, headers, Body::empty()).await
    }
}

/// A success that nobody may keep.
fn fresh(answer: &Answer) -> Value {
    assert_eq!((answer.status.as_u16(), answer.header("cache-control")), (200, Some("no-store")), "{:?}", answer.body);
    answer.json()
}

async fn one_time(client: &Client<'_>, path: &str) -> u64 {
    fresh(&client.get(path).await)["devices"][0]["one_time_prekey"]["key_id"].as_u64().unwrap()
}

fn of_bob(device: &str) -> String {
    format!("/v1/users/bob/prekeys?device_id={device}")
}

#[tokio::test]
async fn keys_are_published_listed_counted_and_taken() {
    let world = world();
    let (alice, phone, tablet) = (world.client("alice"), world.device("bob", "phone"), world.device("bob", "tablet"));
    let mut body = keys(7, [3, 2]);
    body["pq_one_time_prekeys"] = json!([signed(9)]);
    body["pq_last_resort"] = signed(10);
    let counts = phone.put(&own("phone"), &body).await.expect(200);
    assert_eq!((&counts["one_time"], &counts["pq_one_time"]), (&json!(2), &json!(1)));
    assert_eq!(phone.get(&own("phone")).await.expect(200), counts);
    assert_eq!(tablet.get(&own("phone")).await.expect(200), counts, "of any device of one's own");
    tablet.put(&own("tablet"), &keys(8, [])).await.expect(200);
    let listed = alice.get("/v1/users/bob/devices").await.expect(200);
    assert_eq!(phone.get("/v1/users/me/devices").await.expect(200), listed);
    let device = &listed["devices"][0];
    assert_eq!((&device["device_id"], &device["registration_id"]), (&json!("phone"), &json!(7)));
    assert_eq!(device["updated_at"], counts["updated_at"]);
    assert_eq!(listed["devices"][1]["device_id"], json!("tablet"));
    assert_eq!(alice.get("/v1/users/nobody/devices").await.expect(200), json!({"devices": []}));

    let offered = |mut key: Value, last_resort: bool| {
        key["last_resort"] = json!(last_resort);
        key
    };
    let bundle = json!({
        "device_id": "phone", "registration_id": 7, "identity_key": "aWQ=", "signed_prekey": signed(1),
        "one_time_prekey": offered(key(2), false), "pq_prekey": offered(signed(9), false),
    });
    let first = fresh(&alice.get("/v1/users/bob/prekeys").await);
    assert_eq!(first, json!({"user_id": "bob", "devices": [bundle], "exhausted": ["tablet"]}));
    let second = fresh(&alice.get(&of_bob("phone")).await);
    let expected = (&offered(key(3), false), &offered(signed(10), true));
    assert_eq!((&second["devices"][0]["one_time_prekey"], &second["devices"][0]["pq_prekey"]), expected);
    let third = fresh(&alice.get(&of_bob("phone")).await);
    assert_eq!((&third["devices"][0]["one_time_prekey"], &third["exhausted"]), (&Value::Null, &json!([])));
    let exhausted = alice.get(&of_bob("tablet")).await;
    assert_eq!(exhausted.header("retry-after"), Some("60"));
    exhausted.problem(503, "prekeys_exhausted");
    let mine = fresh(&tablet.get("/v1/users/me/prekeys").await);
    assert_eq!(mine["devices"].as_array().map(Vec::len), Some(1), "never its own: {mine}");
    phone.get("/v1/users/me/prekeys").await.problem(503, "prekeys_exhausted");
}

#[tokio::test]
async fn a_key_of_ones_own_gives_the_same_bundle_again() {
    let world = world();
    let (alice, phone) = (world.client("alice"), world.device("bob", "phone"));
    phone.put(&own("phone"), &keys(7, 0..5)).await.expect(200);
    let path = "/v1/users/bob/prekeys";
    let first = fresh(&alice.take(&[("Idempotency-Key", "k")], path).await);
    assert_eq!(one_time(&alice, path).await, 1);
    for client in [&alice, &world.device("alice", "tablet")] {
        let again = client.take(&[("Idempotency-Key", "k")], path).await;
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
        assert_eq!(fresh(&again), first);
    }
    alice.take(&[("Idempotency-Key", "k")], &of_bob("phone")).await.problem(422, "idempotency_key_reused");
    let eve = fresh(&world.client("eve").take(&[("Idempotency-Key", "k")], path).await);
    assert_eq!(eve["devices"][0]["one_time_prekey"]["key_id"], json!(2), "a key is its user's");
    assert_eq!(alice.take(&[("Idempotency-Key", "")], path).await.bad_fields(), ["Idempotency-Key"]);
}

#[tokio::test]
async fn looking_takes_nothing() {
    let world = world();
    let (alice, phone) = (world.client("alice"), world.device("bob", "phone"));
    let head = |path: &'static str| alice.request(Method::HEAD, path, &[], Body::empty());
    assert_eq!(head("/v1/users/bob/prekeys").await.status, 404);
    phone.put(&own("phone"), &keys(7, 0..5)).await.expect(200);
    for path in ["/v1/users/bob/prekeys", "/v1/users/bob/prekeys?device_id=phone", "/v1/users/bob/devices"] {
        head(path).await.expect_empty(200);
    }
    assert_eq!(head("/v1/users/bob/prekeys?device_id=web").await.status, 404);
    alice.get("/v1/users/bob/devices").await.expect(200);
    phone.get(&own("phone")).await.expect(200);
    assert_eq!(one_time(&alice, "/v1/users/bob/prekeys").await, 0);
}

#[tokio::test]
async fn what_may_not_be_is_refused_all_at_once() {
    let world = world();
    let (alice, phone) = (world.client("alice"), world.device("bob", "phone"));
    let long = STANDARD.encode(vec![1; CURVE_KEY_MAX + 1]);
    let bad = json!({
        "registration_id": -1, "identity_key": "", "signed_prekey": {"key_id": 1, "public_key": long},
        "one_time_prekeys": [key(1), key(1), 5, {"key_id": "x", "public_key": "aGk", "signature": "aGk="}],
        "pq_one_time_prekeys": [key(1)], "last_resort": [], "pq_last_resort": {}, "other": 1,
    });
    let fields = [
        "identity_key",
        "last_resort",
        "one_time_prekeys[1].key_id",
        "one_time_prekeys[2]",
        "one_time_prekeys[3].key_id",
        "one_time_prekeys[3].public_key",
        "one_time_prekeys[3].signature",
        "other",
        "pq_last_resort.key_id",
        "pq_last_resort.public_key",
        "pq_last_resort.signature",
        "pq_one_time_prekeys[0].signature",
        "registration_id",
        "signed_prekey.public_key",
        "signed_prekey.signature",
    ];
    assert_eq!(phone.put(&own("phone"), &bad).await.bad_fields(), fields);
    let required = ["device_id", "identity_key", "registration_id", "signed_prekey"];
    assert_eq!(phone.put(&own("a%20b"), &json!({})).await.bad_fields(), required);
    let many = keys(7, 0..=PREKEYS_PER_PUT as u64);
    assert_eq!(phone.put(&own("phone"), &many).await.bad_fields(), ["one_time_prekeys"]);
    phone.put(&own("tablet"), &keys(7, [])).await.problem(403, "forbidden");
    let bad = alice.take(&[("Idempotency-Key", "")], "/v1/users/a%20b/prekeys?device_id=").await;
    assert_eq!(bad.bad_fields(), ["Idempotency-Key", "device_id", "user_id"]);
    assert_eq!(phone.get("/v1/users/me/prekeys?device_id=phone").await.bad_fields(), ["device_id"]);
    assert_eq!(phone.delete("/v1/users/me/devices/..%2f").await.bad_fields(), ["device_id"]);
    assert_eq!(world.commands(), 0);
    alice.get("/v1/users/bob/prekeys").await.problem(404, "not_found");
    phone.get(&own("phone")).await.problem(404, "not_found");

    phone.put(&own("phone"), &keys(7, [1])).await.expect(200);
    let mut other = keys(7, [1]);
    other["one_time_prekeys"][0]["public_key"] = json!("b3RoZXI=");
    phone.put(&own("phone"), &other).await.problem(409, "key_conflict");
    phone.put(&own("phone"), &keys(8, [1])).await.expect(200);
    phone.put(&own("phone"), &keys(7, [1])).await.problem(409, "stale_registration");
    alice.get(&of_bob("web")).await.problem(404, "not_found");
    let read_only = world.client_with("bob", "phone", Scopes::parse("chat.read"));
    read_only.put(&own("phone"), &keys(8, [])).await.problem(403, "missing_scope");
    read_only.delete("/v1/users/me/devices/phone").await.problem(403, "missing_scope");
}

#[tokio::test]
async fn a_deleted_device_has_no_keys_and_its_token_is_refused() {
    let world = world();
    let (alice, phone, tablet) = (world.client("alice"), world.device("bob", "phone"), world.device("bob", "tablet"));
    phone.put(&own("phone"), &keys(7, 0..5)).await.expect(200);
    world.advance(1);
    for _ in 0..2 {
        tablet.delete("/v1/users/me/devices/phone").await.expect_empty(204);
    }
    phone.get("/v1/threads").await.problem(401, "device_revoked");
    phone.put(&own("phone"), &keys(8, [])).await.problem(401, "device_revoked");
    alice.get("/v1/users/bob/prekeys").await.problem(404, "not_found");
    tablet.get("/v1/threads").await.expect(200);
    world.advance(5_000);
    let back = world.device_now("bob", "phone");
    back.put(&own("phone"), &keys(7, [1])).await.problem(409, "stale_registration");
    back.put(&own("phone"), &keys(8, [1])).await.expect(200);
    phone.get("/v1/threads").await.problem(401, "device_revoked");
    assert_eq!(one_time(&alice, "/v1/users/bob/prekeys").await, 1);
}

#[tokio::test]
async fn what_is_tried_again_on_the_way_takes_one_key() {
    let world = world();
    let (alice, phone) = (world.client("alice"), world.device("bob", "phone"));
    phone.put(&own("phone"), &keys(7, 0..9)).await.expect(200);
    let path = "/v1/users/bob/prekeys";
    assert_eq!(one_time(&alice, path).await, 0);
    world.fault(Fault::Lost);
    let before = world.commands();
    alice.get(path).await.problem(503, "outcome_unknown");
    assert!(world.commands() > before + 1, "it was tried more than once");
    alice.take(&[("Idempotency-Key", "k")], path).await.problem(503, "outcome_unknown");
    world.fault(Fault::None);
    let again = alice.take(&[("Idempotency-Key", "k")], path).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"));
    assert_eq!(fresh(&again)["devices"][0]["one_time_prekey"]["key_id"], json!(2));
    assert_eq!(phone.get(&own("phone")).await.expect(200)["one_time"], json!(6));
}
