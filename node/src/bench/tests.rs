//! The load against a tiny cluster, over real sockets.

use super::*;
use crate::auth::SigningKey;
use crate::dev_key::DevKey;
use messenger_client::testing::{FakeCluster, Fault};
use std::time::Duration;

const PLAN: Plan = Plan { warmup: Duration::from_millis(50), measured: Duration::from_millis(300) };

fn key() -> DevKey {
    DevKey::new(SigningKey {
        kid: "dev".into(),
        issuer: "messenger".into(),
        audience: "messenger".into(),
        secret: vec![7; 32],
    })
}

async fn fleet(cluster: &FakeCluster, clients: usize, threads: usize) -> Fleet {
    let config = FleetConfig { servers: cluster.servers(), key: key(), clients, threads };
    Fleet::set_up(&config).await.unwrap()
}

fn silent() -> Progress {
    Box::new(|_, _| ())
}

#[tokio::test]
async fn rest_senders_send_each_message_once() {
    let cluster = FakeCluster::start(2).await;
    wait_ready(&cluster.servers(), Duration::from_secs(5)).await.unwrap();
    let fleet = fleet(&cluster, 4, 4).await;
    cluster.fault(Fault::LoseAnswer);
    let report = send_rest(fleet, 64, PLAN, silent()).await.unwrap();
    assert!(report.acked > 0, "{report:?}");
    let memory = cluster.memory();
    let mut keys = memory.keys.clone();
    keys.sort();
    keys.dedup();
    assert_eq!(memory.messages.len(), keys.len());
    assert!(memory.messages.len() as u64 >= report.acked);
}

#[tokio::test]
async fn socket_senders_send_each_message_once() {
    let cluster = FakeCluster::start(2).await;
    let fleet = fleet(&cluster, 4, 2).await;
    let report = send_socket(fleet, 64, PLAN, silent()).await.unwrap();
    assert!(report.acked > 0 && report.errors.is_empty(), "{report:?}");
    assert!(cluster.memory().messages.len() as u64 >= report.acked);
}

#[tokio::test]
async fn errors_are_counted_and_the_message_is_tried_again() {
    let cluster = FakeCluster::start(1).await;
    let fleet = fleet(&cluster, 1, 1).await;
    for _ in 0..3 {
        cluster.fault(Fault::Refuse(503, "unavailable"));
    }
    let plan = Plan { warmup: Duration::ZERO, ..PLAN };
    let report = send_rest(fleet, 64, plan, silent()).await.unwrap();
    assert_eq!(report.errors["unavailable"], 3);
    let keys = cluster.memory().keys.clone();
    assert!(keys.len() > 3 && keys[..4].iter().all(|key| *key == keys[0]), "{keys:?}");
}

#[tokio::test]
async fn what_is_sent_is_received() {
    for rest in [false, true] {
        let cluster = FakeCluster::start(2).await;
        let config = Deliver {
            servers: cluster.servers(),
            key: key(),
            rate: 200,
            pairs: 1,
            payload: 64,
            rest,
            warmup: Duration::ZERO,
            measured: Duration::from_millis(300),
        };
        let report = deliver(config, silent()).await.unwrap();
        assert!(report.sent >= 30 && report.missing == 0 && report.errors.is_empty(), "{report:?}");
        assert_eq!(report.received, report.sent);
        assert!(report.latencies.max_ms > 0.0);
    }
}

#[tokio::test]
async fn idle_sockets_are_held() {
    let cluster = FakeCluster::start(1).await;
    let config = IdleSockets {
        servers: cluster.servers(),
        key: key(),
        count: 40,
        hold: Duration::from_millis(100),
        pids: vec![std::process::id()],
    };
    let report = idle_sockets(config, silent()).await.unwrap();
    assert_eq!((report.open, report.lost), (40, 0));
    assert!(report.bytes_per_socket.is_some());
}

#[tokio::test]
async fn a_node_that_is_not_there_is_named() {
    let cluster = FakeCluster::start(1).await;
    let servers = cluster.servers_after_a_dead_one().await;
    let error = wait_ready(&servers, Duration::from_millis(150)).await.unwrap_err();
    assert!(error.to_string().contains(&servers.at(0).to_string()), "{error}");
}
