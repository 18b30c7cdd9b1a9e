//! Replicas move while a cluster grows, under load and under fire, and nothing that was acknowledged is lost.

use messenger_tests::cluster::Cluster;
use messenger_tests::device::{Device, ids, text, unique};
use messenger_tests::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const SHARDS: u32 = 6;
const THREADS: usize = 4;
/// How long it may take until all is where it should be, on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_mins(1);

/// What is sent to some threads, through whichever nodes there are, until told to stop.
struct Load {
    nodes: Arc<AtomicU16>,
    stop: Arc<AtomicBool>,
    threads: Vec<(Device, String, JoinHandle<Vec<String>>)>,
}

impl Load {
    async fn start(cluster: &Arc<Cluster>) -> Self {
        let (nodes, stop) = (Arc::new(AtomicU16::new(*cluster.nodes().end())), Arc::new(AtomicBool::new(false)));
        let mut threads = Vec::new();
        for _ in 0..THREADS {
            let device = cluster.device(1, &unique("alice"), "phone");
            let thread = device.one_to_one(&unique("bob")).await;
            let sender = device.at(cluster.client_addr(1));
            let (nodes, stop, cluster) = (Arc::clone(&nodes), Arc::clone(&stop), Arc::clone(cluster));
            let sending = tokio::spawn(send_steadily(cluster, sender, thread.clone(), nodes, stop));
            threads.push((device, thread, sending));
        }
        Self { nodes, stop, threads }
    }

    /// Sends through so many nodes from now on.
    fn through(&self, nodes: u16) {
        self.nodes.store(nodes, Ordering::Relaxed);
    }

    /// Ends, and checks every thread's whole history, through each of some nodes, against what was acknowledged.
    async fn check(self, cluster: &Cluster, through: &[u16]) {
        self.stop.store(true, Ordering::Relaxed);
        for (device, thread, sending) in self.threads {
            let accepted = sending.await.expect("the sender does not fail");
            assert!(accepted.len() > 20, "hardly anything was sent: {}", accepted.len());
            for node in through {
                let history = device.at(cluster.client_addr(*node)).history(&thread).await;
                assert_eq!(ids(&history), accepted, "through node {node}");
            }
        }
    }
}

/// Sends one message after the other; what is not accepted is sent again with the same keys through the next node. The ids
/// of what was accepted, in the order it was.
async fn send_steadily(
    cluster: Arc<Cluster>,
    device: Device,
    thread: String,
    nodes: Arc<AtomicU16>,
    stop: Arc<AtomicBool>,
) -> Vec<String> {
    let mut accepted = Vec::new();
    let mut through: BTreeMap<u16, Device> = BTreeMap::new();
    let mut turn = 0;
    for client_seq in 1.. {
        if stop.load(Ordering::Relaxed) {
            break;
        }
        let key = unique("key");
        let id = loop {
            turn = turn % nodes.load(Ordering::Relaxed) + 1;
            let device = through.entry(turn).or_insert_with(|| device.at(cluster.client_addr(turn)));
            match device.try_send(&thread, &key, client_seq, "steady").await {
                Ok(answer) if answer.status.as_u16() == 202 => break text(&answer.json(), "id"),
                Ok(answer) => assert_eq!(answer.status.as_u16(), 503, "{answer:?}"),
                // Its node is gone; there are others.
                Err(_) => {}
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        accepted.push(id);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    accepted
}

/// Whether every shard has so many replicas, all of them following, and each of so many nodes its share of them.
fn is_settled(status: &Value, nodes: usize, replicas: usize) -> bool {
    let shards = status["shards"].as_array().cloned().unwrap_or_default();
    let mut held: BTreeMap<u64, usize> = BTreeMap::new();
    for shard in &shards {
        let placed = shard["replicas"].as_array().cloned().unwrap_or_default();
        let follows = |row: &Value| matches!(row["role"].as_str(), Some("leader" | "follower"));
        if placed.len() != replicas || !placed.iter().all(follows) {
            return false;
        }
        for row in &placed {
            *held.entry(row["node"].as_u64().unwrap_or(0)).or_default() += 1;
        }
    }
    let share = (shards.len() * replicas).div_ceil(nodes);
    held.len() == nodes && held.values().all(|count| *count <= share)
}

fn wait_settled(cluster: &Cluster, nodes: usize, replicas: usize) {
    let mut last = Value::Null;
    let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait::until("replicas are where they should be", SETTLED_WITHIN, || {
            last = cluster.status(1);
            is_settled(&last, nodes, replicas).then_some(())
        });
    }));
    assert!(settled.is_ok(), "{last:#}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_from_one_node_to_five_and_loses_nothing() {
    let cluster = Arc::new(Cluster::start_alone(SHARDS, 3));
    let load = Load::start(&cluster).await;
    let second = cluster.join("b", 1);
    // Two replicas would survive no more than one.
    wait_settled(&cluster, 2, 1);
    let third = cluster.join("c", second);
    wait_settled(&cluster, 3, 3);
    load.through(third);

    // A joiner that dies over and over while replicas come to it.
    let fourth = cluster.add("a");
    for _ in 0..3 {
        let before = cluster.log(fourth).len();
        cluster.start_joining(fourth, third);
        wait::until("replicas come to the fourth node", wait::PATIENCE, || {
            let log = cluster.log(fourth);
            let came =
                log[before..].contains("a replica begins here") || log[before..].contains("replicas are starting");
            came.then_some(())
        });
        cluster.kill(fourth);
    }
    cluster.restart(fourth);
    let fifth = cluster.join("b", fourth);
    load.through(fifth);
    wait_settled(&cluster, 5, 3);

    // The first node is one of many now: what it held is safe without it.
    cluster.kill(1);
    load.check(&cluster, &[second, third, fourth, fifth]).await;
    for node in [second, third, fourth, fifth] {
        assert!(!cluster.log(node).contains("panicked"));
    }
}
