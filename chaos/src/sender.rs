//! A device that sends, through one node after another, and knows what it was told.
//!
//! Owns: retrying one message with the same keys until it is acknowledged or given up, by REST and over a socket.
//! Must not know: faults, or what others do.
//! Invariants: a message is never given up as refused unless every attempt was surely without effect; every wait ends.

use crate::actors::Stage;
use crate::history::{Clock, Origin, Outcome, Send, Thread};
use messenger_tests::cluster::Cluster;
use messenger_tests::device::{Device, base64};
use messenger_tests::socket::{Next, Socket, handshake};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::time::Duration;

/// How long a sender insists on one message.
const INSIST: Duration = Duration::from_secs(90);
/// How long one attempt over a socket may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(25);
/// How often a sender gives up at the first doubt, as a user might who closes the app.
const FAINT_HEARTED: f64 = 0.2;
/// How often a message that was acknowledged is sent once more, as if the answer had been lost.
const FORGETFUL: f64 = 0.05;

/// Of the frames it is not waiting for, a sender acknowledges every so many.
const ACK_EVERY: u64 = 20;

/// What one attempt came to.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Attempt {
    Accepted {
        id: String,
        seq: u64,
    },
    /// Refused before it was proposed.
    NoEffect,
    /// Nobody knows.
    Doubt,
}

/// A sending device.
pub struct Sender {
    through: Vec<Device>,
    at: usize,
    /// The open connection, for a device that sends over one.
    socket: Option<Socket>,
    over_socket: bool,
    random: StdRng,
    clock: Clock,
}

impl Sender {
    /// A device of `user`; whether it sends over sockets is drawn.
    #[must_use]
    pub fn new(cluster: &Cluster, user: &str, random: StdRng, clock: Clock) -> Self {
        Self::of(cluster, user, "hand", random, clock)
    }

    /// The same, by the device's name: two that send at once have different ones.
    #[must_use]
    pub fn of(cluster: &Cluster, user: &str, device: &str, mut random: StdRng, clock: Clock) -> Self {
        let device = cluster.device(1, user, device);
        let through = cluster.nodes().map(|node| device.at(cluster.client_addr(node))).collect();
        let over_socket = random.random_bool(0.5);
        Self { through, at: 0, socket: None, over_socket, random, clock }
    }

    /// Sends to random threads, one message after the other, until told to stop; what came of each.
    pub async fn run(mut self, threads: &[Thread], stage: &Stage) -> Vec<Send> {
        let mut sends = Vec::new();
        for client_seq in 1.. {
            if !stage.goes_on() {
                break;
            }
            let thread = &threads[self.random.random_range(0..threads.len())];
            let sent = self.send(thread, client_seq).await;
            if matches!(sent.outcome, Outcome::Accepted { .. }) {
                stage.count();
            }
            sends.push(sent);
        }
        sends
    }

    /// Sends one message until that has come to an end.
    pub async fn send(&mut self, thread: &str, client_seq: u64) -> Send {
        let Device { user, device, .. } = &self.through[0];
        let origin = Origin { user: user.clone(), device: device.clone(), client_seq };
        let body = format!("{} {client_seq}", origin.user);
        let key = uuid(&mut self.random);
        let faint_hearted = self.random.random_bool(FAINT_HEARTED);
        self.at = self.random.random_range(0..self.through.len());
        let began = self.clock.now();
        let deadline = tokio::time::Instant::now() + INSIST;
        let mut doubt = false;
        let outcome = loop {
            match self.attempt(thread, &key, client_seq, &body).await {
                Attempt::Accepted { id, seq } => break Outcome::Accepted { id, seq },
                Attempt::NoEffect => {}
                Attempt::Doubt => doubt = true,
            }
            if (doubt && faint_hearted) || tokio::time::Instant::now() > deadline {
                break if doubt { Outcome::Unknown } else { Outcome::Refused };
            }
            self.at = (self.at + 1) % self.through.len();
            self.socket = None;
            tokio::time::sleep(PAUSE).await;
        };
        let ended = self.clock.now();
        if let Outcome::Accepted { id, seq } = &outcome
            && self.random.random_bool(FORGETFUL)
        {
            self.at = (self.at + 1) % self.through.len();
            self.socket = None;
            if let Attempt::Accepted { id: again, seq: seq_again } = self.attempt(thread, &key, client_seq, &body).await
            {
                assert_eq!((&again, seq_again), (id, *seq), "a repeat is answered as the first");
            }
        }
        Send { thread: thread.to_owned(), origin, body, began, ended, outcome }
    }

    async fn attempt(&mut self, thread: &str, key: &str, client_seq: u64, body: &str) -> Attempt {
        if self.over_socket {
            self.attempt_over_socket(thread, key, client_seq, body).await
        } else {
            self.attempt_by_post(thread, key, client_seq, body).await
        }
    }

    async fn attempt_by_post(&self, thread: &str, key: &str, client_seq: u64, body: &str) -> Attempt {
        let Ok(answer) = self.through[self.at].try_send(thread, key, client_seq, body).await else {
            return Attempt::Doubt;
        };
        outcome_of(answer.status.as_u16(), &answer.json())
    }

    async fn attempt_over_socket(&mut self, thread: &str, key: &str, client_seq: u64, body: &str) -> Attempt {
        let device = &self.through[self.at];
        let socket = match &mut self.socket {
            Some(socket) => socket,
            closed => {
                let addr = device.http.addr();
                let request = handshake(addr, &format!("device_id={}", device.device), Some(&device.token));
                match Socket::try_open(addr, request).await {
                    Ok(opened) => closed.insert(opened),
                    Err(_) => return Attempt::NoEffect,
                }
            }
        };
        let frame = json!({"t": "send", "request_id": key, "idempotency_key": key, "thread_id": thread,
            "client_seq": client_seq, "ciphertext": base64(body)});
        if !socket.try_say(&frame).await {
            return Attempt::Doubt;
        }
        let deadline = tokio::time::Instant::now() + ATTEMPT;
        loop {
            let left = deadline.saturating_duration_since(tokio::time::Instant::now());
            match socket.next_within(left).await {
                Next::Frame(frame) if frame["request_id"] == key => {
                    let status = if frame["t"] == "sent" { 202 } else { frame["status"].as_u64().unwrap_or(0) };
                    return outcome_of(u16::try_from(status).unwrap_or(0), &frame);
                }
                Next::Frame(frame) => {
                    // Or all of it would come again on the next connection.
                    let number = frame["frame_seq"].as_u64().unwrap_or(0);
                    if number % ACK_EVERY == 0 {
                        socket.try_say(&json!({"t": "client_ack", "frame_seq": number})).await;
                    }
                }
                Next::Closed(_) | Next::Silence => return Attempt::Doubt,
            }
        }
    }
}

fn outcome_of(status: u16, body: &Value) -> Attempt {
    match (status, body["code"].as_str()) {
        (202, _) => Attempt::Accepted {
            id: body["id"].as_str().expect("an accepted message has an id").to_owned(),
            seq: body["seq"].as_u64().expect("an accepted message has a number"),
        },
        (503, Some("unavailable" | "overloaded")) => Attempt::NoEffect,
        (503, Some("outcome_unknown")) | (500, _) => Attempt::Doubt,
        _ => panic!("a send was answered {status}: {body}"),
    }
}

fn uuid(random: &mut StdRng) -> String {
    format!("{:032x}", random.random::<u128>())
}
