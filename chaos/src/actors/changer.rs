//! Threads whose messages are edited, deleted and reacted to.
//!
//! Owns: senders that change what they said, users that react, and every node's word of those threads in the end.
//! Must not know: faults, or what is right.
//! Invariants: once an outcome is unknown, nothing more is done to that message (but to delete it) or with that emoji: an
//! attempt may come into force at any later time, and nobody could say what is right then.

use super::Stage;
use crate::caller::{self, Caller, End};
use crate::history::changes::{Change, Changes, Deed, Reacting, Standing, Told};
use crate::history::{Fate, Origin, Outcome, Send, Thread};
use crate::sender::Sender;
use crate::workload::Actor;
use bytes::Bytes;
use messenger_client::{Content, HistoryQuery, Message};
use messenger_proto::ids::MessageId;
use rand::RngExt;
use rand::rngs::StdRng;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use tokio::task::JoinHandle;

const THREADS: usize = 2;
const EDITORS: usize = 3;
const REACTORS: usize = 2;
/// Messages that an editor still thinks of, and that a reactor looks at.
const RECENT: usize = 20;
/// How often a change, after which a message can still be changed, is a deletion.
const DELETES: f64 = 0.25;
/// How often a reaction is taken back.
const REGRETS: f64 = 0.5;
/// How often whoever changes something gives up at the first doubt.
const FAINT_HEARTED: f64 = 0.2;
const EMOJI: [&str; 3] = ["👍", "❤️", "🎉"];

/// The actors at work.
pub struct Changers {
    threads: BTreeMap<Thread, u64>,
    viewer: String,
    editors: Vec<JoinHandle<(Vec<Send>, Vec<Change>)>>,
    reactors: Vec<JoinHandle<Vec<Reacting>>>,
}

impl Changers {
    /// Makes the threads, of all users, and begins.
    pub async fn start(stage: &Stage, users: &[String]) -> Self {
        let owner = stage.cluster.device(1, &users[0], "pen");
        let others: Vec<&str> = users[1..].iter().map(String::as_str).collect();
        let mut threads = BTreeMap::new();
        for n in 0..THREADS {
            let thread = owner.group(&format!("changes {n}"), &others).await;
            let last_seq = owner.thread(&thread).await["last_seq"].as_u64().expect("a thread has a number");
            threads.insert(thread, last_seq);
        }
        let all: Arc<[Thread]> = threads.keys().cloned().collect();
        let user = |n: usize| users[n % users.len()].as_str();
        let editor = |n| tokio::spawn(Editor::new(stage, user(n), n).run(all.clone()));
        let reactor = |n| tokio::spawn(Reactor::new(stage, user(n + 1), n).run(all.clone()));
        let (editors, reactors) = ((0..EDITORS).map(editor).collect(), (0..REACTORS).map(reactor).collect());
        Self { threads, viewer: users[0].clone(), editors, reactors }
    }

    /// Waits until all is done, and asks every node how it looks.
    ///
    /// # Panics
    /// When an actor or a node fails.
    pub async fn finish(self, stage: &Stage) -> Changes {
        let mut record = Changes { threads: self.threads, ..Changes::default() };
        for editor in self.editors {
            let (sends, changes) = editor.await.expect("an editor comes to its end");
            record.sends.extend(sends);
            record.changes.extend(changes);
        }
        for reactor in self.reactors {
            record.reactions.extend(reactor.await.expect("a reactor comes to its end"));
        }
        for (node, rest) in caller::afterwards(&stage.cluster, &self.viewer, "eye") {
            for thread in record.threads.keys() {
                let found = rest.thread(caller::thread_id(thread)).await.expect("a node answers after the run");
                let messages = caller::history(&rest, thread).await.iter().map(standing).collect();
                let told = Told { last_seq: found.last_seq, messages };
                record.told.entry(thread.clone()).or_default().insert(node, told);
            }
        }
        record
    }
}

fn standing(message: &Message) -> Standing {
    let by = |reaction: &messenger_client::Reaction| {
        reaction.by.iter().map(|user| (reaction.emoji.clone(), user.clone())).collect::<Vec<_>>()
    };
    Standing {
        id: message.id.to_string(),
        seq: message.seq,
        origin: Origin {
            user: message.sender_id.to_string(),
            device: message.sender_device_id.to_string(),
            client_seq: message.client_seq,
        },
        body: message.ciphertext.as_ref().map(|body| String::from_utf8_lossy(body).into_owned()),
        edited: message.edited_at.is_some(),
        deleted: message.deleted,
        reactions: message.reactions.iter().flat_map(by).collect(),
    }
}

/// A message of one's own that can still be changed.
struct Own {
    id: MessageId,
    body: String,
    edits: u32,
    /// An edit of it may still come into force.
    doubted: bool,
}

struct Editor {
    stage: Stage,
    caller: Caller,
    sender: Sender,
    random: StdRng,
    own: Vec<Own>,
    changes: Vec<Change>,
}

impl Editor {
    fn new(stage: &Stage, user: &str, number: usize) -> Self {
        let Stage { cluster, seed, clock, .. } = stage;
        let sender = Sender::of(cluster, user, "pen", seed.actor(Actor::EditorSends, number), *clock);
        let caller = Caller::new(cluster, user, "pen", *clock);
        let random = seed.actor(Actor::Editor, number);
        Self { stage: stage.clone(), caller, sender, random, own: Vec::new(), changes: Vec::new() }
    }

