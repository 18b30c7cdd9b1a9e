//! Whatever is sent twice, first through one node and then through another.

use crate::scene::{EMOJI, Scene, post, saying};
use http::Method;
use messenger_tests::device::{Device, base64, ids, text, unique};
use messenger_tests::http::Answer;
use serde_json::{Value, json};

async fn keyed(device: &Device, path: &str, key: &str, body: &Value) -> Answer {
    device.post(path, &[("idempotency-key", key)], body).await
}

/// The five rows of the contract's table.
pub async fn sending(scene: &Scene) {
    let (hers, his, thread) = scene.pair().await;
    let elsewhere = hers.at(scene.cluster.client_addr(2));
    let path = format!("/v1/threads/{thread}/messages");
    let (key, body) = (unique("key"), saying(7, "hello"));
    let first = keyed(&hers, &path, &key, &body).await;
    let sent = first.expect(202);
    assert_eq!(first.header("idempotent-replayed"), None);
    // Key seen, same number, same body, which is compared as JSON.
    let again = keyed(&elsewhere, &path, &key, &body).await;
    assert_eq!((again.expect(202), again.header("idempotent-replayed")), (sent.clone(), Some("true")));
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let spaced = format!("{{ \"ciphertext\" : \"{}\",\n \"client_seq\": 7 }}", base64("hello"));
    let again = elsewhere.try_call(Method::POST, &path, &headers, spaced).await.expect("an answer");
    assert_eq!(again.expect(202), sent);
    // Key seen, another body; what the number is makes no difference.
    for other in [saying(7, "goodbye"), saying(8, "hello")] {
        keyed(&elsewhere, &path, &key, &other).await.expect_problem(422, "idempotency_key_reused");
    }
    // A new key, and a number that was seen; what the body is makes no difference.
    for other in ["hello", "goodbye"] {
        let problem = post(&elsewhere, &path, &saying(7, other)).await.expect_problem(409, "duplicate_client_seq");
        for member in
            ["id", "thread_id", "seq", "sender_id", "sender_device_id", "client_seq", "ciphertext", "created_at"]
        {
            assert_eq!(problem[member], sent[member], "{member}");
        }
    }
    // A new key, a number that was seen, and that message failed.
    let block = format!("/v1/users/me/blocks/{}", hers.user);
    let _blocked = his.try_call(Method::PUT, &block, &[], "").await.expect("an answer").expect(204);
    let (key, body) = (unique("key"), saying(9, "kept away"));
    let failed = keyed(&hers, &path, &key, &body).await.expect(202);
    let state = async |message: &Value| text(&hers.recipients(&text(message, "id")).await[0], "state");
    assert_eq!(state(&failed).await, "FAILED");
    let still = post(&elsewhere, &path, &body).await.expect(202);
    assert_eq!((&still["id"], state(&failed).await), (&failed["id"], "FAILED".to_owned()), "who blocks still does");
    let _unblocked = his.delete(&block).await.expect(204);
    assert_eq!(state(&failed).await, "FAILED", "unblocking revives nothing");
    post(&elsewhere, &path, &saying(9, "another")).await.expect_problem(409, "duplicate_client_seq");
    let revived = post(&elsewhere, &path, &body).await.expect(202);
    assert_eq!((&revived["id"], state(&failed).await), (&failed["id"], "SENT".to_owned()));
    // A new key and a new number.
    let new = post(&elsewhere, &path, &saying(8, "hello")).await.expect(202);
    assert_eq!(ids(&his.history(&thread).await), ids(&[sent, failed, new]));
}

/// A key is honoured on every POST: a repeat is answered as the first was, another body under it is refused.
pub async fn every_post(scene: &Scene) {
    let (hers, his, thread) = scene.pair().await;
    let elsewhere = hers.at(scene.cluster.client_addr(2));
    let group = scene.group(&hers, &[&his.user]).await;
    let mut sent = Vec::new();
    for said in ["one", "two"] {
        sent.push(text(&his.send(&thread, said).await, "id"));
    }
    let [carol, dave] = ["carol", "dave"].map(|name| scene.user(name));
    let at = |rest: &str| format!("/v1/threads/{thread}/{rest}");
    let of_message = |rest: &str| format!("/v1/messages/{}/{rest}", sent[0]);
    let new = |user: &str| json!({"type": "GROUP", "participants": [user]});
    let posts = [
        ("/v1/threads".to_owned(), new(&carol), new(&dave), 201),
        ("/v1/threads".to_owned(), json!({"type": "1_TO_1", "participants": [carol]}), new(&carol), 201),
        (format!("/v1/threads/{group}/participants"), json!({"user_ids": [carol]}), json!({"user_ids": [dave]}), 200),
        (at("messages"), saying(1, "x"), saying(1, "y"), 202),
        (of_message("reactions"), json!({"emoji": EMOJI.0}), json!({"emoji": "\u{2764}"}), 200),
        (at("pins"), json!({"message_id": sent[0]}), json!({"message_id": sent[1]}), 200),
        (at("read"), json!({"up_to_msg_id": sent[0]}), json!({"up_to_msg_id": sent[1]}), 204),
        (
            "/v1/reports".to_owned(),
            json!({"user_id": his.user, "reason": "spam"}),
            json!({"user_id": his.user, "reason": "abuse"}),
            202,
        ),
    ];
    for (path, body, other, status) in posts {
        let key = unique("key");
        let first = keyed(&hers, &path, &key, &body).await;
        let (answer, replayed) = (first.expect(status), first.header("idempotent-replayed"));
        assert_eq!(replayed, None, "{path}");
        let again = keyed(&elsewhere, &path, &key, &body).await;
        assert_eq!(again.expect(status)["id"], answer["id"], "{path}");
        assert_eq!(again.header("idempotent-replayed"), Some("true"), "{path}");
        keyed(&elsewhere, &path, &key, &other).await.expect_problem(422, "idempotency_key_reused");
        let long = "k".repeat(65);
        for wrong in ["", long.as_str()] {
            keyed(&hers, &path, wrong, &body).await.expect_problem(400, "invalid_request");
        }
        // What failed is not remembered: the key is free for what is right.
        let key = unique("key");
        keyed(&hers, &path, &key, &json!({"surprise": 1})).await.expect_problem(400, "invalid_request");
    }
    let body = saying(2, "x");
    hers.post(&at("messages"), &[], &body).await.expect_problem(400, "idempotency_key_required");
}
