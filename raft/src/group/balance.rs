//! Where leaders should be.
//!
//! Owns: the rule by which a replica that leads hands over to the preferred leader, or to anyone when its node drains.
//! Must not know: consensus internals, time.
//! Invariants: leadership goes only to a voter whose node takes requests, that answered lately and lacks little, so that
//! writes hardly pause; nothing moves without need.

use messenger_proto::ids::NodeId;
use std::collections::BTreeSet;

/// A follower that lacks more entries than this is not handed leadership just because it should have it.
const LAG_MAX: u64 = 8;
/// As much may one lack that takes over from a node that must not lead.
const YIELDING_LAG_MAX: u64 = 64;
/// A follower that was silent longer is not handed leadership.
const SILENCE_MAX_MS: u64 = 1_500;

/// What a leader knows of one voter.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Voter {
    /// Who.
    pub node: NodeId,
    /// Entries it is not known to hold.
    pub lag: u64,
    /// Milliseconds since it last answered; `None` if it never did.
    pub silence_ms: Option<u64>,
}

/// Whom the leader `this` should hand over to, if anyone.
///
/// `preferred` is the placement's wish; `yielding` means that this node must not lead at all; `ready` are the nodes that
/// take requests.
#[must_use]
pub fn successor(
    this: NodeId,
    voters: &[Voter],
    preferred: Option<NodeId>,
    yielding: bool,
    ready: &BTreeSet<NodeId>,
) -> Option<NodeId> {
    let lag_max = if yielding { YIELDING_LAG_MAX } else { LAG_MAX };
    let fit = |voter: &&Voter| {
        let answered = voter.silence_ms.is_some_and(|silence| silence <= SILENCE_MAX_MS);
        voter.node != this && ready.contains(&voter.node) && answered && voter.lag <= lag_max
    };
    let fit = || voters.iter().filter(fit);
    if let Some(preferred) = preferred
        && preferred != this
        && fit().any(|voter| voter.node == preferred)
    {
        return Some(preferred);
    }
    if !yielding {
        return None;
    }
    fit().min_by_key(|voter| (voter.lag, voter.node)).map(|voter| voter.node)
}

/// The nodes that [`successor`] may name if they are ready.
#[must_use]
pub fn candidates(this: NodeId, voters: &[Voter], preferred: Option<NodeId>, yielding: bool) -> Vec<NodeId> {
    let wanted = |node: &NodeId| *node != this && (yielding || preferred == Some(*node));
    voters.iter().map(|voter| voter.node).filter(wanted).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(node: u64, lag: u64, silence_ms: Option<u64>) -> Voter {
        Voter { node: NodeId(node), lag, silence_ms }
    }

    fn ready(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    #[test]
    fn leadership_goes_to_the_preferred_when_it_is_fit() {
        let voters = [voter(1, 0, None), voter(2, 3, Some(10)), voter(3, 0, Some(10))];
        let all = ready(&[1, 2, 3]);
        assert_eq!(successor(NodeId(1), &voters, Some(NodeId(2)), false, &all), Some(NodeId(2)));
        assert_eq!(successor(NodeId(2), &voters, Some(NodeId(2)), false, &all), None);
        assert_eq!(successor(NodeId(1), &voters, None, false, &all), None);
    }

    #[test]
    fn an_unfit_voter_gets_nothing() {
        let (all, lag) = (ready(&[1, 2]), YIELDING_LAG_MAX + 1);
        for unfit in [voter(2, lag, Some(0)), voter(2, 0, Some(SILENCE_MAX_MS + 1)), voter(2, 0, None)] {
            assert_eq!(successor(NodeId(1), &[unfit], Some(NodeId(2)), true, &all), None);
        }
    }

    #[test]
    fn one_that_lacks_some_entries_takes_over_only_when_it_must() {
        let voters = [voter(2, LAG_MAX + 1, Some(0))];
        assert_eq!(successor(NodeId(1), &voters, Some(NodeId(2)), false, &ready(&[2])), None);
        assert_eq!(successor(NodeId(1), &voters, Some(NodeId(2)), true, &ready(&[2])), Some(NodeId(2)));
    }

    #[test]
    fn a_node_that_takes_no_requests_gets_nothing() {
        let voters = [voter(2, 0, Some(1)), voter(3, 1, Some(1))];
        assert_eq!(successor(NodeId(1), &voters, Some(NodeId(2)), false, &ready(&[1, 3])), None);
        assert_eq!(successor(NodeId(1), &voters, Some(NodeId(2)), true, &ready(&[1, 3])), Some(NodeId(3)));
        assert_eq!(successor(NodeId(1), &voters, Some(NodeId(2)), true, &ready(&[])), None);
    }

    #[test]
    fn a_yielding_leader_picks_the_one_that_lacks_least() {
        let voters = [voter(2, 9, Some(1)), voter(3, 1, Some(1)), voter(1, 0, Some(0))];
        let all = ready(&[1, 2, 3]);
        assert_eq!(successor(NodeId(1), &voters, Some(NodeId(1)), true, &all), Some(NodeId(3)));
    }

    #[test]
    fn only_those_are_asked_that_may_get_something() {
        let voters = [voter(1, 0, None), voter(2, 0, Some(1)), voter(3, 500, None)];
        assert_eq!(candidates(NodeId(1), &voters, Some(NodeId(1)), false), []);
        assert_eq!(candidates(NodeId(1), &voters, Some(NodeId(2)), false), [NodeId(2)]);
        assert_eq!(candidates(NodeId(1), &voters, Some(NodeId(1)), true), [NodeId(2), NodeId(3)]);
    }
}