    async fn run(mut self, threads: Arc<[Thread]>) -> (Vec<Send>, Vec<Change>) {
        let mut sends = Vec::new();
        for client_seq in 1.. {
            if !self.stage.goes_on() {
                break;
            }
            let thread = &threads[self.random.random_range(0..threads.len())];
            let sent = self.sender.send(thread, client_seq).await;
            if let Outcome::Accepted { id, .. } = &sent.outcome {
                let id = id.parse().expect("a message has an id");
                self.own.push(Own { id, body: sent.body.clone(), edits: 0, doubted: false });
            }
            sends.push(sent);
            if self.own.len() > RECENT {
                self.own.remove(0);
            }
            for _ in 0..self.random.random_range(0..3) {
                self.change().await;
            }
            self.stage.breathe().await;
        }
        (sends, self.changes)
    }

    async fn change(&mut self) {
        if self.own.is_empty() {
            return;
        }
        let at = self.random.random_range(0..self.own.len());
        if self.own[at].doubted || self.random.random_bool(DELETES) {
            let own = self.own.remove(at);
            self.delete(own).await;
        } else {
            self.edit(at).await;
        }
    }

    async fn delete(&mut self, own: Own) {
        let id = own.id;
        let attempt = |rest: messenger_client::Rest| async move { rest.delete(id).await };
        let deleted = self.caller.insist(&mut self.random, FAINT_HEARTED, attempt).await;
        self.changes.push(Change { id: id.to_string(), deed: Deed::Delete, fate: deleted.fate() });
    }

    async fn edit(&mut self, at: usize) {
        let own = &mut self.own[at];
        own.edits += 1;
        let (id, body) = (own.id, format!("{}, edit {}", own.body, own.edits));
        let content = Content::Ciphertext(Bytes::from(body.clone()));
        let attempt = |rest: messenger_client::Rest| {
            let content = content.clone();
            async move { rest.edit(id, &content).await }
        };
        let edited = self.caller.insist(&mut self.random, FAINT_HEARTED, attempt).await;
        own.doubted = edited.doubted;
        if let End::Done(message) = &edited.end {
            assert_eq!(
                message.ciphertext.as_deref(),
                Some(body.as_bytes()),
                "an edit is answered with what it says now"
            );
        }
        self.changes.push(Change { id: id.to_string(), deed: Deed::Edit(body), fate: edited.fate() });
    }
}

struct Reactor {
    stage: Stage,
    caller: Caller,
    random: StdRng,
    /// What is on which message, as far as was acknowledged.
    on: BTreeSet<(MessageId, &'static str)>,
    /// What nobody knows.
    doubted: BTreeSet<(MessageId, &'static str)>,
    reactions: Vec<Reacting>,
}

impl Reactor {
    fn new(stage: &Stage, user: &str, number: usize) -> Self {
        let caller = Caller::new(&stage.cluster, user, "thumb", stage.clock);
        let random = stage.seed.actor(Actor::Reactor, number);
        let (on, doubted) = (BTreeSet::new(), BTreeSet::new());
        Self { stage: stage.clone(), caller, random, on, doubted, reactions: Vec::new() }
    }

    async fn run(mut self, threads: Arc<[Thread]>) -> Vec<Reacting> {
        while self.stage.goes_on() {
            let thread = caller::thread_id(&threads[self.random.random_range(0..threads.len())]);
            let look = |rest: messenger_client::Rest| async move {
                let page_size = u32::try_from(RECENT).ok();
                rest.messages(thread, &HistoryQuery { page_size, ..HistoryQuery::default() }).await
            };
            if let Some((_, page, _)) = self.caller.ask(&mut self.random, look).await
                && !page.messages.is_empty()
            {
                let message = &page.messages[self.random.random_range(0..page.messages.len())];
                let (id, emoji) = (message.id, EMOJI[self.random.random_range(0..EMOJI.len())]);
                self.react(id, emoji).await;
            }
            self.stage.breathe().await;
        }
        self.reactions
    }

    async fn react(&mut self, id: MessageId, emoji: &'static str) {
        if self.doubted.contains(&(id, emoji)) {
            return;
        }
        // What is there already is put on again at times: it stays there once.
        let present = !(self.on.contains(&(id, emoji)) && self.random.random_bool(REGRETS));
        let attempt = |rest: messenger_client::Rest| async move {
            if present { rest.react(id, emoji).await.map(drop) } else { rest.unreact(id, emoji).await }
        };
        let reacted = self.caller.insist(&mut self.random, FAINT_HEARTED, attempt).await;
        let fate = reacted.fate();
        if reacted.doubted {
            self.doubted.insert((id, emoji));
        }
        match (&fate, present) {
            (Fate::Acknowledged, true) => drop(self.on.insert((id, emoji))),
            (Fate::Acknowledged, false) => drop(self.on.remove(&(id, emoji))),
            _ => {}
        }
        let (id, by, emoji) = (id.to_string(), self.caller.user.clone(), emoji.to_owned());
        self.reactions.push(Reacting { id, by, emoji, present, fate });
    }
}
