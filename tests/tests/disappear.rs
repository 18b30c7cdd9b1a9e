//! Messages that disappear: gone for everyone in time, whoever dies meanwhile.

use bytes::Bytes;
use http::Method;
use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{base64, ids, text, text_of, unique};
use messenger_tests::wait;
use serde_json::{Value, json};
use std::fs;
use std::path::{Path, PathBuf};

fn states(recipients: &[Value]) -> Vec<(String, String)> {
    recipients.iter().map(|one| (text(one, "recipient_id"), text(one, "state"))).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_message_is_gone_in_time_though_its_shards_leader_dies_before() {
    let cluster = Cluster::start(Size { nodes: 3, shards: 4 });
    let [alice, bob, cid] = ["alice", "bob", "cid"].map(unique);
    let hers = cluster.device(1, &alice, "phone");
    let his = cluster.device(3, &bob, "phone");
    let thread = hers.group("a title", &[&bob, &cid]).await;
    let mut live = his.connect().await;
    let _replayed = live.catch_up().await;

    let path = format!("/v1/threads/{thread}/messages");
    let body = json!({"client_seq": hers.next_client_seq(), "ciphertext": base64("burn"), "ttl_seconds": 4});
    let key = unique("key");
    let sent = hers.post(&path, &[("Idempotency-Key", &key)], &body).await.expect(202);
    let kept = hers.send(&thread, "kept").await;
    let heard = [live.next_of("msg").await, live.next_of("msg").await];
    live.ack(&heard[1]).await;
    assert_eq!(ids(&heard), ids(&[sent.clone(), kept.clone()]));
    assert_eq!(heard[0]["expires_at"], sent["expires_at"]);
    assert!(sent["expires_at"].is_string() && kept["expires_at"].is_null());
    let id = text(&sent, "id");
    wait::eventually("bob has it", async || {
        let states = states(&hers.recipients(&id).await);
        states.contains(&(bob.clone(), "DELIVERED".into())).then_some(())
    })
    .await;

    // Node 2 leads some of the shards; if not this one, the others' leaders are the same code.
    cluster.kill(2);
    let gone = live.next_of("del").await;
    assert_eq!((&gone["id"], &gone["reason"]), (&sent["id"], &json!("expired")));
    for node in [1, 3] {
        let his = his.at(cluster.client_addr(node));
        let history = his.history(&thread).await;
        assert_eq!(ids(&history), ids(&[sent.clone(), kept.clone()]));
        assert_eq!((&history[0]["ciphertext"], &history[0]["deleted"]), (&Value::Null, &json!(true)));
        assert_eq!(history[1]["deleted"], json!(false));
        let mut expected = vec![(bob.clone(), "DELIVERED".into()), (cid.clone(), "FAILED".into())];
        expected.sort();
        assert_eq!(states(&hers.at(cluster.client_addr(node)).recipients(&id).await), expected);
    }
    // Who comes later is told the same, and never sees what it said.
    let replayed = cluster.device(1, &cid, "tablet").connect().await.catch_up().await;
    assert!(replayed.iter().any(|frame| frame["t"] == "del" && frame["id"] == sent["id"]));
    assert!(replayed.iter().all(|frame| frame["ciphertext"] != json!(base64("burn"))));
}

/// The files of a node that hold some bytes.
fn holding(directory: &Path, bytes: &[u8]) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(directory).into_iter().flatten().flatten() {
        let path = entry.path();
        if path.is_dir() {
            found.extend(holding(&path, bytes));
        } else if fs::read(&path).is_ok_and(|content| content.windows(bytes.len()).any(|part| part == bytes)) {
            found.push(path);
        }
    }
    found
}

/// A cluster whose nodes clear their disks every second.
fn tidy() -> Cluster {
    let cluster = Cluster::start(Size { nodes: 3, shards: 2 });
    for node in cluster.nodes() {
        let path = cluster.config(node);
        let text = fs::read_to_string(&path).expect("the configuration is readable");
        let often = text.replacen("[limits]\n", "[limits]\nerase_every_seconds = 1\n", 1);
        fs::write(&path, often).expect("the configuration is writable");
        cluster.kill(node);
        cluster.restart(node);
    }
    cluster
}

fn canaries<const N: usize>(what: [&str; N]) -> [String; N] {
    what.map(|what| unique(&format!("a canary that was {what} ")))
}

