//! A group in which one user keeps another away, and lets it near again.
//!
//! Owns: the group, its talkers, the blocker, what its members hear, and every node's word in the end.
//! Must not know: faults, or what is right.
//! Invariants: once an attempt's outcome is unknown the blocker changes nothing more: it may come into force at any later
//! time.

use super::{Audience, Stage};
use crate::caller::{self, Caller};
use crate::history::blocks::{Blocks, Turn};
use crate::history::{Outcome, Send, Thread};
use crate::sender::Sender;
use crate::workload::Actor;
use messenger_client::Rest;
use messenger_proto::ids::UserId;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::task::JoinHandle;

const BLOCKER: &str = "hermit";
const WITNESS: &str = "witness";
/// The first is kept away at times, the second never.
const TALKERS: [&str; 2] = ["talker", "friend"];
/// Between two changes of mind, in milliseconds.
const MOOD: std::ops::Range<u64> = 200..1200;

/// The actors at work.
pub struct Blockers {
    thread: Thread,
    talkers: Vec<JoinHandle<Vec<Send>>>,
    blocker: JoinHandle<Vec<Turn>>,
    audience: Audience,
}

impl Blockers {
    /// Makes the group and begins.
    pub async fn start(stage: &Stage) -> Self {
        let owner = stage.cluster.device(1, WITNESS, "pen");
        let thread = owner.group("blocks", &[BLOCKER, TALKERS[0], TALKERS[1]]).await;
        let talker = |(n, user): (usize, &str)| {
            let sender = Sender::of(&stage.cluster, user, "pen", stage.seed.actor(Actor::Talker, n), stage.clock);
            tokio::spawn(talk(stage.clone(), sender, thread.clone()))
        };
        let talkers = TALKERS.into_iter().enumerate().map(talker).collect();
        let caller = Caller::new(&stage.cluster, BLOCKER, "hand", stage.clock);
        let blocker = tokio::spawn(block(stage.clone(), caller, stage.seed.actor(Actor::Blocker, 0)));
        let audience = Audience::start(stage, &[BLOCKER, WITNESS], Actor::BlockEar);
        Self { thread, talkers, blocker, audience }
    }

    /// Waits until all is done, and asks every node how it looks.
    ///
    /// # Panics
    /// When an actor or a node fails.
    pub async fn finish(self, stage: &Stage) -> Blocks {
        let mut record = Blocks { talker: TALKERS[0].to_owned(), ..Blocks::default() };
        for talker in self.talkers {
            record.sends.extend(talker.await.expect("a talker comes to its end"));
        }
        record.turns = self.blocker.await.expect("the blocker comes to its end");
        let mut ends = BTreeMap::new();
        for (user, shown) in [(BLOCKER, &mut record.blocker), (WITNESS, &mut record.witness)] {
            for (node, rest) in caller::afterwards(&stage.cluster, user, "hand") {
                let history = caller::history(&rest, &self.thread).await;
                let last = history.last().map_or(0, |message| message.seq);
                ends.insert(user.to_owned(), BTreeMap::from([(self.thread.clone(), last)]));
                shown.told.insert(node, history.iter().map(|message| message.id.to_string()).collect());
            }
        }
        for (node, rest) in caller::afterwards(&stage.cluster, BLOCKER, "hand") {
            record.lists.insert(node, rest.blocks().await.expect("a node answers after the run"));
        }
        record.states = states(stage, &record.sends).await;
        let mut heard = self.audience.finish(ends).await;
        let mut events = |user: &str| {
            let hearing = heard.remove(user).unwrap_or_default();
            hearing
                .events
                .into_iter()
                .find(|(thread, _)| *thread == self.thread)
                .map_or_else(Vec::new, |(_, events)| events)
        };
        let (blocker, witness) = (events(BLOCKER), events(WITNESS));
        (record.blocker.heard, record.witness.heard) = (blocker, witness);
        record
    }
}

/// How far each of the talker's messages got with the blocker, asked of one node after another.
async fn states(stage: &Stage, sends: &[Send]) -> BTreeMap<String, String> {
    let nodes: Vec<(u16, Rest)> = caller::afterwards(&stage.cluster, WITNESS, "hand");
    let mut states = BTreeMap::new();
    let talkers = sends.iter().filter(|send| send.origin.user == TALKERS[0]);
    for (send, (_, rest)) in talkers.zip(nodes.iter().cycle()) {
        let Outcome::Accepted { id, .. } = &send.outcome else { continue };
        let message = id.parse().expect("a message has an id");
        let recipients = rest.recipients(message).await.expect("a node answers after the run");
        let blocker = recipients.into_iter().find(|recipient| recipient.recipient_id.as_str() == BLOCKER);
        states.extend(blocker.map(|blocker| (id.clone(), blocker.state)));
    }
    states
}

/// Sends to one thread until the load ends.
pub(super) async fn talk(stage: Stage, mut sender: Sender, thread: Thread) -> Vec<Send> {
    let mut sends = Vec::new();
    for client_seq in 1.. {
        if !stage.goes_on() {
            break;
        }
        sends.push(sender.send(&thread, client_seq).await);
        stage.breathe().await;
    }
    sends
}

async fn block(stage: Stage, caller: Caller, mut random: StdRng) -> Vec<Turn> {
    let talker = UserId::new(TALKERS[0]).expect("a well-formed name");
    let mut turns: Vec<Turn> = Vec::new();
    while stage.goes_on() {
        tokio::time::sleep(Duration::from_millis(random.random_range(MOOD))).await;
        let on = turns.len().is_multiple_of(2);
        let attempt = |rest: Rest| {
            let talker = talker.clone();
            async move { rest.set_block(&talker, on).await }
        };
        let turn = caller.insist(&mut random, 0.0, attempt).await;
        turns.push(Turn { on, began: turn.began, ended: turn.ended, fate: turn.fate() });
        // That there is a block in force in most runs from then on is as good as another change of mind.
        if turn.doubted {
            break;
        }
    }
    turns
}
