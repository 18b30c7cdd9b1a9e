//! A block holds through every node, whatever dies: what it fails is never shown, and what is sent again arrives.

use bytes::Bytes;
use http::Method;
use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{Device, ids, text, unique};
use messenger_tests::socket::Socket;
use messenger_tests::wait::eventually;
use serde_json::Value;

async fn online(device: &Device) -> Socket {
    let mut socket = device.connect().await;
    socket.catch_up().await;
    socket
}

/// Blocks, or unblocks, through whichever nodes there are until it is answered.
async fn block(nodes: &[Device], other: &str, method: Method) {
    let path = format!("/v1/users/me/blocks/{other}");
    eventually("a block is answered", || async {
        for device in nodes {
            match device.try_call(method.clone(), &path, &[], Bytes::new()).await {
                Ok(answer) if answer.status.as_u16() == 204 => return Some(()),
                Ok(answer) => assert!(answer.status.as_u16() >= 500, "{answer:?}"),
                Err(_) => {}
            }
        }
        None
    })
    .await;
}

/// Sends under a key until it is accepted.
async fn send(nodes: &[Device], thread: &str, key: &str, client_seq: u64) -> Value {
    eventually("a message is accepted", || async {
        for device in nodes {
            match device.try_send(thread, key, client_seq, key).await {
                Ok(answer) if answer.status.as_u16() < 500 => return Some(answer.expect(202)),
                _ => {}
            }
        }
        None
    })
    .await
}

async fn state_of(sender: &Device, message: &Value, of: &str) -> String {
    let recipients = sender.recipients(&text(message, "id")).await;
    text(recipients.iter().find(|one| one["recipient_id"] == of).expect("a recipient"), "state")
}

#[tokio::test]
async fn a_block_holds_through_the_death_of_a_node_and_what_failed_is_sent_again() {
    let cluster = Cluster::start(Size { nodes: 3, shards: 4 });
    let (alice, bob, carol) = (unique("alice"), unique("bob"), unique("carol"));
    let through = |user: &str, nodes: &[u16]| -> Vec<Device> {
        nodes.iter().map(|node| cluster.device(*node, user, "phone")).collect()
    };
    let (hers, his) = (through(&alice, &[2, 3, 1]), through(&bob, &[3, 2, 1]));
    let group = hers[0].group("all", &[&bob, &carol]).await;
    let pair = his[0].one_to_one(&alice).await;
    let before = send(&his, &group, "before", 1).await;
    let mut live = online(&hers[0]).await;
    let frame = live_frame(&mut live, &carol, &cluster, &group, "first").await;
    live.ack(&frame).await;

    block(&hers, &bob, Method::PUT).await;
    let mut failed = vec![send(&his, &group, "failed", 2).await, send(&his, &pair, "alone", 3).await];
    cluster.kill(1);
    failed.push(send(&his, &group, "after the death", 4).await);
    failed.push(send(&his, &pair, "alone after it", 5).await);
    // Live she hears the next message of somebody else, and nothing before it.
    let frame = live_frame(&mut live, &carol, &cluster, &group, "second").await;
    live.ack(&frame).await;
    let seen = text(&frame, "id");
    for message in &failed {
        assert_eq!(state_of(&his[0], message, &alice).await, "FAILED");
        let id = text(message, "id");
        hers[0].get(&format!("/v1/messages/{id}")).await.expect_problem(404, "not_found");
        assert_ne!(id, seen);
    }
    let first = &ids(&hers[0].history(&group).await)[..];
    assert!(first.contains(&text(&before, "id")) && first.contains(&seen) && first.len() == 3, "{first:?}");
    assert!(hers[1].history(&pair).await.is_empty());
    // A new device is told of all there is to tell.
    let tablet = cluster.device(3, &alice, "tablet");
    let mut socket = tablet.connect().await;
    let replayed = socket.catch_up().await;
    let replayed: Vec<Value> = replayed.into_iter().filter(|frame| frame["t"] == "msg").collect();
    assert_eq!(ids(&replayed).len(), 3, "{replayed:?}");

    cluster.restart(1);
    cluster.wait_ready();
    block(&hers, &bob, Method::DELETE).await;
    let later = send(&his, &group, "later", 6).await;
    let frame = live.next_where("msg", |frame| frame["id"] == later["id"]).await;
    live.ack(&frame).await;
    for message in &failed {
        assert_eq!(state_of(&his[1], message, &alice).await, "FAILED", "unblocking revives nothing");
    }
    // Under a new key it is the same message, which now arrives.
    let again = eventually("it is sent again", || async {
        let answer = his[0].try_send(&group, "once more", 2, "failed").await.ok()?;
        (answer.status.as_u16() < 500).then(|| answer.expect(202))
    })
    .await;
    assert_eq!(again["id"], failed[0]["id"]);
    let frame = live.next_where("msg", |frame| frame["id"] == again["id"]).await;
    assert_eq!(frame["seq"], again["seq"]);
    live.ack(&frame).await;
    eventually("it is delivered", || async { (state_of(&his[0], &again, &alice).await == "DELIVERED").then_some(()) })
        .await;
    assert_eq!(state_of(&his[0], &failed[2], &alice).await, "FAILED", "each for itself");
    assert!(ids(&hers[2].history(&group).await).contains(&text(&again, "id")));
}

/// Carol says something; the first message that is heard live.
async fn live_frame(live: &mut Socket, carol: &str, cluster: &Cluster, group: &str, key: &str) -> Value {
    let hers: Vec<Device> = [2, 3].iter().map(|node| cluster.device(*node, carol, "phone")).collect();
    let number = if key == "first" { 1 } else { 2 };
    let sent = send(&hers, group, key, number).await;
    let heard = live.next_of("msg").await;
    assert_eq!(heard["id"], sent["id"]);
    heard
}
