//! Devices and the keys they publish for each other: each is handed out once, whatever happens to whom.

use bytes::Bytes;
use futures_util::future::join_all;
use http::Method;
use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{Device, base64, number, text, unique};
use messenger_tests::http::{Answer, NoAnswer};
use messenger_tests::socket::{Refused, Socket, handshake};
use messenger_tests::wait::PATIENCE;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

async fn try_take(device: &Device, user: &str, key: &str) -> Result<Answer, NoAnswer> {
    let path = format!("/v1/users/{user}/prekeys");
    device.try_call(Method::GET, &path, &[("idempotency-key", key)], Bytes::new()).await
}

fn one_time(bundles: &Value) -> u64 {
    let key = &bundles["devices"][0]["one_time_prekey"];
    assert_eq!(key["last_resort"], json!(false), "{bundles}");
    number(key, "key_id")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn fifty_fetches_at_once_through_all_nodes_get_fifty_keys() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let counts = his.publish(1, 1..=60).await.expect(200);
    assert_eq!((number(&counts, "one_time"), number(&counts, "pq_one_time")), (60, 0));
    let through: Vec<_> = cluster.nodes().map(|node| hers.at(cluster.client_addr(node))).collect();
    let keys: Vec<_> = (0..50).map(|_| unique("key")).collect();
    let fetches = |shift: usize| {
        join_all((0..keys.len()).map(|n| try_take(&through[(n + shift) % 3], &bob, &keys[n])).collect::<Vec<_>>())
    };
    let first = fetches(0).await.into_iter().map(|answer| answer.expect("an answer")).collect::<Vec<_>>();
    let ids: BTreeSet<u64> = first.iter().map(|answer| one_time(&answer.expect(200))).collect();
    assert_eq!(ids.len(), 50);
    assert!(first.iter().all(|answer| answer.header("cache-control") == Some("no-store")));
    for (answer, before) in fetches(1).await.into_iter().zip(&first) {
        let answer = answer.expect("an answer");
        assert_eq!((answer.expect(200), answer.header("idempotent-replayed")), (before.json(), Some("true")));
    }
    let path = "/v1/users/me/devices/phone/prekeys";
    assert_eq!(number(&his.at(cluster.client_addr(3)).get(path).await.expect(200), "one_time"), 10);
    assert_eq!(number(&his.publish(1, 1..=60).await.expect(200), "one_time"), 10, "those handed out stay so");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_dies_loses_and_repeats_no_key() {
    let cluster = Cluster::start(Size { nodes: 3, shards: 4 });
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let _counts = his.publish(1, 1..=100).await.expect(200);
    let through: Vec<_> = [1, 2].map(|node| hers.at(cluster.client_addr(node))).into();
    let keys: Vec<_> = (0..60).map(|_| unique("key")).collect();
    let mut bundles: BTreeMap<usize, Value> = BTreeMap::new();
    for (n, key) in keys.iter().enumerate() {
        if n == 20 {
            cluster.strike(3);
        }
        // As a client does: again with the same key until it is answered.
        for attempt in 0.. {
            match try_take(&through[(n + attempt) % 2], &bob, key).await {
                Ok(answer) if answer.status == 200 => {
                    bundles.insert(n, answer.json());
                    break;
                }
                Ok(answer) if answer.status == 503 && attempt < 20 => {}
                other => panic!("{other:?}"),
            }
        }
    }
    cluster.wait_gone(3);
    cluster.restart(3);
    let third = hers.at(cluster.client_addr(3));
    for (n, key) in keys.iter().enumerate() {
        let again = try_take(&third, &bob, key).await.expect("an answer").expect(200);
        assert_eq!(again, bundles[&n], "through the node that was away");
    }
    let ids: BTreeSet<u64> = bundles.values().map(one_time).collect();
    assert_eq!(ids, (1..=60).collect());
    let left = his.get("/v1/users/me/devices/phone/prekeys").await.expect(200);
    assert_eq!(number(&left, "one_time"), 40);
}

#[tokio::test]
async fn what_runs_out_is_told_and_refused_and_stood_in_for() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(1, &alice, "phone");
    let (phone, tablet) = (cluster.device(2, &bob, "phone"), cluster.device(3, &bob, "tablet"));
    let path = format!("/v1/users/{bob}/prekeys");
    hers.get(&path).await.expect_problem(404, "not_found");
    let _counts = phone.publish(1, 1..=20).await.expect(200);
    let _counts = tablet.publish(1, []).await.expect(200);
    let mut live = phone.connect().await;
    let _replayed = live.catch_up().await;
    let bundles = hers.get(&path).await.expect(200);
    assert_eq!((one_time(&bundles), &bundles["exhausted"]), (1, &json!(["tablet"])));
    let low = live.next_of("prekeys_low").await;
    assert_eq!(
        (text(&low, "t"), text(&low, "device_id"), number(&low, "remaining")),
        ("prekeys_low".into(), "phone".into(), 19)
    );
    for id in 2..=20 {
        assert_eq!(one_time(&hers.get(&path).await.expect(200)), id);
    }
    let refused = hers.get(&path).await;
    let _problem = refused.expect_problem(503, "prekeys_exhausted");
    assert!(refused.header("retry-after").is_some_and(|after| after != "1"), "not at once");
    let body = json!({"registration_id": 1, "identity_key": base64("tablet"), "signed_prekey":
        {"key_id": 0, "public_key": base64("tablet 1 0"), "signature": base64("signature")},
        "last_resort": tablet.prekey(1, 99)});
    let _counts = tablet.put("/v1/users/me/devices/tablet/prekeys", &body).await.expect(200);
    for _ in 0..2 {
        let bundles = hers.get(&path).await.expect(200);
        let key = &bundles["devices"][0]["one_time_prekey"];
        assert_eq!(
            (number(key, "key_id"), &key["last_resort"], &bundles["exhausted"]),
            (99, &json!(true), &json!(["phone"]))
        );
    }
    phone.put("/v1/users/me/devices/tablet/prekeys", &body).await.expect_problem(403, "forbidden");
    drop(live);
    let frames = phone.at(cluster.client_addr(1)).connect().await.next_of("prekeys_low").await;
    assert_eq!(frames["remaining"], json!(0));
}

