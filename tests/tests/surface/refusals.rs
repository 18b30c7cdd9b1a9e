//! Every error that a client can bring about, each in one of the ways that the contract names.

use crate::scene::{EMOJI, LEADS, Scene, post, saying};
use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use messenger_tests::cluster::process;
use messenger_tests::device::{Device, base64, text, unique};
use messenger_tests::http::Http;
use messenger_tests::wait::{PATIENCE, eventually, until};
use nix::sys::signal::Signal;
use serde_json::{Value, json};
use std::fs;

async fn put(device: &Device, path: &str) -> messenger_tests::http::Answer {
    device.try_call(Method::PUT, path, &[], Bytes::new()).await.expect("an answer")
}

pub async fn of_threads(scene: &Scene) {
    let (hers, his, pair) = scene.pair().await;
    let members = |thread: &str| format!("/v1/threads/{thread}/participants");
    let third = scene.user("third");
    hers.post(&members(&pair), &[], &json!({"user_ids": [third]})).await.expect_problem(409, "not_a_group");
    hers.patch(&format!("/v1/threads/{pair}"), &json!({"title": "t"})).await.expect_problem(409, "not_a_group");
    let left = hers.delete(&format!("{}/{}", members(&pair), hers.user)).await;
    left.expect_problem(409, "not_a_group");
    let group = scene.group(&hers, &[&his.user]).await;
    his.post(&members(&group), &[], &json!({"user_ids": [third]})).await.expect_problem(403, "forbidden");
    his.patch(&format!("/v1/threads/{group}"), &json!({"title": "t"})).await.expect_problem(403, "forbidden");
    his.delete(&format!("{}/{}", members(&group), hers.user)).await.expect_problem(403, "forbidden");
    let removed = hers.delete(&format!("{}/{}", members(&group), his.user)).await;
    let _nothing = removed.expect(204);
    let again = hers.delete(&format!("{}/{}", members(&group), his.user)).await;
    again.expect_problem(404, "not_found");
    his.get(&format!("/v1/threads/{group}")).await.expect_problem(403, "not_a_member");

    let crowd: Vec<String> = (0..249).map(|n| format!("one-of-many-{n}")).collect();
    let named: Vec<&str> = crowd.iter().map(String::as_str).collect();
    let full = scene.group(&hers, &named).await;
    let one_more = json!({"user_ids": [third]});
    hers.post(&members(&full), &[], &one_more).await.expect_problem(409, "thread_full");
    let larger: Vec<&str> = named.iter().copied().chain([third.as_str()]).collect();
    let body = json!({"type": "GROUP", "participants": larger});
    hers.post("/v1/threads", &[], &body).await.expect_problem(400, "invalid_request");

    hers.get(&format!("/v1/users/{third}/presence")).await.expect_problem(403, "forbidden");
    let _hidden = his.put("/v1/users/me/privacy", &json!({"presence": "nobody"})).await.expect(200);
    hers.get(&format!("/v1/users/{}/presence", his.user)).await.expect_problem(403, "presence_hidden");
    his.get(&format!("/v1/users/{}/presence", hers.user)).await.expect_problem(403, "presence_hidden");
}

