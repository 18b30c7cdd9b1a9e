//! How long a message takes to reach an online device.
//!
//! Owns: senders at a fixed rate, receivers on other nodes, and the time between the two.
//! Must not know: how results are printed.
//! Invariants: the clock starts when a send begins, before anything is written; senders and receivers share one clock.

use super::fleet::{FleetError, device, run_name, user};
use super::load::{Progress, on_own_thread};
use super::payload::Payload;
use super::report::{Latencies, Recorder};
use super::send_socket::{Counted, kind};
use crate::dev_key::{DevKey, Grant};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use futures_util::{StreamExt, TryStreamExt, stream};
use messenger_client::{ClientFrame, Draft, NewThread, Rest, RestConfig, Servers, Socket, SocketConfig, fresh_key};
use messenger_proto::ids::{ClientSeq, DeviceId, ThreadId, UserId};
use serde::{Deserialize, Serialize};
use std::borrow::Cow;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, MissedTickBehavior, interval, sleep, sleep_until, timeout};

/// Of a handshake, and of one send.
const LIMIT: Duration = Duration::from_secs(10);
/// A receiver acknowledges this often.
const ACK_EVERY: Duration = Duration::from_millis(50);
/// How long stragglers are waited for.
const DRAIN: Duration = Duration::from_secs(3);
/// Nanoseconds since the run's start, at the front of each payload.
const STAMP: usize = 8;

/// What to run.
#[derive(Debug, Clone)]
pub struct Deliver {
    /// The nodes; a pair's sender and receiver use different ones.
    pub servers: Servers,
    /// Signs the tokens.
    pub key: DevKey,
    /// Messages a second, over all pairs.
    pub rate: u32,
    /// Sender and receiver pairs, each with a thread of its own.
    pub pairs: usize,
    /// Bytes of a message, at least 8.
    pub payload: usize,
    /// Whether senders use REST instead of the socket.
    pub rest: bool,
    /// Not measured.
    pub warmup: Duration,
    /// Measured.
    pub measured: Duration,
}

/// What it gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DeliverReport {
    /// `rest` or `socket`.
    pub transport: String,
    /// Asked for.
    pub rate: u32,
    /// Sender and receiver pairs.
    pub pairs: usize,
    /// Of each message.
    pub payload_bytes: usize,
    /// The measured window.
    pub seconds: f64,
    /// Begun within the window and acknowledged.
    pub sent: u64,
    /// Of those, how many arrived.
    pub received: u64,
    /// Acknowledged but not seen by the receiver.
    pub missing: u64,
    /// From the send's begin to the device.
    #[serde(flatten)]
    pub latencies: Latencies,
    /// How late the generator itself began, 99 % at most, in milliseconds: if this is large the machine was too busy.
    pub lag_p99_ms: f64,
    /// Failed sends, by code.
    pub errors: BTreeMap<String, u64>,
}

#[derive(Default)]
struct Tally {
    delivery: Recorder,
    lag: Recorder,
    sent: u64,
}

/// What all tasks of a run share.
struct Shared {
    origin: Instant,
    opens: Instant,
    ends: Instant,
    tally: RefCell<Tally>,
}

struct Pair {
    thread: ThreadId,
    sender: (UserId, DeviceId),
    receiver: (UserId, DeviceId),
}

/// Measures delivery.
///
/// # Errors
/// [`FleetError`] when the pairs cannot be set up.
pub async fn deliver(config: Deliver, progress: Progress) -> Result<DeliverReport, FleetError> {
    on_own_thread(move || run(config, progress)).await?
}

fn token(key: &DevKey, who: &(UserId, DeviceId)) -> Result<Arc<str>, FleetError> {
    Ok(key.mint(&Grant::full(who.0.clone(), who.1.clone()))?.into())
}

fn rest_of(config: &Deliver, who: &(UserId, DeviceId)) -> Rest {
    let token = config.key.clone().source(Grant::full(who.0.clone(), who.1.clone()));
    Rest::new(RestConfig { deadline: LIMIT, ..RestConfig::new(config.servers.clone(), token) })
}

