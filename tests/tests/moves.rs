//! Replicas move while a cluster grows, under load and under fire, and nothing that was acknowledged is lost.

use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{Device, ids, text, unique};
use messenger_tests::socket::{Next, Socket};
use messenger_tests::wait;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU16, Ordering};
use std::time::Duration;
use tokio::task::JoinHandle;

const SHARDS: u32 = 6;
const THREADS: usize = 4;
/// A listener that hears nothing for so long has heard all.
const SILENT_FOR: Duration = Duration::from_secs(8);
/// How long it may take until all is where it should be, on a busy machine.
const SETTLED_WITHIN: Duration = Duration::from_mins(1);

/// What is sent to some threads, through whichever nodes there are, until told to stop.
struct Load {
    nodes: Arc<AtomicU16>,
    stop: Arc<AtomicBool>,
    threads: Vec<(Device, String, JoinHandle<Vec<String>>)>,
    /// What the other one of each thread heard on one connection.
    listening: Vec<JoinHandle<Vec<String>>>,
    others: Vec<String>,
}

impl Load {
    async fn start(cluster: &Arc<Cluster>) -> Self {
        let (nodes, stop) = (Arc::new(AtomicU16::new(*cluster.nodes().end())), Arc::new(AtomicBool::new(false)));
        let (mut threads, mut others) = (Vec::new(), Vec::new());
        for _ in 0..THREADS {
            let device = cluster.device(1, &unique("alice"), "phone");
            others.push(unique("bob"));
            let thread = device.one_to_one(others.last().expect("it was just put there")).await;
            let sender = device.at(cluster.client_addr(1));
            let (nodes, stop, cluster) = (Arc::clone(&nodes), Arc::clone(&stop), Arc::clone(cluster));
            let sending = tokio::spawn(send_steadily(cluster, sender, thread.clone(), nodes, stop));
            threads.push((device, thread, sending));
        }
        Self { nodes, stop, threads, listening: Vec::new(), others }
    }

    /// Has the other one of each thread listen through a node, from now on.
    async fn listen(&mut self, cluster: &Cluster, node: u16) {
        for other in &self.others {
            let mut socket = cluster.device(node, other, "tablet").connect().await;
            // What was sent before may be more than is told at once.
            for frame in socket.catch_up().await {
                socket.ack(&frame).await;
            }
            self.listening.push(tokio::spawn(listen(socket, Arc::clone(&self.stop))));
        }
    }

    /// Sends through so many nodes from now on.
    fn through(&self, nodes: u16) {
        self.nodes.store(nodes, Ordering::Relaxed);
    }

    /// Ends, and checks every thread's whole history, through each of some nodes, against what was acknowledged.
    async fn check(self, cluster: &Cluster, through: &[u16]) {
        self.stop.store(true, Ordering::Relaxed);
        let mut listening = self.listening.into_iter();
        for (device, thread, sending) in self.threads {
            let accepted = sending.await.expect("the sender does not fail");
            assert!(accepted.len() > 20, "hardly anything was sent: {}", accepted.len());
            for node in through {
                let history = device.at(cluster.client_addr(*node)).history(&thread).await;
                assert_eq!(ids(&history), accepted, "through node {node}");
            }
            let heard = listening.next().expect("somebody listens").await.expect("the listener does not fail");
            let first = heard.first().and_then(|first| accepted.iter().position(|id| id == first));
            let first = first.unwrap_or_else(|| panic!("it heard nothing that was sent: {heard:?}"));
            assert_eq!(heard, accepted[first..], "each message is heard once, in order");
        }
    }
}

/// Listens on one connection until nobody sends any more and it is silent for long; the messages, in the order they came.
async fn listen(mut socket: Socket, stop: Arc<AtomicBool>) -> Vec<String> {
    let mut heard = Vec::new();
    loop {
        let stopped = stop.load(Ordering::Relaxed);
        match socket.next_within(SILENT_FOR).await {
            Next::Frame(frame) => {
                if frame["t"] == "msg" {
                    heard.push(text(&frame, "id"));
                }
                socket.ack(&frame).await;
            }
            Next::Silence if stopped => return heard,
            // On a busy machine what is sent may be held up for so long, too.
            Next::Silence => {}
            Next::Closed(code) => panic!("the connection ended: {code:?}"),
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
    wait_settled_at(cluster, 1, nodes, replicas);
}

fn wait_settled_at(cluster: &Cluster, asked: u16, nodes: usize, replicas: usize) {
    let mut last = Value::Null;
    let settled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        wait::until("replicas are where they should be", SETTLED_WITHIN, || {
            last = cluster.status(asked);
            is_settled(&last, nodes, replicas).then_some(())
        });
    }));
    if settled.is_err() {
        cluster.print_logs();
        panic!("{last:#}");
    }
}

/// What an operator's command at one node comes to: its status and what it says.
fn operate(cluster: &Cluster, asked: u16, arguments: &[&str]) -> (i32, String) {
    let admin = format!("http://{}", cluster.admin_addr(asked));
    let all = [&["cluster"], arguments, &["--operator", "dana", "--admin", &admin]].concat();
    let output = cluster.messenger(&all);
    let said = [output.stdout, output.stderr].concat();
    (output.status.code().expect("it exits by itself"), String::from_utf8(said).expect("it is UTF-8"))
}