pub async fn of_messages(scene: &Scene) {
    let (hers, his, thread) = scene.pair().await;
    let mut sent = Vec::new();
    for said in ["one", "two", "three", "four"] {
        sent.push(text(&hers.send(&thread, said).await, "id"));
    }
    let message = |n: usize| format!("/v1/messages/{}", sent[n]);
    let better = json!({"ciphertext": base64("better")});
    his.patch(&message(0), &better).await.expect_problem(403, "forbidden");
    his.delete(&message(0)).await.expect_problem(403, "forbidden");
    let pins = format!("/v1/threads/{thread}/pins");
    for id in &sent[..3] {
        let _pinned = his.post(&pins, &[], &json!({"message_id": id})).await.expect(200);
    }
    his.post(&pins, &[], &json!({"message_id": sent[3]})).await.expect_problem(409, "too_many_pins");
    let reactions = format!("{}/reactions", message(0));
    for n in 0..20 {
        let _reacted = his.post(&reactions, &[], &json!({"emoji": format!("e{n}")})).await.expect(200);
    }
    his.post(&reactions, &[], &json!({"emoji": EMOJI.0})).await.expect_problem(409, "too_many_reactions");
    let _again = his.post(&reactions, &[], &json!({"emoji": "e7"})).await.expect(200);
    let _deleted = hers.delete(&message(3)).await.expect(204);
    hers.patch(&message(3), &better).await.expect_problem(409, "message_deleted");
    let reactions = format!("{}/reactions", message(3));
    his.post(&reactions, &[], &json!({"emoji": EMOJI.0})).await.expect_problem(409, "message_deleted");
    let _none = his.delete(&format!("{reactions}/{}", EMOJI.1)).await.expect(204);
    let _unpinned = his.delete(&format!("{pins}/{}", sent[0])).await.expect(204);
    his.post(&pins, &[], &json!({"message_id": sent[3]})).await.expect_problem(409, "message_deleted");

    let path = format!("/v1/threads/{thread}/messages");
    let long = saying(50, &"x".repeat(64 * 1024 + 1));
    post(&hers, &path, &long).await.expect_problem(413, "ciphertext_too_large");
    hers.patch(&message(0), &json!({"ciphertext": long["ciphertext"]}))
        .await
        .expect_problem(413, "ciphertext_too_large");
    let _published = his.publish(1, []).await.expect(200);
    let wrong = json!({"user_id": his.user, "device_id": "tablet", "ciphertext": base64("x")});
    let sealed = json!({"client_seq": 50, "envelopes": [wrong]});
    let change = json!({"envelopes": [wrong]});
    hers.patch(&message(1), &change).await.expect_problem(409, "device_mismatch");
    let problem = post(&hers, &path, &sealed).await.expect_problem(409, "device_mismatch");
    assert_eq!(problem["missing_devices"], json!([{"user_id": his.user, "device_id": "phone"}]));
    assert_eq!(problem["extra_devices"], json!([{"user_id": his.user, "device_id": "tablet"}]));
    let _free = post(&hers, &path, &saying(50, "the number stayed free")).await.expect(202);
    hers.get(&format!("{path}?cursor=x")).await.expect_problem(400, "invalid_cursor");
}

/// Who came after a message was sent can do nothing with it.
pub async fn of_latecomers(scene: &Scene) {
    let (hers, his, _) = scene.pair().await;
    let thread = scene.group(&hers, &[&his.user]).await;
    let id = text(&hers.send(&thread, "before").await, "id");
    let (at, message) = (format!("/v1/threads/{thread}"), format!("/v1/messages/{id}"));
    let _pinned = hers.post(&format!("{at}/pins"), &[], &json!({"message_id": id})).await.expect(200);
    let late = scene.phone(2, "carol");
    let invited = json!({"user_ids": [late.user]});
    let _grown = hers.post(&format!("{at}/participants"), &[], &invited).await.expect(200);
    let refused = [
        late.get(&message).await,
        late.get(&format!("{message}/recipients")).await,
        late.patch(&message, &json!({"ciphertext": base64("x")})).await,
        late.delete(&message).await,
        late.post(&format!("{message}/reactions"), &[], &json!({"emoji": EMOJI.0})).await,
        late.delete(&format!("{message}/reactions/{}", EMOJI.1)).await,
        late.post(&format!("{at}/pins"), &[], &json!({"message_id": id})).await,
        late.delete(&format!("{at}/pins/{id}")).await,
        late.post(&format!("{at}/read"), &[], &json!({"up_to_msg_id": id})).await,
        late.post("/v1/reports", &[], &json!({"message_id": id, "reason": "spam"})).await,
    ];
    for answer in refused {
        answer.expect_problem(403, "forbidden");
    }
    assert_eq!(late.get(&format!("{at}/messages")).await.expect(200)["messages"], json!([]));
    assert_eq!(late.get(&format!("{at}/pins")).await.expect(200)["pins"], json!([]));

    let stranger = scene.phone(1, "eve");
    let report =
        async |what: &str, id: &str| stranger.post("/v1/reports", &[], &json!({what: id, "reason": "spam"})).await;
    report("user_id", &hers.user).await.expect_problem(403, "forbidden");
    report("thread_id", &thread).await.expect_problem(403, "not_a_member");
    report("thread_id", &uuid::Uuid::new_v4().to_string()).await.expect_problem(404, "not_found");
}

