//! SIGTERM: the node hands over what it leads, tells its clients, and goes; no request fails for good.

use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{Device, ids, text, unique};
use messenger_tests::wait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::atomic::{AtomicBool, Ordering};

/// Sends until told to stop; a refusal or a lost connection is retried with the same keys through another node, as a
/// client does. The ids of what was accepted, in the order it was.
async fn send_steadily(through: &[Device], thread: &str, stop: &AtomicBool) -> Vec<String> {
    let mut accepted = Vec::new();
    for client_seq in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = unique("key");
        let mut turns = through.iter().cycle();
        let id = wait::eventually("a message is accepted", || {
            let device = turns.next().expect("a cycle has no end");
            let key = &key;
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
