//! A node whose disk is almost full takes no commands: whoever has room leads instead of it.

use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{ids, text, unique};
use messenger_tests::wait;
use std::fs;

const SHARDS: u32 = 4;
/// No disk has so much left.
const ALL_THERE_IS: u64 = 1 << 60;

fn leads(cluster: &Cluster, node: u16) -> usize {
    let status = cluster.status(2);
    let shards = status["shards"].as_array().expect("shards are a list");
    shards.iter().filter(|shard| shard["leader"] == node).count()
}

/// Starts a node again that is to keep so many bytes of its disk free.
fn restart_with_reserve(cluster: &Cluster, node: u16, bytes: u64) {
    cluster.kill(node);
    let path = cluster.config(node);
    let good = fs::read_to_string(&path).expect("the configuration is readable");
    let reserve = format!("[limits]\ndisk_reserve_bytes = {bytes}\n");
    fs::write(&path, good.replacen("[limits]\n", &reserve, 1)).expect("the configuration is writable");
    cluster.restart(node);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_node_that_has_room_leads_and_sends_through_the_others_go_on() {
    let cluster = Cluster::start(Size { nodes: 3, shards: SHARDS });
    for node in [1, 3] {
        restart_with_reserve(&cluster, node, ALL_THERE_IS);
    }
    wait::until("the node with room leads all shards", wait::PATIENCE, || {
        (leads(&cluster, 2) == SHARDS as usize).then_some(())
    });
    let (alice, bob) = (unique("alice"), unique("bob"));
    let hers = cluster.device(1, &alice, "phone");
    let thread = hers.one_to_one(&bob).await;
    let mut sent = Vec::new();
    for n in 0..20 {
        sent.push(text(&hers.send(&thread, &n.to_string()).await, "id"));
    }
    assert_eq!(ids(&hers.history(&thread).await), sent);

    // On its way out it leaves its leaders even to those: they still answer reads.
    let device = cluster.device(3, &alice, "phone");
    cluster.terminate(2);
    cluster.wait_gone(2);
    assert_eq!(ids(&device.history(&thread).await), sent);
    let log = fs::read_to_string(cluster.node_directory(2).join("log")).expect("a node keeps a log");
    assert!(!log.contains("leaving while still leading"), "{log}");
}
