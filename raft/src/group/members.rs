//! From the members a group has to those it should have.
//!
//! Owns: the next step of that way, one at a time.
//! Must not know: why a node should be a member; consensus internals, time.
//! Invariants: a node becomes a voter only after it has caught up as a learner, and all that change voters change them in
//! one joint step; so a group never has fewer replicas with its data than it has voters. The step depends on nothing but
//! what the group itself says, so whoever leads next goes on where another one stopped.

use super::balance::Voter;
use messenger_proto::ids::NodeId;
use std::collections::BTreeSet;

/// A learner that lacks more entries than this does not become a voter yet.
const LAG_MAX: u64 = 256;
/// Nor does one that was silent longer.
const SILENCE_MAX_MS: u64 = 1_500;

/// Who belongs to a group.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Members {
    /// Those that decide; of both configurations, while the group is between two.
    pub voters: BTreeSet<NodeId>,
    /// Those that only follow.
    pub learners: BTreeSet<NodeId>,
    /// The group is between two configurations.
    pub joint: bool,
}

/// What a group's leader has to do.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Step {
    /// Take a node in, which has nothing yet.
    Learn(NodeId),
    /// Hand leadership to this voter, who stays: this one goes.
    HandOver(NodeId),
    /// Let exactly these decide; who did and is not among them goes on as a learner if `retain`.
    Vote {
        /// The voters.
        voters: BTreeSet<NodeId>,
        /// Whether those who were voters stay as learners.
        retain: bool,
    },
    /// Let these learners go.
    Forget(BTreeSet<NodeId>),
}

/// Whether a follower is about where its leader `this` is.
#[must_use]
pub fn level(this: NodeId, follower: &Voter) -> bool {
    let answered = follower.silence_ms.is_some_and(|silence| silence <= SILENCE_MAX_MS);
    follower.node == this || (answered && follower.lag <= LAG_MAX)
}