/// What a handshake is told over HTTP.
pub async fn of_handshakes(scene: &Scene) {
    let user = scene.user("alice");
    let key = scene.cluster.key();
    let upgrade = [
        ("connection", "upgrade"),
        ("upgrade", "websocket"),
        ("sec-websocket-version", "13"),
        ("sec-websocket-key", "dGhlIHNhbXBsZSBub25jZQ=="),
    ];
    let ask = async |token: &str, query: &str, other: &[(&str, &str)]| {
        let device = scene.bearing(1, &user, token.to_owned());
        let headers = [&upgrade[..], other].concat();
        device.try_call(Method::GET, &format!("/v1/realtime?{query}"), &headers, "").await.expect("an answer")
    };
    let (good, own) = (key.token(&user, "phone"), "device_id=phone");
    ask("not.a.token", own, &[]).await.expect_problem(401, "unauthenticated");
    ask(&key.token_for(&user, "phone", "chat.write"), own, &[]).await.expect_problem(403, "missing_scope");
    ask(&good, "device_id=tablet", &[]).await.expect_problem(403, "forbidden");
    ask(&good, own, &[("origin", "https://elsewhere.example")]).await.expect_problem(403, "forbidden");
    for query in ["device_id=phone&last_seen_id=yesterday", "device_id=phone&encoding=cbor", "device_id=me"] {
        ask(&good, query, &[]).await.expect_problem(400, "invalid_request");
    }
    let plain = scene.bearing(2, &user, good).get("/v1/realtime?device_id=phone").await;
    plain.expect_problem(426, "upgrade_required");
    assert_eq!(plain.header("sec-websocket-version"), Some("13"), "the versions that are served");
}

pub async fn of_keys(scene: &Scene) {
    let (hers, his, _) = scene.pair().await;
    let target = format!("/v1/users/{}/prekeys", his.user);
    hers.get(&target).await.expect_problem(404, "not_found");
    let _counts = his.publish(7, []).await.expect(200);
    let exhausted = hers.get(&target).await;
    exhausted.expect_problem(503, "prekeys_exhausted");
    let _counts = scene.device(2, &his.user, "tablet").publish(7, [1]).await.expect(200);
    for (query, status) in [("?device_id=tablet", 200), ("?device_id=tablet", 200), ("?device_id=phone", 422)] {
        let path = format!("{target}{query}");
        let answer = hers.try_call(Method::GET, &path, &[("idempotency-key", "k")], "").await.expect("an answer");
        assert_eq!(answer.status, status, "{path}: {answer:?}");
    }
    let mut many = json!({"registration_id": 7, "identity_key": base64("phone"), "signed_prekey": his.prekey(7, 0)});
    many["signed_prekey"]["signature"] = json!(base64("signature"));
    many["one_time_prekeys"] = (0..101).map(|id| his.prekey(7, id)).collect();
    his.put("/v1/users/me/devices/phone/prekeys", &many).await.expect_problem(400, "invalid_request");
    assert!(exhausted.header("retry-after").is_some_and(|after| after != "1"), "not at once");
    let own = "/v1/users/me/devices/phone/prekeys";
    let _counts = his.publish(7, [1]).await.expect(200);
    let mut other = json!({"registration_id": 7, "identity_key": base64("phone"), "signed_prekey": his.prekey(7, 0),
        "one_time_prekeys": [his.prekey(8, 1)]});
    other["signed_prekey"]["signature"] = json!(base64("signature"));
    his.put(own, &other).await.expect_problem(409, "key_conflict");
    his.put("/v1/users/me/devices/tablet/prekeys", &other).await.expect_problem(403, "forbidden");
    for hundred in 0..10 {
        let _counts = his.publish(7, hundred * 100 + 1..=hundred * 100 + 100).await.expect(200);
    }
    his.publish(7, [2_000]).await.expect_problem(409, "too_many_prekeys");
    let _counts = his.publish(8, []).await.expect(200);
    his.publish(7, []).await.expect_problem(409, "stale_registration");

    let crowd: Vec<Device> = (2..32).map(|n| scene.device(2, &his.user, &format!("device{n}"))).collect();
    for answer in join_all(crowd.iter().map(|device| device.publish(1, []))).await {
        let _counts = answer.expect(200);
    }
    scene.device(1, &his.user, "one-more").publish(1, []).await.expect_problem(409, "too_many_devices");
    let _nothing = crowd[0].delete("/v1/users/me/devices/phone").await.expect(204);
    his.get("/v1/threads").await.expect_problem(401, "device_revoked");
}

