//! A group whose members come and go.
//!
//! Owns: the group, who adds and removes, who leaves, what its members hear, and every node's word in the end.
//! Must not know: faults, or what is right.
//! Invariants: once an attempt's outcome is unknown that user neither comes nor goes any more: it may come into force at
//! any later time.

use super::{Audience, Stage};
use crate::caller::{self, Caller};
use crate::history::members::{Members, Seen, Sight, Turn};
use crate::history::{Send, Thread};
use crate::sender::Sender;
use crate::workload::Actor;
use messenger_client::{ClientError, HistoryQuery, Rest};
use messenger_proto::ids::UserId;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;

const CHAIR: &str = "chair";
const MEMBERS: [&str; 3] = ["guest-0", "guest-1", "guest-2"];
/// Between two changes, in milliseconds.
const UNREST: std::ops::Range<u64> = 50..500;
/// How often who goes goes by itself.
const LEAVES: f64 = 0.3;

/// The actors at work.
pub struct Chairs {
    thread: Thread,
    sender: JoinHandle<Vec<Send>>,
    chair: JoinHandle<(Vec<Turn>, Vec<Sight>)>,
    audience: Audience,
}

impl Chairs {
    /// Makes the group and begins.
    pub async fn start(stage: &Stage) -> Self {
        let thread = stage.cluster.device(1, CHAIR, "pen").group("members", &MEMBERS).await;
        let random = stage.seed.actor(Actor::ChairSends, 0);
        let sender = Sender::of(&stage.cluster, CHAIR, "pen", random, stage.clock);
        let sender = tokio::spawn(super::blocker::talk(stage.clone(), sender, thread.clone()));
        let chair = tokio::spawn(Chair::new(stage, &thread).run());
        let audience = Audience::start(stage, &MEMBERS, Actor::MemberEar);
        Self { thread, sender, chair, audience }
    }

    /// Waits until all is done, and asks every node how it looks.
    ///
    /// # Panics
    /// When an actor or a node fails.
    pub async fn finish(self, stage: &Stage) -> Members {
        let mut record = Members { users: MEMBERS.map(str::to_owned).into(), ..Members::default() };
        record.sends = self.sender.await.expect("the sender comes to its end");
        (record.turns, record.sights) = self.chair.await.expect("the chair comes to its end");
        for (node, rest) in caller::afterwards(&stage.cluster, CHAIR, "hand") {
            let thread = rest.thread(caller::thread_id(&self.thread)).await.expect("a node answers after the run");
            let participants = thread.participants.iter().map(|participant| participant.user_id.to_string());
            record.participants.insert(node, participants.collect());
        }
        let mut ends = BTreeMap::new();
        for user in MEMBERS {
            for (node, rest) in caller::afterwards(&stage.cluster, user, "hand") {
                let seen = seen(&rest, &self.thread).await;
                record.told.entry(user.to_owned()).or_default().insert(node, seen);
            }
            let end = record.due(user).map(|(_, seq)| seq).max();
            ends.insert(user.to_owned(), end.map(|end| (self.thread.clone(), end)).into_iter().collect());
        }
        for (user, mut hearing) in self.audience.finish(ends).await {
            record.heard.insert(user, hearing.events.remove(&self.thread).unwrap_or_default());
        }
        record
    }
}

/// What a node tells a client's user of the group.
async fn seen(rest: &Rest, thread: &str) -> Seen {
    let listed = lists(&caller::threads(rest).await, thread);
    let history = match rest.messages(caller::thread_id(thread), &HistoryQuery::default()).await {
        Ok(_) => Some(caller::history(rest, thread).await.iter().map(|message| message.id.to_string()).collect()),
        Err(ClientError::Refused(problem)) if problem.status == 403 => None,
        Err(error) => panic!("a node answers after the run, not {error}"),
    };
    Seen { listed, history }
}

fn lists(threads: &[messenger_client::ThreadSummary], thread: &str) -> bool {
    threads.iter().any(|found| found.thread.id.to_string() == thread)
}

/// One who comes and goes.
struct Member {
    caller: Caller,
    user: UserId,
    is_in: bool,
    /// A change may still come into force.
    doubted: bool,
}

struct Chair {
    stage: Stage,
    thread: Thread,
    caller: Caller,
    members: Vec<Member>,
    random: StdRng,
}

impl Chair {
    fn new(stage: &Stage, thread: &str) -> Self {
        let caller = |user| Caller::new(&stage.cluster, user, "hand", stage.clock);
        let id = |user| UserId::new(user).expect("a well-formed name");
        let member = |user| Member { caller: caller(user), user: id(user), is_in: true, doubted: false };
        let (members, random) = (MEMBERS.map(member).into(), stage.seed.actor(Actor::Chair, 0));
        Self { stage: stage.clone(), thread: thread.to_owned(), caller: caller(CHAIR), members, random }
    }

    async fn run(mut self) -> (Vec<Turn>, Vec<Sight>) {
        let (mut turns, mut sights) = (Vec::new(), Vec::new());
        while self.stage.goes_on() {
            tokio::time::sleep(Duration::from_millis(self.random.random_range(UNREST))).await;
            let at = self.random.random_range(0..self.members.len());
            if !self.members[at].doubted {
                turns.push(self.turn(at).await);
            }
            sights.extend(self.sight(at).await);
        }
        (turns, sights)
    }

    async fn turn(&mut self, at: usize) -> Turn {
        let member = &mut self.members[at];
        let (thread, add) = (caller::thread_id(&self.thread), !member.is_in);
        let who = if !add && self.random.random_bool(LEAVES) { &member.caller } else { &self.caller };
        let user = &member.user;
        let attempt = |rest: Rest| async move {
            if add {
                rest.add_participants(thread, std::slice::from_ref(user)).await.map(drop)
            } else {
                rest.remove_participant(thread, user).await
            }
        };
        let turn = who.insist(&mut self.random, 0.0, attempt).await;
        (member.is_in, member.doubted) = (add, turn.doubted);
        Turn { user: user.to_string(), add, began: turn.began, ended: turn.ended, fate: turn.fate() }
    }

    async fn sight(&mut self, at: usize) -> Option<Sight> {
        let caller = &self.members[at].caller;
        let look = |rest: Rest| async move { rest.threads(Some(100), None).await };
        let (began, page, _) = caller.ask(&mut self.random, look).await?;
        Some(Sight { user: caller.user.clone(), began, listed: lists(&page.threads, &self.thread) })
    }
}