async fn set_up(config: &Deliver) -> Result<Vec<Pair>, FleetError> {
    let run = run_name();
    let pair = |number: usize| {
        let run = &run;
        async move {
            let sender = (user(run, "s", number), device(0));
            let receiver = (user(run, "r", number), device(0));
            let new = NewThread::one_to_one(&receiver.0);
            let thread = rest_of(config, &sender).create_thread(&new, &fresh_key()).await?.id;
            Ok::<_, FleetError>(Pair { thread, sender, receiver })
        }
    };
    stream::iter((0..config.pairs).map(pair)).buffered(16).try_collect().await
}

async fn socket(config: &Deliver, at: usize, who: &(UserId, DeviceId)) -> Result<Counted, FleetError> {
    let server = config.servers.at(at).clone();
    let token = token(&config.key, who)?;
    let settings = SocketConfig { server, token, device: who.1.clone(), last_seen: None, limit: LIMIT };
    let mut counted = Counted::new(Socket::connect(&settings).await?);
    let caught_up = async {
        while kind(&counted.next().await?) != "caught_up" {}
        Ok(())
    };
    let closed = |reason: messenger_client::CloseReason| messenger_client::ClientError::Closed(reason.to_string());
    timeout(LIMIT, caught_up).await.map_err(|_| messenger_client::ClientError::TimedOut(LIMIT))?.map_err(closed)?;
    Ok(counted)
}

async fn run(config: Deliver, progress: Progress) -> Result<DeliverReport, FleetError> {
    let pairs = set_up(&config).await?;
    let mut sockets = Vec::with_capacity(pairs.len());
    for (number, pair) in pairs.iter().enumerate() {
        let receiving = socket(&config, number + 1, &pair.receiver).await?;
        let sending = if config.rest { None } else { Some(socket(&config, number, &pair.sender).await?) };
        sockets.push((receiving, sending));
    }
    let origin = Instant::now();
    let opens = origin + config.warmup;
    let ends = opens + config.measured;
    let shared = Rc::new(Shared { origin, opens, ends, tally: RefCell::default() });
    let every = Duration::from_secs_f64(config.pairs as f64 / f64::from(config.rate.max(1)));
    let (mut senders, mut receivers) = (JoinSet::new(), JoinSet::new());
    for (number, (pair, (receiving, sending))) in pairs.into_iter().zip(sockets).enumerate() {
        receivers.spawn_local(receive(receiving, Rc::clone(&shared)));
        let first = origin + every.mul_f64(number as f64 / config.pairs as f64);
        let clock = Clockwork { first, every, payload: config.payload.max(STAMP), shared: Rc::clone(&shared) };
        match sending {
            Some(socket) => drop(senders.spawn_local(send_by_socket(socket, pair.thread, clock))),
            None => drop(senders.spawn_local(send_by_rest(rest_of(&config, &pair.sender), pair.thread, clock))),
        }
    }
    let watched = Rc::clone(&shared);
    let reporter = spawn_local(async move {
        loop {
            sleep(Duration::from_millis(200)).await;
            progress(watched.origin.elapsed(), watched.tally.borrow().delivery.acked());
        }
    });
    while senders.join_next().await.is_some() {}
    let drained = Instant::now() + DRAIN;
    while Instant::now() < drained && missing(&shared) > 0 {
        sleep(Duration::from_millis(20)).await;
    }
    reporter.abort();
    receivers.shutdown().await;
    Ok(report(&config, &shared))
}

fn missing(shared: &Shared) -> u64 {
    let tally = shared.tally.borrow();
    tally.sent.saturating_sub(tally.delivery.acked())
}

fn report(config: &Deliver, shared: &Shared) -> DeliverReport {
    let tally = shared.tally.borrow();
    DeliverReport {
        transport: if config.rest { "rest" } else { "socket" }.into(),
        rate: config.rate,
        pairs: config.pairs,
        payload_bytes: config.payload.max(STAMP),
        seconds: config.measured.as_secs_f64(),
        sent: tally.sent,
        received: tally.delivery.acked(),
        missing: missing(shared),
        latencies: tally.delivery.latencies(),
        lag_p99_ms: tally.lag.latencies().p99_ms,
        errors: tally.delivery.errors().clone(),
    }
}

/// When one sender sends, and what.
struct Clockwork {
    first: Instant,
    every: Duration,
    payload: usize,
    shared: Rc<Shared>,
}

