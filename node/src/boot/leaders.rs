//! Where this node's leaders should be, while it runs and when it goes.
//!
//! Owns: asking other nodes whether they take requests, and when leaders are looked at.
//! Must not know: by which rule a successor is chosen.
//! Invariants: leadership goes only to a node that just said it is ready; a node stops being ready before it asks, so
//! no two nodes on their way out pass leaders back and forth; one whose disk is almost full gets leaders only from a
//! node that must not lead, and only if nobody else can take them.

use crate::readiness::Readiness;
use crate::rpc::transport::NodeTransport;
use futures_util::future::join_all;
use messenger_proto::ids::NodeId;
use messenger_proto::rpc::{NodeCall, NodeStatus, StatusQuery};
use messenger_proto::wire::Wire;
use messenger_raft::clock::HybridClock;
use messenger_raft::group::host::Host;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::{Instant, interval, sleep, timeout};

/// Between two looks at where leaders should be.
const BALANCE_EVERY: Duration = Duration::from_secs(1);
/// How long another node may take to say whether it is ready.
const ANSWER_WITHIN: Duration = Duration::from_secs(1);
/// Longest wait for other nodes to take over this one's leaders.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(8);
/// Between two looks at what a node on its way out still leads.
const HAND_OVER_POLL: Duration = Duration::from_millis(100);
/// Looks in a row that find no other node ready until there is no use in waiting for one.
const LONELY_LOOKS: u32 = 3;

/// This node's leaders and the nodes they could go to.
#[derive(Clone)]
pub struct Leaders {
    host: Host,
    transport: NodeTransport,
}

impl Leaders {
    /// The leaders of a host.
    #[must_use]
    pub fn new(host: Host, transport: NodeTransport) -> Self {
        Self { host, transport }
    }

    /// Keeps leaders where they should be: a node whose clock is off leads nothing, and one whose disk is almost full
    /// nothing that another can lead that has room.
    pub async fn balance(self, clock: HybridClock) {
        let mut tick = interval(BALANCE_EVERY);
        loop {
            tick.tick().await;
            let clock_is_off = !clock.leads_ok();
            if clock_is_off {
                tracing::warn!("this node's clock is off the majority's: it leads nothing until it is right again");
            }
            self.host.campaigns(!clock_is_off);
            let why = match (clock_is_off, self.host.short_of_disk()) {
                (true, _) => Yield::Must,
                (false, true) => Yield::IfOthersHaveRoom,
                (false, false) => Yield::No,
            };
            self.look(why).await;
        }
    }

    /// Hands over every leader, as far as others can take over in time, while `rest` of the node goes; and goes on
    /// doing so until that is done, since a node that knows no better may hand one back.
    pub async fn hand_over(&self, readiness: &Readiness, rest: impl Future<Output = ()>) {
        readiness.draining();
        self.host.campaigns(false);
        let deadline = Instant::now() + HAND_OVER_WITHIN;
        let rest_is_done = AtomicBool::new(false);
        let rest = async {
            rest.await;
            rest_is_done.store(true, Ordering::Relaxed);
        };
        let hand_over = async {
            let mut lonely = 0;
            loop {
                let last = rest_is_done.load(Ordering::Relaxed);
                let Look { led, ready } = self.look(Yield::Must).await;
                lonely = if ready == 0 { lonely + 1 } else { 0 };
                if last && led == 0 {
                    return;
                }
                if last && lonely >= LONELY_LOOKS {
                    return tracing::warn!(led, "leaving while still leading: nobody is there to take over");
                }
                if last && Instant::now() >= deadline {
                    return tracing::warn!(led, "leaving while still leading: nobody was fit to take over in time");
                }
                sleep(HAND_OVER_POLL).await;
            }
        };
        tokio::join!(rest, hand_over);
    }

    async fn look(&self, why: Yield) -> Look {
        let yielding = why != Yield::No;
        let mut ready = self.ready(self.host.successors(yielding)).await;
        let all = ready.len();
        let short: Vec<NodeId> = ready.extract_if(.., |_, short| *short).map(|(node, _)| node).collect();
        let mut fit: BTreeSet<NodeId> = ready.into_keys().collect();
        let mut led = self.host.balance(yielding, &fit).await;
        if why == Yield::Must && !short.is_empty() {
            // What nobody else could take.
            fit.extend(short);
            led = self.host.balance(yielding, &fit).await;
        }
        Look { led, ready: all }
    }

    /// Those of `nodes` that take requests, and whether their disks are almost full.
    async fn ready(&self, nodes: BTreeSet<NodeId>) -> BTreeMap<NodeId, bool> {
        let ask = |node| async move {
            let answer = timeout(ANSWER_WITHIN, self.transport.tell(node, NodeCall::Status(StatusQuery {}))).await;
            let status = NodeStatus::decode_from(answer.ok()?.ok()?).ok()?;
            status.ready.then_some((node, status.short_of_disk))
        };
        join_all(nodes.into_iter().map(ask)).await.into_iter().flatten().collect()
    }
}

/// Whether a node should lead at all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Yield {
    /// Leaders go where the placement wants them.
    No,
    /// Its disk is almost full.
    IfOthersHaveRoom,
    /// It is on its way out, or its clock is off.
    Must,
}

/// What a look at the leaders found.
struct Look {
    /// Groups this node still leads.
    led: usize,
    /// Nodes that could take over.
    ready: usize,
}
