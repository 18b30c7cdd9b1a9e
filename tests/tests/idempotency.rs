//! Sending twice, in every way the contract tells apart.

use futures_util::future::join_all;
use http::Method;
use messenger_tests::cluster::Cluster;
use messenger_tests::device::{Device, base64, ids, text, unique};
use serde_json::{Value, json};
use std::collections::BTreeSet;

async fn pair(cluster: &Cluster) -> (Device, Device, String) {
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let thread = hers.one_to_one(&bob).await;
    (hers, his, thread)
}

fn through_all(cluster: &Cluster, device: &Device) -> Vec<Device> {
    cluster.nodes().map(|node| device.at(cluster.client_addr(node))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_identical_posts_through_all_nodes_make_one_message() {
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let through = through_all(&cluster, &hers);
    let key = unique("key");
    let posts = (0..50).map(|n| through[n % through.len()].try_send(&thread, &key, 1, "just once"));
    let answers = join_all(posts).await;
    let mut seen = BTreeSet::new();
    let mut first_answers = 0;
    for answer in answers {
        let answer = answer.expect("an answer");
        seen.insert(text(&answer.expect(202), "id"));
        first_answers += usize::from(answer.header("idempotent-replayed") != Some("true"));
    }
    assert_eq!((seen.len(), first_answers), (1, 1));
    assert_eq!(ids(&his.history(&thread).await), Vec::from_iter(seen));
}

#[tokio::test]
async fn a_known_key_with_the_same_body_gets_the_first_answer_again() {
    let cluster = Cluster::shared();
    let (hers, _, thread) = pair(&cluster).await;
    let through = through_all(&cluster, &hers);
    let key = unique("key");
    let first = through[0].try_send(&thread, &key, 5, "hello").await.expect("an answer");
    assert_eq!(first.header("idempotent-replayed"), None);
    for device in &through {
        let again = device.try_send(&thread, &key, 5, "hello").await.expect("an answer");
        assert_eq!(again.expect(202)["id"], first.expect(202)["id"]);
        assert_eq!(again.header("idempotent-replayed"), Some("true"));
    }
    // Bodies compare as JSON, not as bytes.
    let spaced = format!("{{ \"ciphertext\": \"{}\",  \"client_seq\" : 5 }}", base64("hello"));
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    let path = format!("/v1/threads/{thread}/messages");
    let again = hers.try_call(Method::POST, &path, &headers, spaced).await.expect("an answer");
    assert_eq!(again.expect(202)["id"], first.expect(202)["id"]);
}

#[tokio::test]
async fn a_known_key_with_another_body_is_refused() {
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let through = through_all(&cluster, &hers);
    let key = unique("key");
    let first = hers.try_send(&thread, &key, 1, "hello").await.expect("an answer").expect(202);
    let other_text = through[1].try_send(&thread, &key, 1, "goodbye").await.expect("an answer");
    other_text.expect_problem(422, "idempotency_key_reused");
    let other_seq = through[2].try_send(&thread, &key, 2, "hello").await.expect("an answer");
    other_seq.expect_problem(422, "idempotency_key_reused");
    assert_eq!(ids(&his.history(&thread).await), [text(&first, "id")]);
}

#[tokio::test]
async fn a_known_client_seq_under_a_new_key_names_the_message_that_is_there() {
    let cluster = Cluster::shared();
    let (hers, _, thread) = pair(&cluster).await;
    let first = hers.try_send(&thread, &unique("key"), 9, "hello").await.expect("an answer").expect(202);
    for (device, body) in through_all(&cluster, &hers).iter().zip(["hello", "goodbye", "hello"]) {
        let again = device.try_send(&thread, &unique("key"), 9, body).await.expect("an answer");
        let problem = again.expect_problem(409, "duplicate_client_seq");
        for member in ["id", "thread_id", "seq", "sender_id", "client_seq", "ciphertext", "created_at"] {
            assert_eq!(problem[member], first[member], "{member}");
        }
    }
    // Another device of the same user has numbers of its own.
    let laptop = cluster.device(3, &hers.user, "laptop");
    let other = laptop.try_send(&thread, &unique("key"), 9, "hello").await.expect("an answer").expect(202);
    assert_ne!(other["id"], first["id"]);
}

#[tokio::test]
async fn a_key_belongs_to_its_user_and_path() {
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let other_thread = hers.group("elsewhere", &[&his.user]).await;
    let key = unique("key");
    let in_one = hers.try_send(&thread, &key, 1, "hello").await.expect("an answer").expect(202);
    let in_other = hers.try_send(&other_thread, &key, 1, "hello").await.expect("an answer").expect(202);
    let of_other = his.try_send(&thread, &key, 1, "hello").await.expect("an answer").expect(202);
    let made: BTreeSet<_> = [in_one, in_other, of_other].iter().map(|message| text(message, "id")).collect();
    assert_eq!(made.len(), 3);
}

#[tokio::test]
async fn sending_without_a_key_or_with_an_impossible_one_is_refused() {
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let body = json!({"client_seq": 1, "ciphertext": base64("x")});
    let path = format!("/v1/threads/{thread}/messages");
    hers.post(&path, &[], &body).await.expect_problem(400, "idempotency_key_required");
    let long = "k".repeat(65);
    for key in ["", long.as_str()] {
        let answer = hers.post(&path, &[("idempotency-key", key)], &body).await;
        assert_eq!(answer.status, 400, "{key:?}");
    }
    assert!(his.history(&thread).await.is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_group_made_many_times_under_one_key_is_one_group() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let through = through_all(&cluster, &cluster.device(1, &alice, "phone"));
    let key = unique("key");
    let body = json!({"type": "GROUP", "title": "once", "participants": [bob]});
    let headers = [("idempotency-key", key.as_str())];
    let answers = join_all((0..12).map(|n| through[n % through.len()].post("/v1/threads", &headers, &body))).await;
    let made: BTreeSet<_> = answers.iter().map(|answer| text(&answer.expect(201), "id")).collect();
    assert_eq!(made.len(), 1);
    let listed = through[1].get("/v1/threads").await.expect(200);
    assert_eq!(listed["threads"].as_array().map(Vec::len), Some(1));
    let other = json!({"type": "GROUP", "title": "twice", "participants": [bob]});
    through[2].post("/v1/threads", &headers, &other).await.expect_problem(422, "idempotency_key_reused");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_pair_has_one_thread_even_when_both_make_it_at_once() {
    let cluster = Cluster::shared();
    for _ in 0..5 {
        let (alice, bob) = (unique("alice"), unique("bob"));
        let hers = through_all(&cluster, &cluster.device(1, &alice, "phone"));
        let his = through_all(&cluster, &cluster.device(1, &bob, "phone"));
        let asks = hers.iter().map(|device| (device, &bob)).chain(his.iter().map(|device| (device, &alice)));
        let answers: Vec<_> = join_all(asks.map(|(device, other)| {
            let body = json!({"type": "1_TO_1", "participants": [other]});
            async move { device.post("/v1/threads", &[], &body).await }
        }))
        .await;
        let made: BTreeSet<String> = answers.iter().map(|answer| text(&answer.json(), "id")).collect();
        assert_eq!(made.len(), 1);
        let created = answers.iter().filter(|answer| answer.status == 201).count();
        assert_eq!(created, 1, "one made it, the others found it");
        assert!(answers.iter().all(|answer| matches!(answer.status.as_u16(), 200 | 201)));
        for device in [&hers[2], &his[1]] {
            let listed: Value = device.get("/v1/threads").await.expect(200);
            assert_eq!(ids(listed["threads"].as_array().expect("threads are a list")), Vec::from_iter(made.clone()));
        }
    }
}
