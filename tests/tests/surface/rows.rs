//! Every row does what it says, and what it did through one node is read through the other.

use crate::scene::{EMOJI, Scene, ids_of, post, saying};
use bytes::Bytes;
use http::Method;
use messenger_tests::device::{Device, base64, number, text, text_of};
use messenger_tests::http::Answer;
use serde_json::{Value, json};

async fn get_with(device: &Device, path: &str, header: (&str, &str)) -> Answer {
    device.try_call(Method::GET, path, &[header], Bytes::new()).await.expect("an answer")
}

/// Reads, and then reads again what has not changed.
async fn unchanged(device: &Device, path: &str) {
    let first = device.get(path).await;
    let _whole = first.expect(200);
    let tag = first.header("etag").unwrap_or_else(|| panic!("{path} has no ETag")).to_owned();
    for held in [tag.as_str(), "*", &format!("\"another\", {tag}")] {
        let again = get_with(device, path, ("if-none-match", held)).await;
        assert_eq!((again.status.as_u16(), again.body.len()), (304, 0), "{path}");
        assert_eq!(again.header("etag"), Some(tag.as_str()));
    }
    let _whole = get_with(device, path, ("if-none-match", "\"another\"")).await.expect(200);
}

/// What there is of threads, and of who is in them.
pub async fn threads(scene: &Scene) {
    let (hers, his, pair) = scene.pair().await;
    let (alice, bob) = (&hers.user, &his.user);
    let again = his.post("/v1/threads", &[], &json!({"type": "1_TO_1", "participants": [alice]})).await;
    assert_eq!(text(&again.expect(200), "id"), pair);
    let thread = scene.group(&hers, &[bob, alice]).await;
    let at = format!("/v1/threads/{thread}");
    assert_eq!(his.get(&at).await.expect(200)["participants"].as_array().map(Vec::len), Some(2));
    unchanged(&his, &at).await;
    let named = hers.patch(&at, &json!({"title": "new", "description": "d"})).await.expect(200);
    assert_eq!((&named["title"], his.thread(&thread).await), (&json!("new"), named.clone()));

    let carol = scene.user("carol");
    let members = format!("{at}/participants");
    let grown = hers.post(&members, &[], &json!({"user_ids": [carol]})).await.expect(200);
    assert_eq!(grown["participants"].as_array().map(Vec::len), Some(3));
    let _left = scene.device(2, &carol, "phone").delete(&format!("{members}/{carol}")).await.expect(204);
    assert_eq!(his.thread(&thread).await["participants"].as_array().map(Vec::len), Some(2));

    let first = text(&hers.send(&thread, "first").await, "id");
    let second = text(&hers.send(&thread, "second").await, "id");
    let _read = his.post(&format!("{at}/read"), &[], &json!({"up_to_msg_id": first})).await.expect(204);
    let listed = his.get("/v1/threads").await.expect(200);
    let order = ids_of(&listed, "threads");
    assert_eq!((order.first(), order.last()), (Some(&thread), Some(&pair)), "latest activity first");
    let row = &listed["threads"][0];
    assert_eq!((&row["last_read_msg_id"], &row["unread_count"]), (&json!(first), &json!(1)));
    assert_eq!(row["last_message"]["id"], json!(second));
}

/// What there is of messages.
pub async fn messages(scene: &Scene) {
    let (hers, his, thread) = scene.pair().await;
    let at = format!("/v1/threads/{thread}");
    let messages = format!("{at}/messages");
    let first = post(&hers, &messages, &saying(1, "first")).await.expect(202);
    let second = post(&hers, &messages, &saying(2, "second")).await.expect(202);
    assert!(text(&first, "id") < text(&second, "id") && number(&first, "seq") < number(&second, "seq"));
    let (first, second) = (text(&first, "id"), text(&second, "id"));
    assert_eq!(ids_of(&his.get(&messages).await.expect(200), "messages"), [second.clone(), first.clone()]);
    let since = his.get(&format!("{messages}?since={first}")).await.expect(200);
    assert_eq!((ids_of(&since, "messages"), &since["next_cursor"]), (vec![second.clone()], &Value::Null));
    let one = format!("/v1/messages/{first}");
    assert_eq!(text_of(&his.get(&one).await.expect(200)), "first");
    let receipts = |message: Value| message["receipts"].clone();
    assert_eq!(receipts(hers.get(&one).await.expect(200)), json!({"of": 1, "delivered": 0, "read": 0}));
    assert_eq!(receipts(his.get(&one).await.expect(200)), Value::Null, "they are the sender's");

    let _read = his.post(&format!("{at}/read"), &[], &json!({"up_to_msg_id": first})).await.expect(204);
    let recipients = hers.get(&format!("{one}/recipients")).await.expect(200);
    let row = &recipients["recipients"][0];
    assert_eq!((&row["recipient_id"], &row["state"]), (&json!(his.user), &json!("READ")));
    assert!(row["delivered_at"] == row["read_at"] && row["read_at"].is_string(), "both in one write: {row}");
    assert_eq!(receipts(hers.get(&one).await.expect(200)), json!({"of": 1, "delivered": 1, "read": 1}));
    changes(&hers, &his, &thread, (&first, &second)).await;
}