/// Removes a node as soon as that may be, and says how often it was refused before.
fn remove(cluster: &Cluster, asked: u16, node: u16) -> usize {
    let mut refused = 0;
    wait::until("the node may be removed", SETTLED_WITHIN, || {
        let (status, said) = operate(cluster, asked, &["remove", &node.to_string()]);
        // Refused, or, while the meta group's leader is another one, not decided.
        assert!(matches!(status, 0 | 8 | 9), "{status}: {said}");
        refused += usize::from(status != 0);
        (status == 0).then_some(())
    });
    refused
}

fn state_of(cluster: &Cluster, asked: u16, node: u16) -> String {
    let status = cluster.status(asked);
    let nodes = status["nodes"].as_array().cloned().unwrap_or_default();
    let row = nodes.iter().find(|row| row["id"] == node);
    row.and_then(|row| row["state"].as_str()).unwrap_or_default().to_owned()
}

#[test]
fn nodes_go_only_when_nothing_counts_on_them() {
    let cluster = Cluster::start(Size { nodes: 3, shards: SHARDS });
    let refuses = |arguments: &[&str], named: &str| {
        let (status, said) = operate(&cluster, 1, arguments);
        assert!(status == 9 && said.contains(named), "{arguments:?}: {status}: {said}");
    };
    refuses(&["drain", "3"], "have another node join first");
    refuses(&["remove", "3"], "drain it first");
    refuses(&["drain", "7"], "no such node");

    // While moves are paused a node comes and one is to go, and nothing moves.
    assert_eq!(operate(&cluster, 2, &["pause"]).0, 0);
    let fourth = cluster.join("d", 2);
    assert_eq!(operate(&cluster, 2, &["drain", "3"]).0, 0);
    refuses(&["remove", "3"], "resume");
    let moves = wait::until("every shard's leader says where its group is", SETTLED_WITHIN, || {
        let moves = cluster.status(1)["moves"].clone();
        // One whose leader does not answer counts as under way.
        (moves["in_flight"] == 0).then_some(moves)
    });
    assert_eq!(moves["paused"], true);
    assert_eq!(moves["to_move"], SHARDS, "each shard has a replica on the node that goes");
    assert_eq!(state_of(&cluster, 1, 3), "draining");
    assert_eq!(operate(&cluster, 2, &["drain", "3", "--undo"]).0, 0);
    assert_eq!(state_of(&cluster, 1, 3), "active");

    // It dies and is to go: what it held is made anew elsewhere.
    assert_eq!(operate(&cluster, 2, &["drain", "3"]).0, 0);
    cluster.kill(3);
    assert_eq!(operate(&cluster, fourth, &["resume"]).0, 0);
    remove(&cluster, 1, 3);
    assert_eq!(state_of(&cluster, 1, 3), "removed");
    wait::until("all is where it should be", SETTLED_WITHIN, || {
        let moves = &cluster.status(1)["moves"];
        (moves["in_flight"] == 0 && moves["to_move"] == 0).then_some(())
    });
    // And it does not come back.
    cluster.start_node(3);
    cluster.wait_gone(3);
    assert_eq!(cluster.exit_status(3).and_then(|status| status.code()), Some(9));
    refuses(&["drain", "3", "--undo"], "removed");
    let audit =
        cluster.messenger(&["audit", "--admin", &format!("http://{}", cluster.admin_addr(2)), "--output", "json"]);
    let audit = String::from_utf8_lossy(&audit.stdout).into_owned();
    assert!(audit.contains("/admin/nodes/{node_id}/drain") && audit.contains("\"target_node\":3"), "{audit}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cluster_grows_from_one_node_to_five_and_shrinks_to_three_and_loses_nothing() {
    let cluster = Arc::new(Cluster::start_alone(SHARDS, 3));
    let mut load = Load::start(&cluster).await;
    let second = cluster.join("b", 1);
    // Two replicas would survive no more than one.
    wait_settled(&cluster, 2, 1);
    let third = cluster.join("c", second);
    wait_settled(&cluster, 3, 3);
    load.through(third);
    load.listen(&cluster, third).await;

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

    // The first two go, where all began: their replicas, their leaders, their say over the record, and their sessions.
    for node in [1, second] {
        let (status, said) = operate(&cluster, third, &["drain", &node.to_string()]);
        assert!(status == 0 && said.contains("drains"), "{said}");
    }
    // Whoever plans is killed in the middle of it.
    let planner = cluster.status(third)["meta"]["leader"].as_u64().and_then(|node| u16::try_from(node).ok());
    let victim = planner.filter(|node| *node != third).unwrap_or(fourth);
    cluster.kill(victim);
    cluster.restart(victim);
    wait_settled_at(&cluster, third, 3, 3);
    for node in [1, second] {
        remove(&cluster, fourth, node);
        cluster.wait_gone(node);
        assert_eq!(cluster.exit_status(node).and_then(|status| status.code()), Some(9), "it says that it was removed");
        assert_eq!(state_of(&cluster, fifth, node), "removed");
    }
    load.check(&cluster, &[third, fourth, fifth]).await;
    for node in cluster.nodes() {
        assert!(!cluster.log(node).contains("panicked"));
    }
}
