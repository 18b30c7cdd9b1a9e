//! Closed-loop sends over REST.
//!
//! Owns: one keep-alive connection per sender.
//! Must not know: how results are reported.

use super::fleet::{Fleet, FleetError, Member};
use super::load::{Failure, Plan, Progress, Sender, closed_loop, on_own_thread};
use super::payload::Payload;
use super::report::SendReport;
use bytes::Bytes;
use http::header::AUTHORIZATION;
use http::{HeaderName, HeaderValue, Method};
use messenger_client::{Call, Connection, Problem, ServerUrl, TransportError};
use std::fmt::Write;
use std::time::Duration;
use tokio::time::timeout;

/// Of one try.
const LIMIT: Duration = Duration::from_secs(10);

struct RestSender {
    server: ServerUrl,
    /// Tried instead, in turn, while the own one fails.
    others: Vec<ServerUrl>,
    failures: usize,
    connection: Option<Connection>,
    calls: Vec<Call>,
    run: String,
    number: u64,
    payload: Payload,
    ready: bool,
}

impl RestSender {
    fn new(run: &str, at: usize, member: Member, others: Vec<ServerUrl>, payload: usize) -> Self {
        let call = |thread| {
            Call::new(Method::POST, format!("/v1/threads/{thread}/messages"))
                .header(HeaderName::from_static("idempotency-key"), HeaderValue::from_static(""))
                .header(AUTHORIZATION, authorization(&member.token))
        };
        let calls = member.threads.iter().map(call).collect();
        let run = format!("{run}-{at}");
        let payload = Payload::new(payload);
        let server = member.server;
        Self { server, others, failures: 0, connection: None, calls, run, number: 0, payload, ready: false }
    }

    /// Writes the current message's body and key, the same for every try of it.
    fn prepare(&mut self) -> usize {
        let at = (self.number as usize) % self.calls.len().max(1);
        if !self.ready {
            let mut body = String::with_capacity(400);
            // Writing to a String cannot fail.
            let _ = write!(body, r#"{{"client_seq":{},"ciphertext":""#, self.number);
            self.payload.append_base64(&mut body);
            body.push_str("\"}");
            let key = HeaderValue::from_str(&format!("{}-{}", self.run, self.number));
            let call = &mut self.calls[at];
            call.body = Bytes::from(body);
            call.headers[0].1 = key.unwrap_or(HeaderValue::from_static("never"));
            self.ready = true;
        }
        at
    }

    async fn exchange(&mut self, at: usize) -> Result<(u16, Bytes), TransportError> {
        if !self.connection.as_ref().is_some_and(Connection::usable) {
            let server = match self.failures {
                0 => &self.server,
                failures => &self.others[failures % self.others.len()],
            };
            self.connection = Some(Connection::open(server, LIMIT).await?);
        }
        match &mut self.connection {
            Some(connection) => connection.exchange(&self.calls[at]).await.map(|answer| (answer.status, answer.body)),
            None => Err(TransportError::NotSent("no connection".into())),
        }
    }
}

fn authorization(token: &str) -> HeaderValue {
    HeaderValue::from_str(&format!("Bearer {token}")).expect("a minted token is base64url and dots")
}

impl Sender for RestSender {
    async fn send_one(&mut self) -> Result<(), Failure> {
        let at = self.prepare();
        let outcome = timeout(LIMIT, self.exchange(at)).await;
        let failure = match outcome {
            Ok(Ok((200..300, _))) => {
                self.number += 1;
                self.ready = false;
                return Ok(());
            }
            Ok(Ok((status, body))) => {
                let problem = Problem::from_answer(status, None, &body);
                Failure { again: problem.retryable(), code: problem.code }
            }
            Ok(Err(TransportError::NotSent(_))) => Failure { code: "unreachable".into(), again: true },
            Ok(Err(TransportError::Lost(_))) => Failure { code: "connection_lost".into(), again: true },
            Err(_) => Failure { code: "timed_out".into(), again: true },
        };
        self.connection = None;
        self.failures += 1;
        if !failure.again {
            self.number += 1;
            self.ready = false;
        }
        Err(failure)
    }
}

/// Sends messages over REST.
///
/// # Errors
/// [`FleetError`] when the load cannot be run.
pub async fn send_rest(fleet: Fleet, payload: usize, plan: Plan, progress: Progress) -> Result<SendReport, FleetError> {
    let clients = fleet.members.len();
    let servers = fleet.servers.clone();
    let run = on_own_thread(move || {
        let senders = fleet.members.into_iter().enumerate();
        let senders =
            senders.map(|(at, member)| RestSender::new(&fleet.run, at, member, servers.clone(), payload)).collect();
        closed_loop(senders, plan, progress)
    })
    .await?;
    Ok(SendReport::new("messenger", "rest", clients, payload, &run))
}
