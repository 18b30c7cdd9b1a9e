//! Whether a leader still leads.
//!
//! Owns: a round of heartbeats of its own, each answered after it was sent (Raft thesis, section 6.4).
//! Must not know: what is read once it is known.
//! Invariants: true means that a majority of every configuration followed this leader at some time after the call, so
//! that no later leader can have acknowledged anything before it.
//!
//! The consensus library has such a round of its own, and it can't be trusted: it takes an answer to an append for one
//! to every append behind it that ends at the same entry, so an answer from before a pause vouches for a time after it.

use super::codec::{Append, decode_append_result, encode_parts};
use super::links::Links;
use super::method::{Lane, Method};
use crate::types::{GroupId, Vote};
use futures_util::stream::{FuturesUnordered, StreamExt};
use messenger_proto::ids::NodeId;
use std::collections::BTreeSet;
use tokio::time::Instant;

/// Asks the voters whether they follow the leader with this vote, which is this node's own, until a majority of each
/// configuration says so. This node counts as following: its core must have said that it leads after the call was made
/// for which this is asked.
pub async fn still_leads(
    links: &Links,
    group: GroupId,
    vote: Vote,
    configurations: &[BTreeSet<u64>],
    deadline: Instant,
) -> bool {
    let this = links.local().0;
    // Anybody else's is followed for reasons that say nothing about this node.
    if !vote.committed || vote.leader_id.node_id != this {
        return false;
    }
    let mut following = BTreeSet::from([this]);
    let heartbeat = Append { vote, prev_log_id: None, leader_commit: None, entries: Vec::new() };
    let Some(body) = encode_parts(0, &heartbeat, usize::MAX).pop() else { return false };
    let others: BTreeSet<u64> = configurations.iter().flatten().copied().filter(|voter| *voter != this).collect();
    let mut answers: FuturesUnordered<_> = others
        .into_iter()
        .map(|voter| {
            let body = body.clone();
            async move {
                let answer = links.call(NodeId(voter), Lane::Priority, Method::Heartbeat, group, body, deadline).await;
                let follows =
                    answer.ok().and_then(|answer| decode_append_result(answer).ok()).is_some_and(|r| r.is_ok());
                follows.then_some(voter)
            }
        })
        .collect();
    while !is_majority(&following, configurations) {
        match answers.next().await {
            Some(follower) => following.extend(follower),
            None => return false,
        }
    }
    true
}

fn is_majority(nodes: &BTreeSet<u64>, configurations: &[BTreeSet<u64>]) -> bool {
    let has = |voters: &BTreeSet<u64>| voters.intersection(nodes).count() > voters.len() / 2;
    !configurations.is_empty() && configurations.iter().all(has)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_majority_is_one_of_every_configuration() {
        let sets = |lists: &[&[u64]]| lists.iter().map(|list| list.iter().copied().collect()).collect::<Vec<_>>();
        let is = |nodes: &[u64], lists: &[&[u64]]| is_majority(&nodes.iter().copied().collect(), &sets(lists));
        assert!(is(&[1], &[&[1]]) && is(&[1, 3], &[&[1, 2, 3]]) && is(&[1, 2, 4, 5], &[&[1, 2, 3], &[3, 4, 5]]));
        assert!(!is(&[1], &[&[1, 2]]) && !is(&[1, 9], &[&[1, 2, 3]]) && !is(&[1, 2], &[&[1, 2, 3], &[3, 4, 5]]));
        assert!(!is(&[1], &[]), "nobody knows who the voters are");
    }
}
