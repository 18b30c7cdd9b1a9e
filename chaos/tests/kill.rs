//! Nodes die under load, one at a time and all at once: nothing acknowledged is lost, doubled or moved, every device
//! hears everything, and the cluster carries on by itself. Meanwhile others edit, delete, react, read, take keys, keep
//! each other away, come and go, and send in envelopes: what they were told holds, too.

use messenger_chaos::conclusion;
use messenger_chaos::faults::Fault;
use messenger_chaos::run;
use messenger_chaos::workload::{Seed, Shape, rounds};
use messenger_tests::cluster::{Cluster, Size};
use std::sync::Arc;

async fn survive(fault: Fault<'_>, times: usize) {
    let seed = Seed::choose("kill");
    let cluster = Arc::new(Cluster::start(Size::default()));
    let record = run::record(&cluster, Shape::default(), seed, &vec![fault; rounds(times)]).await;
    conclusion::conclude(&record);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_one_node_dies_at_random_moments() {
    survive(Fault::KillOne, 5).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_nodes_die_at_once() {
    survive(Fault::KillAll, 3).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_one_node_stands_still_for_a_while() {
    survive(Fault::Freeze, 3).await;
}