pub async fn of_tokens(scene: &Scene) {
    let user = scene.user("alice");
    let key = scene.cluster.key();
    let mut late = key.claims(&user, "phone", "chat.read chat.write");
    late["exp"] = json!(key.now() - 60);
    let expired = scene.bearing(1, &user, key.sign(&late)).get("/v1/threads").await;
    expired.expect_problem(401, "token_expired");
    scene.bearing(1, &user, "nonsense".to_owned()).get("/v1/threads").await.expect_problem(401, "unauthenticated");
    let reader = scene.bearing(2, &user, key.token_for(&user, "phone", "chat.read"));
    let refused = post(&reader, "/v1/threads", &json!({"type": "GROUP", "participants": ["x"]})).await;
    refused.expect_problem(403, "missing_scope");

    let switch = async |what: &str| {
        let admin = Http::new(scene.cluster.admin_addr(LEADS));
        let path = format!("/admin/users/{user}/{what}");
        let headers = [("x-operator", "dana")];
        admin.request(Method::POST, &path, &headers, Bytes::new()).await.expect("an answer").expect(200)
    };
    let device = scene.device(2, &user, "phone");
    switch("suspend").await;
    eventually("the suspension is in force", || async {
        let answer = device.get("/v1/threads").await;
        (answer.status == 401).then(|| answer.expect_problem(401, "suspended"))
    })
    .await;
    switch("unsuspend").await;
    eventually("it is lifted", || async { (device.get("/v1/threads").await.status == 200).then_some(()) }).await;
}

/// A node's configuration with one report a user and hour.
fn with_one_report(config: &str) -> String {
    let mut table: toml::Table = config.parse().expect("what dev wrote is TOML");
    let reports = toml::toml! {
        window_s = 3600
        per_user = 1
        per_device = 1
        per_address = 0
    };
    let limits = table.get_mut("rate_limits").and_then(toml::Value::as_table_mut).expect("dev sets limits");
    limits.insert("reports".to_owned(), toml::Value::Table(reports));
    table.to_string()
}

pub async fn of_too_much(scene: &Scene) {
    let device = scene.phone(1, "alice");
    let many = (0..1_000).map(|n| format!("/v1/users/me/blocks/kept-away-{n}"));
    let mut many = many.collect::<Vec<_>>();
    let last = many.split_off(999);
    for some in many.chunks(50) {
        for answer in join_all(some.iter().map(|path| put(&device, path))).await {
            let _nothing = answer.expect(204);
        }
    }
    let _nothing = put(&device, &last[0]).await.expect(204);
    put(&device, "/v1/users/me/blocks/one-more").await.expect_problem(409, "too_many_blocks");

    let (path, log) = (scene.cluster.config(1), scene.cluster.node_directory(1).join("log"));
    let known = fs::read_to_string(&path).expect("dev wrote it");
    fs::write(&path, with_one_report(&known)).expect("it can be written");
    process::signal(scene.cluster.pid(1).expect("the node runs"), Signal::SIGHUP);
    until("the limits are in force", PATIENCE, || {
        fs::read_to_string(&log).expect("the node has a log").contains("are in force").then_some(())
    });
    let (hers, his, _) = scene.pair().await;
    let report = json!({"user_id": his.user, "reason": "other"});
    let _filed: Value = hers.post("/v1/reports", &[], &report).await.expect(202);
    let refused = hers.post("/v1/reports", &[], &report).await;
    refused.expect_problem(429, "rate_limited");
    assert!(refused.header("retry-after").and_then(|after| after.parse::<u32>().ok()).is_some_and(|after| after > 60));
    let _unlimited = hers.post(&format!("/v1/threads/{}/read", unique("x")), &[], &report).await;
}
