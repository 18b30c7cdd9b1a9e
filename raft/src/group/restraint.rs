//! What a replica may say that was destroyed on this node and has come back.
//!
//! Owns: the rule by which it answers candidates, stands for election and takes over.
//! Must not know: how a replica is destroyed (see [`super::host`]), or where the position is kept (see [`crate::store`]).
//! Invariants: it answers a candidate as if its log still ended at least where it ended when it was destroyed, at D; and it
//! neither stands for election nor takes leadership over before it has applied D or what came in its place.
//!
//! # Why that is safe, and enough
//!
//! A replica is destroyed with its log, so that its disk is given back, and keeps its vote and D. Should it come back, as a
//! learner, it passes on its way every configuration that its group ever had, and takes the latest it knows of for the one
//! in force. In an old one it decides, perhaps alone. With nothing but its vote it could elect, there, another one that was
//! destroyed like it, or itself: a leader that lacks what this very replica had acknowledged.
//!
//! Let E be an entry of term t that a quorum acknowledged, with this replica among it, before it was destroyed. Raft rests
//! on this: the leader of any later term has E. By induction over the terms after t, its quorum shares a member with E's.
//! If that one never lost its log, the usual argument holds. If it is this replica, then:
//! - *before* it was destroyed it voted with its whole log in hand: the usual argument again;
//! - *after*, it voted only for a candidate whose log ends at c ≥ max(its own end, D), and D ≥ E, as
//!   E was in its log still: only a leader of a later term takes an entry back, and those have E. If c is of term t, it is of the log of t's only leader, at or behind E, and so has E. If
//!   it is of a later term, the leader of that term has E by the induction, at or before c, and the candidate's log up to c is
//!   that leader's. Either way the candidate has E.
//!
//! So what a voter must remember of its log is where it ended, and nothing else: Raft's vote looks at nothing else. Its vote
//! stays on disk for the usual reason, that it does not vote twice in a term.
//!
//! *Acknowledgements* count as they do elsewhere. One says that the log up to there is on disk and is the leader's, which is
//! as true of a log that was sent anew; what they promise for later is kept by the vote. *Standing for election* needs more
//! than the vote of others only where the replica decides alone, and is held back until it has applied D: applied entries
//! stay. *It ends*: a group that takes the replica in again has a leader whose log is behind D, since the entry of its term
//! that the change stands on is newer than all that the replica was sent before; and a group whose other voters are whole
//! needs nothing of this one but a vote for one of them, whose log is behind D for the same reason.
//!
//! A log that was destroyed twice ends where the further of both did ([`crate::store::Store::destroy_group`]).

use super::proposer::Raft;
use crate::entry::LogId;
use crate::store::StateMachine;
use crate::transport::{Append, AppendResult, RaftPort};
use crate::types::{SnapshotMeta, TypeConfig, Vote};
use futures_util::Stream;
use futures_util::stream::BoxStream;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::raft::{
    AppendEntriesResponse, TransferLeaderError, TransferLeaderRequest, TransferLeaderResponse, VoteRequest,
    VoteResponse,
};
use openraft::storage::RaftStateMachine;

/// Where a log ended that was destroyed; nothing for a replica that never was.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Restraint(pub Option<LogId>);

impl Restraint {
    /// Whether a candidate whose log ends there may have this replica's vote, as far as what was destroyed goes.
    #[must_use]
    pub fn permits(self, candidate: Option<LogId>) -> bool {
        candidate >= self.0
    }

    /// Whether a replica that has applied so much has again what it once had.
    #[must_use]
    pub fn is_lifted(self, applied: Option<LogId>) -> bool {
        applied >= self.0
    }
}

/// A replica as its peers reach it.
#[derive(Clone)]
pub struct Port {
    raft: Raft<StateMachine>,
    restraint: Restraint,
}

impl Port {
    pub(super) fn new(raft: Raft<StateMachine>, restraint: Restraint) -> Self {
        Self { raft, restraint }
    }

    /// The consensus handle, for what is this node's own affair.
    pub(super) fn raft(&self) -> &Raft<StateMachine> {
        &self.raft
    }

