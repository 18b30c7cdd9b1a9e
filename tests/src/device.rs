//! A user's device: the API's routes, as a client calls them.
//!
//! Owns: the routes' paths and the shape of their requests.
//! Must not know: which node owns what; a device talks to whichever node it was given.

use crate::http::{Answer, Http, NoAnswer};
use crate::ledger::Ledger;
use crate::socket::Socket;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::Method;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// A device of a user, and the node it talks to.
#[derive(Debug)]
pub struct Device {
    /// Its user.
    pub user: String,
    /// Its own id.
    pub device: String,
    /// Its bearer token.
    pub token: String,
    /// Its node.
    pub http: Http,
    client_seq: AtomicU64,
}

/// A binary text as the API writes it.
#[must_use]
pub fn base64(text: &str) -> String {
    STANDARD.encode(text)
}

/// What [`base64`] was made from.
///
/// # Panics
/// When it was made from something else.
#[must_use]
#[track_caller]
pub fn text_of(message: &Value) -> String {
    let ciphertext = message["ciphertext"].as_str().unwrap_or_else(|| panic!("no ciphertext in {message}"));
    String::from_utf8(STANDARD.decode(ciphertext).expect("ciphertext is base64")).expect("the suites send texts")
}

/// A user id that no other test uses.
#[must_use]
pub fn unique(name: &str) -> String {
    format!("{name}-{}", uuid::Uuid::new_v4().simple())
}

/// The ids of some messages, in their order.
#[must_use]
#[track_caller]
pub fn ids(messages: &[Value]) -> Vec<String> {
    messages.iter().map(|message| text(message, "id")).collect()
}

/// A member of a JSON object that is a text.
///
/// # Panics
/// When it is not.
#[must_use]
#[track_caller]
pub fn text(value: &Value, member: &str) -> String {
    value[member].as_str().unwrap_or_else(|| panic!("no text {member} in {value}")).to_owned()
}

/// A member of a JSON object that is a whole number.
///
/// # Panics
/// When it is not.
#[must_use]
#[track_caller]
pub fn number(value: &Value, member: &str) -> u64 {
    value[member].as_u64().unwrap_or_else(|| panic!("no number {member} in {value}"))
}

impl Device {
    /// A device that talks to the node at `addr`.
    #[must_use]
    pub fn new(addr: SocketAddr, user: &str, device: &str, token: String) -> Self {
        Self {
            user: user.to_owned(),
            device: device.to_owned(),
            token,
            http: Http::new(addr),
            client_seq: AtomicU64::new(1),
        }
    }

    /// The same device, talking to another node.
    #[must_use]
    pub fn at(&self, addr: SocketAddr) -> Self {
        let client_seq = AtomicU64::new(self.client_seq.load(Ordering::Relaxed));
        Self {
            user: self.user.clone(),
            device: self.device.clone(),
            token: self.token.clone(),
            http: self.http.at(addr),
            client_seq,
        }
    }

    /// The same device, of which a ledger is kept.
    #[must_use]
    pub fn watched(self, ledger: &Arc<Ledger>) -> Self {
        let watch = ledger.watch(self.http.addr(), &self.user);
        Self { http: self.http.watched(watch), ..self }
    }

    /// A `client_seq` that this value never gave before.
    pub fn next_client_seq(&self) -> u64 {
        self.client_seq.fetch_add(1, Ordering::Relaxed)
    }

    /// Any request with this device's token.
    ///
    /// # Errors
    /// [`NoAnswer`] when there is none.
    pub async fn try_call(
        &self,
        method: Method,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Bytes>,
    ) -> Result<Answer, NoAnswer> {
        let authorization = format!("Bearer {}", self.token);
        let mut all = vec![("authorization", authorization.as_str())];
        all.extend_from_slice(headers);
        self.http.request(method, path, &all, body).await
    }

