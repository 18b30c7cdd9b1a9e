//! Messages that disappear: gone for everyone in time, whoever dies meanwhile.

use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{base64, ids, text, unique};
use messenger_tests::wait;
use serde_json::{Value, json};

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
