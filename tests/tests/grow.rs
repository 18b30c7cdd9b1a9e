//! Nodes come to a cluster that runs, under load and under fire, and serve.

use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{Device, ids, text, unique};
use messenger_tests::wait;
use serde_json::Value;
use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

const SIZE: Size = Size { nodes: 3, shards: 8 };

/// Sends until told to stop; what is not accepted is sent again with the same keys through the next node. The ids of what
/// was accepted, in the order it was.
async fn send_steadily(through: Vec<Device>, thread: String, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut accepted = Vec::new();
    let mut turns = through.iter().cycle();
    for client_seq in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = unique("key");
        let id = wait::eventually("a message is accepted", || {
            let device = turns.next().expect("a cycle has no end");
            let (thread, key) = (&thread, &key);
            async move {
                let answer = device.try_send(thread, key, client_seq, "steady").await.ok()?;
                match answer.status.as_u16() {
                    202 => Some(text(&answer.json(), "id")),
                    503 => None,
                    other => panic!("{other}: {answer:?}"),
                }
            }
        });
        accepted.push(id.await);
    }
    accepted
}

/// The node that listens where the `node`th of the fixture does.
fn row(cluster: &Cluster, asked: u16, node: u16) -> Option<Value> {
    let status = cluster.status(asked);
    let addr = cluster.client_addr(node).to_string();
    status["nodes"].as_array()?.iter().find(|row| row["client_addr"] == addr.as_str()).cloned()
}

fn wait_active(cluster: &Cluster, asked: u16, node: u16) -> u64 {
    wait::until(&format!("node {node} is active"), wait::PATIENCE, || {
        row(cluster, asked, node).filter(|row| row["state"] == "active")?["id"].as_u64()
    })
}

