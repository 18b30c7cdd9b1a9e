//! A tiny cluster for tests: as much of the contract as a client needs to be tried against, and faults on demand.
//!
//! Owns: nodes that share one memory, and what tests look at and put into it.
//! Must not know: the real cluster.
//! Invariants: one thread; what is committed is there for good; each device is shown its own envelopes only.

#![allow(clippy::unwrap_used, reason = "only tests run this, and what they get wrong is to be loud")]
#![allow(clippy::missing_panics_doc, reason = "the same")]

mod http;
mod keys;
mod socket;

use crate::address::{ServerUrl, Servers};
use crate::token::{Mint, NoToken, TokenSource};
use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use messenger_proto::ids::{DeviceId, MessageId, UserId};
use serde_json::{Value, json};
use std::collections::{BTreeMap, HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

/// The one thread.
pub const THREAD: &str = "6f1b1f6e-4c0a-8d7e-9a57-0123456789ab";
/// Every time there is.
pub const NOW: &str = "2030-01-01T10:00:00.000Z";

/// What goes wrong with the next request or connection.
#[derive(Debug, Clone)]
pub enum Fault {
    /// Answered so, without effect.
    Refuse(u16, &'static str),
    /// Carried out, and the answer lost.
    LoseAnswer,
    /// So many messages of bob come first, in the thread and on the socket.
    Crowd(usize),
    /// A message of bob comes first in the thread, and its frame after the answer.
    Overtake,
    /// The socket is closed so after `hello`.
    Close(u16),
}

/// A user's device.
pub type Who = (UserId, DeviceId);

/// What the nodes share.
#[derive(Default)]
pub struct Memory {
    /// Every message, with all its envelopes.
    pub messages: Vec<Value>,
    by_key: HashMap<String, Value>,
    /// Key of every try, in order.
    pub keys: Vec<String>,
    /// What goes wrong next, in order.
    pub faults: VecDeque<Fault>,
    /// Frames that clients wrote.
    pub frames: Vec<Value>,
    /// `last_seen_id` of every connection.
    pub resumes: Vec<Option<String>>,
    /// TCP connections so far.
    pub connections: usize,
    /// Of more missed events than this only so many of the newest are replayed, behind a `gap`.
    pub replayed_max: Option<usize>,
    /// Who is in the thread.
    pub members: Vec<String>,
    /// What each device published, less the one-time keys it gave out.
    pub devices: BTreeMap<(String, String), Value>,
    events: Vec<Value>,
    acked: HashMap<Who, usize>,
}

struct Shared {
    memory: Mutex<Memory>,
    /// A frame, and its place among the events if it is one of them.
    live: broadcast::Sender<(Option<usize>, Value)>,
    changed: watch::Sender<u64>,
}

type Node = Arc<Shared>;

/// Nodes of one cluster.
pub struct FakeCluster {
    shared: Node,
    nodes: Vec<(ServerUrl, JoinHandle<()>)>,
}

impl FakeCluster {
    /// Starts some nodes, on ports of the system's choice.
    pub async fn start(nodes: usize) -> Self {
        let members = vec!["alice".to_owned(), "bob".to_owned()];
        let shared = Arc::new(Shared {
            memory: Mutex::new(Memory { members, ..Memory::default() }),
            live: broadcast::channel(4096).0,
            changed: watch::channel(0).0,
        });
        let mut cluster = Self { shared, nodes: Vec::new() };
        for _ in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = listener.local_addr().unwrap().to_string().parse().unwrap();
            let task = tokio::spawn(http::serve(listener, Arc::clone(&cluster.shared)));
            cluster.nodes.push((url, task));
        }
        cluster
    }

    /// Where the nodes listen.
    #[must_use]
    pub fn servers(&self) -> Servers {
        Servers::new(self.nodes.iter().map(|(url, _)| url.clone()).collect()).unwrap()
    }

    /// An address nobody listens at, and then the cluster's own.
    pub async fn servers_after_a_dead_one(&self) -> Servers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = listener.local_addr().unwrap().to_string().parse().unwrap();
        drop(listener);
        Servers::new([dead].into_iter().chain(self.servers().all().iter().cloned()).collect()).unwrap()
    }

    /// What the nodes share.
    pub fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.memory.lock().unwrap()
    }

    /// Something is to go wrong.
    pub fn fault(&self, fault: Fault) {
        self.memory().faults.push_back(fault);
    }

    /// Waits until the clients have done something.
    pub async fn until<T>(&self, mut done: impl FnMut(&Memory) -> Option<T>) -> T {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            loop {
                changed.borrow_and_update();
                if let Some(found) = done(&self.memory()) {
                    return found;
                }
                changed.changed().await.unwrap();
            }
        };
        tokio::time::timeout(std::time::Duration::from_secs(20), wait).await.expect("within 20 s")
    }

    /// Commits a message of another user, not encrypted, and shows it to all sockets.
    #[allow(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn say(&self, sender: &str, text: &str) -> MessageId {
        let body = json!({"client_seq": 1, "ciphertext": encoded(text)});
        id_of(&commit(&self.shared, sender, "phone", THREAD, &body))
    }

    /// Commits a message with this body, of any device.
    #[allow(clippy::must_use_candidate, reason = "it is called for what it does")]
    pub fn put(&self, who: &Who, body: &Value) -> MessageId {
        id_of(&commit(&self.shared, who.0.as_str(), who.1.as_str(), THREAD, body))
    }

    /// Commits an event that is no message: an `edit`, `del` or `reaction` frame.
    pub fn change(&self, frame: Value) {
        self.shared.append(frame);
    }

    /// Shows any frame to all sockets.
    pub fn show(&self, frame: Value) {
        let _ = self.shared.live.send((None, frame));
    }

    /// Shows a message again.
    pub fn repeat(&self, id: MessageId) {
        let found = self.memory().messages.iter().find(|m| m["id"] == id.to_string()).cloned();
        self.show(framed("msg", found.unwrap()));
    }
}

