//! How long a thread accepts no writes after its leader was killed: measured and printed. What is asserted is that it
//! accepts them again, by itself; a busy machine is no proof of anything shorter.

use messenger_chaos::history::{Clock, Outcome};
use messenger_chaos::sender::Sender;
use messenger_chaos::workload::{Actor, Seed, rounds};
use messenger_proto::ids::ThreadId;
use messenger_proto::slot::{Slot, SlotMap};
use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::wait;
use std::time::Duration;

const BOUND: Duration = Duration::from_secs(20);

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_thread_accepts_writes_again_after_its_leader_was_killed() {
    let seed = Seed::choose("failover");
    let size = Size::default();
    let cluster = Cluster::start(size);
    let clock = Clock::start();
    let owner = cluster.device(1, "owner", "hand");
    let thread = owner.group("failover", &["other"]).await;
    let id: ThreadId = thread.parse().expect("a thread id is a UUID");
    let shard = SlotMap::new(size.shards).expect("in range").shard_of(Slot::of_thread(id));
    let mut sender = Sender::new(&cluster, "owner", seed.actor(Actor::Sender, 0), clock);
    let mut gaps = Vec::new();
    let mut client_seq = 0;
    for _ in 0..rounds(5) {
        let asked = cluster.nodes().next().expect("there is a node");
        let leader = wait::until("the shard has a leader", wait::PATIENCE, || cluster.leader_of(asked, shard.0));
        client_seq += 1;
        let before = sender.send(&thread, client_seq).await;
        assert!(matches!(before.outcome, Outcome::Accepted { .. }), "{before:?}");
        cluster.strike(leader);
        let struck = clock.now();
        loop {
            client_seq += 1;
            // What began after the blow and was accepted shows that writes are taken again.
            if let Outcome::Accepted { .. } = sender.send(&thread, client_seq).await.outcome {
                break;
            }
        }
        gaps.push(Duration::from_micros(clock.now().0 - struck.0));
        cluster.wait_gone(leader);
        cluster.restart(leader);
    }
    gaps.sort_unstable();
    let (median, longest) = (gaps[gaps.len() / 2], gaps[gaps.len() - 1]);
    println!("writes were accepted again after {median:?} at the median, {longest:?} at most: {gaps:?}");
    assert!(longest < BOUND, "{longest:?}");
}