    /// A GET with this device's token.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn get(&self, path: &str) -> Answer {
        self.try_call(Method::GET, path, &[], Bytes::new()).await.expect("an answer")
    }

    /// A POST of JSON with this device's token.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn post(&self, path: &str, headers: &[(&str, &str)], body: &Value) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.try_call(Method::POST, path, &all, body.to_string()).await.expect("an answer")
    }

    /// A PATCH of JSON with this device's token.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn patch(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.try_call(Method::PATCH, path, &headers, body.to_string()).await.expect("an answer")
    }

    /// A PUT of JSON with this device's token.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn put(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.try_call(Method::PUT, path, &headers, body.to_string()).await.expect("an answer")
    }

    /// Publishes one-time keys with these numbers, and the rest that a publication needs, under a registration.
    pub async fn publish(&self, registration: u64, ids: impl IntoIterator<Item = u64>) -> Answer {
        let one_time: Vec<Value> = ids.into_iter().map(|id| self.prekey(registration, id)).collect();
        let mut signed = self.prekey(registration, 0);
        signed["signature"] = json!(base64("signature"));
        let body = json!({"registration_id": registration, "identity_key": base64(&self.device),
            "signed_prekey": signed, "one_time_prekeys": one_time});
        self.put(&format!("/v1/users/me/devices/{}/prekeys", self.device), &body).await
    }

    /// A public key that says whose it is.
    #[must_use]
    pub fn prekey(&self, registration: u64, id: u64) -> Value {
        json!({"key_id": id, "public_key": base64(&format!("{} {registration} {id}", self.device))})
    }

    /// A DELETE with this device's token.
    ///
    /// # Panics
    /// When there is no answer.
    pub async fn delete(&self, path: &str) -> Answer {
        self.try_call(Method::DELETE, path, &[], Bytes::new()).await.expect("an answer")
    }

    /// The one thread with another user, made if need be; its id.
    pub async fn one_to_one(&self, other: &str) -> String {
        let answer = self.post("/v1/threads", &[], &json!({"type": "1_TO_1", "participants": [other]})).await;
        assert!(matches!(answer.status.as_u16(), 200 | 201), "{answer:?}");
        text(&answer.json(), "id")
    }

    /// A new group; its id.
    pub async fn group(&self, title: &str, others: &[&str]) -> String {
        let body = json!({"type": "GROUP", "title": title, "participants": others});
        text(&self.post("/v1/threads", &[], &body).await.expect(201), "id")
    }

    /// Sends under a key and a number of the caller's choice.
    ///
    /// # Errors
    /// [`NoAnswer`] when there is none.
    pub async fn try_send(&self, thread: &str, key: &str, client_seq: u64, text: &str) -> Result<Answer, NoAnswer> {
        let body = json!({"client_seq": client_seq, "ciphertext": base64(text)});
        let headers = [("content-type", "application/json"), ("idempotency-key", key)];
        self.try_call(Method::POST, &format!("/v1/threads/{thread}/messages"), &headers, body.to_string()).await
    }

    /// Sends a text as a new message; the message.
    ///
    /// # Panics
    /// When it is not accepted.
    pub async fn send(&self, thread: &str, text: &str) -> Value {
        let key = uuid::Uuid::new_v4().to_string();
        self.try_send(thread, &key, self.next_client_seq(), text).await.expect("an answer").expect(202)
    }

    /// A thread's whole history, oldest first, page by page.
    pub async fn history(&self, thread: &str) -> Vec<Value> {
        let mut newest_first = Vec::new();
        let mut cursor = String::new();
        loop {
            let page = self.get(&format!("/v1/threads/{thread}/messages?page_size=100{cursor}")).await.expect(200);
            newest_first.extend(page["messages"].as_array().expect("a page holds messages").iter().cloned());
            match page["next_cursor"].as_str() {
                Some(next) => cursor = format!("&cursor={next}"),
                None => break,
            }
        }
        newest_first.reverse();
        newest_first
    }

    /// A thread.
    pub async fn thread(&self, thread: &str) -> Value {
        self.get(&format!("/v1/threads/{thread}")).await.expect(200)
    }

    /// A message's recipients.
    pub async fn recipients(&self, message: &str) -> Vec<Value> {
        let answer = self.get(&format!("/v1/messages/{message}/recipients")).await.expect(200);
        answer["recipients"].as_array().expect("recipients are a list").clone()
    }

    /// Marks a thread as read up to a message.
    pub async fn read(&self, thread: &str, up_to: &str) {
        let path = format!("/v1/threads/{thread}/read");
        let _nothing = self.post(&path, &[], &json!({"up_to_msg_id": up_to})).await.expect(204);
    }

    /// Opens this device's realtime connection.
    pub async fn connect(&self) -> Socket {
        self.connect_from(None).await
    }

    /// Opens this device's realtime connection, naming the last message it saw.
    pub async fn connect_from(&self, last_seen: Option<&str>) -> Socket {
        let mut query = format!("device_id={}", self.device);
        if let Some(id) = last_seen {
            query.push_str("&last_seen_id=");
            query.push_str(id);
        }
        let socket = Socket::open(self.http.addr(), &query, &self.token).await;
        match self.http.watch() {
            Some(watch) => socket.watched(watch.clone()),
            None => socket,
        }
    }
}
