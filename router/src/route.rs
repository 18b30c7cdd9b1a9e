//! Where a shard's leader is, as far as this node knows.
//!
//! Owns: the leader of one shard, or the search for it: whom to ask next, and not before when.
//! Must not know: calls, channels, the clock; time and jitter are passed in.
//! Invariants: however many calls wait for a shard without a known leader, its nodes are asked at the pace of one search
//! (a pause of [`PAUSES`] between questions, but for a few hints followed at once); every replica's turn comes, and that
//! of every other node after it, since placement is intent and a group may still be elsewhere.

use crate::pause::Pauses;
use messenger_proto::ids::NodeId;
use std::time::Duration;
use tokio::time::Instant;

/// Between two questions of one search.
const PAUSES: Pauses = Pauses { min: Duration::from_millis(10), max: Duration::from_millis(60) };
/// Hints followed without a pause before the next one is made.
const HINTS_AT_ONCE: u32 = 2;
/// For so long nobody is sent to a node that could not be reached, while there is another one.
const SHUNNED: Duration = Duration::from_millis(500);
/// Rounds over the replicas before the other nodes are asked too.
const ROUNDS: usize = 3;

/// What to do with a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Next {
    /// Send it there.
    Send(NodeId),
    /// Look again then, or when the leader is found.
    WaitUntil(Instant),
    /// The shard has no nodes.
    Nobody,
}

/// What an attempt taught about a shard's leader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lesson {
    /// The node answered as the leader.
    Leads,
    /// It does not lead; perhaps another one does.
    Redirects(Option<NodeId>),
    /// It could not be reached, or the answer was lost.
    Unreachable,
    /// Nothing.
    Nothing,
}

/// The way to one shard.
#[derive(Debug)]
pub(crate) struct Route {
    /// The placement's replicas, the preferred leader first.
    replicas: Vec<NodeId>,
    /// The other nodes of the cluster.
    others: Vec<NodeId>,
    leader: Leader,
}

#[derive(Debug)]
enum Leader {
    Known { node: NodeId, since: Instant },
    Sought(Search),
}

#[derive(Debug)]
struct Search {
    next_at: Instant,
    hint: Option<NodeId>,
    /// Turns taken in the rotation.
    turn: usize,
    /// Questions asked; sets the pause.
    asked: u32,
    /// Hints followed since the last pause.
    followed: u32,
    /// The node that was asked again after it knew no leader: a leader whose lease ran out says so once.
    asked_again: Option<NodeId>,
    /// Nodes that could not be reached, and when; one entry per node.
    unreachable: Vec<(NodeId, Instant)>,
}

impl Search {
    fn new(now: Instant) -> Self {
        Self { next_at: now, hint: None, turn: 0, asked: 0, followed: 0, asked_again: None, unreachable: Vec::new() }
    }

    fn shuns(&self, node: NodeId, now: Instant) -> bool {
        self.unreachable.iter().any(|&(id, when)| id == node && now < when + SHUNNED)
    }

    fn shun(&mut self, node: NodeId, now: Instant) {
        self.unreachable.retain(|&(id, _)| id != node);
        self.unreachable.push((node, now));
    }
}

impl Route {
    /// A route whose leader has to be found, beginning with the preferred one.
    pub(crate) fn new(replicas: Vec<NodeId>, others: Vec<NodeId>, now: Instant) -> Self {
        Self { replicas, others, leader: Leader::Sought(Search::new(now)) }
    }

    /// Takes over a changed placement; a known leader stays, unless its node left the cluster.
    pub(crate) fn relocate(&mut self, replicas: Vec<NodeId>, others: Vec<NodeId>, now: Instant) {
        (self.replicas, self.others) = (replicas, others);
        if let Leader::Known { node, .. } = self.leader
            && !self.replicas.contains(&node)
            && !self.others.contains(&node)
        {
            self.leader = Leader::Sought(Search::new(now));
        }
    }

    /// The known leader.
    pub(crate) fn leader(&self) -> Option<NodeId> {
        match self.leader {
            Leader::Known { node, .. } => Some(node),
            Leader::Sought(_) => None,
        }
    }

    /// Whom to send a call to; a question of the search counts as asked.
    pub(crate) fn next(&mut self, now: Instant, jitter: f64) -> Next {
        let search = match &mut self.leader {
            Leader::Known { node, .. } => return Next::Send(*node),
            Leader::Sought(search) => search,
        };
        if now < search.next_at {
            return Next::WaitUntil(search.next_at);
        }
        let node = match search.hint.take() {
            Some(hint) => hint,
            None => match take_turn(&self.replicas, &self.others, search, now) {
                Some(node) => node,
                None => return Next::Nobody,
            },
        };
        search.next_at = now + PAUSES.nth(search.asked, jitter);
        search.asked = search.asked.saturating_add(1);
        Next::Send(node)
    }