/// What may be done to two messages.
async fn changes(hers: &Device, his: &Device, thread: &str, (first, second): (&String, &String)) {
    let (one, other) = (format!("/v1/messages/{first}"), format!("/v1/messages/{second}"));
    let edited = hers.patch(&one, &json!({"ciphertext": base64("better")})).await.expect(200);
    assert!(edited["edited_at"].is_string() && text_of(&his.get(&one).await.expect(200)) == "better");
    let reacted = his.post(&format!("{one}/reactions"), &[], &json!({"emoji": EMOJI.0})).await.expect(200);
    assert_eq!(reacted["reactions"], json!([{"emoji": EMOJI.0, "by": [his.user]}]));
    let _gone = his.delete(&format!("{one}/reactions/{}", EMOJI.1)).await.expect(204);
    assert_eq!(hers.get(&one).await.expect(200)["reactions"], json!([]));
    let pins = format!("/v1/threads/{thread}/pins");
    let pinned = his.post(&pins, &[], &json!({"message_id": second})).await.expect(200);
    assert_eq!(pinned["pins"][0]["message_id"], json!(second));
    assert_eq!(hers.get(&pins).await.expect(200), pinned);
    let _gone = hers.delete(&format!("{pins}/{second}")).await.expect(204);
    assert_eq!(his.get(&pins).await.expect(200)["pins"], json!([]));
    for _ in 0..2 {
        let _gone = hers.delete(&other).await.expect(204);
    }
    let tombstone = his.get(&other).await.expect(200);
    assert_eq!((&tombstone["deleted"], &tombstone["ciphertext"]), (&json!(true), &Value::Null));
    let changed = format!("/v1/threads/{thread}/messages?changed_since={}", number(&edited, "seq"));
    let changed = his.get(&changed).await.expect(200);
    assert_eq!(ids_of(&changed, "messages"), [first.as_str(), second], "oldest change first");
}

fn keys(device: &Device, one_time: &[u64]) -> Value {
    let signed = |id: u64| {
        let mut key = device.prekey(1, id);
        key["signature"] = json!(base64("signature"));
        key
    };
    let plain: Vec<Value> = one_time.iter().map(|id| device.prekey(1, *id)).collect();
    let pq: Vec<Value> = one_time.iter().map(|id| signed(id + 1_000)).collect();
    json!({"registration_id": 1, "identity_key": base64("identity"), "signed_prekey": signed(0),
        "one_time_prekeys": plain, "pq_one_time_prekeys": pq, "pq_last_resort": signed(5_000)})
}

