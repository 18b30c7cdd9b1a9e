//! One conversation, from its opening to its end.
//!
//! Owns: the order of things: what this device has, then what came since, then live; what waits for what.
//! Must not know: how anything looks, travels or is encrypted.
//! Invariants: every message of the thread is shown once, in the thread's order, one's own too; whatever comes, of any
//! thread, is kept before it is shown or acknowledged; what was typed is kept until it is sent, in that order, over
//! restarts too; leaving waits for a bounded time.

use super::clock::LocalTime;
use super::input::{Console, Line};
use super::open::{Target, open};
use super::sending::{Done, Queue};
use super::typing::Typing;
use super::view::{Style, View};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesUnordered;
use messenger_client::e2e::{Courier, CourierError, News, Record, StoreError, Vault};
use messenger_client::{
    ClientError, EndReason, GapReader, Live, LiveConfig, LiveEvent, Rest, RestConfig, Servers, Thread, TokenSource,
};
use messenger_proto::ids::{DeviceId, MessageId, UserId};
use std::collections::{BTreeSet, VecDeque};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};

/// Sends that are under way at the end are waited for this long.
const FAREWELL: Duration = Duration::from_secs(10);
/// And once they are committed, their place in the thread for this long, if nothing comes.
const ECHO: Duration = Duration::from_secs(2);
/// News about devices that wait to be shown; what is beyond is found with `/verify`.
const NEWS_MAX: usize = 256;

/// What a chat needs.
#[derive(Debug, Clone)]
pub struct ChatConfig {
    /// Any nodes of the cluster.
    pub servers: Servers,
    /// The user's token.
    pub token: TokenSource,
    /// Who is chatting.
    pub user: UserId,
    /// From which device.
    pub device: DeviceId,
    /// With whom.
    pub target: Target,
    /// Where chats keep what they must: keys and messages, in a directory for each user and device.
    pub store: PathBuf,
    /// Messages of history shown at first.
    pub history: usize,
    /// Whether colours are wanted.
    pub colours: bool,
    /// Whether others are told that the person types.
    pub tells_typing: bool,
}

/// Why a chat did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The cluster did not do what it was asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// What this device keeps cannot be used.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// There is no such group, and nobody to create it with.
    #[error("there is no group called {0:?}; name its members with --with to create it")]
    NoGroup(String),
    /// The connection ended for good.
    #[error("{0}")]
    Ended(EndReason),
}

/// What is shown once the replay is complete: the newest of what came with it.
pub(super) struct Backlog {
    pub(super) keep: usize,
    pub(super) records: VecDeque<Record>,
    pub(super) skipped: usize,
    pub(super) absent: usize,
}

pub(super) struct Conversation {
    pub(super) rest: Rest,
    pub(super) live: Live,
    pub(super) console: Console,
    pub(super) view: View,
    pub(super) thread: Thread,
    pub(super) vault: Arc<Vault>,
    pub(super) courier: Courier,
    /// The newest message on screen.
    pub(super) shown_to: Option<MessageId>,
    pub(super) backlog: Option<Backlog>,
    /// How far the last gap was read.
    pub(super) filling: Option<GapReader>,
    pub(super) read_to: Option<MessageId>,
    pub(super) queue: Queue,
    /// Committed, and still to come in its place among the others.
    pub(super) unshown: BTreeSet<MessageId>,
    pub(super) publishing: FuturesUnordered<BoxFuture<'static, Result<(), CourierError>>>,
    pub(super) is_published: bool,
    connected_before: bool,
    /// It is known that nobody takes messages now.
    pub(super) broken: bool,
    pub(super) elsewhere: usize,
    news: mpsc::Receiver<News>,
    /// `None`: others are told nothing of it.
    typing: Option<Typing>,
}

enum Next {
    Event(Option<LiveEvent>),
    Line(Option<Line>),
    Turn(Option<Done>),
    Published(Result<(), CourierError>),
    News(News),
    Edited,
    Waiting,
}

/// Chats until the person leaves.
///
/// # Errors
/// [`ChatError`] when the conversation cannot be entered or ends by itself.
pub async fn chat(config: ChatConfig) -> Result<(), ChatError> {
    let prompt = format!("{} > ", config.user);
    converse(config, || Console::open(prompt)).await
}