impl Drop for FakeCluster {
    fn drop(&mut self) {
        for (_, task) in &self.nodes {
            task.abort();
        }
    }
}

impl Shared {
    fn note(&self) {
        self.changed.send_modify(|version| *version += 1);
    }

    fn rest_fault(&self) -> Option<Fault> {
        let mut memory = self.memory.lock().unwrap();
        match memory.faults.front() {
            Some(Fault::Close(_)) | None => None,
            Some(_) => memory.faults.pop_front(),
        }
    }

    fn append(&self, frame: Value) {
        let mut memory = self.memory.lock().unwrap();
        memory.events.push(frame.clone());
        let place = memory.events.len() - 1;
        // Under the lock, so that frames are shown in the order of the events.
        let _ = self.live.send((Some(place), frame));
        drop(memory);
        self.note();
    }
}

struct Bearer(Who);

impl Mint for Bearer {
    fn mint(&self) -> Result<String, NoToken> {
        let claims = json!({"sub": self.0.0.as_str(), "did": self.0.1.as_str()}).to_string();
        Ok(format!("e30.{}.e30", URL_SAFE_NO_PAD.encode(claims)))
    }
}

/// A token that the tiny cluster believes.
#[must_use]
pub fn minted_for(who: Who) -> TokenSource {
    TokenSource::Minted(Arc::new(Bearer(who)))
}

/// The same for a user's phone.
#[must_use]
pub fn minted(user: &str) -> TokenSource {
    minted_for((UserId::new(user).unwrap(), DeviceId::new("phone").unwrap()))
}

/// A text as it travels.
#[must_use]
pub fn encoded(text: &str) -> String {
    STANDARD.encode(text)
}

fn id_of(message: &Value) -> MessageId {
    message["id"].as_str().unwrap().parse().unwrap()
}

fn framed(t: &str, mut body: Value) -> Value {
    body["t"] = json!(t);
    body
}

/// What a device is shown of a message or frame.
fn shown_to(who: &Who, mut body: Value) -> Value {
    let Some(members) = body.as_object_mut() else { return body };
    if let Some(Value::Array(envelopes)) = members.remove("envelopes") {
        let own = envelopes.into_iter().find(|e| e["user_id"] == who.0.as_str() && e["device_id"] == who.1.as_str());
        members.insert("ciphertext".into(), own.map_or(Value::Null, |envelope| envelope["ciphertext"].clone()));
    }
    body
}

fn commit(node: &Shared, sender: &str, device: &str, thread: &str, body: &Value) -> Value {
    let mut memory = node.memory.lock().unwrap();
    let number = memory.messages.len() as u128 + 1;
    let mut message = json!({"id": MessageId(number << 64).to_string(), "thread_id": thread, "seq": number as u64,
        "sender_id": sender, "sender_device_id": device, "client_seq": body["client_seq"],
        "ciphertext": body["ciphertext"], "content_type": "text", "created_at": NOW, "deleted": false});
    if body["envelopes"].is_array() {
        message["envelopes"] = body["envelopes"].clone();
    }
    memory.messages.push(message.clone());
    drop(memory);
    node.append(framed("msg", message.clone()));
    message
}

/// Commits under a key, or finds what was committed under it; the problem when the envelopes don't fit the devices.
fn commit_once(node: &Shared, key: &str, who: &Who, thread: &str, body: &Value) -> Result<(Value, bool), Value> {
    let mut memory = node.memory.lock().unwrap();
    memory.keys.push(key.to_owned());
    if let Some(first) = memory.by_key.get(key) {
        return Ok((shown_to(who, first.clone()), true));
    }
    if let Some(problem) = keys::mismatch(&memory, who, body) {
        drop(memory);
        node.note();
        return Err(problem);
    }
    drop(memory);
    let message = commit(node, who.0.as_str(), who.1.as_str(), thread, body);
    node.memory.lock().unwrap().by_key.insert(key.to_owned(), message.clone());
    Ok((shown_to(who, message), false))
}
