//! A node that was away catches up before it takes devices.
//!
//! What its replicas lack its devices would hear late, and a subscription takes the replica at hand.
//!
//! Owns: the wait, while starting, until each replica has applied what its leader had applied.
//! Must not know: what entries hold.
//! Invariants: it ends, at the latest after [`CATCH_UP_MAX`]: a node that can't catch up serves what needs no replica here.

use crate::rpc::transport::NodeTransport;
use messenger_proto::ids::{LogIndex, NodeId, ShardId};
use messenger_proto::rpc::{NodeCall, NodeStatus, StatusQuery};
use messenger_proto::wire::Wire;
use messenger_raft::group::host::Host;
use messenger_raft::group::replica::Replica;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::{sleep, timeout};

/// How long a start waits for its replicas.
const CATCH_UP_MAX: Duration = Duration::from_mins(2);
/// How long a leader may take to say how far it is.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Between two looks.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// Waits until those of this node's replicas that are `expected` to be led have applied what their leaders have by now.
pub(super) async fn catch_up(host: &Host, transport: &NodeTransport, expected: &BTreeSet<ShardId>) {
    let caught_up = async {
        // By shard, how far its leader was when asked.
        let mut goals: BTreeMap<ShardId, LogIndex> = BTreeMap::new();
        loop {
            let behind = behind(host, expected, &goals);
            if behind.is_empty() {
                return;
            }
            for leader in behind.values().flatten().collect::<BTreeSet<_>>() {
                if let Some(status) = ask(transport, *leader).await {
                    let led = status.replicas.iter().filter_map(|replica| Some((replica.shard?, replica)));
                    let led = led.filter(|(_, replica)| replica.leader == Some(*leader));
                    for (shard, replica) in led {
                        goals.entry(shard).or_insert(replica.applied);
                    }
                }
            }
            sleep(LOOK_EVERY).await;
        }
    };
    if timeout(CATCH_UP_MAX, caught_up).await.is_err() {
        tracing::warn!("some replica is still behind its leader; serving all the same");
    }
}

/// The shards whose replica here is behind its leader, or not known to be level, each with the leader to ask if need be.
fn behind(
    host: &Host,
    expected: &BTreeSet<ShardId>,
    goals: &BTreeMap<ShardId, LogIndex>,
) -> BTreeMap<ShardId, Option<NodeId>> {
    let mut behind = BTreeMap::new();
    for status in host.replicas().iter().map(Replica::status) {
        let Some(shard) = status.shard else { continue };
        if !expected.contains(&shard) {
            continue;
        }
        match (goals.get(&shard), status.leader) {
            (_, Some(leader)) if leader == host.node() => {}
            (Some(goal), _) if status.applied >= *goal => {}
            (Some(_), _) => {
                behind.insert(shard, None);
            }
            (None, leader) => {
                behind.insert(shard, leader);
            }
        }
    }
    behind
}

async fn ask(transport: &NodeTransport, node: NodeId) -> Option<NodeStatus> {
    let answer = timeout(ANSWER_WITHIN, transport.tell(node, NodeCall::Status(StatusQuery {}))).await;
    NodeStatus::decode_from(answer.ok()?.ok()?).ok()
}
