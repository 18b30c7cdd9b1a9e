//! Users that read, by REST and over a socket, and others that watch how far messages got.
//!
//! Owns: moving read marks, looking at recipients, and every node's word of both in the end.
//! Must not know: faults, or what is right.
//! Invariants: some of a thread's members never read anything.

use super::Stage;
use crate::caller::{self, Caller};
use crate::history::receipts::{Look, Marking, Place, Receipts, Stand};
use crate::history::{Fate, Thread};
use crate::workload::Actor;
use messenger_client::{HistoryQuery, Recipient, Rest};
use messenger_proto::ids::{MessageId, ThreadId};
use messenger_tests::device::Device;
use messenger_tests::socket::{Next, Socket, handshake};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::json;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::JoinHandle;

/// Of the users, so many read by REST, and the next one over a socket.
const READERS: usize = 2;
const WATCHERS: usize = 2;
/// The newest messages of a thread, one of which is read up to: marks are told to move back, too.
const RECENT: u32 = 10;
/// Messages that a watcher looks at by turns.
const WATCHED: usize = 4;
/// How often a watcher looks at another message instead of one of those.
const CURIOUS: f64 = 0.05;
/// How often a reader gives up at the first doubt.
const FAINT_HEARTED: f64 = 0.2;
/// How often what comes over the socket is read, and how often it is acknowledged.
const READS: f64 = 0.05;
/// How long a look at the socket lasts.
const GLANCE: Duration = Duration::from_millis(100);
const DEVICE: &str = "gaze";

/// The actors at work.
pub struct Readers {
    users: Vec<String>,
    threads: Arc<[Thread]>,
    markers: Vec<JoinHandle<Vec<Marking>>>,
    watchers: Vec<JoinHandle<Vec<Look>>>,
}

impl Readers {
    /// Begins, in threads of all users.
    #[must_use]
    pub fn start(stage: &Stage, users: &[String], threads: &Arc<[Thread]>) -> Self {
        let user = |n: usize| users[n % users.len()].as_str();
        let reader = |n| {
            let random = stage.seed.actor(Actor::Marker, n);
            let caller = Caller::new(&stage.cluster, user(n), DEVICE, stage.clock);
            tokio::spawn(read(stage.clone(), caller, random, threads.clone()))
        };
        let mut markers: Vec<_> = (0..READERS).map(reader).collect();
        let device = stage.cluster.device(1, user(READERS), DEVICE);
        let through = stage.cluster.nodes().map(|node| device.at(stage.cluster.client_addr(node))).collect();
        let random = stage.seed.actor(Actor::Marker, READERS);
        markers.push(tokio::spawn(read_frames(stage.clone(), through, random, threads.clone())));
        let watcher = |n| {
            let random = stage.seed.actor(Actor::Watcher, n);
            let caller = Caller::new(&stage.cluster, user(n), "watch", stage.clock);
            tokio::spawn(watch(stage.clone(), caller, random, threads.clone()))
        };
        let watchers = (0..WATCHERS).map(watcher).collect();
        Self { users: users.to_vec(), threads: threads.clone(), markers, watchers }
    }

    /// Waits until all is done, and asks every node how it looks.
    ///
    /// # Panics
    /// When an actor or a node fails.
    pub async fn finish(self, stage: &Stage) -> Receipts {
        let mut record = Receipts::default();
        for reader in self.markers {
            record.markings.extend(reader.await.expect("a reader comes to its end"));
        }
        for watcher in self.watchers {
            record.looks.extend(watcher.await.expect("a watcher comes to its end"));
        }
        for user in &self.users {
            for (node, rest) in caller::afterwards(&stage.cluster, user, DEVICE) {
                for found in caller::threads(&rest).await {
                    let thread = found.thread.id.to_string();
                    if self.threads.contains(&thread) {
                        let last_read = found.last_read_msg_id.map(|id| id.to_string());
                        let place = Place { last_read, unread: found.unread_count };
                        record.places.entry((user.clone(), thread)).or_default().insert(node, place);
                    }
                }
            }
        }
        let mut watched: Vec<(Thread, String)> =
            record.looks.iter().map(|look| (look.thread.clone(), look.message.clone())).collect();
        watched.sort_unstable();
        watched.dedup();
        for (_, rest) in caller::afterwards(&stage.cluster, &self.users[0], "watch") {
            for (thread, message) in &watched {
                let id = message.parse().expect("a message has an id");
                let began = stage.clock.now();
                let recipients = rest.recipients(id).await.expect("a node answers after the run");
                record.looks.push(look(thread, message, began, recipients, stage));
            }
        }
        record
    }
}