#[tokio::test]
async fn a_deleted_device_is_out_everywhere_and_others_hear_of_it() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(3, &alice, "phone");
    let (phone, tablet) = (cluster.device(1, &bob, "phone"), cluster.device(2, &bob, "tablet"));
    let thread = phone.one_to_one(&alice).await;
    let _counts = phone.publish(1, 1..=30).await.expect(200);
    let mut live = phone.connect().await;
    let (mut her_live, mut other_live) = (hers.connect().await, tablet.connect().await);
    for socket in [&mut live, &mut her_live, &mut other_live] {
        let _replayed = socket.catch_up().await;
    }
    // Known to be good at every node, a moment ago.
    let through: Vec<_> = cluster.nodes().map(|node| phone.at(cluster.client_addr(node))).collect();
    for device in &through {
        let _thread = device.thread(&thread).await;
    }
    let _nothing = tablet.delete("/v1/users/me/devices/phone").await.expect(204);
    assert_eq!(live.closed_within(Duration::from_secs(1)).await, Some(4401));
    for device in &through {
        let refused = device.get("/v1/threads").await;
        let _problem = refused.expect_problem(401, "device_revoked");
        assert!(refused.header("www-authenticate").is_some());
        let again = Socket::try_open(device.http.addr(), handshake(device.http.addr(), "", Some(&device.token))).await;
        assert!(matches!(again, Err(Refused::Status(401, _))), "{again:?}");
    }
    for socket in [&mut her_live, &mut other_live] {
        let told = socket.next_of("device").await;
        assert_eq!(text(&told, "user_id"), bob);
    }
    assert_eq!(tablet.get(&format!("/v1/users/{bob}/devices")).await.expect(200), json!({"devices": []}));
    hers.get(&format!("/v1/users/{bob}/prekeys")).await.expect_problem(404, "not_found");
    let _message = tablet.send(&thread, "still here").await;

    // A token that was issued since brings the device back, as a new one. Tokens count in seconds.
    let back = async {
        loop {
            let back = cluster.device(1, &bob, "phone");
            match back.publish(2, [1]).await {
                answer if answer.status == 200 => return back,
                answer => drop(answer.expect_problem(401, "device_revoked")),
            }
        }
    };
    let back = tokio::time::timeout(PATIENCE, back).await.expect("a newer token is good");
    back.publish(1, [1]).await.expect_problem(409, "stale_registration");
    assert_eq!(one_time(&hers.get(&format!("/v1/users/{bob}/prekeys")).await.expect(200)), 1);
    phone.get("/v1/threads").await.expect_problem(401, "device_revoked");
    assert_eq!(number(&back.connect().await.next_of("prekeys_low").await, "remaining"), 0);
}
