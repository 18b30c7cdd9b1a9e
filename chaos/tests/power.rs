//! The power fails under load, and with every node goes what it had not synced: nothing acknowledged is lost, doubled or
//! moved. Disks that only say they have synced lose messages, so this would be noticed.

use messenger_chaos::conclusion;
use messenger_chaos::faults::Fault;
use messenger_chaos::history::{Clock, Outcome, Record};
use messenger_chaos::oracle::{self, durable};
use messenger_chaos::power::{self, Disks};
use messenger_chaos::run;
use messenger_chaos::sender::Sender;
use messenger_chaos::workload::{Actor, Seed, Shape, rounds};
use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::wait;
use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_lose_what_they_had_not_synced() {
    let seed = Seed::choose("power");
    let cluster = Arc::new(Cluster::start_with(Size::default(), power::disks_in));
    let disks = Disks::of(&cluster);
    let plan = vec![Fault::PowerLoss(&disks); rounds(4)];
    let record = run::record(&cluster, Shape::default(), seed, &plan).await;
    println!("lost in all: {}", disks.lost());
    conclusion::conclude(&record);
    assert!(disks.lost().tail_bytes > 0, "everything had been synced whenever the power failed");
}

/// The exit status of a node whose data is not whole.
const CORRUPT: i32 = 6;

/// Where a node notes how much of its log was synced.
fn note(cluster: &Cluster, node: u16) -> PathBuf {
    cluster.node_directory(node).join("data").join("synced")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn disks_that_only_say_they_have_synced_are_found_out() {
    const SENDS: u64 = 50;
    let seed = Seed::choose("power");
    let cluster = Cluster::start_with(Size::default(), power::disks_in);
    let disks = Disks::of(&cluster);
    let threads = [cluster.device(1, "owner", "hand").group("on shaky ground", &["other"]).await];
    let mut sender = Sender::new(&cluster, "owner", seed.actor(Actor::Sender, 0), Clock::start());
    let noted: Vec<_> = cluster.nodes().map(|node| fs::read(note(&cluster, node)).expect("it is there")).collect();
    disks.lie();
    let mut record = Record::default();
    for client_seq in 1..=SENDS {
        record.sends.push(sender.send(&threads[0], client_seq).await);
    }
    let accepted = record.sends.iter().filter(|send| matches!(send.outcome, Outcome::Accepted { .. })).count();
    assert!(accepted > 0, "nothing was acknowledged");
    record.told = run::told(&cluster, "owner", &threads).await;
    assert_eq!(oracle::judge(&record), [], "nothing was lost yet");

    disks.fail_power(&cluster, &cluster.nodes().collect::<Vec<_>>());
    // A node that knows what its disk had said does not go on without it.
    for node in cluster.nodes() {
        cluster.start_node(node);
        let status = wait::until("it refuses", wait::PATIENCE, || cluster.exit_status(node));
        assert_eq!(status.code(), Some(CORRUPT));
    }
    // One whose disk lost that knowledge, too, can't tell.
    for (node, noted) in cluster.nodes().zip(noted) {
        fs::write(note(&cluster, node), noted).expect("a dead node's files can be changed");
        cluster.start_node(node);
    }
    cluster.wait_ready();
    record.told = run::told(&cluster, "owner", &threads).await;
    let lost = durable::check(&record);
    println!("{accepted} acknowledged, {} times one is missing", lost.len());
    assert_eq!(lost.len(), accepted * cluster.nodes().count(), "each is missing on every node");
}
