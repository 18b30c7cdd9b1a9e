//! A tiny cluster for tests: as much of the contract as a client needs to be tried against, and faults on demand.
//!
//! Owns: nodes that share one memory.
//! Must not know: the real cluster.

use super::{DevKey, Grant, ServerUrl, Servers, TokenSource, bearer_of};
use crate::auth::SigningKey;
use axum::body::{Body, Bytes};
use axum::extract::ws::{CloseFrame, Message as WsMessage, WebSocket, WebSocketUpgrade};
use axum::extract::{Path, Query, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures_util::stream;
use messenger_proto::ids::{DeviceId, MessageId, UserId};
use serde_json::{Value, json};
use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::net::TcpListener;
use tokio::sync::{broadcast, watch};
use tokio::task::JoinHandle;

pub(crate) const THREAD: &str = "6f1b1f6e-4c0a-8d7e-9a57-0123456789ab";

/// What goes wrong with the next request or connection.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
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

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) messages: Vec<Value>,
    by_key: HashMap<String, Value>,
    /// Key of every try, in order.
    pub(crate) keys: Vec<String>,
    pub(crate) faults: VecDeque<Fault>,
    /// Frames that clients wrote.
    pub(crate) frames: Vec<Value>,
    /// `last_seen_id` of every connection.
    pub(crate) resumes: Vec<Option<String>>,
    pub(crate) connections: usize,
}

struct Shared {
    memory: Mutex<Memory>,
    live: broadcast::Sender<Value>,
    changed: watch::Sender<u64>,
}

/// Nodes of one cluster.
pub(crate) struct FakeCluster {
    shared: Arc<Shared>,
    nodes: Vec<(ServerUrl, JoinHandle<()>)>,
}

type Node = Arc<Shared>;

impl FakeCluster {
    pub(crate) async fn start(nodes: usize) -> Self {
        let shared = Arc::new(Shared {
            memory: Mutex::default(),
            live: broadcast::channel(1024).0,
            changed: watch::channel(0).0,
        });
        let mut cluster = Self { shared, nodes: Vec::new() };
        for _ in 0..nodes {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let url = listener.local_addr().unwrap().to_string().parse().unwrap();
            let app = app(Arc::clone(&cluster.shared));
            let shared = Arc::clone(&cluster.shared);
            let counted = axum::serve::ListenerExt::tap_io(listener, move |_| {
                shared.memory.lock().unwrap().connections += 1;
            });
            let task = tokio::spawn(async move { axum::serve(counted, app).await.unwrap() });
            cluster.nodes.push((url, task));
        }
        cluster
    }

    pub(crate) fn servers(&self) -> Servers {
        Servers::new(self.nodes.iter().map(|(url, _)| url.clone()).collect()).unwrap()
    }

    /// An address nobody listens at, and then the cluster's own.
    pub(crate) async fn servers_after_a_dead_one(&self) -> Servers {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let dead = listener.local_addr().unwrap().to_string().parse().unwrap();
        drop(listener);
        Servers::new([dead].into_iter().chain(self.servers().all().iter().cloned()).collect()).unwrap()
    }