/// The console is opened once there is something to say.
pub(super) async fn converse(config: ChatConfig, console: impl FnOnce() -> Console) -> Result<(), ChatError> {
    let directory = config.store.join(config.user.as_str()).join(config.device.as_str());
    let vault = Arc::new(Vault::open(&directory, config.user.clone(), config.device.clone())?);
    let rest = Rest::new(RestConfig::new(config.servers.clone(), config.token.clone()));
    let opened = open(&rest, &vault, &config.target).await?;
    let (told, news) = mpsc::channel(NEWS_MAX);
    let tell = Arc::new(move |news: News| {
        // What does not fit is found with `/verify`.
        let _ = told.try_send(news);
    });
    let courier = Courier::new(rest.clone(), Arc::clone(&vault), tell);
    let mut view = View::new(config.user.clone(), Style { colours: config.colours }, LocalTime::of_this_machine());
    let past = vault.history(opened.thread.id, config.history)?;
    let (here, elsewhere): (Vec<_>, Vec<_>) =
        vault.waiting()?.into_iter().partition(|waiting| waiting.thread == opened.thread.id);
    let queue = Queue::of(here);
    // Who typed it takes it for said: it is sent whenever the connection comes back, and only once whatever happened.
    let patient = LiveConfig { send_deadline: None, ..LiveConfig::new(config.servers, config.token, config.device) };
    let live = Live::connect(patient);
    let mut console = console();
    console.screen.show(&view.header(&opened.thread));
    if let Some(why) = &opened.offline {
        console.screen.show(&view.notice(&format!("{why}; this is what this device has")));
    }
    for record in &past {
        console.screen.show(&view.record(record));
    }
    if !elsewhere.is_empty() {
        let count = elsewhere.len();
        console.screen.show(&view.notice(&format!("{count} not yet sent elsewhere: they go when you chat there")));
    }
    let backlog = Backlog { keep: config.history, records: VecDeque::new(), skipped: 0, absent: 0 };
    let mut conversation = Conversation {
        rest,
        live,
        console,
        view,
        thread: opened.thread,
        vault,
        courier,
        shown_to: past.last().map(|record| record.id),
        backlog: Some(backlog),
        filling: None,
        read_to: None,
        queue,
        unshown: BTreeSet::new(),
        publishing: FuturesUnordered::new(),
        is_published: false,
        connected_before: false,
        broken: false,
        elsewhere: 0,
        news,
        typing: config.tells_typing.then(Typing::default),
    };
    conversation.publish();
    conversation.show_waiting(true);
    if let Some(last) = past.iter().rev().find(|record| record.sender != config.user) {
        conversation.mark_read(last.id).await;
    }
    conversation.run().await
}

impl Conversation {
    async fn run(mut self) -> Result<(), ChatError> {
        loop {
            self.send_next();
            let due = self.queue.next_due();
            let typing_due = self.typing.as_ref().and_then(Typing::due);
            let next = tokio::select! {
                event = self.live.next() => Next::Event(event),
                line = self.console.lines.recv(), if self.queue.has_room() => Next::Line(line),
                done = self.queue.done() => Next::Turn(done),
                Some(done) = self.publishing.next() => Next::Published(done),
                Some(news) = self.news.recv() => Next::News(news),
                Ok(()) = self.console.edited.changed(), if self.typing.is_some() => Next::Edited,
                () = at(typing_due) => Next::Edited,
                () = at(due) => Next::Waiting,
            };
            match next {
                Next::Event(Some(LiveEvent::Ended(reason))) => return self.ended(reason).await,
                Next::Event(None) | Next::Line(None | Some(Line::Quit)) => return self.leave().await,
                Next::Event(Some(event)) => self.event(event).await?,
                Next::Line(Some(line)) => {
                    self.tell_typing(Typing::stopped);
                    self.line(line).await?;
                }
                Next::Turn(Some((number, done))) => self.delivered(number, done)?,
                Next::Published(done) => self.published(done),
                Next::News(news) => self.news(&news),
                Next::Edited => {
                    let is_said = *self.console.edited.borrow_and_update();
                    self.tell_typing(|typing| typing.edited(is_said, Instant::now()));
                }
                Next::Turn(None) => {}
                Next::Waiting => self.show_waiting(false),
            }
        }
    }

