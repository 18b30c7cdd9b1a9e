//! The task that keeps a device connected.
//!
//! Owns: connecting to one server after the other, reading, acknowledging, sending again after a break.
//! Must not know: what frames mean to the user.
//! Invariants: while the user's queue is full the socket is not read, and while too many sends wait for their answers no
//! more are taken; a silent connection is given up.

use crate::backoff::Backoff;
use crate::error::ClientError;
use crate::frames::{ClientFrame, Hello, Incoming, ServerFrame};
use crate::live::{AckMode, EndReason, Item, LiveConfig, LiveEvent, Taken};
use crate::model::Draft;
use crate::outbox::{Outbox, Reply};
use crate::socket::{CloseReason, Socket, SocketConfig, SocketItem};
use messenger_proto::ids::{MessageId, ThreadId};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

/// Acknowledgements within this time travel as one.
const ACK_DELAY: Duration = Duration::from_millis(20);
/// Silence of this many ping intervals, in halves, ends a connection.
const SILENCE_HALF_INTERVALS: u32 = 5;

pub(super) enum Command {
    Send { thread: ThreadId, draft: Draft, reply: Reply },
    Read { thread: ThreadId, up_to: MessageId },
    Remark(ClientFrame),
}

/// How a connection ended.
enum Over {
    /// Try again.
    Broken(String),
    /// Do not.
    Ended(EndReason),
    /// The user closed it.
    Closed,
}

impl From<CloseReason> for Over {
    fn from(reason: CloseReason) -> Self {
        match reason.code {
            Some(CloseReason::REPLACED) => Self::Ended(EndReason::Replaced),
            Some(CloseReason::POLICY) => Self::Ended(EndReason::Protocol(reason.to_string())),
            _ => Self::Broken(reason.to_string()),
        }
    }
}

pub(super) struct Task {
    config: LiveConfig,
    commands: mpsc::Receiver<Command>,
    events: mpsc::Sender<Item>,
    taken: watch::Receiver<Taken>,
    closing: Arc<Notify>,
    outbox: Outbox,
    backoff: Backoff,
    connection: u64,
    /// Refusals of the token in a row.
    refused_tokens: u32,
}

/// What one connection carries along.
struct Connected {
    socket: Socket,
    server: String,
    acked: u64,
    ack_at: Option<Instant>,
    silence: Duration,
    silent_at: Instant,
    parked: Option<Item>,
}

impl Task {
    pub(super) fn new(
        config: LiveConfig,
        commands: mpsc::Receiver<Command>,
        events: mpsc::Sender<Item>,
        taken: watch::Receiver<Taken>,
        closing: Arc<Notify>,
    ) -> Self {
        let backoff = Backoff::new(config.pause, config.servers.count());
        let (outbox, connection, refused_tokens) = (Outbox::default(), 0, 0);
        Self { config, commands, events, taken, closing, outbox, backoff, connection, refused_tokens }
    }

    pub(super) async fn run(mut self) {
        loop {
            let at = self.config.servers.favourite();
            let over = match self.connect(at).await {
                Ok(mut connected) => {
                    let over = self.serve(&mut connected).await;
                    if matches!(over, Over::Closed) {
                        self.flush_acks(&mut connected).await;
                        connected.socket.close().await;
                    }
                    over
                }
                Err(over) => over,
            };
            self.outbox.disconnected();
            match over {
                Over::Closed => return self.outbox.fail_all("the connection was closed"),
                Over::Ended(reason) => {
                    self.outbox.fail_all(&reason.to_string());
                    let _ = self.events.send(Item { event: LiveEvent::Ended(reason), place: None }).await;
                    return;
                }
                Over::Broken(reason) => {
                    self.config.servers.move_on(at);
                    let event = LiveEvent::Disconnected { reason };
                    if self.events.send(Item { event, place: None }).await.is_err() {
                        return;
                    }
                    let pause = self.backoff.next_random();
                    tokio::select! {
                        () = sleep(pause) => {}
                        () = self.events.closed() => return,
                        () = self.closing.notified() => return self.outbox.fail_all("the connection was closed"),
                    }
                }
            }
        }
    }

    async fn connect(&mut self, at: usize) -> Result<Connected, Over> {
        let server = self.config.servers.at(at).clone();
        let token = self.config.token.token().map_err(|e| Over::Ended(EndReason::Unauthenticated(e.to_string())))?;
        let last_seen = self.taken.borrow().last_seen;
        let config = SocketConfig {
            server: server.clone(),
            token,
            device: self.config.device.clone(),
            last_seen,
            limit: self.config.handshake,
        };
        let connecting = Socket::connect(&config);
        let socket = tokio::select! {
            socket = connecting => socket.map_err(|e| self.refused(e))?,
            () = self.events.closed() => return Err(Over::Closed),
            () = self.closing.notified() => return Err(Over::Closed),
        };
        self.connection += 1;
        let silence = self.config.handshake;
        let silent_at = Instant::now() + silence;
        let server = server.to_string();
        Ok(Connected { socket, server, acked: 0, ack_at: None, silence, silent_at, parked: None })
    }

    fn refused(&mut self, error: ClientError) -> Over {
        match error {
            ClientError::Refused(problem) if problem.status == 401 => self.token_refused(problem.to_string()),
            ClientError::Refused(problem) if !problem.retryable() => Over::Ended(EndReason::Refused(problem)),
            other => Over::Broken(other.to_string()),
        }
    }