    pub(crate) fn memory(&self) -> MutexGuard<'_, Memory> {
        self.shared.memory.lock().unwrap()
    }

    pub(crate) fn fault(&self, fault: Fault) {
        self.memory().faults.push_back(fault);
    }

    /// Waits until the clients have done something.
    pub(crate) async fn until<T>(&self, mut done: impl FnMut(&Memory) -> Option<T>) -> T {
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

    /// Commits a message of another user and shows it to all sockets.
    pub(crate) fn say(&self, sender: &str, text: &str) -> MessageId {
        let body = json!({"client_seq": 1, "ciphertext": super::model::encoded(text)});
        let message = commit(&self.shared, sender, "phone", THREAD, &body);
        message["id"].as_str().unwrap().parse().unwrap()
    }

    /// Shows any frame to all sockets.
    pub(crate) fn show(&self, frame: Value) {
        let _ = self.shared.live.send(frame);
    }

    /// Shows a message again.
    pub(crate) fn repeat(&self, id: MessageId) {
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

pub(crate) fn key() -> DevKey {
    DevKey::new(SigningKey {
        kid: "dev".into(),
        issuer: "messenger".into(),
        audience: "messenger".into(),
        secret: vec![7; 32],
    })
}

pub(crate) fn minted(user: &str) -> TokenSource {
    let grant = Grant::full(UserId::new(user).unwrap(), DeviceId::new("phone").unwrap());
    TokenSource::Minted { key: key(), grant: Arc::new(grant) }
}

fn app(node: Node) -> Router {
    Router::new()
        .route("/readyz", get(|| async { "ready" }))
        .route("/v1/threads", post(create).get(threads))
        .route("/v1/threads/{id}", get(|Path(id): Path<String>| async move { Json(thread(&id)) }))
        .route("/v1/threads/{id}/messages", post(send).get(history))
        .route("/v1/messages/{id}/recipients", get(recipients))
        .route("/v1/realtime", get(realtime))
        .with_state(node)
}

fn thread(id: &str) -> Value {
    let member = |user: &str| json!({"user_id": user, "role": "member", "joined_at": "2030-01-01T10:00:00.000Z"});
    json!({"id": id, "type": "1_TO_1", "title": null, "description": null, "created_at": "2030-01-01T10:00:00.000Z",
        "participants": [member("alice"), member("bob")], "last_msg_id": null, "last_seq": 0, "settings": {}})
}

fn problem(status: u16, code: &str) -> Response {
    let body = json!({"type": "about:blank", "title": "No", "status": status, "code": code, "detail": "on purpose"});
    (StatusCode::from_u16(status).unwrap(), [("content-type", "application/problem+json")], body.to_string())
        .into_response()
}

fn lost() -> Response {
    let broken = stream::once(async { Err::<Bytes, _>(std::io::Error::other("on purpose")) });
    (StatusCode::ACCEPTED, [("content-length", "100")], Body::from_stream(broken)).into_response()
}

fn bearer(headers: &HeaderMap) -> Option<(UserId, DeviceId)> {
    bearer_of(headers.get("authorization")?.to_str().ok()?.strip_prefix("Bearer ")?)
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
}

async fn create(State(node): State<Node>) -> Response {
    match node.rest_fault() {
        Some(Fault::Refuse(status, code)) => problem(status, code),
        _ => (StatusCode::CREATED, Json(thread(THREAD))).into_response(),
    }
}

async fn threads() -> Response {
    let mut summary = thread(THREAD);
    summary["unread_count"] = json!(3);
    Json(json!({"threads": [summary], "next_cursor": null})).into_response()
}

fn commit(node: &Shared, sender: &str, device: &str, thread: &str, body: &Value) -> Value {
    let mut memory = node.memory.lock().unwrap();
    let number = memory.messages.len() as u128 + 1;
    let message = json!({"id": MessageId(number << 64).to_string(), "thread_id": thread, "seq": number as u64,
        "sender_id": sender, "sender_device_id": device, "client_seq": body["client_seq"],
        "ciphertext": body["ciphertext"], "content_type": "text", "created_at": "2030-01-01T10:00:00.000Z",
        "deleted": false});
    memory.messages.push(message.clone());
    drop(memory);
    let _ = node.live.send(framed("msg", message.clone()));
    node.note();
    message
}

fn framed(t: &str, mut body: Value) -> Value {
    body["t"] = json!(t);
    body
}

/// Commits under a key, or finds what was committed under it.
fn commit_once(node: &Shared, key: &str, who: &(UserId, DeviceId), thread: &str, body: &Value) -> (Value, bool) {
    let mut memory = node.memory.lock().unwrap();
    memory.keys.push(key.to_owned());
    if let Some(first) = memory.by_key.get(key) {
        return (first.clone(), true);
    }
    drop(memory);
    let message = commit(node, who.0.as_str(), who.1.as_str(), thread, body);
    node.memory.lock().unwrap().by_key.insert(key.to_owned(), message.clone());
    (message, false)
}

async fn send(State(node): State<Node>, Path(id): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    let Some(who) = bearer(&headers) else { return problem(401, "unauthenticated") };
    let Some(key) = headers.get("idempotency-key").and_then(|key| key.to_str().ok()) else {
        return problem(400, "idempotency_key_required");
    };
    let fault = node.rest_fault();
    if let Some(Fault::Refuse(status, code)) = fault {
        node.memory.lock().unwrap().keys.push(key.to_owned());
        return problem(status, code);
    }
    let (message, replayed) = commit_once(&node, key, &who, &id, &serde_json::from_slice(&body).unwrap());
    if fault.is_some() {
        return lost();
    }
    let replayed = if replayed { "true" } else { "false" };
    (StatusCode::ACCEPTED, [("idempotent-replayed", replayed)], Json(message)).into_response()
}

async fn history(State(node): State<Node>, Query(query): Query<HashMap<String, String>>) -> Response {
    let size = query.get("page_size").map_or(50, |size| size.parse().unwrap());
    let skip = query.get("cursor").map_or(0, |cursor| cursor.parse().unwrap());
    let all = node.memory.lock().unwrap().messages.clone();
    let rows: Vec<_> = all.iter().rev().skip(skip).take(size).cloned().collect();
    let end = skip + rows.len();
    let next = (end < all.len()).then(|| end.to_string());
    Json(json!({"messages": rows, "next_cursor": next})).into_response()
}

async fn recipients() -> Response {
    let bob = json!({"recipient_id": "bob", "state": "READ", "delivered_at": "2030-01-01T10:00:01.000Z",
        "read_at": "2030-01-01T10:00:02.000Z"});
    Json(json!({"recipients": [bob]})).into_response()
}

async fn realtime(
    State(node): State<Node>,
    headers: HeaderMap,
    Query(query): Query<HashMap<String, String>>,
    upgrade: WebSocketUpgrade,
) -> Response {
    let Some(who) = bearer(&headers) else { return problem(401, "unauthenticated") };
    let mut memory = node.memory.lock().unwrap();
    let fault = memory.faults.front().cloned();
    if let Some(Fault::Refuse(status, code)) = fault {
        memory.faults.pop_front();
        return problem(status, code);
    }
    let last_seen = query.get("last_seen_id").cloned();
    // Who comes back missed what it has not seen.
    let missed = if memory.resumes.is_empty() { Vec::new() } else { memory.messages.clone() };
    let unseen = |message: &Value| last_seen.as_deref().is_none_or(|seen| message["id"].as_str() > Some(seen));
    let missed: Vec<_> = missed.into_iter().filter(unseen).collect();
    memory.resumes.push(last_seen);
    drop(memory);
    node.note();
    let live = node.live.subscribe();
    upgrade.on_upgrade(move |socket| converse(socket, node, who, live, missed))
}

struct Talk {
    socket: WebSocket,
    frame_seq: u64,
}

impl Talk {
    async fn write(&mut self, mut frame: Value) {
        self.frame_seq += 1;
        frame["frame_seq"] = json!(self.frame_seq);
        let _ = self.socket.send(WsMessage::Text(frame.to_string().into())).await;
    }
}

async fn converse(
    socket: WebSocket,
    node: Node,
    who: (UserId, DeviceId),
    mut live: broadcast::Receiver<Value>,
    missed: Vec<Value>,
) {
    let mut talk = Talk { socket, frame_seq: 0 };
    talk.write(json!({"t": "hello", "connection_id": "c", "user_id": who.0.as_str(), "device_id": who.1.as_str(),
        "server_time": "2030-01-01T10:00:00.000Z", "ping_interval_s": 30}))
        .await;
    for message in missed {
        talk.write(framed("msg", message)).await;
    }
    talk.write(json!({"t": "caught_up"})).await;
    let fault = {
        let mut memory = node.memory.lock().unwrap();
        if let Some(Fault::Close(_)) = memory.faults.front() { memory.faults.pop_front() } else { None }
    };
    if let Some(Fault::Close(code)) = fault {
        let _ = talk.socket.send(WsMessage::Close(Some(CloseFrame { code, reason: "on purpose".into() }))).await;
        return;
    }
    loop {
        tokio::select! {
            frame = live.recv() => match frame {
                Ok(frame) => talk.write(frame).await,
                Err(_) => return,
            },
            frame = talk.socket.recv() => {
                let Some(Ok(WsMessage::Text(text))) = frame else { return };
                let frame: Value = serde_json::from_str(&text).unwrap();
                node.memory.lock().unwrap().frames.push(frame.clone());
                node.note();
                if frame["t"] == "send" && !answer(&mut talk, &node, &who, &frame).await {
                    return;
                }
            }
        }
    }
}

/// Answers a send; false when the connection is to break instead.
async fn answer(talk: &mut Talk, node: &Node, who: &(UserId, DeviceId), frame: &Value) -> bool {
    let fault = node.rest_fault();
    let request_id = frame["request_id"].clone();
    if let Some(Fault::Refuse(status, code)) = fault {
        node.memory.lock().unwrap().keys.push(frame["idempotency_key"].as_str().unwrap().to_owned());
        talk.write(json!({"t": "error", "request_id": request_id, "status": status, "code": code, "title": "No"}))
            .await;
        return true;
    }
    let crowd = |text: &str| {
        let body = json!({"client_seq": 1, "ciphertext": super::model::encoded(text)});
        commit(node, "bob", "phone", THREAD, &body)
    };
    match fault {
        Some(Fault::Crowd(count)) => {
            for _ in 0..count {
                talk.write(framed("msg", crowd("crowd"))).await;
            }
        }
        Some(Fault::Overtake) => drop(crowd("in front")),
        _ => {}
    }
    // Without a key the number of the message is what it is known by.
    let number = format!("{who:?} {} {}", frame["thread_id"], frame["client_seq"]);
    let key = frame["idempotency_key"].as_str().unwrap_or(&number);
    let (message, replayed) = commit_once(node, key, who, frame["thread_id"].as_str().unwrap(), frame);
    if matches!(fault, Some(Fault::LoseAnswer)) {
        return false;
    }
    let mut sent = framed("sent", message);
    sent["request_id"] = request_id;
    sent["replayed"] = json!(replayed);
    talk.write(sent).await;
    true
}