    /// Learns from an attempt at `node` that began at `sent_at`. True when a leader is known that was not before.
    pub(crate) fn learn(&mut self, node: NodeId, lesson: Lesson, sent_at: Instant, now: Instant) -> bool {
        match lesson {
            Lesson::Leads => return self.found(node, sent_at, now),
            Lesson::Nothing => {}
            Lesson::Unreachable => {
                if let Some(search) = self.doubt(node, now) {
                    search.shun(node, now);
                }
            }
            Lesson::Redirects(hint) => {
                if let Some(search) = self.doubt(node, now) {
                    follow(search, node, hint.filter(|&hint| hint != node), now);
                }
            }
        }
        false
    }

    fn found(&mut self, node: NodeId, sent_at: Instant, now: Instant) -> bool {
        match self.leader {
            Leader::Known { node: known, .. } if known == node => false,
            // The answer of an earlier leader was long under way.
            Leader::Known { since, .. } if sent_at < since => false,
            _ => {
                self.leader = Leader::Known { node, since: now };
                true
            }
        }
    }

    /// The search, if `node` was the known leader or none was; news of any other node are of no use.
    fn doubt(&mut self, node: NodeId, now: Instant) -> Option<&mut Search> {
        match self.leader {
            Leader::Known { node: known, .. } if known != node => return None,
            Leader::Known { .. } => self.leader = Leader::Sought(Search::new(now)),
            Leader::Sought(_) => {}
        }
        match &mut self.leader {
            Leader::Sought(search) => Some(search),
            Leader::Known { .. } => None,
        }
    }
}

fn follow(search: &mut Search, from: NodeId, hint: Option<NodeId>, now: Instant) {
    match hint {
        // Followers name a dead leader until they elect another one.
        Some(hint) if search.shuns(hint, now) => {}
        Some(hint) => {
            search.hint = Some(hint);
            if search.followed < HINTS_AT_ONCE {
                search.followed += 1;
                search.next_at = now;
            } else {
                search.followed = 0;
                search.next_at = search.next_at.max(now + PAUSES.min);
            }
        }
        None => {
            search.followed = 0;
            search.next_at = search.next_at.max(now + PAUSES.min / 2);
            if search.asked_again != Some(from) {
                search.asked_again = Some(from);
                search.hint = Some(from);
            }
        }
    }
}

