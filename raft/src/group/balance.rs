//! Where leaders should be.
//!
//! Owns: the rule by which a replica that leads hands over to the preferred leader, or to anyone when its node drains.
//! Must not know: consensus internals, time.
//! Invariants: leadership goes only to a voter that answered lately and lacks little; nothing moves without need.

use messenger_proto::ids::NodeId;

/// A follower that lacks more entries than this is not handed leadership.
const LAG_MAX: u64 = 1_000;
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

impl Voter {
    fn fit(self) -> bool {
        self.lag <= LAG_MAX && self.silence_ms.is_some_and(|silence| silence <= SILENCE_MAX_MS)
    }
}

/// Whom the leader `this` should hand over to, if anyone.
///
/// `preferred` is the placement's wish; `yielding` means that this node must not lead at all.
#[must_use]
pub fn successor(this: NodeId, voters: &[Voter], preferred: Option<NodeId>, yielding: bool) -> Option<NodeId> {
    let fit = || voters.iter().filter(|voter| voter.node != this && voter.fit());
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

#[cfg(test)]
mod tests {
    use super::*;

    fn voter(node: u64, lag: u64, silence_ms: Option<u64>) -> Voter {
        Voter { node: NodeId(node), lag, silence_ms }
    }

    #[test]
    fn leadership_goes_to_the_preferred_when_it_is_fit() {
        let voters = [voter(1, 0, None), voter(2, 3, Some(10)), voter(3, 0, Some(10))];
        assert_eq!(successor(NodeId(1), &voters, Some(NodeId(2)), false), Some(NodeId(2)));
        assert_eq!(successor(NodeId(2), &voters, Some(NodeId(2)), false), None);
        assert_eq!(successor(NodeId(1), &voters, None, false), None);
    }

    #[test]
    fn an_unfit_voter_gets_nothing() {
        for unfit in [voter(2, LAG_MAX + 1, Some(0)), voter(2, 0, Some(SILENCE_MAX_MS + 1)), voter(2, 0, None)] {
            assert_eq!(successor(NodeId(1), &[unfit], Some(NodeId(2)), true), None);
        }
    }

    #[test]
    fn a_yielding_leader_picks_the_one_that_lacks_least() {
        let voters = [voter(2, 9, Some(1)), voter(3, 1, Some(1)), voter(1, 0, Some(0))];
        assert_eq!(successor(NodeId(1), &voters, Some(NodeId(1)), true), Some(NodeId(3)));
    }
}
