//! One conversation, from its opening to its end.
//!
//! Owns: the order of things: history, then live; what each event and each line does.
//! Must not know: how anything looks or travels.
//! Invariants: every message of the thread is shown once, in the thread's order, one's own too; what was typed is sent,
//! in that order, however long the connection is away, and shown as waiting meanwhile; leaving waits until what was sent
//! is shown, for a bounded time.

use super::clock::LocalTime;
use super::input::{Console, Line};
use super::open::{Target, open};
use super::pending::Pending;
use super::view::{Style, View};
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use futures_util::stream::FuturesOrdered;
use messenger_client::{
    ClientError, Draft, EndReason, HistoryQuery, Live, LiveConfig, LiveEvent, Message, Rest, RestConfig, Sending,
    ServerFrame, Servers, Thread, TokenSource,
};
use messenger_proto::ids::{ClientSeq, DeviceId, MessageId, UserId};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use tokio::time::{Instant, sleep_until};

/// Sends that are under way at the end are waited for this long.
const FAREWELL: Duration = Duration::from_secs(10);
/// And once they are committed, their place in the thread for this long, if nothing comes.
const ECHO: Duration = Duration::from_secs(2);
/// Rows asked for at a time.
const PAGE: u32 = 100;

const HELP: &str = "  /who           who is here, and who has read your last message
  /history [n]   show the last n messages again
  /threads       list your conversations
  /quit          leave (also Ctrl-D)
  //text         send a message that begins with /";

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
    /// Messages of history shown at first.
    pub history: usize,
    /// Whether colours are wanted.
    pub colours: bool,
}

/// Why a chat did not begin, or ended.
#[derive(Debug, thiserror::Error)]
pub enum ChatError {
    /// The cluster did not do what it was asked.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// There is no such group, and nobody to create it with.
    #[error("there is no group called {0:?}; name its members with --with to create it")]
    NoGroup(String),
    /// The connection ended for good.
    #[error("{0}")]
    Ended(EndReason),
}

struct Conversation {
    rest: Rest,
    live: Live,
    console: Console,
    view: View,
    thread: Thread,
    /// The newest message shown of those read over REST; what is not newer was shown or lies before the history.
    history_end: Option<MessageId>,
    read_to: Option<MessageId>,
    last_number: u64,
    sending: FuturesOrdered<BoxFuture<'static, Result<Message, ClientError>>>,
    /// What is in `sending`, as it was typed.
    pending: Pending,
    /// Committed, and still to come in its place among the others.
    unshown: BTreeMap<MessageId, Message>,
    connected_before: bool,
    /// It is known that nobody takes messages now.
    broken: bool,
    elsewhere: usize,
}

