//! A device's standing realtime connection, as its user sees it.
//!
//! Owns: the handle: events out, sends and read marks in, what was taken.
//! Must not know: how the connection is kept up; see the task beside it.
//! Invariants: a frame counts as taken when the next one is asked for, and only then is it acknowledged; a message id
//! is given once.

use crate::address::Servers;
use crate::backoff::Pause;
use crate::dedupe::Seen;
use crate::error::{ClientError, Problem};
use crate::frames::{ClientFrame, Hello, ServerFrame};
use crate::live_task::{Command, Task};
use crate::model::{Draft, Sent};
use crate::token::TokenSource;
use messenger_proto::ids::{DeviceId, MessageId, ThreadId};
use std::fmt;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::{Notify, mpsc, oneshot, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout, timeout_at};

/// Frames that wait for the user at most; beyond, the socket is not read.
const EVENTS_MAX: usize = 256;
/// Commands that wait for the task at most.
pub(super) const COMMANDS_MAX: usize = 256;
/// Message ids remembered against repeats.
const SEEN_MAX: usize = 65_536;

/// When frames are acknowledged.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AckMode {
    /// When the user has taken them.
    Auto,
    /// Never: for tests of replay.
    Never,
}

/// How a [`Live`] connection behaves.
#[derive(Debug, Clone)]
pub struct LiveConfig {
    /// Any nodes of one cluster.
    pub servers: Servers,
    /// Whose connection this is.
    pub token: TokenSource,
    /// The token's device.
    pub device: DeviceId,
    /// When to acknowledge.
    pub acks: AckMode,
    /// Where an earlier run of this device stopped, beyond what it acknowledged.
    pub last_seen: Option<MessageId>,
    /// A handshake ends after this.
    pub handshake: Duration,
    /// A send fails after this, however many tries it took; `None` lets it wait as long as the connection may come back.
    pub send_deadline: Option<Duration>,
    /// Between tries.
    pub pause: Pause,
}

impl LiveConfig {
    /// The usual.
    #[must_use]
    pub fn new(servers: Servers, token: TokenSource, device: DeviceId) -> Self {
        Self {
            servers,
            token,
            device,
            acks: AckMode::Auto,
            last_seen: None,
            handshake: Duration::from_secs(5),
            send_deadline: Some(Duration::from_secs(30)),
            pause: Pause::default(),
        }
    }
}

/// Why a connection will not come back by itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum EndReason {
    /// The same device connected elsewhere.
    Replaced,
    /// The token is not, or no longer, accepted.
    Unauthenticated(String),
    /// The server refuses this device for another reason.
    Refused(Box<Problem>),
    /// The protocol was not kept, by one side or the other.
    Protocol(String),
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Replaced => f.write_str("this device connected elsewhere"),
            Self::Unauthenticated(detail) => write!(f, "the token is not accepted: {detail}"),
            Self::Refused(problem) => problem.fmt(f),
            Self::Protocol(detail) => f.write_str(detail),
        }
    }
}

/// What a connection gives its user.
#[derive(Debug, Clone, PartialEq)]
pub enum LiveEvent {
    /// It stands, for the first time or again.
    Connected {
        /// With which server.
        server: String,
        /// As the server greeted.
        hello: Hello,
    },
    /// It broke and will be tried again.
    Disconnected {
        /// Why.
        reason: String,
    },
    /// A frame; never `ping`, `hello` or an answer to a send.
    Frame(ServerFrame),
    /// It is over for good.
    Ended(EndReason),
}

/// What travels from the task to the handle.
pub(super) struct Item {
    pub(super) event: LiveEvent,
    /// Connection and frame number; `None` for what is no frame.
    pub(super) place: Option<(u64, u64)>,
}

/// What the user has taken.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Taken {
    pub(super) connection: u64,
    pub(super) frame_seq: u64,
    pub(super) last_seen: Option<MessageId>,
}

/// A standing connection. Dropping it closes the socket.
pub struct Live {
    sender: LiveSender,
    events: mpsc::Receiver<Item>,
    taken: watch::Sender<Taken>,
    given: Option<(u64, u64, Option<MessageId>)>,
    seen: Seen,
    closing: Arc<Notify>,
    task: JoinHandle<()>,
}

/// Sends through a [`Live`] connection; clones are cheap.
#[derive(Clone)]
pub struct LiveSender {
    commands: mpsc::Sender<Command>,
    deadline: Option<Duration>,
}

impl Live {
    /// Starts connecting; must be called within a Tokio runtime.
    #[must_use]
    pub fn connect(config: LiveConfig) -> Self {
        let (commands, commands_in) = mpsc::channel(COMMANDS_MAX);
        let (events_out, events) = mpsc::channel(EVENTS_MAX);
        let (taken, taken_in) = watch::channel(Taken { last_seen: config.last_seen, ..Taken::default() });
        let sender = LiveSender { commands, deadline: config.send_deadline };
        let closing = Arc::new(Notify::new());
        let task = tokio::spawn(Task::new(config, commands_in, events_out, taken_in, Arc::clone(&closing)).run());
        Self { sender, events, taken, given: None, seen: Seen::new(SEEN_MAX), closing, task }
    }

