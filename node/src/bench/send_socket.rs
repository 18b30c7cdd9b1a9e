//! Closed-loop sends over the realtime socket.
//!
//! Owns: one socket per sender, which also reads and acknowledges what it is sent, as any device does.
//! Must not know: how results are reported.

use super::fleet::{Fleet, FleetError, Member};
use super::load::{Failure, Plan, Progress, Sender, closed_loop, on_own_thread};
use super::payload::Payload;
use super::report::SendReport;
use messenger_client::{ClientFrame, CloseReason, Problem, ServerUrl, Socket, SocketConfig};
use messenger_proto::ids::MessageId;
use serde::Deserialize;
use std::borrow::Cow;
use std::fmt::Write;
use std::time::Duration;
use tokio::time::timeout;

/// Of one try.
const LIMIT: Duration = Duration::from_secs(10);
/// Frames that are acknowledged together.
const ACK_EVERY: u64 = 128;

#[derive(Deserialize)]
struct Answers<'a> {
    #[serde(default, borrow)]
    request_id: Option<Cow<'a, str>>,
}

/// A frame's `t`; reads no further than it must when that comes first, or next to `frame_seq`.
pub(super) fn kind(text: &str) -> Cow<'_, str> {
    #[derive(Deserialize)]
    struct Kind<'a> {
        #[serde(borrow)]
        t: Cow<'a, str>,
    }
    let digit = |c: char| c.is_ascii_digit();
    let members = text.strip_prefix(r#"{"frame_seq":"#).map(|rest| rest.trim_start_matches(digit));
    let first = members.map_or_else(|| text.strip_prefix('{'), |rest| rest.strip_prefix(','));
    // No kind has a character that JSON escapes.
    if let Some((t, _)) = first.and_then(|rest| rest.strip_prefix(r#""t":""#)).and_then(|rest| rest.split_once('"')) {
        return Cow::Borrowed(t);
    }
    serde_json::from_str::<Kind<'_>>(text).map_or(Cow::Borrowed(""), |kind| kind.t)
}

/// A socket and how many frames it has read.
pub(super) struct Counted {
    pub(super) socket: Socket,
    frames: u64,
    acked: u64,
}

impl Counted {
    pub(super) fn new(socket: Socket) -> Self {
        Self { socket, frames: 0, acked: 0 }
    }

    /// The next frame's text, with pings answered and acknowledgements written now and then.
    pub(super) async fn next(&mut self) -> Result<tokio_tungstenite::tungstenite::Utf8Bytes, CloseReason> {
        loop {
            let text = self.socket.next_text().await?;
            self.frames += 1;
            if self.frames - self.acked >= ACK_EVERY {
                self.ack().await?;
            }
            if kind(&text) == "ping" {
                self.socket.send(&ClientFrame::Pong).await?;
            } else {
                return Ok(text);
            }
        }
    }

    /// Acknowledges all that was read.
    pub(super) async fn ack(&mut self) -> Result<(), CloseReason> {
        if self.frames > self.acked {
            self.acked = self.frames;
            self.socket.send(&ClientFrame::ClientAck { frame_seq: self.frames }).await?;
        }
        Ok(())
    }
}

struct SocketSender {
    member: Member,
    others: Vec<ServerUrl>,
    failures: usize,
    socket: Option<Counted>,
    last_seen: Option<MessageId>,
    number: u64,
    payload: Payload,
    frame: String,
}

impl SocketSender {
    fn prepare(&mut self) {
        if self.frame.is_empty() {
            let thread = self.member.threads[(self.number as usize) % self.member.threads.len()];
            let number = self.number;
            // Writing to a String cannot fail.
            let _ = write!(
                self.frame,
                r#"{{"t":"send","request_id":"{number}","thread_id":"{thread}","client_seq":{number},"ciphertext":""#
            );
            self.payload.append_base64(&mut self.frame);
            self.frame.push_str("\"}");
        }
    }

    async fn exchange(&mut self) -> Result<(), Failure> {
        if self.socket.is_none() {
            let server = match self.failures {
                0 => self.member.server.clone(),
                failures => self.others[failures % self.others.len()].clone(),
            };
            let (token, device) = (self.member.token.clone(), self.member.device.clone());
            let config = SocketConfig { server, token, device, last_seen: self.last_seen, limit: LIMIT };
            let socket = Socket::connect(&config).await;
            let socket = socket.map_err(|e| Failure { code: e.code().to_owned(), again: true })?;
            self.socket = Some(Counted::new(socket));
        }
        let lost = |reason: CloseReason| Failure {
            code: reason.code.map_or_else(|| "connection_lost".into(), |code| format!("closed_{code}")),
            again: true,
        };
        let Some(socket) = &mut self.socket else {
            return Err(Failure { code: "unreachable".into(), again: true });
        };
        socket.socket.send_text(self.frame.as_str()).await.map_err(lost)?;
        let number = self.number;
        loop {
            let text = socket.next().await.map_err(lost)?;
            // The sender's own device is shown its message like any other; its content is of no interest here.
            let kind = kind(&text);
            if !matches!(kind.as_ref(), "sent" | "error") {
                continue;
            }
            let answers: Result<Answers<'_>, _> = serde_json::from_str(&text);
            if answers.is_ok_and(|answers| answers.request_id.is_some_and(|id| id.parse() != Ok(number))) {
                continue;
            }
            match kind.as_ref() {
                "sent" => return Ok(()),
                "error" => {
                    let problem = Problem::parse(text.as_bytes());
                    let (code, again) = problem.map_or(("protocol".into(), false), |p| (p.code.clone(), p.retryable()));
                    return Err(Failure { code, again });
                }
                _ => {}
            }
        }
    }
}

impl Sender for SocketSender {
    async fn send_one(&mut self) -> Result<(), Failure> {
        self.prepare();
        let outcome = timeout(LIMIT, self.exchange()).await;
        let outcome = outcome.unwrap_or_else(|_| Err(Failure { code: "timed_out".into(), again: true }));
        let refused = matches!(&outcome, Err(failure) if !failure.again);
        if outcome.is_ok() || refused {
            self.number += 1;
            self.frame.clear();
        } else {
            self.failures += 1;
            self.socket = None;
        }
        outcome
    }
}

/// Sends messages over sockets.
///
/// # Errors
/// [`FleetError`] when the load cannot be run.
pub async fn send_socket(
    fleet: Fleet,
    payload: usize,
    plan: Plan,
    progress: Progress,
) -> Result<SendReport, FleetError> {
    let clients = fleet.members.len();
    let servers = fleet.servers.clone();
    let run = on_own_thread(move || {
        let sender = |member| SocketSender {
            member,
            others: servers.clone(),
            failures: 0,
            socket: None,
            last_seen: None,
            number: 0,
            payload: Payload::new(payload),
            frame: String::new(),
        };
        closed_loop(fleet.members.into_iter().map(sender).collect(), plan, progress)
    })
    .await?;
    Ok(SendReport::new("messenger", "socket", clients, payload, &run))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_found_wherever_it_stands() {
        assert_eq!(kind(r#"{"t":"msg","id":1}"#), "msg");
        assert_eq!(kind(r#"{"frame_seq":12,"t":"ping"}"#), "ping");
        assert_eq!(kind(r#"{"frame_seq":12,"id":"t","t":"gap"}"#), "gap");
        assert_eq!(kind(r#"{ "id":1, "t" : "sent" }"#), "sent");
        assert_eq!(kind("[]"), "");
    }
}