enum Next {
    Event(Option<LiveEvent>),
    Line(Option<Line>),
    Sent(Result<Message, ClientError>),
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
async fn converse(config: ChatConfig, console: impl FnOnce() -> Console) -> Result<(), ChatError> {
    let rest = Rest::new(RestConfig::new(config.servers.clone(), config.token.clone()));
    let thread = open(&rest, &config.target).await?;
    let style = Style { colours: config.colours };
    let mut view = View::new(config.user.clone(), style, LocalTime::of_this_machine());
    let past = history(&rest, &thread, config.history).await?;
    // Who typed it takes it for said: it is sent whenever the connection comes back, and only once whatever happened.
    let patient = LiveConfig { send_deadline: None, ..LiveConfig::new(config.servers, config.token, config.device) };
    let mut live = Live::connect(patient);
    let mut console = console();
    console.screen.show(&view.header(&thread));
    for message in &past {
        live.mark_seen(message.id);
        console.screen.show(&view.message(message));
    }
    let mut conversation = Conversation {
        rest,
        live,
        console,
        view,
        thread,
        history_end: past.last().map(|message| message.id),
        read_to: None,
        last_number: 0,
        sending: FuturesOrdered::new(),
        pending: Pending::default(),
        unshown: BTreeMap::new(),
        connected_before: false,
        broken: false,
        elsewhere: 0,
    };
    if let Some(last) = past.iter().rev().find(|message| message.sender_id != config.user) {
        conversation.mark_read(last.id).await;
    }
    conversation.run().await
}

/// The newest `count` messages, oldest first.
async fn history(rest: &Rest, thread: &Thread, count: usize) -> Result<Vec<Message>, ClientError> {
    let mut messages: Vec<Message> = Vec::new();
    let mut query = HistoryQuery::default();
    while messages.len() < count {
        query.page_size = Some(PAGE.min(u32::try_from(count - messages.len()).unwrap_or(PAGE)));
        let page = rest.messages(thread.id, &query).await?;
        messages.extend(page.messages);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    messages.reverse();
    Ok(messages)
}

impl Conversation {
    async fn run(mut self) -> Result<(), ChatError> {
        loop {
            let next = tokio::select! {
                event = self.live.next() => Next::Event(event),
                line = self.console.lines.recv(), if self.pending.has_room() => Next::Line(line),
                Some(sent) = self.sending.next() => Next::Sent(sent),
                () = at(self.pending.next_due()) => Next::Waiting,
            };
            match next {
                Next::Event(Some(LiveEvent::Ended(reason))) => return self.ended(reason).await,
                Next::Event(None) | Next::Line(None | Some(Line::Quit)) => return self.leave().await,
                Next::Event(Some(event)) => self.event(event).await,
                Next::Line(Some(line)) => self.line(line).await,
                Next::Sent(sent) => self.sent(sent),
                Next::Waiting => self.show_waiting(),
            }
        }
    }

    async fn event(&mut self, event: LiveEvent) {
        match event {
            LiveEvent::Connected { server, .. } => {
                self.broken = false;
                if std::mem::replace(&mut self.connected_before, true) {
                    self.notice(&format!("connected again, through {server}"));
                }
            }
            LiveEvent::Disconnected { reason } => {
                if self.connected_before {
                    self.notice(&format!("the connection was lost ({reason}); trying again"));
                } else {
                    self.notice(&format!("cannot connect ({reason}); trying again"));
                }
                self.broken = true;
                self.show_waiting();
            }
            LiveEvent::Frame(frame) => self.frame(frame).await,
            LiveEvent::Ended(_) => {}
        }
    }

    async fn frame(&mut self, frame: ServerFrame) {
        let text = match frame {
            ServerFrame::Message(message) if message.thread_id != self.thread.id => {
                self.elsewhere += 1;
                let sender = &message.sender_id;
                // One notice is enough; the list has the rest.
                (self.elsewhere == 1)
                    .then(|| self.view.notice(&format!("{sender} wrote in another thread; see /threads")))
            }
            ServerFrame::Message(message) => {
                self.unshown.remove(&message.id);
                if self.history_end.is_some_and(|end| message.id <= end) {
                    return;
                }
                let shown = self.view.message(&message);
                self.console.screen.show(&shown);
                return self.mark_read(message.id).await;
            }
            ServerFrame::Receipt(receipt) if receipt.thread_id == self.thread.id => self.view.receipt(&receipt),
            ServerFrame::Thread(frame) if frame.thread_id == self.thread.id => self.view.change(&frame),
            ServerFrame::Gap(gap) if gap.thread_id == self.thread.id => {
                Some(self.view.notice("older messages were skipped; see /history"))
            }
            ServerFrame::Error { problem, .. } => Some(self.view.notice(&problem.to_string())),
            _ => None,
        };
        if let Some(text) = text {
            self.console.screen.show(&text);
        }
    }

    async fn mark_read(&mut self, up_to: MessageId) {
        if self.read_to < Some(up_to) {
            self.read_to = Some(up_to);
            self.live.read(self.thread.id, up_to).await;
        }
    }

    async fn line(&mut self, line: Line) {
        match line {
            Line::Message(text) => self.send(text).await,
            Line::Help => self.console.screen.show(HELP),
            Line::Who => match self.who().await {
                Ok(text) => self.console.screen.show(&text),
                Err(error) => self.notice(&error.to_string()),
            },
            Line::History(count) => match history(&self.rest, &self.thread, count.unwrap_or(20)).await {
                Ok(messages) => self.again(&messages),
                Err(error) => self.notice(&error.to_string()),
            },
            Line::Threads => match self.rest.threads(Some(50), None).await {
                Ok(page) => {
                    self.elsewhere = 0;
                    let text = self.view.threads(&page.threads);
                    self.console.screen.show(&text);
                }
                Err(error) => self.notice(&error.to_string()),
            },
            Line::Wrong(why) => self.notice(&why),
            Line::Nothing | Line::Quit => {}
        }
    }

    fn again(&mut self, messages: &[Message]) {
        self.notice(&format!("the last {} messages", messages.len()));
        for message in messages {
            let text = self.view.message(message);
            self.console.screen.show(&text);
        }
        self.notice("end of history");
    }

    async fn who(&mut self) -> Result<String, ClientError> {
        self.thread = self.rest.thread(self.thread.id).await?;
        let recipients = match self.view.last_own() {
            Some(id) => self.rest.recipients(id).await?,
            None => Vec::new(),
        };
        Ok(self.view.who(&self.thread.participants, &recipients))
    }

    async fn send(&mut self, text: String) {
        // Numbers must differ within thread and device, over restarts too: the clock gives them, in microseconds.
        let clock = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_micros();
        self.last_number = u64::try_from(clock).unwrap_or(ClientSeq::MAX).max(self.last_number + 1);
        let draft = Draft::new(ClientSeq(self.last_number), text.clone().into_bytes());
        match self.live.sender().begin(self.thread.id, draft).await {
            Ok(sending) => {
                self.sending.push_back(Box::pin(committed(sending)));
                self.pending.push(text, Instant::now());
                if self.broken {
                    self.show_waiting();
                }
            }
            Err(error) => self.unsent(&text, false, &error.to_string()),
        }
    }

    fn show_waiting(&mut self) {
        for text in self.pending.due(Instant::now(), self.broken) {
            let shown = self.view.waiting(&text);
            self.console.screen.show(&shown);
        }
    }

    fn unsent(&mut self, text: &str, perhaps: bool, why: &str) {
        let shown = self.view.unsent(text, perhaps, why);
        self.console.screen.show(&shown);
    }

    fn sent(&mut self, sent: Result<Message, ClientError>) {
        let text = self.pending.pop().unwrap_or_default();
        match sent {
            // The thread shows it, after what came before it; it may have already.
            Ok(message) if self.live.has_given(message.id) => {}
            Ok(message) => drop(self.unshown.insert(message.id, message)),
            Err(error) => self.unsent(&text, error.may_have_had_effects(), &error.to_string()),
        }
    }

    fn notice(&mut self, text: &str) {
        let text = self.view.notice(text);
        self.console.screen.show(&text);
    }

    async fn leave(mut self) -> Result<(), ChatError> {
        let (end, mut connected) = (Instant::now() + FAREWELL, true);
        while !self.sending.is_empty() || (connected && !self.unshown.is_empty()) {
            let patience = if self.sending.is_empty() { end.min(Instant::now() + ECHO) } else { end };
            // Answers come on the same socket as everything else, which is not read while events wait.
            let next = tokio::select! {
                Some(sent) = self.sending.next() => Next::Sent(sent),
                event = self.live.next(), if connected => Next::Event(event),
                () = sleep_until(patience) => break,
            };
            match next {
                Next::Event(None | Some(LiveEvent::Ended(_))) => connected = false,
                Next::Event(Some(event)) => self.event(event).await,
                Next::Sent(sent) => self.sent(sent),
                Next::Line(_) | Next::Waiting => {}
            }
        }
        self.show_unsent("left before it was");
        for message in std::mem::take(&mut self.unshown).into_values() {
            let text = self.view.message(&message);
            self.console.screen.show(&text);
        }
        self.live.close().await;
        Ok(())
    }

    fn show_unsent(&mut self, why: &str) {
        for text in std::mem::take(&mut self.pending).into_texts() {
            self.unsent(&text, true, why);
        }
    }

    async fn ended(mut self, reason: EndReason) -> Result<(), ChatError> {
        self.show_unsent("the connection ended");
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

async fn committed(sending: Sending) -> Result<Message, ClientError> {
    sending.committed().await.map(|sent| sent.message)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::chat::screen::Screen;
    use messenger_client::testing::{FakeCluster, Fault, THREAD, minted};
    use serde_json::json;
    use std::io::Write;
    use tokio::sync::mpsc;
    use tokio::task::JoinHandle;
    use tokio::time::timeout;

    struct Shown(mpsc::UnboundedSender<String>);

    impl Write for Shown {
        fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
            self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(std::io::Error::other)?;
            Ok(bytes.len())
        }
        fn flush(&mut self) -> std::io::Result<()> {
            Ok(())
        }
    }

    struct Person {
        types: mpsc::Sender<Line>,
        sees: mpsc::UnboundedReceiver<String>,
        chat: JoinHandle<Result<(), ChatError>>,
    }

    impl Person {
        fn sit_down(cluster: &FakeCluster) -> Self {
            let (types, lines) = mpsc::channel(8);
            let (shown, sees) = mpsc::unbounded_channel();
            let user = UserId::new("alice").unwrap();
            let config = ChatConfig {
                servers: cluster.servers(),
                token: minted("alice"),
                user,
                device: DeviceId::new("phone").unwrap(),
                target: Target::With(UserId::new("bob").unwrap()),
                history: 2,
                colours: false,
            };
            let console = Console { lines, screen: Screen::Plain(Box::new(Shown(shown))), terminal: false };
            let chat = tokio::spawn(converse(config, move || console));
            Self { types, sees, chat }
        }

        async fn types(&self, text: &str) {
            self.types.send(Line::parse(text)).await.unwrap();
        }

        /// Waits for a line with this text.
        async fn sees(&mut self, text: &str) -> String {
            let wait = async {
                loop {
                    let line = self.sees.recv().await.expect("the chat is over");
                    if line.contains(text) {
                        return line;
                    }
                }
            };
            timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{text:?} within 20 s"))
        }
    }

    #[tokio::test]
    async fn a_conversation_goes_its_way() {
        let cluster = FakeCluster::start(2).await;
        for text in ["long ago", "hello", "are you there?"] {
            cluster.say("bob", text);
        }
        let mut alice = Person::sit_down(&cluster);
        assert!(alice.sees("NOT encrypted").await.contains("alice, bob"));
        assert!(alice.sees("bob: ").await.ends_with("bob: hello\n"));
        assert!(alice.sees("bob: ").await.ends_with("bob: are you there?\n"));
        // The history on screen counts as read.
        cluster.until(|memory| memory.frames.iter().any(|frame| frame["t"] == "read").then_some(())).await;
        alice.types("yes").await;
        alice.sees("you: yes").await;
        let id = cluster.memory().messages[3]["id"].clone();
        let at = "2030-01-01T10:00:00.000Z";
        cluster.show(json!({"t": "delivered", "thread_id": THREAD, "id": id, "by": "bob", "at": at}));
        assert!(alice.sees("delivered").await.contains("✓ delivered to bob: “yes”"));
        cluster.show(json!({"t": "read", "thread_id": THREAD, "up_to": id, "by": "bob", "at": at}));
        assert!(alice.sees("read by").await.contains("✓✓ read by bob: “yes”"));
        alice.types("/who").await;
        assert!(alice.sees("alice (you)").await.contains("bob, member; ✓✓ read your last message"));
        alice.types("/nope").await;
        alice.sees("/nope is no command").await;
        alice.types("last words").await;
        alice.types("/quit").await;
        alice.sees("you: last words").await;
        alice.chat.await.unwrap().unwrap();
        assert_eq!(cluster.memory().messages.len(), 5);
    }

    #[tokio::test]
    async fn a_break_is_shown_and_nothing_is_lost_or_doubled() {
        let cluster = FakeCluster::start(2).await;
        let mut alice = Person::sit_down(&cluster);
        alice.sees("NOT encrypted").await;
        cluster.until(|memory| (!memory.resumes.is_empty()).then_some(())).await;
        cluster.fault(Fault::LoseAnswer);
        alice.types("hi").await;
        alice.sees("connection was lost").await;
        alice.sees("connected again").await;
        alice.types("/quit").await;
        alice.chat.await.unwrap().unwrap();
        let mut shown = 0;
        while let Ok(line) = alice.sees.try_recv() {
            shown += usize::from(line.contains("you: hi"));
        }
        assert_eq!(shown, 1);
        assert_eq!(cluster.memory().messages.len(), 1);
    }

    #[tokio::test]
    async fn what_is_typed_while_nobody_answers_is_shown_as_waiting_and_sent_in_order_later() {
        let cluster = FakeCluster::start(2).await;
        let mut alice = Person::sit_down(&cluster);
        alice.sees("NOT encrypted").await;
        cluster.until(|memory| (!memory.resumes.is_empty()).then_some(())).await;
        cluster.fault(Fault::LoseAnswer);
        for _ in 0..1000 {
            cluster.fault(Fault::Refuse(503, "unavailable"));
        }
        alice.types("one").await;
        alice.sees("connection was lost").await;
        assert!(alice.sees("you: one").await.contains("waiting to be sent"));
        for text in ["two", "three"] {
            alice.types(text).await;
            assert!(alice.sees(&format!("you: {text}")).await.contains("waiting to be sent"));
        }
        cluster.memory().faults.clear();
        alice.sees("connected again").await;
        for text in ["one", "two", "three"] {
            let shown = alice.sees(&format!("you: {text}")).await;
            assert!(!shown.contains("waiting"), "{shown}");
        }
        alice.types("/quit").await;
        alice.chat.await.unwrap().unwrap();
        let memory = cluster.memory();
        let texts: Vec<_> = memory.messages.iter().map(|message| message["ciphertext"].clone()).collect();
        let encoded = |text| base64::Engine::encode(&base64::engine::general_purpose::STANDARD, text);
        assert_eq!(texts, ["one", "two", "three"].map(encoded));
        assert_eq!(memory.keys.len(), 4, "one was written twice: {:?}", memory.keys);
        assert_eq!(memory.keys[0], memory.keys[1], "under the same key");
    }

    #[tokio::test]
    async fn a_message_waits_for_as_long_as_the_cluster_is_away() {
        let cluster = FakeCluster::start(1).await;
        let mut alice = Person::sit_down(&cluster);
        alice.sees("NOT encrypted").await;
        cluster.until(|memory| (!memory.resumes.is_empty()).then_some(())).await;
        for _ in 0..10_000 {
            cluster.fault(Fault::Refuse(503, "unavailable"));
        }
        alice.types("patience").await;
        assert!(alice.sees("you: patience").await.contains("waiting to be sent"));
        // Whatever is left of an hour passes at once.
        tokio::time::pause();
        tokio::time::advance(Duration::from_hours(1)).await;
        tokio::time::resume();
        cluster.memory().faults.clear();
        let shown = alice.sees("patience").await;
        assert!(shown.contains("you: patience") && !shown.contains("not sent"), "{shown}");
    }

    #[tokio::test]
    async fn messages_are_shown_in_the_order_of_the_thread() {
        let cluster = FakeCluster::start(1).await;
        let mut alice = Person::sit_down(&cluster);
        cluster.until(|memory| (!memory.resumes.is_empty()).then_some(())).await;
        cluster.fault(Fault::Overtake);
        alice.sees("NOT encrypted").await;
        alice.types("second").await;
        let first = alice.sees(": ").await;
        assert!(first.contains("bob: in front"), "{first}");
        alice.sees("you: second").await;
    }

    #[tokio::test]
    async fn leaving_reads_on_until_what_was_sent_is_answered() {
        let cluster = FakeCluster::start(1).await;
        let mut alice = Person::sit_down(&cluster);
        cluster.until(|memory| (!memory.resumes.is_empty()).then_some(())).await;
        // More than waits anywhere between the socket and the screen.
        cluster.fault(Fault::Crowd(600));
        alice.types("last words").await;
        alice.types("/quit").await;
        timeout(Duration::from_secs(8), &mut alice.chat).await.expect("at once").unwrap().unwrap();
        let mut lines = Vec::new();
        while let Ok(line) = alice.sees.try_recv() {
            lines.push(line);
        }
        assert!(lines.last().is_some_and(|line| line.contains("you: last words")), "{:?}", lines.last());
    }

    #[tokio::test]
    async fn a_second_terminal_ends_the_first() {
        let cluster = FakeCluster::start(1).await;
        cluster.fault(Fault::Close(4409));
        let alice = Person::sit_down(&cluster);
        let error = alice.chat.await.unwrap().unwrap_err();
        assert_eq!(error.to_string(), "this device connected elsewhere");
    }
}
