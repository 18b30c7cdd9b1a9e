//! Who leads, and what a call hears when that changes.
//!
//! Owns: hand-overs to nodes that are ready, and what is said of calls that fall into one.

use crate::fixture::{Node, SHARD, WITHIN, addresses, call, create};
use messenger_proto::ids::NodeId;
use messenger_proto::rpc::{ShardCall, ShardOutcome};
use messenger_raft::group::timing::Timing;
use std::collections::BTreeSet;
use tokio::time::{Duration, sleep, timeout};

async fn three(directory: &std::path::Path) -> Vec<Node> {
    let addresses = addresses().await;
    let mut nodes = Vec::new();
    for id in 1..=3 {
        nodes.push(Node::start(id, directory, &addresses, Timing::default()).await);
    }
    nodes
}

/// The node that leads, once all say so and it has heard from the others.
async fn leader(nodes: &[Node]) -> &Node {
    let asking = async {
        loop {
            let leading = nodes.iter().find(|node| node.host.shard(SHARD).is_some_and(|replica| replica.leads()));
            if let Some(leading) = leading {
                let id = leading.host.node();
                let replica = leading.host.shard(SHARD).unwrap();
                let followed = nodes.iter().all(|node| node.host.shard(SHARD).unwrap().leader() == Some(id));
                let level = |voter: &messenger_raft::group::balance::Voter| {
                    voter.node == id || (voter.lag == 0 && voter.silence_ms.is_some())
                };
                if followed && replica.voters().iter().all(level) {
                    return leading;
                }
            }
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WITHIN, asking).await.expect("a leader is found")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn leaders_go_only_to_nodes_that_are_ready() {
    let directory = tempfile::tempdir().unwrap();
    let nodes = three(directory.path()).await;
    let all: Vec<&Node> = nodes.iter().collect();
    assert!(matches!(call(&all, ShardCall::Command(create())).await, ShardOutcome::Reply(_)));
    let leading = leader(&nodes).await;
    let others: BTreeSet<NodeId> = leading.host.successors(true);
    assert_eq!(others.len(), 2, "both followers could take over");
    assert_eq!(leading.host.successors(false), BTreeSet::new(), "no placement wants it elsewhere");

    assert_eq!(leading.host.balance(true, &BTreeSet::new()).await, 1);
    let moved = nodes.iter().filter(|node| node.host.node() != leading.host.node());
    let target = moved.map(|node| node.host.node()).max().unwrap();
    leading.host.balance(true, &[target].into()).await;
    let handed_over = async {
        while leader(&nodes).await.host.node() != target {
            sleep(Duration::from_millis(10)).await;
        }
    };
    timeout(WITHIN, handed_over).await.expect("the ready node leads");
}