/// The files of all nodes that hold a canary.
fn on_disks(cluster: &Cluster, canary: &str) -> usize {
    cluster.nodes().map(|node| holding(&cluster.node_directory(node), canary.as_bytes()).len()).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_gone_is_gone_from_every_disk() {
    let cluster = tidy();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(1, &alice, "phone");
    let thread = hers.one_to_one(&bob).await;
    let canary = canaries(["deleted", "disappeared", "first", "kept"]);
    let on_disk = |canary: &str| on_disks(&cluster, canary);

    let deleted = hers.send(&thread, &canary[0]).await;
    let changed = hers.send(&thread, &canary[2]).await;
    let kept = hers.send(&thread, &canary[3]).await;
    let path = format!("/v1/threads/{thread}/messages");
    let body = json!({"client_seq": hers.next_client_seq(), "ciphertext": base64(&canary[1]), "ttl_seconds": 1});
    let _sent = hers.post(&path, &[("Idempotency-Key", &unique("key"))], &body).await.expect(202);
    wait::until("all of it is on some disk", wait::PATIENCE, || {
        canary.iter().all(|one| on_disk(one) > 0).then_some(())
    });

    let path = |message: &Value| format!("/v1/messages/{}", text(message, "id"));
    let _nothing = hers.delete(&path(&deleted)).await.expect(204);
    let _changed = hers.patch(&path(&changed), &json!({"ciphertext": base64("second")})).await.expect(200);
    wait::until("what is gone is on no disk", wait::PATIENCE, || {
        canary[..3].iter().all(|one| on_disk(one) == 0).then_some(())
    });
    assert!(on_disk(&canary[3]) > 0, "what is not gone stays");
    let history = hers.at(cluster.client_addr(3)).history(&thread).await;
    assert_eq!(
        (history.len(), ids(&history)[2].clone(), text_of(&history[2])),
        (4, text(&kept, "id"), canary[3].clone())
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_envelopes_held_and_what_a_block_hid_is_gone_from_every_disk() {
    let cluster = tidy();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let _counts = his.publish(1, []).await.expect(200);
    let thread = hers.one_to_one(&bob).await;
    let canary = canaries(["deleted", "disappeared", "first", "hidden", "hidden and disappeared", "kept"]);
    let envelopes =
        |text: &str| json!([{"user_id": bob, "device_id": "phone", "registration_id": 1, "ciphertext": base64(text)}]);
    let path = format!("/v1/threads/{thread}/messages");
    let send = async |text: &str, ttl: Option<u64>| {
        let mut body = json!({"client_seq": hers.next_client_seq(), "envelopes": envelopes(text)});
        if let Some(ttl) = ttl {
            body["ttl_seconds"] = json!(ttl);
        }
        hers.post(&path, &[("Idempotency-Key", &unique("key"))], &body).await.expect(202)
    };
    let deleted = send(&canary[0], None).await;
    let _gone = send(&canary[1], Some(2)).await;
    let changed = send(&canary[2], None).await;
    let _kept = send(&canary[5], None).await;
    let block = format!("/v1/users/me/blocks/{alice}");
    let _nothing = his.try_call(Method::PUT, &block, &[], Bytes::new()).await.expect("an answer").expect(204);
    let hidden = send(&canary[3], None).await;
    let _gone_too = send(&canary[4], Some(2)).await;
    wait::until("all of it is on some disk", wait::PATIENCE, || {
        canary.iter().all(|one| on_disks(&cluster, one) > 0).then_some(())
    });

    let path = |message: &Value| format!("/v1/messages/{}", text(message, "id"));
    for message in [&deleted, &hidden] {
        let _nothing = hers.delete(&path(message)).await.expect(204);
    }
    let second = unique("a canary that was second ");
    let _changed = hers.patch(&path(&changed), &json!({"envelopes": envelopes(&second)})).await.expect(200);
    wait::until("what is gone is on no disk", wait::PATIENCE, || {
        canary[..5].iter().all(|one| on_disks(&cluster, one) == 0).then_some(())
    });
    for kept in [&canary[5], &second] {
        assert!(on_disks(&cluster, kept) > 0, "what is not gone stays");
    }
    let history = his.at(cluster.client_addr(3)).history(&thread).await;
    let said: Vec<_> = history.iter().filter(|message| !message["ciphertext"].is_null()).map(text_of).collect();
    assert_eq!(said, [second, canary[5].clone()]);
}

#[tokio::test]
async fn a_life_outside_its_bounds_is_refused() {
    let cluster = Cluster::shared();
    let hers = cluster.device(1, &unique("alice"), "phone");
    let thread = hers.one_to_one(&unique("bob")).await;
    for ttl in [json!(0), json!(31_536_001), json!("60")] {
        let body = json!({"client_seq": 1, "ciphertext": base64("x"), "ttl_seconds": ttl});
        let path = format!("/v1/threads/{thread}/messages");
        let problem = hers.post(&path, &[("Idempotency-Key", &unique("key"))], &body).await;
        let problem = problem.expect_problem(400, "invalid_request");
        assert_eq!(problem["errors"][0]["field"], json!("ttl_seconds"));
    }
}