    /// A token that can be minted anew gets one more try.
    fn token_refused(&mut self, detail: String) -> Over {
        self.refused_tokens += 1;
        if self.config.token.renews() && self.refused_tokens < 2 {
            Over::Broken(detail)
        } else {
            Over::Ended(EndReason::Unauthenticated(detail))
        }
    }

    async fn serve(&mut self, connected: &mut Connected) -> Over {
        let mut greeted = false;
        let events = self.events.clone();
        loop {
            if greeted && let Err(reason) = self.write_due(connected).await {
                return reason.into();
            }
            let wake = [connected.ack_at, self.outbox.next_retry().filter(|_| greeted)].into_iter().flatten().min();
            tokio::select! {
                item = connected.socket.next(), if connected.parked.is_none() => match item {
                    SocketItem::Closed(reason) if reason.code == Some(CloseReason::UNAUTHENTICATED) => {
                        return self.token_refused(reason.to_string());
                    }
                    SocketItem::Closed(reason) => return reason.into(),
                    SocketItem::Frame(incoming) => {
                        connected.silent_at = Instant::now() + connected.silence;
                        greeted |= matches!(incoming.frame, ServerFrame::Hello(_));
                        if let Err(reason) = self.frame(connected, incoming).await {
                            return reason.into();
                        }
                    }
                },
                permit = events.reserve(), if connected.parked.is_some() => match (permit, connected.parked.take()) {
                    (Ok(permit), Some(item)) => permit.send(item),
                    _ => return Over::Closed,
                },
                command = self.commands.recv(), if self.outbox.has_room() => match command {
                    Some(command) => self.take(command),
                    None => return Over::Closed,
                },
                () = self.closing.notified() => {
                    while let Ok(command) = self.commands.try_recv() {
                        self.take(command);
                    }
                    let _ = self.write_due(connected).await;
                    return Over::Closed;
                }
                changed = self.taken.changed() => match changed {
                    Ok(()) if self.config.acks == AckMode::Auto => {
                        connected.ack_at.get_or_insert_with(|| Instant::now() + ACK_DELAY);
                    }
                    Ok(()) => {}
                    Err(_) => return Over::Closed,
                },
                () = until(wake) => {}
                () = sleep_until(connected.silent_at), if connected.parked.is_none() => {
                    return Over::Broken("the server fell silent".into());
                }
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Send { thread, draft, reply } => self.outbox.push(thread, draft, reply),
            Command::Read { thread, up_to } => self.outbox.read(thread, up_to),
            Command::Remark(frame) => self.outbox.remark(frame),
        }
    }

    async fn write_due(&mut self, connected: &mut Connected) -> Result<(), CloseReason> {
        let now = Instant::now();
        for frame in self.outbox.due(now) {
            connected.socket.send(&frame).await?;
        }
        if connected.ack_at.is_some_and(|at| at <= now) {
            connected.ack_at = None;
            return self.write_ack(connected).await;
        }
        Ok(())
    }

    async fn write_ack(&mut self, connected: &mut Connected) -> Result<(), CloseReason> {
        let taken = *self.taken.borrow();
        if taken.connection == self.connection && taken.frame_seq > connected.acked {
            connected.acked = taken.frame_seq;
            connected.socket.send(&ClientFrame::ClientAck { frame_seq: taken.frame_seq }).await?;
        }
        Ok(())
    }

    async fn flush_acks(&mut self, connected: &mut Connected) {
        if self.config.acks == AckMode::Auto {
            // The connection is being left: what cannot be said is replayed next time.
            let _ = self.write_ack(connected).await;
        }
    }

    async fn frame(&mut self, connected: &mut Connected, incoming: Incoming) -> Result<(), CloseReason> {
        let Incoming { frame_seq, frame } = incoming;
        match frame {
            ServerFrame::Ping => connected.socket.send(&ClientFrame::Pong).await?,
            ServerFrame::Hello(hello) => self.hello(connected, hello),
            ServerFrame::Sent { request_id, sent } => self.outbox.sent(&request_id, *sent),
            ServerFrame::Error { request_id: Some(request_id), problem } => {
                let pause = self.config.pause;
                self.outbox.refused(&request_id, *problem, Instant::now(), |refusals| {
                    pause.first.saturating_mul(1 << refusals.min(10)).min(pause.ceiling)
                });
            }
            frame => {
                if frame == ServerFrame::CaughtUp {
                    self.backoff.reset();
                }
                let place = Some((self.connection, frame_seq));
                connected.parked = Some(Item { event: LiveEvent::Frame(frame), place });
            }
        }
        Ok(())
    }

    fn hello(&mut self, connected: &mut Connected, hello: Hello) {
        self.refused_tokens = 0;
        let half_interval = Duration::from_millis(500 * hello.ping_interval_s.clamp(1, 600));
        connected.silence = half_interval * SILENCE_HALF_INTERVALS;
        connected.silent_at = Instant::now() + connected.silence;
        let event = LiveEvent::Connected { server: connected.server.clone(), hello };
        connected.parked = Some(Item { event, place: None });
    }
}

async fn until(at: Option<Instant>) {
    match at {
        Some(at) => sleep_until(at).await,
        None => std::future::pending().await,
    }
}