fn look(thread: &str, message: &str, began: crate::history::Tick, recipients: Vec<Recipient>, stage: &Stage) -> Look {
    let stand = |recipient: Recipient| Stand {
        recipient: recipient.recipient_id.to_string(),
        state: recipient.state,
        delivered_at: recipient.delivered_at,
        read_at: recipient.read_at,
    };
    let stands = recipients.into_iter().map(stand).collect();
    Look { thread: thread.to_owned(), message: message.to_owned(), began, ended: stage.clock.now(), stands }
}

/// One of the newest messages of a random thread.
async fn recent(caller: &Caller, random: &mut StdRng, threads: &[Thread]) -> Option<(ThreadId, MessageId)> {
    let thread = caller::thread_id(&threads[random.random_range(0..threads.len())]);
    let query = || HistoryQuery { page_size: Some(RECENT), ..HistoryQuery::default() };
    let page = |rest: Rest| async move { rest.messages(thread, &query()).await };
    let (_, page, _) = caller.ask(random, page).await?;
    if page.messages.is_empty() {
        return None;
    }
    Some((thread, page.messages[random.random_range(0..page.messages.len())].id))
}

async fn read(stage: Stage, caller: Caller, mut random: StdRng, threads: Arc<[Thread]>) -> Vec<Marking> {
    let mut markings = Vec::new();
    while stage.goes_on() {
        if let Some((thread, id)) = recent(&caller, &mut random, &threads).await {
            let attempt = |rest: Rest| async move { rest.mark_read(thread, id).await };
            let marked = caller.insist(&mut random, FAINT_HEARTED, attempt).await;
            let (by, thread, up_to) = (caller.user.clone(), thread.to_string(), id.to_string());
            let (began, ended, fate) = (marked.began, marked.ended, marked.fate());
            markings.push(Marking { by, thread, up_to, began, ended, fate });
        }
        stage.breathe().await;
    }
    markings
}

/// Reads what comes over a socket, which nobody confirms.
async fn read_frames(stage: Stage, through: Vec<Device>, mut random: StdRng, threads: Arc<[Thread]>) -> Vec<Marking> {
    let mut markings = Vec::new();
    let mut open: Option<Socket> = None;
    while stage.goes_on() {
        let Some(socket) = &mut open else {
            let device = &through[random.random_range(0..through.len())];
            let addr = device.http.addr();
            let request = handshake(addr, &format!("device_id={DEVICE}"), Some(&device.token));
            open = Socket::try_open(addr, request).await.ok();
            stage.breathe().await;
            continue;
        };
        let frame = match socket.next_within(GLANCE).await {
            Next::Frame(frame) => frame,
            Next::Silence => continue,
            Next::Closed(_) => {
                open = None;
                continue;
            }
        };
        if random.random_bool(READS) {
            socket.try_say(&json!({"t": "client_ack", "frame_seq": frame["frame_seq"]})).await;
        }
        let (Some(thread), Some(id)) = (frame["thread_id"].as_str(), frame["id"].as_str()) else { continue };
        if frame["t"] != "msg" || !threads.iter().any(|own| own == thread) || !random.random_bool(READS) {
            continue;
        }
        let (by, thread, up_to) = (through[0].user.clone(), thread.to_owned(), id.to_owned());
        let began = stage.clock.now();
        socket.try_say(&json!({"t": "read", "thread_id": thread, "up_to": up_to})).await;
        markings.push(Marking { by, thread, up_to, began, ended: stage.clock.now(), fate: Fate::Unknown });
    }
    markings
}

async fn watch(stage: Stage, caller: Caller, mut random: StdRng, threads: Arc<[Thread]>) -> Vec<Look> {
    let mut looks = Vec::new();
    let mut watched: Vec<(ThreadId, MessageId)> = Vec::new();
    while stage.goes_on() {
        if watched.len() < WATCHED || random.random_bool(CURIOUS) {
            watched.extend(recent(&caller, &mut random, &threads).await);
        }
        if watched.len() > WATCHED {
            watched.remove(0);
        }
        if !watched.is_empty() {
            let (thread, message) = watched[random.random_range(0..watched.len())];
            let recipients = |rest: Rest| async move { rest.recipients(message).await };
            if let Some((began, recipients, _)) = caller.ask(&mut random, recipients).await {
                looks.push(look(&thread.to_string(), &message.to_string(), began, recipients, &stage));
            }
        }
        stage.breathe().await;
    }
    looks
}