    fn tell_typing(&mut self, what: impl FnOnce(&mut Typing) -> Option<bool>) {
        if let Some(stop) = self.typing.as_mut().and_then(what) {
            self.live.sender().typing(self.thread.id, stop);
        }
    }

    pub(super) async fn event(&mut self, event: LiveEvent) -> Result<(), ChatError> {
        match event {
            LiveEvent::Connected { server, .. } => {
                self.broken = false;
                if std::mem::replace(&mut self.connected_before, true) {
                    self.notice(&format!("connected again, through {server}"));
                }
                // Whose devices changed meanwhile was not heard.
                self.courier.forget_all();
                self.queue.hurry();
                if !self.is_published {
                    self.publish();
                }
            }
            LiveEvent::Disconnected { reason } => {
                if self.connected_before {
                    self.notice(&format!("the connection was lost ({reason}); trying again"));
                } else {
                    self.notice(&format!("cannot connect ({reason}); trying again"));
                }
                self.broken = true;
                self.show_waiting(true);
            }
            LiveEvent::Frame(frame) => self.frame(frame).await?,
            LiveEvent::Ended(_) => {}
        }
        Ok(())
    }

    /// Publishes this device's keys, unless that is under way.
    pub(super) fn publish(&mut self) {
        if self.publishing.is_empty() {
            let courier = self.courier.clone();
            self.publishing.push(Box::pin(async move { courier.publish().await }));
        }
    }

    fn published(&mut self, done: Result<(), CourierError>) {
        match done {
            Ok(()) => self.is_published = true,
            // It is tried again when the connection is back.
            Err(error) if error.passes() => {}
            Err(error) => self.notice(&format!("this device's keys could not be published: {error}")),
        }
    }

    fn news(&mut self, news: &News) {
        let text = self.view.news(news);
        self.console.screen.show(&text);
    }

    pub(super) async fn mark_read(&mut self, up_to: MessageId) {
        if self.read_to < Some(up_to) {
            self.read_to = Some(up_to);
            self.live.read(self.thread.id, up_to).await;
        }
    }

    pub(super) fn notice(&mut self, text: &str) {
        let text = self.view.notice(text);
        self.console.screen.show(&text);
    }

    async fn leave(mut self) -> Result<(), ChatError> {
        self.tell_typing(Typing::stopped);
        let (end, mut connected) = (Instant::now() + FAREWELL, true);
        while self.queue.is_moving() || (connected && !self.unshown.is_empty()) {
            self.send_next();
            let patience = if self.queue.is_moving() { end } else { end.min(Instant::now() + ECHO) };
            // Answers come on the same socket as everything else, which is not read while events wait.
            let next = tokio::select! {
                done = self.queue.done() => Next::Turn(done),
                event = self.live.next(), if connected => Next::Event(event),
                Some(news) = self.news.recv() => Next::News(news),
                Some(done) = self.publishing.next() => Next::Published(done),
                () = sleep_until(patience) => break,
            };
            match next {
                Next::Event(None | Some(LiveEvent::Ended(_))) => connected = false,
                Next::Event(Some(event)) => self.event(event).await?,
                Next::Turn(Some((number, done))) => self.delivered(number, done)?,
                Next::News(news) => self.news(&news),
                Next::Published(done) => self.published(done),
                Next::Turn(None) | Next::Line(_) | Next::Edited | Next::Waiting => {}
            }
        }
        self.show_left();
        for id in std::mem::take(&mut self.unshown) {
            if let Some(record) = self.vault.record(self.thread.id, id)? {
                self.show(&record);
            }
        }
        self.live.close().await;
        Ok(())
    }

    async fn ended(mut self, reason: EndReason) -> Result<(), ChatError> {
        self.show_left();
        if self.console.terminal {
            // The editor holds the terminal until it has a line.
            self.notice(&format!("{reason}; press Enter to leave"));
            while !matches!(self.console.lines.recv().await, None | Some(_)) {}
        }
        Err(ChatError::Ended(reason))
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}
