//! Messages in envelopes, through real nodes: each device is sent its own, and none is forgotten, whoever dies.

use bytes::Bytes;
use http::Method;
use messenger_proto::ids::ThreadId;
use messenger_proto::slot::Slot;
use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{Device, base64, text, text_of, unique};
use messenger_tests::wait::{PATIENCE, until};
use serde_json::{Value, json};

fn envelope(to: &Device) -> Value {
    json!({"user_id": to.user, "device_id": to.device, "registration_id": 1,
        "ciphertext": base64(&format!("for {} {}", to.user, to.device))})
}

fn whole(to: &[&Device]) -> Value {
    to.iter().map(|device| envelope(device)).collect()
}

/// Sends as a client does: again with the same key, through the next node, until it is answered.
async fn post(through: &[Device], thread: &str, client_seq: u64, envelopes: &Value) -> messenger_tests::http::Answer {
    let path = format!("/v1/threads/{thread}/messages");
    let body = json!({"client_seq": client_seq, "envelopes": envelopes}).to_string();
    let key = unique("key");
    let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
    for attempt in 0..40 {
        let by = &through[attempt % through.len()];
        match by.try_call(Method::POST, &path, &headers, Bytes::from(body.clone())).await {
            Ok(answer) if answer.status == 503 => {}
            Ok(answer) => return answer,
            Err(_) => {}
        }
    }
    panic!("no answer to a send")
}

/// The node that leads a thread's shard.
fn leader(cluster: &Cluster, thread: &str) -> u16 {
    let slot = Slot::of_thread(thread.parse::<ThreadId>().expect("a thread id")).get();
    let status = cluster.status(1);
    let shards = status["shards"].as_array().expect("shards");
    let holds = |shard: &&Value| {
        let end = |at: usize| shard["slots"][at].as_u64().expect("a slot");
        (end(0)..=end(1)).contains(&u64::from(slot))
    };
    let shard = shards.iter().find(holds).expect("a shard for every slot");
    let id = u32::try_from(shard["id"].as_u64().expect("an id")).expect("a shard's id");
    until("a leader", PATIENCE, || cluster.leader_of(1, id))
}

#[tokio::test]
async fn each_device_hears_and_reads_its_own() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (phone, tablet) = (cluster.device(1, &alice, "phone"), cluster.device(2, &alice, "tablet"));
    let (his, pc) = (cluster.device(2, &bob, "phone"), cluster.device(3, &bob, "pc"));
    for device in [&phone, &tablet, &his, &pc] {
        let _counts = device.publish(1, []).await.expect(200);
    }
    let thread = phone.one_to_one(&bob).await;
    let to = [&tablet, &his, &pc];
    let through = [phone.at(cluster.client_addr(3))];
    let mut sockets = Vec::new();
    for device in to {
        let mut socket = device.connect().await;
        socket.catch_up().await;
        sockets.push(socket);
    }
    let sent = post(&through, &thread, 1, &whole(&to)).await.expect(202);
    assert_eq!(sent["ciphertext"], Value::Null);
    for (socket, device) in sockets.iter_mut().zip(to) {
        let heard = socket.next_of("msg").await;
        assert_eq!((&heard["id"], text_of(&heard)), (&sent["id"], format!("for {} {}", device.user, device.device)));
        assert_eq!(text_of(&device.history(&thread).await[0]), format!("for {} {}", device.user, device.device));
    }
    let watch = cluster.device(1, &bob, "watch");
    let mut late = watch.connect().await;
    assert_eq!(late.next_of("msg").await["ciphertext"], Value::Null);
    let _counts = watch.publish(1, []).await.expect(200);
    let problem = post(&through, &thread, 2, &whole(&to)).await.expect_problem(409, "device_mismatch");
    assert_eq!(problem["missing_devices"], json!([{"user_id": bob, "device_id": "watch"}]));
    let _sent = post(&through, &thread, 2, &whole(&[&tablet, &his, &pc, &watch])).await.expect(202);
    assert_eq!(text_of(&late.next_of("msg").await), format!("for {bob} watch"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_device_that_was_published_is_never_left_out_though_the_leader_dies_between() {
    let cluster = Cluster::start(Size { nodes: 3, shards: 4 });
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (phone, his) = (cluster.device(1, &alice, "phone"), cluster.device(1, &bob, "phone"));
    for device in [&phone, &his] {
        let _counts = device.publish(1, []).await.expect(200);
    }
    let thread = phone.one_to_one(&bob).await;
    let everywhere: Vec<_> = cluster.nodes().map(|node| phone.at(cluster.client_addr(node))).collect();
    let _first = post(&everywhere, &thread, 1, &whole(&[&his])).await.expect(202);
    let mut known = vec![his];
    for round in 0..2 {
        let newer = cluster.device(1, &bob, &format!("pc{round}"));
        let _counts = newer.publish(1, []).await.expect(200);
        let struck = leader(&cluster, &thread);
        cluster.strike(struck);
        let left = cluster.nodes().filter(|node| *node != struck);
        let through: Vec<_> = left.map(|node| phone.at(cluster.client_addr(node))).collect();
        let client_seq = 2 + round;
        let old: Vec<&Device> = known.iter().collect();
        let problem = post(&through, &thread, client_seq, &whole(&old)).await.expect_problem(409, "device_mismatch");
        assert_eq!(problem["missing_devices"], json!([{"user_id": bob, "device_id": newer.device}]));
        known.push(newer);
        let all: Vec<&Device> = known.iter().collect();
        let sent = post(&through, &thread, client_seq, &whole(&all)).await.expect(202);
        let path = format!("/v1/messages/{}", text(&sent, "id"));
        cluster.wait_gone(struck);
        cluster.restart(struck);
        for device in &known {
            let seen = device.at(cluster.client_addr(struck)).get(&path).await.expect(200);
            assert_eq!(text_of(&seen), format!("for {bob} {}", device.device), "through the node that was away");
        }
    }
}