impl Clockwork {
    /// Waits for turn `number`; answers when the send began, or nothing once the run is over.
    async fn turn(&self, number: u32) -> Option<Instant> {
        let due = self.first + self.every * number;
        if due >= self.shared.ends {
            return None;
        }
        sleep_until(due).await;
        let began = Instant::now();
        self.shared.tally.borrow_mut().lag.success(began - due);
        Some(began)
    }

    fn draft(&self, number: u32, began: Instant, filler: &mut Payload) -> Draft {
        let mut bytes = filler.fill().to_vec();
        let nanos = u64::try_from((began - self.shared.origin).as_nanos()).unwrap_or(u64::MAX);
        bytes[..STAMP].copy_from_slice(&nanos.to_le_bytes());
        Draft::new(ClientSeq(u64::from(number)), bytes)
    }

    fn count(&self, began: Instant, outcome: Result<(), String>) {
        let mut tally = self.shared.tally.borrow_mut();
        match outcome {
            Ok(()) if began >= self.shared.opens => tally.sent += 1,
            Ok(()) => {}
            Err(code) => tally.delivery.error(&code),
        }
    }
}

async fn send_by_rest(rest: Rest, thread: ThreadId, clock: Clockwork) {
    let mut filler = Payload::new(clock.payload);
    let mut number = 0;
    while let Some(began) = clock.turn(number).await {
        let draft = clock.draft(number, began, &mut filler);
        let outcome = rest.send(thread, &draft).await;
        clock.count(began, outcome.map(drop).map_err(|e| e.code().to_owned()));
        number += 1;
    }
}

async fn send_by_socket(mut socket: Counted, thread: ThreadId, clock: Clockwork) {
    let mut filler = Payload::new(clock.payload);
    let mut number = 0;
    while let Some(began) = clock.turn(number).await {
        let draft = clock.draft(number, began, &mut filler);
        let frame = ClientFrame::send(number.to_string(), thread, &draft);
        let exchange = async {
            let lost = |_| "connection_lost".to_owned();
            socket.socket.send(&frame).await.map_err(lost)?;
            loop {
                let text = socket.next().await.map_err(lost)?;
                if kind(&text) == "sent" {
                    return Ok(());
                }
                if kind(&text) == "error" {
                    return Err("refused".to_owned());
                }
            }
        };
        let outcome = timeout(LIMIT, exchange).await.unwrap_or_else(|_| Err("timed_out".into()));
        clock.count(began, outcome);
        number += 1;
    }
}

#[derive(Deserialize)]
struct Delivered<'a> {
    #[serde(borrow)]
    ciphertext: Cow<'a, str>,
}

/// When the send of a message began, by the stamp it carries.
fn stamp(text: &str) -> Option<Duration> {
    let Delivered { ciphertext } = serde_json::from_str(text).ok()?;
    // Twelve digits of base64 hold the nine bytes that the stamp begins.
    let head = STANDARD.decode(ciphertext.get(..12)?).ok()?;
    Some(Duration::from_nanos(u64::from_le_bytes(head.get(..STAMP)?.try_into().ok()?)))
}

async fn receive(mut socket: Counted, shared: Rc<Shared>) {
    let mut acks = interval(ACK_EVERY);
    acks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let text = tokio::select! {
            text = socket.next() => text,
            _ = acks.tick() => match socket.ack().await {
                Ok(()) => continue,
                Err(reason) => Err(reason),
            },
        };
        let now = Instant::now();
        match text {
            Ok(text) if kind(&text) == "msg" => {
                let Some(began) = stamp(&text).map(|nanos| shared.origin + nanos) else { continue };
                if began >= shared.opens {
                    shared.tally.borrow_mut().delivery.success(now.saturating_duration_since(began));
                }
            }
            Ok(_) => {}
            Err(_) => return shared.tally.borrow_mut().delivery.error("receiver_lost"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_is_read_back_from_a_frame() {
        for size in [9, 10, 256] {
            let mut bytes = vec![7; size];
            bytes[..8].copy_from_slice(&1_234_567_890_123_u64.to_le_bytes());
            let text = format!(r#"{{"t":"msg","ciphertext":"{}"}}"#, STANDARD.encode(bytes));
            assert_eq!(stamp(&text), Some(Duration::from_nanos(1_234_567_890_123)));
        }
        assert_eq!(stamp(r#"{"t":"msg","ciphertext":"aGk="}"#), None);
    }
}