    /// The answer of one that does not vote for a candidate that lacks what this replica had.
    fn withheld(&self, request: &VoteRequest<TypeConfig>) -> Option<VoteResponse<TypeConfig>> {
        if self.restraint.permits(request.last_log_id) {
            return None;
        }
        let metrics = self.raft.metrics();
        let vote = metrics.borrow_watched().vote;
        Some(VoteResponse::new(vote, self.restraint.0, false))
    }
}

impl RaftPort for Port {
    type SnapshotData = <StateMachine as RaftStateMachine<TypeConfig>>::SnapshotData;

    fn append_stream(
        &self,
        input: impl Stream<Item = Append> + Send + 'static,
    ) -> BoxStream<'static, Result<AppendResult, String>> {
        RaftPort::append_stream(&self.raft, input)
    }

    async fn append(&self, request: Append) -> Result<AppendEntriesResponse<TypeConfig>, String> {
        RaftPort::append(&self.raft, request).await
    }

    async fn vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        match self.withheld(&request) {
            Some(answer) => Ok(answer),
            None => RaftPort::vote(&self.raft, request).await,
        }
    }

    async fn pre_vote(&self, request: VoteRequest<TypeConfig>) -> Result<VoteResponse<TypeConfig>, String> {
        match self.withheld(&request) {
            Some(answer) => Ok(answer),
            None => RaftPort::pre_vote(&self.raft, request).await,
        }
    }

    async fn transfer_leader(
        &self,
        request: TransferLeaderRequest<TypeConfig>,
    ) -> Result<TransferLeaderResponse<TypeConfig>, String> {
        let applied = self.raft.metrics().borrow_watched().last_applied;
        if request.to_node_id() == self.raft.node_id() && !self.restraint.is_lifted(applied) {
            let expected = request.last_log_id().copied().max(self.restraint.0);
            return Ok(Err(TransferLeaderError::LogNotFlushed { expected, actual: applied }));
        }
        RaftPort::transfer_leader(&self.raft, request).await
    }

    async fn install_snapshot(&self, vote: Vote, meta: SnapshotMeta, data: Self::SnapshotData) -> Result<Vote, String> {
        RaftPort::install_snapshot(&self.raft, vote, meta, data).await
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::entry::log_id;
    use proptest::prelude::*;
    use std::collections::{BTreeMap, BTreeSet};

    /// What Raft's rules look at in a member of a group whose members never change, which is what one that has only an old
    /// part of the log takes its group for.
    #[derive(Debug, Clone, Default)]
    struct Member {
        log: Vec<LogId>,
        /// The latest term it voted in, and for whom.
        vote: (u64, usize),
        leads: bool,
        restraint: Restraint,
    }

    impl Member {
        fn last(&self) -> Option<LogId> {
            self.log.last().copied()
        }
    }

    #[derive(Debug, Clone)]
    enum Happens {
        /// One stands for election, and these hear of it.
        Stands { member: usize, heard_by: usize },
        /// A leader takes a command.
        Writes { member: usize },
        /// A leader sends another its log, up to an entry.
        Sends { from: usize, to: usize, entries: usize },
        /// One is destroyed.
        Ends { member: usize },
    }

    fn happens() -> impl Strategy<Value = Happens> {
        prop_oneof![
            3 => (0_usize..5, 0_usize..32).prop_map(|(member, heard_by)| Happens::Stands { member, heard_by }),
            3 => (0_usize..5).prop_map(|member| Happens::Writes { member }),
            8 => (0_usize..5, 0_usize..5, 0_usize..12).prop_map(|(from, to, entries)| Happens::Sends { from, to, entries }),
            1 => (0_usize..5).prop_map(|member| Happens::Ends { member }),
        ]
    }

    struct Group {
        members: Vec<Member>,
        /// Who said when that it has an entry of the leader of that term.
        said: BTreeMap<LogId, BTreeSet<usize>>,
    }

    impl Group {
        fn majority(&self) -> usize {
            self.members.len() / 2 + 1
        }

        /// What must never be lost: entries that a majority acknowledged in their term, and what stands before them.
        fn committed(&self) -> Vec<LogId> {
            let by_majority = |(_, who): &(&LogId, &BTreeSet<usize>)| who.len() >= self.majority();
            self.said.iter().filter(by_majority).map(|(entry, _)| *entry).collect()
        }

        fn stands(&mut self, member: usize, heard_by: usize) -> bool {
            let candidate = self.members[member].clone();
            if !candidate.restraint.is_lifted(candidate.last()) {
                return false;
            }
            let vote = (candidate.vote.0 + 1, member);
            let mut votes = 0;
            for (id, voter) in self.members.iter_mut().enumerate() {
                let hears = id == member || heard_by & (1 << id) != 0;
                // Nobody asks a candidate for its own vote.
                let permits = id == member || voter.restraint.permits(candidate.last());
                let grants = candidate.last() >= voter.last() && permits;
                if hears && grants && vote.0 > voter.vote.0 {
                    (voter.vote, voter.leads) = (vote, false);
                    votes += 1;
                }
            }
            let elected = votes >= self.majority();
            self.members[member].leads = elected;
            if elected {
                self.writes(member);
            }
            elected
        }

        fn writes(&mut self, member: usize) {
            let Member { log, vote, .. } = &mut self.members[member];
            let entry = log_id(vote.0, vote.1 as u64, log.len() as u64);
            log.push(entry);
            self.said.entry(entry).or_default().insert(member);
        }

        fn sends(&mut self, from: usize, to: usize, entries: usize) {
            let leader = self.members[from].clone();
            let follower = &mut self.members[to];
            if !leader.leads || from == to || leader.vote < follower.vote {
                return;
            }
            (follower.vote, follower.leads) = (leader.vote, false);
            let sent = &leader.log[..entries.min(leader.log.len())];
            let same = sent.iter().zip(&follower.log).take_while(|(sent, held)| sent == held).count();
            if same < sent.len() {
                follower.log.truncate(same);
                follower.log.extend_from_slice(&sent[same..]);
            }
            for entry in sent.iter().filter(|entry| entry.leader_id.term == leader.vote.0) {
                self.said.entry(*entry).or_default().insert(to);
            }
        }

        fn ends(&mut self, member: usize) {
            let Member { log, leads, restraint, .. } = &mut self.members[member];
            *restraint = Restraint(restraint.0.max(log.last().copied()));
            (*log, *leads) = (Vec::new(), false);
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 2_000, ..ProptestConfig::default() })]
        /// Whoever is elected, whoever was destroyed before and however often, has all that a majority ever acknowledged.
        #[test]
        fn no_leader_lacks_what_was_acknowledged(
            members in prop_oneof![Just(1_usize), Just(3), Just(5)],
            events in prop::collection::vec(happens(), 0..80),
        ) {
            let mut group = Group { members: vec![Member::default(); members], said: BTreeMap::new() };
            for event in events {
                match event {
                    Happens::Stands { member, heard_by } => {
                        let member = member % members;
                        let committed = group.committed();
                        if group.stands(member, heard_by) {
                            let log = &group.members[member].log;
                            prop_assert!(committed.iter().all(|entry| log.contains(entry)), "{log:?} lacks of {committed:?}");
                        }
                    }
                    Happens::Writes { member } if group.members[member % members].leads => group.writes(member % members),
                    Happens::Writes { .. } => {}
                    Happens::Sends { from, to, entries } => group.sends(from % members, to % members, entries),
                    Happens::Ends { member } => group.ends(member % members),
                }
            }
        }
    }

    #[test]
    fn one_that_was_never_destroyed_is_free() {
        let free = Restraint::default();
        assert!(free.permits(None) && free.is_lifted(None));
        let bound = Restraint(Some(log_id(2, 1, 5)));
        for (at, permitted) in [(None, false), (Some(log_id(2, 1, 4)), false), (Some(log_id(1, 1, 9)), false)]
            .into_iter()
            .chain([(Some(log_id(2, 1, 5)), true), (Some(log_id(3, 2, 1)), true)])
        {
            assert_eq!((bound.permits(at), bound.is_lifted(at)), (permitted, permitted), "{at:?}");
        }
    }
}