/// The next step of the leader `this` towards `voters` with `learners` beside them, if there is one to take now.
#[must_use]
pub fn next(
    this: NodeId,
    voters: &BTreeSet<NodeId>,
    learners: &BTreeSet<NodeId>,
    now: &Members,
    known: &[Voter],
) -> Option<Step> {
    if voters.is_empty() {
        return None;
    }
    let is_member = |node: &NodeId| now.voters.contains(node) || now.learners.contains(node);
    if let Some(missing) = voters.union(learners).find(|node| !is_member(node)) {
        return Some(Step::Learn(*missing));
    }
    let surplus: BTreeSet<NodeId> =
        now.learners.iter().filter(|node| !voters.contains(node) && !learners.contains(node)).copied().collect();
    if !surplus.is_empty() && !now.joint {
        return Some(Step::Forget(surplus));
    }
    if now.voters == *voters && !now.joint {
        return None;
    }
    let is_level = |node: &NodeId| known.iter().any(|follower| follower.node == *node && level(this, follower));
    if !voters.difference(&now.voters).all(is_level) {
        return None;
    }
    let retain = now.voters.iter().any(|node| learners.contains(node));
    if !voters.contains(&this) && !now.joint {
        // Whoever stays and is level: leadership pauses for less than an election.
        if let Some(heir) = voters.intersection(&now.voters).find(|node| is_level(node)) {
            return Some(Step::HandOver(*heir));
        }
    }
    Some(Step::Vote { voters: voters.clone(), retain })
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn set(nodes: &[u64]) -> BTreeSet<NodeId> {
        nodes.iter().copied().map(NodeId).collect()
    }

    fn members(voters: &[u64], learners: &[u64], joint: bool) -> Members {
        Members { voters: set(voters), learners: set(learners), joint }
    }

    fn caught_up(nodes: &[u64]) -> Vec<Voter> {
        nodes.iter().map(|node| Voter { node: NodeId(*node), lag: LAG_MAX, silence_ms: Some(SILENCE_MAX_MS) }).collect()
    }

    fn step(voters: &[u64], learners: &[u64], now: &Members, known: &[Voter]) -> Option<Step> {
        next(NodeId(1), &set(voters), &set(learners), now, known)
    }

    #[test]
    fn a_new_voter_learns_first() {
        let all = caught_up(&[1, 2, 3, 4]);
        let now = members(&[1, 2, 3], &[], false);
        assert_eq!(step(&[1, 2, 4], &[], &now, &all), Some(Step::Learn(NodeId(4))));
        let now = members(&[1, 2, 3], &[4], false);
        assert_eq!(step(&[1, 2, 4], &[], &now, &caught_up(&[1, 2, 3])), None, "nothing was heard of it");
        let behind = Voter { lag: LAG_MAX + 1, ..all[3] };
        assert_eq!(step(&[1, 2, 4], &[], &now, &[behind]), None);
        let silent = Voter { silence_ms: Some(SILENCE_MAX_MS + 1), ..all[3] };
        assert_eq!(step(&[1, 2, 4], &[], &now, &[silent]), None);
        let vote = Some(Step::Vote { voters: set(&[1, 2, 4]), retain: false });
        assert_eq!(step(&[1, 2, 4], &[], &now, &all), vote);
        assert_eq!(
            step(&[1, 2, 4], &[], &members(&[1, 2, 3, 4], &[], true), &all),
            vote,
            "another leader stopped here"
        );
        assert_eq!(step(&[1, 2, 4], &[], &members(&[1, 2, 4], &[], false), &all), None);
        assert_eq!(step(&[], &[], &now, &all), None, "no record yet");
    }

    #[test]
    fn a_leader_that_goes_hands_over_before() {
        let all = caught_up(&[1, 2, 3]);
        assert_eq!(step(&[2], &[], &members(&[1, 2], &[], false), &all), Some(Step::HandOver(NodeId(2))));
        let vote = Some(Step::Vote { voters: set(&[2]), retain: false });
        assert_eq!(step(&[2], &[], &members(&[1], &[2], false), &all), vote, "nobody who stays may lead yet");
    }

    #[test]
    fn those_who_only_follow_come_and_go() {
        let all = caught_up(&[1, 2, 3]);
        assert_eq!(step(&[1], &[2], &members(&[1], &[], false), &all), Some(Step::Learn(NodeId(2))));
        assert_eq!(step(&[1], &[], &members(&[1], &[2, 3], false), &all), Some(Step::Forget(set(&[2, 3]))));
        let retained = Some(Step::Vote { voters: set(&[1]), retain: true });
        assert_eq!(step(&[1], &[2], &members(&[1, 2], &[], false), &all), retained);
    }

    fn apply(now: &Members, step: &Step) -> Members {
        let mut after = now.clone();
        match step {
            Step::Learn(node) => drop(after.learners.insert(*node)),
            Step::HandOver(_) => {}
            Step::Vote { voters, retain } => {
                let gone: Vec<NodeId> = after.voters.difference(voters).copied().collect();
                after.learners.retain(|node| !voters.contains(node));
                after.learners.extend(gone.into_iter().filter(|_| *retain));
                (after.voters, after.joint) = (voters.clone(), false);
            }
            Step::Forget(nodes) => after.learners.retain(|node| !nodes.contains(node)),
        }
        after
    }

    fn some(max: usize) -> impl Strategy<Value = BTreeSet<NodeId>> {
        proptest::collection::btree_set((1_u64..7).prop_map(NodeId), 0..=max)
    }

    proptest! {
        /// Wherever a group is, its leaders bring it where it should be, and it never has fewer voters than the lesser of
        /// what it had and what it should have.
        #[test]
        fn every_way_ends_where_it_should(
            (mut voters, others, mut wanted, beside) in (some(5), some(3), some(5), some(3)), joint in any::<bool>(),
        ) {
            voters.insert(NodeId(1));
            wanted.insert(NodeId(9));
            let learners: BTreeSet<NodeId> = others.difference(&voters).copied().collect();
            let beside: BTreeSet<NodeId> = beside.difference(&wanted).copied().collect();
            let mut now = Members { voters, learners, joint };
            let (mut this, least) = (NodeId(1), now.voters.len().min(wanted.len()));
            for _ in 0..20 {
                let known: Vec<Voter> = (1..10).map(|node| Voter { node: NodeId(node), lag: 0, silence_ms: Some(0) }).collect();
                let Some(step) = next(this, &wanted, &beside, &now, &known) else { break };
                if let Step::HandOver(to) = step {
                    prop_assert!(now.voters.contains(&to) && wanted.contains(&to));
                    this = to;
                }
                now = apply(&now, &step);
                prop_assert!(now.voters.len() >= least);
                if !now.voters.contains(&this) {
                    this = *now.voters.first().unwrap();
                }
            }
            prop_assert_eq!(&now.voters, &wanted);
            prop_assert_eq!(&now.learners, &beside);
            prop_assert_eq!(next(this, &wanted, &beside, &now, &[]), None);
        }
    }
}
