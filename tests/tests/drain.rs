//! SIGTERM: the node hands over what it leads, tells its clients, and goes; no request fails for good.

use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{Device, ids, text, unique};
use messenger_tests::wait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

/// What a node says that waited for others as long as it may.
const GAVE_UP: &str = "was fit to take over in time";

/// Sends until told to stop; a refusal or a lost connection is retried with the same keys through another node, as a
/// client does. The ids of what was accepted, in the order it was.
async fn send_steadily(through: [Device; 3], thread: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut accepted = Vec::new();
    for client_seq in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = unique("key");
        let mut turns = through.iter().cycle();
        let id = wait::eventually("a message is accepted", || {
            let device = turns.next().expect("a cycle has no end");
            let (thread, key) = (&thread, &key);
            async move {
                let answer = device.try_send(thread, key, client_seq, "steady").await.ok()?;
                match answer.status.as_u16() {
                    202 => Some(text(&answer.json(), "id")),
                    503 => {
                        assert!(answer.header("retry-after").is_some(), "{answer:?}");
                        None
                    }
                    other => panic!("{other}: {answer:?}"),
                }
            }
        });
        accepted.push(id.await);
    }
    accepted
}

fn leads(status: &Value, node: u16) -> usize {
    let shards = status["shards"].as_array().expect("shards are a list");
    shards.iter().filter(|shard| shard["leader"] == node).count()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_told_to_stop_leaves_in_good_order() {
    const LEAVING: u16 = 2;
    let cluster = Cluster::start(Size::default());
    // As a child of this test, so that its exit status can be seen.
    cluster.kill(LEAVING);
    cluster.restart(LEAVING);
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(1, &alice, "phone");
    let thread = hers.one_to_one(&bob).await;
    wait::eventually("the node leads shards again", || async {
        (leads(&cluster.status(1), LEAVING) > 0).then_some(())
    })
    .await;
    let through = [LEAVING, 1, 3].map(|node| hers.at(cluster.client_addr(node)));
    let mut socket = cluster.device(LEAVING, &bob, "tablet").connect().await;
    socket.catch_up().await;

    let stop = Arc::new(AtomicBool::new(false));
    let sending = tokio::spawn(send_steadily(through, thread.clone(), Arc::clone(&stop)));
    socket.next_of("msg").await;
    cluster.terminate(LEAVING);
    assert_eq!(socket.closed_within(wait::PATIENCE).await, Some(1001));
    cluster.wait_gone(LEAVING);
    let status = cluster.exit_status(LEAVING).expect("it was restarted by this test");
    assert_eq!(status.code(), Some(0));
    let log = std::fs::read_to_string(cluster.node_directory(LEAVING).join("log")).expect("a node keeps a log");
    assert!(!log.contains("leaving while still leading"), "leaders move before the process ends");
    assert!(!log.contains("another address or store"), "no peer has moved, the node itself goes: {log}");
    assert_eq!(leads(&cluster.status(1), LEAVING), 0);
    cluster.restart(LEAVING);
    stop.store(true, Ordering::Relaxed);
    let accepted = sending.await.expect("the sender does not fail");
    assert!(!accepted.is_empty());
    for node in cluster.nodes() {
        let history = hers.at(cluster.client_addr(node)).history(&thread).await;
        assert_eq!(ids(&history), accepted, "through node {node}");
    }
}

#[test]
fn a_second_signal_ends_a_node_with_a_status_of_its_own() {
    const LEAVING: u16 = 2;
    let cluster = Cluster::start(Size { nodes: 3, shards: 4 });
    cluster.kill(LEAVING);
    cluster.restart(LEAVING);
    cluster.terminate(LEAVING);
    wait::until("it drains", wait::PATIENCE, || (cluster.ready_status(LEAVING) == Some(503)).then_some(()));
    cluster.terminate(LEAVING);
    cluster.wait_gone(LEAVING);
    let status = cluster.exit_status(LEAVING).expect("it was restarted by this test");
    assert_eq!(status.code(), Some(11), "it had not drained");
    let log = std::fs::read_to_string(cluster.node_directory(LEAVING).join("log")).expect("a node keeps a log");
    let last = log.lines().last().unwrap_or_default();
    assert!(last.starts_with("messenger: ") && last.contains("before it had drained"), "{last}");
    let help = cluster.messenger(&["serve", "--help"]);
    let help = String::from_utf8(help.stdout).expect("help is UTF-8");
    assert!(help.contains("  11  "), "the status is documented: {help}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_that_is_told_to_stop_ends_whole_and_comes_back_whole() {
    let cluster = Cluster::start(Size::default());
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(1, &alice, "phone");
    let thread = hers.one_to_one(&bob).await;
    let mut sent = BTreeSet::new();
    for n in 0..20 {
        sent.insert(text(&hers.send(&thread, &n.to_string()).await, "id"));
    }
    messenger_tests::cluster::process::signal(cluster.dev_pid(), nix::sys::signal::Signal::SIGTERM);
    assert_eq!(cluster.wait_dev().code(), Some(0));
    for node in cluster.nodes() {
        assert_eq!(cluster.pid(node), None, "`messenger dev` does not leave its nodes behind");
        let log = std::fs::read_to_string(cluster.node_directory(node).join("log")).expect("a node keeps a log");
        assert!(!log.contains(GAVE_UP), "node {node} waited for somebody to hand over to, and nobody was left");
    }
    for node in cluster.nodes() {
        cluster.start_node(node);
    }
    cluster.wait_ready();
    for node in cluster.nodes() {
        let history = ids(&hers.at(cluster.client_addr(node)).history(&thread).await);
        assert_eq!(history.into_iter().collect::<BTreeSet<_>>(), sent);
    }
}
