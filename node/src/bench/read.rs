//! How long reading takes: pages of a long thread beside a short one, and of a long list of threads.
//!
//! Owns: filling the threads, and reading them in turn.
//! Must not know: how results are printed.
//! Invariants: one read is under way at a time; the kinds of reads take turns, so that what disturbs one disturbs all.

use super::fleet::{FleetError, device, run_name, user};
use super::load::{Progress, on_own_thread};
use super::payload::Payload;
use super::report::{Latencies, Recorder};
use super::send_socket::{Counted, kind};
use crate::dev_key::{DevKey, Grant};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use messenger_client::{
    Call, ClientError, ClientFrame, Draft, NewThread, Rest, RestConfig, Servers, Socket, SocketConfig, fresh_key,
};
use messenger_proto::ids::{ClientSeq, MessageId, ThreadId, UserId};
use serde::{Deserialize, Serialize};
use std::cell::RefCell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout};

/// Of a handshake, and of one call.
const LIMIT: Duration = Duration::from_secs(30);
/// Devices that fill a thread.
const FILLERS: usize = 128;
/// Messages of the short thread.
const SHORT: u64 = 1_000;
/// Of so many messages of the long thread one is remembered, to read around it.
const MARK_EVERY: u64 = 1_000;
/// Threads made at once.
const WIDTH: usize = 32;

/// What to run.
#[derive(Debug, Clone)]
pub struct Reads {
    /// The nodes; reads go to one after the other.
    pub servers: Servers,
    /// Signs the tokens.
    pub key: DevKey,
    /// Messages of the long thread.
    pub messages: u64,
    /// Threads of the user whose list is read.
    pub threads: usize,
    /// Reads of each kind.
    pub reads: u32,
}

/// What it gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReadReport {
    /// Messages of the long thread.
    pub messages: u64,
    /// Threads of the list.
    pub threads: usize,
    /// Reads of each kind.
    pub reads: u32,
    /// The newest 50 messages of a thread of 1,000.
    pub newest_of_short: Latencies,
    /// The newest 50 of the long thread.
    pub newest_of_long: Latencies,
    /// 50 messages somewhere in the long thread.
    pub middle_of_long: Latencies,
    /// The first page of the list of threads.
    pub list: Latencies,
}

/// Measures reading; `progress` is told of messages stored.
///
/// # Errors
/// [`FleetError`] when the cluster does not do what it is asked.
pub async fn reads(config: Reads, progress: Progress) -> Result<ReadReport, FleetError> {
    on_own_thread(move || run(config, progress)).await?
}

fn rest_of(config: &Reads, user: UserId) -> Rest {
    let token = config.key.clone().source(Grant::full(user, device(0)));
    Rest::new(RestConfig { deadline: LIMIT, ..RestConfig::new(config.servers.clone(), token) })
}

/// The messages that are yet to be sent, and those remembered.
struct Filling {
    next: u64,
    last: u64,
    marks: Vec<MessageId>,
}

#[derive(Deserialize)]
struct Stored {
    id: String,
}

/// Sends the messages that are left, one after the other.
async fn fill_from(mut socket: Counted, thread: ThreadId, filling: Rc<RefCell<Filling>>) -> Result<(), FleetError> {
    let mut payload = Payload::new(256);
    loop {
        let number = {
            let mut filling = filling.borrow_mut();
            if filling.next == filling.last {
                return Ok(());
            }
            filling.next += 1;
            filling.next
        };
        let draft = Draft::new(ClientSeq(number), payload.fill().to_vec());
        let closed = |reason: messenger_client::CloseReason| ClientError::Closed(reason.to_string());
        socket.socket.send(&ClientFrame::send("m", thread, &draft)).await.map_err(closed)?;
        let sent = async {
            loop {
                let text = socket.next().await.map_err(closed)?;
                match kind(&text).as_ref() {
                    "sent" => return Ok(text),
                    "error" => return Err(ClientError::Protocol(text.to_string())),
                    _ => {}
                }
            }
        };
        let text = timeout(LIMIT, sent).await.map_err(|_| ClientError::TimedOut(LIMIT))??;
        if number.is_multiple_of(MARK_EVERY)
            && let Some(id) = serde_json::from_str::<Stored>(&text).ok().and_then(|stored| stored.id.parse().ok())
        {
            filling.borrow_mut().marks.push(id);
        }
    }
}

