//! Typed REST calls.
//!
//! Owns: paths, headers, and the retry of a call at the next server.
//! Must not know: how a connection works.
//! Invariants: every POST carries an `Idempotency-Key`, the same at every try; a call ends by its deadline.

use crate::address::Servers;
use crate::backoff::{Backoff, Pause};
use crate::devices::{Bundles, Device, DeviceList, KeyCounts, PublishKeys};
use crate::error::{ClientError, Problem};
use crate::http1::{Answer, Call, TransportError};
use crate::model::{
    BlockList, Content, Draft, HistoryQuery, Message, MessagePage, NewThread, Recipient, RecipientList, Sent, Thread,
    ThreadPage, encode_query,
};
use crate::pool::Pool;
use crate::token::TokenSource;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method};
use messenger_proto::ids::{DeviceId, MessageId, ThreadId, UserId};
use serde::Serialize;
use serde::de::DeserializeOwned;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, sleep_until, timeout_at};

/// The header that makes a POST safe to repeat.
pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");
/// The header of an answer that repeats an earlier one.
const REPLAYED: &str = "idempotent-replayed";

/// How a [`Rest`] client behaves.
#[derive(Debug, Clone)]
pub struct RestConfig {
    /// Any nodes of one cluster.
    pub servers: Servers,
    /// Whose calls these are.
    pub token: TokenSource,
    /// A call ends after this, however many tries it took.
    pub deadline: Duration,
    /// One try ends after this; the next server is asked.
    pub attempt: Duration,
    /// Between tries.
    pub pause: Pause,
}

impl RestConfig {
    /// The usual: 15 s in all, 5 s a try.
    #[must_use]
    pub fn new(servers: Servers, token: TokenSource) -> Self {
        Self {
            servers,
            token,
            deadline: Duration::from_secs(15),
            attempt: Duration::from_secs(5),
            pause: Pause::default(),
        }
    }
}

struct Inner {
    config: RestConfig,
    pool: Pool,
    authorization: Mutex<Option<HeaderValue>>,
}

/// One user's calls to a cluster; clones share connections.
#[derive(Clone)]
pub struct Rest {
    inner: Arc<Inner>,
}

impl Rest {
    /// A client; connects when it is first used.
    #[must_use]
    pub fn new(config: RestConfig) -> Self {
        let pool = Pool::new(&config.servers, config.attempt);
        Self { inner: Arc::new(Inner { config, pool, authorization: Mutex::new(None) }) }
    }

    /// Creates a thread, or finds the one of the pair.
    ///
    /// # Errors
    /// [`ClientError`], as every call here.
    pub async fn create_thread(&self, thread: &NewThread, key: &str) -> Result<Thread, ClientError> {
        let call =
            Call::new(Method::POST, "/v1/threads").body(to_json(thread)?).header(IDEMPOTENCY_KEY, key_value(key)?);
        from_json(&self.call(call).await?)
    }