/// The nodes that decide over the record.
fn council(cluster: &Cluster, asked: u16) -> BTreeSet<u64> {
    let status = cluster.status(asked);
    let replicas = status["meta"]["replicas"].as_array().cloned().unwrap_or_default();
    let deciding = replicas.iter().filter(|row| matches!(row["role"].as_str(), Some("leader" | "follower")));
    deciding.filter_map(|row| row["node"].as_u64()).collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_joins_under_load_and_serves() {
    let cluster = Cluster::start(SIZE);
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(1, &alice, "phone");
    let thread = hers.one_to_one(&bob).await;
    let stop = Arc::new(AtomicBool::new(false));
    let through = cluster.nodes().map(|node| hers.at(cluster.client_addr(node))).collect();
    let sending = tokio::spawn(send_steadily(through, thread.clone(), Arc::clone(&stop)));
    let fourth = cluster.join("zone-4", 2);
    assert_eq!(wait_active(&cluster, 1, fourth), 4);
    assert_eq!(wait_active(&cluster, fourth, fourth), 4);
    let mut socket = cluster.device(fourth, &bob, "tablet").connect().await;
    socket.catch_up().await;
    stop.store(true, Ordering::Relaxed);
    let mut accepted = sending.await.expect("the sender does not fail");

    // Through the new node alone, while it is told of what others send.
    let through_it = hers.at(cluster.client_addr(fourth));
    let own = cluster.device(fourth, &bob, "phone").send(&thread, "from the fourth").await;
    accepted.push(text(&own, "id"));
    socket.next_of("msg").await;
    assert_eq!(ids(&through_it.history(&thread).await), accepted);

    // It needs no --join any more, and what is named counts for nothing.
    cluster.kill(fourth);
    cluster.restart(fourth);
    cluster.kill(fourth);
    cluster.start_joining(fourth, fourth);
    cluster.wait_node_ready(fourth);
    assert_eq!(ids(&through_it.history(&thread).await), accepted);
    assert_eq!(wait_active(&cluster, 3, fourth), 4);

    // Its disk is gone: what comes in its place is another node, and not where it was.
    cluster.kill(fourth);
    std::fs::remove_dir_all(cluster.node_directory(fourth).join("data")).expect("it has a directory");
    cluster.start_joining(fourth, 1);
    cluster.wait_gone(fourth);
    assert_eq!(cluster.exit_status(fourth).and_then(|status| status.code()), Some(9));
    let fifth = cluster.join("zone-4", 1);
    assert_eq!(wait_active(&cluster, 1, fifth), 5);
}

#[test]
fn a_joiner_that_is_killed_at_any_moment_comes_back_as_the_same_node() {
    let cluster = Cluster::start(SIZE);
    let fourth = cluster.add("zone-4");
    let moments = [
        "asking to join the cluster",
        "waiting: the meta group has no leader yet",
        "waiting: the cluster's record is not known yet",
        "waiting: the meta group has not taken note of this node yet",
        "waiting: some replica is behind its leader",
        "ready node=",
    ];
    for (turn, moment) in (1..).zip(moments) {
        let before = cluster.log(fourth).len();
        cluster.start_joining(fourth, turn % 3 + 1);
        wait::until(moment, wait::PATIENCE, || {
            let log = cluster.log(fourth);
            // A start that is further than the moment asks for nothing.
            (log[before..].contains(moment) || log[before..].contains("ready node=")).then_some(())
        });
        cluster.kill(fourth);
    }
    cluster.restart(fourth);
    assert_eq!(wait_active(&cluster, 1, fourth), 4);
    assert_eq!(cluster.status(1)["nodes"].as_array().map(Vec::len), Some(4), "it never was another one");
}

#[test]
fn nodes_that_join_at_once_are_two_and_decide_with_the_others() {
    let cluster = Cluster::start(SIZE);
    let new = [cluster.add("zone-4"), cluster.add("zone-5")];
    cluster.start_joining(new[0], 1);
    cluster.start_joining(new[1], 3);
    let given: BTreeSet<u64> = new
        .iter()
        .map(|node| {
            cluster.wait_node_ready(*node);
            wait_active(&cluster, 2, *node)
        })
        .collect();
    assert_eq!(given, [4, 5].into());
    wait::until("five decide", wait::PATIENCE, || (council(&cluster, 2).len() == 5).then_some(()));
    // What two of the first three could not decide without the new ones.
    cluster.kill(2);
    cluster.kill(3);
    let sixth = cluster.add("zone-6");
    cluster.start_joining(sixth, new[0]);
    let id = wait::until("the sixth is known", wait::PATIENCE, || row(&cluster, 1, sixth)?["id"].as_u64());
    assert_eq!(id, 6);
}

#[test]
fn a_node_that_may_not_join_says_why() {
    let cluster = Cluster::start(SIZE);
    let fourth = cluster.add("zone-4");
    let good = std::fs::read_to_string(cluster.config(fourth)).expect("it has a configuration");
    cluster.kill(3);
    let taken = (cluster.client_addr(fourth).to_string(), cluster.client_addr(3).to_string());
    let id: toml::Table = good.parse().expect("it is TOML");
    let id = id["cluster"]["id"].as_str().expect("it names its cluster").to_owned();
    for (from, to, named) in [(taken.0, taken.1, "node 3"), (id, "0".repeat(32), "cluster")] {
        std::fs::write(cluster.config(fourth), good.replace(&from, &to)).expect("the directory is writable");
        let before = cluster.log(fourth).len();
        cluster.start_joining(fourth, 1);
        cluster.wait_gone(fourth);
        assert_eq!(cluster.exit_status(fourth).and_then(|status| status.code()), Some(9));
        let log = cluster.log(fourth);
        let said: Vec<&str> = log[before..].lines().filter(|line| line.starts_with("messenger: ")).collect();
        assert!(said.len() == 1 && said[0].contains(named), "{said:?}");
    }
    // A new directory, and nobody to ask.
    std::fs::write(cluster.config(fourth), good).expect("the directory is writable");
    cluster.start_node(fourth);
    cluster.wait_gone(fourth);
    assert_eq!(cluster.exit_status(fourth).and_then(|status| status.code()), Some(3));
    assert!(cluster.log(fourth).contains("--join"));
    assert_eq!(cluster.status(1)["nodes"].as_array().map(Vec::len), Some(3));
}