/// What there is of devices and their keys.
pub async fn devices(scene: &Scene) {
    let (hers, his, _) = scene.pair().await;
    let bob = &his.user;
    let own = "/v1/users/me/devices/phone/prekeys";
    let counts = his.put(own, &keys(&his, &[1, 2])).await.expect(200);
    assert_eq!((number(&counts, "one_time"), number(&counts, "pq_one_time")), (2, 2));
    let tablet = scene.device(1, bob, "tablet");
    assert_eq!(tablet.get(own).await.expect(200), counts, "through the other node, and for the user's other device");
    let listed = hers.get(&format!("/v1/users/{bob}/devices")).await.expect(200);
    assert_eq!(listed["devices"][0]["device_id"], json!("phone"));
    assert_eq!(his.get("/v1/users/me/devices").await.expect(200), listed);

    let target = format!("/v1/users/{bob}/prekeys");
    let taken = get_with(&hers, &format!("{target}?device_id=phone"), ("idempotency-key", "mine")).await;
    assert_eq!(taken.header("cache-control"), Some("no-store"));
    let bundle = taken.expect(200)["devices"][0].clone();
    assert_eq!((&bundle["one_time_prekey"]["key_id"], &bundle["pq_prekey"]["key_id"]), (&json!(1), &json!(1_001)));
    let again = get_with(&hers, &format!("{target}?device_id=phone"), ("idempotency-key", "mine")).await;
    assert_eq!((again.header("idempotent-replayed"), again.expect(200)), (Some("true"), taken.json()));
    let one_time = |answer: &Answer| answer.expect(200)["devices"][0]["one_time_prekey"].clone();
    assert_eq!(one_time(&hers.get(&target).await)["key_id"], json!(2));
    let last = hers.get(&target).await.expect(200);
    assert_eq!(last["devices"][0]["pq_prekey"]["last_resort"], json!(true));
    assert_eq!((&last["devices"][0]["one_time_prekey"], &last["exhausted"]), (&Value::Null, &json!([])));

    let _counts = tablet.publish(1, [1]).await.expect(200);
    let own = his.get("/v1/users/me/prekeys").await.expect(200);
    let devices: Vec<String> =
        own["devices"].as_array().expect("a list").iter().map(|one| text(one, "device_id")).collect();
    assert_eq!(devices, ["tablet"], "never the device that asks");
    let _gone = tablet.delete("/v1/users/me/devices/phone").await.expect(204);
    assert_eq!(tablet.get("/v1/users/me/devices").await.expect(200)["devices"][0]["device_id"], json!("tablet"));
}

/// What there is of people: how they are, whom they keep away, and what they report.
pub async fn people(scene: &Scene) {
    let (hers, his, thread) = scene.pair().await;
    let (alice, bob) = (&hers.user, &his.user);
    let tablet = scene.device(1, bob, "tablet");
    let presence = hers.get(&format!("/v1/users/{bob}/presence")).await.expect(200);
    assert_eq!(presence, json!({"status": "offline", "last_seen": null}));
    assert_eq!(hers.get("/v1/users/me/presence").await.expect(200)["status"], json!("offline"));
    let privacy = "/v1/users/me/privacy";
    assert_eq!(his.get(privacy).await.expect(200), json!({"presence": "everyone"}));
    assert_eq!(his.put(privacy, &json!({"presence": "nobody"})).await.expect(200), json!({"presence": "nobody"}));
    assert_eq!(tablet.get(privacy).await.expect(200), json!({"presence": "nobody"}));

    let block = format!("/v1/users/me/blocks/{alice}");
    for device in [&his, &tablet] {
        let again = device.try_call(Method::PUT, &block, &[], Bytes::new()).await.expect("an answer");
        let _nothing = again.expect(204);
    }
    assert_eq!(tablet.get("/v1/users/me/blocks").await.expect(200), json!({"blocks": [alice]}));
    let failed = hers.send(&thread, "never seen").await;
    assert_eq!(text(&hers.recipients(&text(&failed, "id")).await[0], "state"), "FAILED");
    let _gone = tablet.delete(&block).await.expect(204);
    assert_eq!(his.get("/v1/users/me/blocks").await.expect(200), json!({"blocks": []}));

    let report = json!({"user_id": bob, "reason": "spam", "note": "sells watches"});
    let told = post(&hers, "/v1/reports", &report).await.expect(202);
    assert!(told["report_id"].is_string());
}

/// What is of no user, and asks for no token.
pub async fn open(scene: &Scene) {
    let device = scene.phone(1, "alice");
    for path in ["/livez", "/readyz", "/docs"] {
        let _open = device.http.request(Method::GET, path, &[], Bytes::new()).await.expect("an answer").expect(200);
    }
    for document in ["/v1/openapi.json", "/v1/asyncapi.json"] {
        unchanged(&device, document).await;
    }
    // Nothing of the operator's is where clients are.
    for path in ["/metrics", "/admin/audit", "/v1/cluster/status", "/debug/pprof"] {
        device.get(path).await.expect_problem(404, "not_found");
    }
}