    /// A thread.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn thread(&self, thread: ThreadId) -> Result<Thread, ClientError> {
        from_json(&self.call(Call::new(Method::GET, format!("/v1/threads/{thread}"))).await?)
    }

    /// A page of the viewer's threads.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn threads(&self, page_size: Option<u32>, cursor: Option<&str>) -> Result<ThreadPage, ClientError> {
        let query = HistoryQuery { page_size, cursor: cursor.map(str::to_owned), ..HistoryQuery::default() };
        from_json(&self.call(Call::new(Method::GET, format!("/v1/threads{}", query.to_query()))).await?)
    }

    /// Invites users to a group.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn add_participants(&self, thread: ThreadId, users: &[UserId]) -> Result<Thread, ClientError> {
        let users: Vec<&str> = users.iter().map(UserId::as_str).collect();
        let call = Call::new(Method::POST, format!("/v1/threads/{thread}/participants"))
            .body(to_json(&serde_json::json!({ "user_ids": users }))?)
            .header(IDEMPOTENCY_KEY, key_value(&crate::fresh_key())?);
        from_json(&self.call(call).await?)
    }

    /// Removes a user, or leaves.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn remove_participant(&self, thread: ThreadId, user: &UserId) -> Result<(), ClientError> {
        let mut path = format!("/v1/threads/{thread}/participants/");
        encode_query(user.as_str(), &mut path);
        self.call(Call::new(Method::DELETE, path)).await.map(drop)
    }

    /// Sends a message; comes back when it is committed.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(&self, thread: ThreadId, draft: &Draft) -> Result<Sent, ClientError> {
        let allowing = if draft.allow_mismatch { "?allow_mismatch=true" } else { "" };
        let call = Call::new(Method::POST, format!("/v1/threads/{thread}/messages{allowing}"))
            .body(to_json(draft)?)
            .header(IDEMPOTENCY_KEY, key_value(&draft.key)?);
        let answer = self.call(call).await?;
        Ok(Sent { message: from_json(&answer)?, replayed: answer.header(REPLAYED) == Some("true") })
    }

    /// A page of a thread's history.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn messages(&self, thread: ThreadId, query: &HistoryQuery) -> Result<MessagePage, ClientError> {
        let target = format!("/v1/threads/{thread}/messages{}", query.to_query());
        from_json(&self.call(Call::new(Method::GET, target)).await?)
    }

    /// One message.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn message(&self, message: MessageId) -> Result<Message, ClientError> {
        from_json(&self.call(Call::new(Method::GET, format!("/v1/messages/{message}"))).await?)
    }

    /// Where a message stands for each recipient.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn recipients(&self, message: MessageId) -> Result<Vec<Recipient>, ClientError> {
        let answer = self.call(Call::new(Method::GET, format!("/v1/messages/{message}/recipients"))).await?;
        from_json::<RecipientList>(&answer).map(|list| list.recipients)
    }

    /// Moves the viewer's read mark.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn mark_read(&self, thread: ThreadId, up_to: MessageId) -> Result<(), ClientError> {
        let call = Call::new(Method::POST, format!("/v1/threads/{thread}/read"))
            .body(to_json(&serde_json::json!({ "up_to_msg_id": up_to.to_string() }))?)
            .header(IDEMPOTENCY_KEY, key_value(&crate::fresh_key())?);
        self.call(call).await.map(drop)
    }

    /// Edits a message of the viewer's own.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn edit(&self, message: MessageId, content: &Content) -> Result<Message, ClientError> {
        let call = Call::new(Method::PATCH, format!("/v1/messages/{message}")).body(to_json(content)?);
        from_json(&self.call(call).await?)
    }

    /// Deletes a message of the viewer's own.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn delete(&self, message: MessageId) -> Result<(), ClientError> {
        self.call(Call::new(Method::DELETE, format!("/v1/messages/{message}"))).await.map(drop)
    }

    /// Puts an emoji on a message.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn react(&self, message: MessageId, emoji: &str) -> Result<Message, ClientError> {
        let call = Call::new(Method::POST, format!("/v1/messages/{message}/reactions"))
            .body(to_json(&serde_json::json!({ "emoji": emoji }))?)
            .header(IDEMPOTENCY_KEY, key_value(&crate::fresh_key())?);
        from_json(&self.call(call).await?)
    }

    /// Takes an emoji of the viewer's off a message.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn unreact(&self, message: MessageId, emoji: &str) -> Result<(), ClientError> {
        let path = format!("/v1/messages/{message}/reactions/{}", encoded(emoji));
        self.call(Call::new(Method::DELETE, path)).await.map(drop)
    }

    /// Keeps a user away from the viewer, or lets it near again.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn set_block(&self, user: &UserId, blocked: bool) -> Result<(), ClientError> {
        let method = if blocked { Method::PUT } else { Method::DELETE };
        let path = format!("/v1/users/me/blocks/{}", encoded(user.as_str()));
        self.call(Call::new(method, path)).await.map(drop)
    }

    /// Whom the viewer keeps away.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn blocks(&self) -> Result<Vec<String>, ClientError> {
        from_json::<BlockList>(&self.call(Call::new(Method::GET, "/v1/users/me/blocks")).await?).map(|list| list.blocks)
    }

    /// A user's devices that have keys published.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn devices(&self, user: &UserId) -> Result<Vec<Device>, ClientError> {
        let path = format!("/v1/users/{}/devices", encoded(user.as_str()));
        from_json::<DeviceList>(&self.call(Call::new(Method::GET, path)).await?).map(|list| list.devices)
    }

    /// Publishes the keys of the token's own device. Doing it again with the same keys changes nothing.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn publish_keys(&self, device: &DeviceId, keys: &PublishKeys) -> Result<KeyCounts, ClientError> {
        let call = Call::new(Method::PUT, own_keys(device)).body(to_json(keys)?);
        from_json(&self.call(call).await?)
    }

    /// How many one-time keys a device of the viewer's has left.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn key_counts(&self, device: &DeviceId) -> Result<KeyCounts, ClientError> {
        from_json(&self.call(Call::new(Method::GET, own_keys(device))).await?)
    }

    /// Takes what it needs to write to a user's devices, or to one of them; under one key the same at every try.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn take_keys(&self, user: &UserId, device: Option<&DeviceId>, key: &str) -> Result<Bundles, ClientError> {
        let mut path = format!("/v1/users/{}/prekeys", encoded(user.as_str()));
        if let Some(device) = device {
            path.push_str("?device_id=");
            encode_query(device.as_str(), &mut path);
        }
        from_json(&self.call(Call::new(Method::GET, path).header(IDEMPOTENCY_KEY, key_value(key)?)).await?)
    }

    /// Any request, with this client's token, tried at one server after the other until it succeeds, is refused for
    /// good, or the deadline has come. The answer is a success.
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn call(&self, call: Call) -> Result<Answer, ClientError> {
        let config = &self.inner.config;
        let deadline = Instant::now() + config.deadline;
        let mut backoff = Backoff::new(config.pause, config.servers.count());
        let mut renewed = false;
        let mut unsure = false;
        loop {
            let at = config.servers.favourite();
            let authorized = call.clone().header(AUTHORIZATION, self.authorization()?);
            let error = match self.attempt(at, &authorized, deadline).await {
                Ok(answer) if answer.is_success() => return Ok(answer),
                Ok(answer) => {
                    let problem = Problem::from_answer(answer.status, answer.retry_after(), &answer.body);
                    if problem.status == 401 && config.token.renews() && !renewed {
                        renewed = true;
                        self.forget_token();
                        continue;
                    }
                    ClientError::Refused(Box::new(problem))
                }
                Err(error) => error,
            };
            if !error.retryable() {
                return Err(error);
            }
            unsure |= error.may_have_had_effects();
            config.servers.move_on(at);
            let asked = error.problem().and_then(|problem| problem.retry_after).unwrap_or_default();
            // With another server to ask there is no need to wait as long as this one would like.
            let pause =
                if config.servers.count() > 1 { backoff.next_random() } else { asked.max(backoff.next_random()) };
            if Instant::now() + pause >= deadline {
                return Err(if unsure { ClientError::TimedOut(config.deadline) } else { error });
            }
            sleep_until(Instant::now() + pause).await;
        }
    }

    /// One try at one server, answered whatever the status, with no token but what the call names itself: for tests
    /// of what a node says to bad input.
    ///
    /// # Errors
    /// [`ClientError`] when there is no answer.
    pub async fn raw(&self, server: usize, call: &Call) -> Result<Answer, ClientError> {
        self.attempt(server, call, Instant::now() + self.inner.config.deadline).await
    }

    async fn attempt(&self, at: usize, call: &Call, deadline: Instant) -> Result<Answer, ClientError> {
        let config = &self.inner.config;
        let server = config.servers.at(at);
        let until = deadline.min(Instant::now() + config.attempt);
        match timeout_at(until, self.inner.pool.exchange(server, call)).await {
            Err(_) => Err(ClientError::TimedOut(config.attempt)),
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(TransportError::NotSent(reason))) => {
                Err(ClientError::Unreachable { server: server.to_string(), reason })
            }
            Ok(Err(TransportError::Lost(reason))) => Err(ClientError::Lost { server: server.to_string(), reason }),
        }
    }

    fn authorization(&self) -> Result<HeaderValue, ClientError> {
        let mut kept = self.inner.authorization.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(value) = kept.as_ref() {
            return Ok(value.clone());
        }
        let token = self.inner.config.token.token().map_err(|e| ClientError::Token(e.to_string()))?;
        let value = bearer(&token)?;
        *kept = Some(value.clone());
        Ok(value)
    }

    fn forget_token(&self) {
        *self.inner.authorization.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }
}

/// The `Authorization` header of a token.
pub(crate) fn bearer(token: &str) -> Result<HeaderValue, ClientError> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}"))
        .map_err(|_| ClientError::Token("it holds characters no header can".into()))?;
    value.set_sensitive(true);
    Ok(value)
}

fn own_keys(device: &DeviceId) -> String {
    format!("/v1/users/me/devices/{}/prekeys", encoded(device.as_str()))
}

fn encoded(segment: &str) -> String {
    let mut text = String::new();
    encode_query(segment, &mut text);
    text
}

fn key_value(key: &str) -> Result<HeaderValue, ClientError> {
    HeaderValue::from_str(key).map_err(|_| ClientError::Protocol("the idempotency key is no header value".into()))
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(value).map_err(|e| ClientError::Protocol(e.to_string()))
}

fn from_json<T: DeserializeOwned>(answer: &Answer) -> Result<T, ClientError> {
    serde_json::from_slice(&answer.body).map_err(|e| ClientError::Protocol(e.to_string()))
}
