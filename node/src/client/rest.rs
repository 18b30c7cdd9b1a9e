//! Typed REST calls.
//!
//! Owns: paths, headers, and the retry of a call at the next server.
//! Must not know: how a connection works.
//! Invariants: every POST carries an `Idempotency-Key`, the same at every try; a call ends by its deadline.

use super::address::Servers;
use super::backoff::{Backoff, Pause};
use super::error::{ClientError, Problem};
use super::http1::{Answer, Call, TransportError};
use super::model::{
    Draft, HistoryQuery, Message, MessagePage, NewThread, Recipient, RecipientList, Sent, Thread, ThreadPage,
    encode_query,
};
use super::pool::Pool;
use super::token::TokenSource;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method};
use messenger_proto::ids::{MessageId, ThreadId, UserId};
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
            .header(IDEMPOTENCY_KEY, key_value(&super::fresh_key())?);
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
        let call = Call::new(Method::POST, format!("/v1/threads/{thread}/messages"))
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
            .header(IDEMPOTENCY_KEY, key_value(&super::fresh_key())?);
        self.call(call).await.map(drop)
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

fn key_value(key: &str) -> Result<HeaderValue, ClientError> {
    HeaderValue::from_str(key).map_err(|_| ClientError::Protocol("the idempotency key is no header value".into()))
}

fn to_json<T: Serialize>(value: &T) -> Result<Vec<u8>, ClientError> {
    serde_json::to_vec(value).map_err(|e| ClientError::Protocol(e.to_string()))
}

fn from_json<T: DeserializeOwned>(answer: &Answer) -> Result<T, ClientError> {
    serde_json::from_slice(&answer.body).map_err(|e| ClientError::Protocol(e.to_string()))
}