/// The next of the rotation, passing over nodes that could not be reached lately while there are others.
fn take_turn(replicas: &[NodeId], others: &[NodeId], search: &mut Search, now: Instant) -> Option<NodeId> {
    let cycle = replicas.len() * ROUNDS + others.len();
    let at = |turn: usize| match turn % cycle {
        turn if turn < replicas.len() * ROUNDS => replicas[turn % replicas.len()],
        turn => others[turn - replicas.len() * ROUNDS],
    };
    if cycle == 0 {
        return None;
    }
    let turn = (search.turn..search.turn + cycle).find(|&turn| !search.shuns(at(turn), now)).unwrap_or(search.turn);
    search.turn = turn + 1;
    Some(at(turn))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const A: NodeId = NodeId(1);
    const B: NodeId = NodeId(2);
    const C: NodeId = NodeId(3);
    const D: NodeId = NodeId(4);

    fn route(now: Instant) -> Route {
        Route::new(vec![A, B, C], vec![D], now)
    }

    /// Whom the search asks next, and when.
    fn ask(route: &mut Route, now: &mut Instant) -> NodeId {
        loop {
            match route.next(*now, 1.0) {
                Next::Send(node) => return node,
                Next::WaitUntil(then) => *now = then,
                Next::Nobody => panic!("there are nodes"),
            }
        }
    }

    #[test]
    fn a_found_leader_gets_every_call() {
        let now = Instant::now();
        let mut route = route(now);
        assert_eq!(route.next(now, 1.0), Next::Send(A));
        assert!(matches!(route.next(now, 1.0), Next::WaitUntil(_)), "one question at a time");
        assert!(route.learn(A, Lesson::Leads, now, now));
        assert_eq!(route.next(now, 1.0), Next::Send(A));
        assert_eq!(route.next(now, 1.0), Next::Send(A));
        assert!(!route.learn(A, Lesson::Leads, now, now), "no news");
    }

    #[test]
    fn hints_are_followed_at_once_but_not_in_circles() {
        let now = Instant::now();
        let mut route = route(now);
        let (mut at, mut other) = (A, B);
        let mut sent = 0;
        while let Next::Send(node) = route.next(now, 1.0) {
            assert_eq!(node, at);
            route.learn(at, Lesson::Redirects(Some(other)), now, now);
            (at, other) = (other, at);
            sent += 1;
            assert!(sent < 10, "a circle of hints has no end");
        }
        assert_eq!(sent, 1 + HINTS_AT_ONCE);
    }

    #[test]
    fn a_hint_to_a_node_that_was_just_lost_waits() {
        let mut now = Instant::now();
        let mut route = route(now);
        route.learn(A, Lesson::Leads, now, now);
        route.learn(A, Lesson::Unreachable, now, now);
        assert_eq!(route.next(now, 1.0), Next::Send(B), "at once");
        route.learn(B, Lesson::Redirects(Some(A)), now, now);
        assert_eq!(ask(&mut route, &mut now), C);
        route.learn(C, Lesson::Redirects(Some(A)), now, now);
        now += SHUNNED;
        route.learn(C, Lesson::Redirects(Some(A)), now, now);
        assert_eq!(ask(&mut route, &mut now), A, "it may be back");
    }

    #[test]
    fn a_node_that_knows_no_leader_is_asked_once_more() {
        let mut now = Instant::now();
        let mut route = route(now);
        assert_eq!(ask(&mut route, &mut now), A);
        let asked = now;
        route.learn(A, Lesson::Redirects(None), now, now);
        assert_eq!(ask(&mut route, &mut now), A);
        assert!(now > asked, "after a pause");
        route.learn(A, Lesson::Redirects(None), now, now);
        assert_eq!(ask(&mut route, &mut now), B);
    }

    #[test]
    fn news_of_others_do_not_unseat_a_leader() {
        let (now, later) = (Instant::now(), Instant::now() + Duration::from_secs(1));
        let mut route = route(now);
        route.learn(B, Lesson::Leads, now, later);
        route.learn(A, Lesson::Unreachable, now, later);
        route.learn(C, Lesson::Redirects(Some(A)), now, later);
        assert!(!route.learn(A, Lesson::Leads, now, later), "sent before B was found");
        assert_eq!(route.leader(), Some(B));
        assert!(route.learn(A, Lesson::Leads, later, later));
        assert_eq!(route.leader(), Some(A));
    }

    #[test]
    fn a_leader_outside_the_placement_is_kept_until_its_node_is_gone() {
        let now = Instant::now();
        let mut route = route(now);
        route.learn(A, Lesson::Leads, now, now);
        route.relocate(vec![B, C, D], vec![A], now);
        assert_eq!(route.leader(), Some(A));
        route.relocate(vec![B, C, D], vec![], now);
        assert_eq!(route.next(now, 1.0), Next::Send(B));
    }

    #[test]
    fn a_shard_without_nodes_has_nobody_to_ask() {
        let now = Instant::now();
        assert_eq!(Route::new(vec![], vec![], now).next(now, 1.0), Next::Nobody);
    }

    proptest! {
        /// Whatever nodes answer, each one's turn comes, and the pace is kept.
        #[test]
        fn every_node_is_asked_and_at_a_bounded_pace(
            lessons in prop::collection::vec((0_u8..4, 1_u64..5), 60),
            jitter in 0.0_f64..1.0,
        ) {
            let start = Instant::now();
            let mut now = start;
            let mut route = route(now);
            let mut asked = [0; 5];
            for (kind, other) in &lessons {
                let node = loop {
                    match route.next(now, jitter) {
                        Next::Send(node) => break node,
                        Next::WaitUntil(then) => { prop_assert!(then > now); now = then; }
                        Next::Nobody => panic!("there are nodes"),
                    }
                };
                asked[node.0 as usize] += 1;
                let lesson = match kind {
                    0 => Lesson::Unreachable,
                    1 => Lesson::Redirects(None),
                    2 => Lesson::Redirects(Some(NodeId(*other))),
                    _ => Lesson::Nothing,
                };
                route.learn(node, lesson, now, now);
            }
            // Three questions (two hints) for each pause of at least 5 ms.
            let elapsed = now - start;
            prop_assert!(elapsed >= Duration::from_millis(5) * (60 / 3 - 1), "{elapsed:?}");
        }

        #[test]
        fn every_node_gets_its_turn(unreachable in any::<bool>()) {
            let mut now = Instant::now();
            let mut route = route(now);
            let mut asked = std::collections::BTreeSet::new();
            for _ in 0..=3 * ROUNDS {
                let node = ask(&mut route, &mut now);
                asked.insert(node);
                route.learn(node, if unreachable { Lesson::Unreachable } else { Lesson::Nothing }, now, now);
            }
            prop_assert_eq!(asked.len(), 4);
        }
    }
}