    /// A handle that sends, for another task.
    #[must_use]
    pub fn sender(&self) -> LiveSender {
        self.sender.clone()
    }

    /// The next event; `None` after [`LiveEvent::Ended`]. What was given before now counts as taken. May be cancelled.
    pub async fn next(&mut self) -> Option<LiveEvent> {
        loop {
            self.take_given();
            let Item { event, place } = self.events.recv().await?;
            let id = match &event {
                LiveEvent::Frame(ServerFrame::Message(message)) => Some(message.id),
                _ => None,
            };
            self.given = place.map(|(connection, frame_seq)| (connection, frame_seq, id));
            if id.is_none_or(|id| self.seen.insert(id)) {
                return Some(event);
            }
        }
    }

    fn take_given(&mut self) {
        if let Some((connection, frame_seq, id)) = self.given.take() {
            self.taken.send_modify(|taken| {
                taken.connection = connection;
                taken.frame_seq = frame_seq;
                taken.last_seen = taken.last_seen.max(id);
            });
        }
    }

    /// Sends a message; see [`LiveSender::send`].
    ///
    /// # Errors
    /// [`ClientError`].
    pub async fn send(&self, thread: ThreadId, draft: Draft) -> Result<Sent, ClientError> {
        self.sender.send(thread, draft).await
    }

    /// Moves the read mark; see [`LiveSender::read`].
    pub async fn read(&self, thread: ThreadId, up_to: MessageId) {
        self.sender.read(thread, up_to).await;
    }

    /// Acknowledges what was given, says goodbye and waits, for a bounded time, until it is done.
    pub async fn close(mut self) {
        self.take_given();
        let Self { mut events, taken, closing, task, .. } = self;
        closing.notify_one();
        // The task may stand before a full queue.
        let drain = async { while events.recv().await.is_some() {} };
        let _ = timeout(Duration::from_secs(3), async { tokio::join!(drain, task) }).await;
        drop(taken);
    }
}

impl LiveSender {
    /// Sends a message and comes back when it is committed, over as many connections as that takes.
    ///
    /// # Errors
    /// [`ClientError`]: refused for good, timed out, or the connection ended.
    pub async fn send(&self, thread: ThreadId, draft: Draft) -> Result<Sent, ClientError> {
        let sent = async { self.begin(thread, draft).await?.committed().await };
        match self.deadline {
            Some(limit) => timeout(limit, sent).await.map_err(|_| ClientError::TimedOut(limit))?,
            None => sent.await,
        }
    }

    /// Takes a message in, in the order of the calls, and comes back when it has its place in the queue.
    ///
    /// # Errors
    /// [`ClientError::Closed`].
    pub async fn begin(&self, thread: ThreadId, draft: Draft) -> Result<Sending, ClientError> {
        let (reply, answer) = oneshot::channel();
        let sending = Sending { answer, limit: self.deadline.map(|limit| (limit, Instant::now() + limit)) };
        self.commands.send(Command::Send { thread, draft, reply }).await.map_err(|_| closed())?;
        Ok(sending)
    }

    /// Says that the user types, or stopped; nothing when there is no connection, or when too much waits already.
    pub fn typing(&self, thread_id: ThreadId, stop: bool) {
        // Whoever does not hear of it misses nothing.
        let _ = self.commands.try_send(Command::Remark(ClientFrame::Typing { thread_id, stop }));
    }

    /// Moves the read mark, now or when the connection is back.
    pub async fn read(&self, thread: ThreadId, up_to: MessageId) {
        // Without a task there is nobody to tell.
        let _ = self.commands.send(Command::Read { thread, up_to }).await;
    }
}

/// A message on its way. Dropping it gives it up; it may be committed all the same.
#[derive(Debug)]
pub struct Sending {
    answer: oneshot::Receiver<Result<Sent, ClientError>>,
    limit: Option<(Duration, Instant)>,
}

impl Sending {
    /// Comes back when the message is committed.
    ///
    /// # Errors
    /// [`ClientError`]: refused for good, timed out, or the connection ended.
    pub async fn committed(self) -> Result<Sent, ClientError> {
        let answer = match self.limit {
            Some((limit, deadline)) => {
                timeout_at(deadline, self.answer).await.map_err(|_| ClientError::TimedOut(limit))?
            }
            None => self.answer.await,
        };
        answer.map_err(|_| closed())?
    }
}

fn closed() -> ClientError {
    ClientError::Closed("the connection ended".into())
}
