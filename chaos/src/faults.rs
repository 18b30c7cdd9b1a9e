//! What goes wrong, and when.
//!
//! Owns: striking processes at random moments and bringing them back.
//! Must not know: what the load is, or what it should survive.
//! Invariants: after each fault every node is up and ready again before the next one.

use crate::power::Disks;
use messenger_tests::cluster::{Cluster, process};
use nix::sys::signal::Signal;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

/// A kind of fault.
#[derive(Debug, Clone, Copy)]
pub enum Fault<'a> {
    /// `kill -9` of one node, which stays away for a while.
    KillOne,
    /// `kill -9` of every node at once.
    KillAll,
    /// Every node is gone at once with all that it had not synced, and some are again while they recover from that.
    PowerLoss(&'a Disks),
    /// One node stands still for a while and goes on as if nothing had been, as a machine that swaps does.
    Freeze,
}

/// Does one fault at a random moment and returns when every node is ready again.
pub async fn strike(cluster: &Cluster, fault: Fault<'_>, random: &mut StdRng) {
    pause(random, 300..1500).await;
    let node = random.random_range(cluster.nodes());
    let all: Vec<u16> = cluster.nodes().collect();
    match fault {
        Fault::KillOne => {
            println!("kill -9 of node {node}");
            cluster.kill(node);
            pause(random, 0..3000).await;
            cluster.start_node(node);
        }
        Fault::KillAll => {
            println!("kill -9 of every node");
            for node in cluster.nodes() {
                cluster.strike(node);
            }
            for node in cluster.nodes() {
                cluster.wait_gone(node);
            }
            start(cluster, &all, random).await;
        }
        Fault::PowerLoss(disks) => {
            println!("the power fails at every node");
            disks.fail_power_while_syncing(cluster, &all);
            start(cluster, &all, random).await;
            pause(random, 0..1000).await;
            let some: Vec<u16> = all.into_iter().filter(|own| *own == node || random.random_bool(0.5)).collect();
            println!("the power fails at nodes {some:?}");
            disks.fail_power(cluster, &some);
            start(cluster, &some, random).await;
        }
        Fault::Freeze => {
            println!("node {node} stands still");
            let pid = cluster.pid(node).expect("every node is up");
            process::signal(pid, Signal::SIGSTOP);
            pause(random, 500..4000).await;
            process::signal(pid, Signal::SIGCONT);
        }
    }
    cluster.wait_ready();
}

async fn start(cluster: &Cluster, nodes: &[u16], random: &mut StdRng) {
    for node in nodes {
        pause(random, 0..500).await;
        cluster.start_node(*node);
    }
}

/// A random moment: what the load does meanwhile is up to the machine, and nothing is waited for.
async fn pause(random: &mut StdRng, milliseconds: std::ops::Range<u64>) {
    tokio::time::sleep(Duration::from_millis(random.random_range(milliseconds))).await;
}