/// A thread of the user's with so many messages, and some of their ids.
async fn filled(
    config: &Reads,
    (owner, peer): (UserId, UserId),
    messages: u64,
    progress: &Progress,
) -> Result<(ThreadId, Vec<MessageId>), FleetError> {
    let rest = rest_of(config, owner.clone());
    let thread = rest.create_thread(&NewThread::one_to_one(&peer), &fresh_key()).await?.id;
    let filling = Rc::new(RefCell::new(Filling { next: 0, last: messages, marks: Vec::new() }));
    let (began, mut fillers) = (Instant::now(), JoinSet::new());
    for number in 0..FILLERS {
        let grant = Grant::full(owner.clone(), device(number));
        let (server, token) = (config.servers.at(number).clone(), config.key.mint(&grant)?.into());
        let settings = SocketConfig { server, token, device: grant.device, last_seen: None, limit: LIMIT };
        let mut socket = Counted::new(Socket::connect(&settings).await?);
        // Nobody listens: what is measured comes later.
        let nothing = r#"{"t":"subscribe","request_id":"n","thread_ids":[]}"#;
        let closed = |reason: messenger_client::CloseReason| ClientError::Closed(reason.to_string());
        socket.socket.send_text(nothing).await.map_err(closed)?;
        while kind(&socket.next().await.map_err(closed)?) != "subscribed" {}
        fillers.spawn_local(fill_from(socket, thread, Rc::clone(&filling)));
    }
    while let Some(outcome) = fillers.join_next().await {
        outcome.map_err(std::io::Error::other)??;
        progress(began.elapsed(), filling.borrow().next);
    }
    let marks = std::mem::take(&mut filling.borrow_mut().marks);
    Ok((thread, marks))
}

/// A user with so many threads, each with a message.
async fn listed(config: &Reads, run: &str) -> Result<UserId, FleetError> {
    let owner = user(run, "l", 0);
    let thread = |number: usize| {
        let owner = owner.clone();
        async move {
            let peer = rest_of(config, user(run, "p", number));
            let thread = peer.create_thread(&NewThread::one_to_one(&owner), &fresh_key()).await?.id;
            peer.send(thread, &Draft::new(ClientSeq(1), b"hello".to_vec())).await?;
            Ok::<_, FleetError>(())
        }
    };
    stream::iter((0..config.threads).map(thread)).buffer_unordered(WIDTH).try_collect::<()>().await?;
    Ok(owner)
}

async fn run(config: Reads, progress: Progress) -> Result<ReadReport, FleetError> {
    let run = run_name();
    let owner = user(&run, "o", 0);
    let (short, _) = filled(&config, (owner.clone(), user(&run, "q", 0)), SHORT, &progress).await?;
    let (long, marks) = filled(&config, (owner.clone(), user(&run, "q", 1)), config.messages, &progress).await?;
    let list_owner = listed(&config, &run).await?;
    let (reader, lister) = (rest_of(&config, owner), rest_of(&config, list_owner));
    let page = |thread: ThreadId| format!("/v1/threads/{thread}/messages?page_size=50");
    let mut recorders: [Recorder; 4] = Default::default();
    for turn in 0..config.reads {
        let before = marks.get(turn as usize * 7919 % marks.len().max(1));
        let middle = before.map_or_else(|| page(long), |id| format!("{}&before={id}", page(long)));
        let targets = [(&reader, page(short)), (&reader, page(long)), (&reader, middle)];
        let targets = targets.into_iter().chain([(&lister, "/v1/threads?page_size=50".to_owned())]);
        for ((rest, target), recorder) in targets.zip(&mut recorders) {
            let began = Instant::now();
            rest.call(Call::new(Method::GET, target)).await?;
            recorder.success(began.elapsed());
        }
    }
    let [newest_of_short, newest_of_long, middle_of_long, list] = recorders.map(|recorder| recorder.latencies());
    let Reads { messages, threads, reads, .. } = config;
    Ok(ReadReport { messages, threads, reads, newest_of_short, newest_of_long, middle_of_long, list })
}
