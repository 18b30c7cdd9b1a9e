//! What receipts cost: log entries by the message, in groups of some sizes.
//!
//! Owns: a group whose members all listen, acknowledge each message at once and may mark it read; counting log entries.
//! Must not know: how results are printed, or how entries come about.
//! Invariants: nothing else is done to the cluster meanwhile, so what its logs grow by is the group's.

use super::fleet::{FleetError, device, run_name, user};
use super::load::{Progress, on_own_thread};
use super::send_socket::{Counted, kind};
use crate::dev_key::{DevKey, Grant};
use futures_util::{StreamExt, TryStreamExt, stream};
use http::Method;
use messenger_client::{
    Call, ClientError, ClientFrame, CloseReason, Connection, Draft, NewThread, Problem, Rest, RestConfig, ServerUrl,
    Servers, Socket, SocketConfig, TransportError, fresh_key,
};
use messenger_proto::ids::{ClientSeq, MessageId, ThreadId, UserId};
use serde::{Deserialize, Serialize};
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, interval, sleep, timeout};

/// Of a handshake, and of one call.
const LIMIT: Duration = Duration::from_secs(30);
/// Handshakes at once.
const WIDTH: usize = 64;
/// Longer than a device's position waits to be written down.
const QUIET: Duration = Duration::from_secs(8);
/// Messages that have not come by then are given up.
const STRAGGLE: Duration = Duration::from_secs(30);

/// What to run.
#[derive(Debug, Clone)]
pub struct Receipts {
    /// Devices are spread over these.
    pub servers: Servers,
    /// Signs the tokens.
    pub key: DevKey,
    /// Says how far the logs are.
    pub admin: ServerUrl,
    /// Members of the group, the sender among them.
    pub members: usize,
    /// Messages to send.
    pub messages: u64,
    /// Between one message and the next.
    pub every: Duration,
    /// Every member marks every message read.
    pub read: bool,
}

/// What it gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReceiptReport {
    /// Members of the group.
    pub members: usize,
    /// Messages sent.
    pub messages: u64,
    /// Whether each was marked read by everyone.
    pub read: bool,
    /// What all logs together grew by.
    pub entries: u64,
    /// The same by the message.
    pub entries_per_message: f64,
    /// Messages that arrived, at all devices together.
    pub arrived: u64,
    /// Frames that told of receipts, at all devices together, by the message.
    pub receipt_frames_per_message: f64,
}

/// Measures it; `progress` is told how many messages have arrived.
///
/// # Errors
/// [`FleetError`] when the cluster does not do what it is asked.
pub async fn receipts(config: Receipts, progress: Progress) -> Result<ReceiptReport, FleetError> {
    on_own_thread(move || run(config, progress)).await?
}

#[derive(Deserialize)]
struct Status {
    shards: Vec<Shard>,
}

#[derive(Deserialize)]
struct Shard {
    replicas: Vec<Replica>,
}

#[derive(Deserialize)]
struct Replica {
    applied: Option<u64>,
}

/// Entries of all shards' logs.
async fn entries(admin: &ServerUrl) -> Result<u64, ClientError> {
    let exchange = async {
        let mut connection = Connection::open(admin, LIMIT).await?;
        connection.exchange(&Call::new(Method::GET, "/v1/cluster/status")).await
    };
    let answer = match timeout(LIMIT, exchange).await {
        Err(_) => return Err(ClientError::TimedOut(LIMIT)),
        Ok(Err(TransportError::NotSent(reason) | TransportError::Lost(reason))) => {
            return Err(ClientError::Unreachable { server: admin.to_string(), reason });
        }
        Ok(Ok(answer)) if !answer.is_success() => {
            let problem = Problem::from_answer(answer.status, None, &answer.body);
            return Err(ClientError::Protocol(format!("{admin}: {problem}")));
        }
        Ok(Ok(answer)) => answer,
    };
    let status: Status = serde_json::from_slice(&answer.body).map_err(|e| ClientError::Protocol(e.to_string()))?;
    let furthest = |shard: &Shard| shard.replicas.iter().filter_map(|replica| replica.applied).max().unwrap_or(0);
    Ok(status.shards.iter().map(furthest).sum())
}

fn closed(reason: &CloseReason) -> ClientError {
    ClientError::Closed(reason.to_string())
}

#[derive(Default)]
struct Heard {
    messages: Cell<u64>,
    receipts: Cell<u64>,
}

/// A socket that is up to date.
async fn online(config: &Receipts, user: UserId, number: usize) -> Result<Counted, FleetError> {
    let (server, token) = (config.servers.at(number).clone(), config.key.mint(&Grant::full(user, device(0)))?.into());
    let settings = SocketConfig { server, token, device: device(0), last_seen: None, limit: LIMIT };
    let mut socket = Counted::new(Socket::connect(&settings).await?);
    while kind(&socket.next().await.map_err(|reason| closed(&reason))?) != "caught_up" {}
    socket.ack().await.map_err(|reason| closed(&reason))?;
    Ok(socket)
}

/// Takes what comes, acknowledges each message at once, and marks it read if asked.
async fn listen(mut socket: Counted, thread: ThreadId, read: bool, heard: Rc<Heard>) -> Result<(), CloseReason> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let named =
        |text: &str| serde_json::from_str::<Named>(text).ok().and_then(|named| named.id.parse::<MessageId>().ok());
    loop {
        let text = socket.next().await?;
        match kind(&text).as_ref() {
            "msg" => {
                heard.messages.set(heard.messages.get() + 1);
                socket.ack().await?;
                if let Some(up_to) = named(&text).filter(|_| read) {
                    socket.socket.send(&ClientFrame::Read { thread_id: thread, up_to }).await?;
                }
            }
            "delivered" | "read" => heard.receipts.set(heard.receipts.get() + 1),
            _ => {}
        }
    }
}

async fn run(config: Receipts, progress: Progress) -> Result<ReceiptReport, FleetError> {
    let run = run_name();
    let users: Vec<UserId> = (0..config.members).map(|number| user(&run, "m", number)).collect();
    let (Some(sender), others) = (users.first(), users.get(1..).unwrap_or_default()) else {
        return Err(ClientError::Protocol("a group has members".into()).into());
    };
    let token = config.key.clone().source(Grant::full(sender.clone(), device(1)));
    let rest = Rest::new(RestConfig { deadline: LIMIT, ..RestConfig::new(config.servers.clone(), token) });
    let thread = rest.create_thread(&NewThread::group(Some("receipts".into()), others), &fresh_key()).await?.id;
    let connections = users.iter().enumerate().map(|(number, user)| online(&config, user.clone(), number));
    let sockets: Vec<Counted> = stream::iter(connections).buffer_unordered(WIDTH).try_collect().await?;
    let (heard, mut listeners) = (Rc::new(Heard::default()), JoinSet::new());
    for socket in sockets {
        listeners.spawn_local(listen(socket, thread, config.read, Rc::clone(&heard)));
    }
    sleep(QUIET).await;
    let before = entries(&config.admin).await?;
    let (began, mut ticks) = (Instant::now(), interval(config.every));
    for number in 0..config.messages {
        ticks.tick().await;
        rest.send(thread, &Draft::new(ClientSeq(number), b"who has this?".to_vec())).await?;
        progress(began.elapsed(), heard.messages.get());
    }
    let expected = config.messages * config.members as u64;
    let given_up = Instant::now() + STRAGGLE;
    while heard.messages.get() < expected && Instant::now() < given_up {
        sleep(Duration::from_millis(50)).await;
    }
    sleep(QUIET).await;
    let grown = entries(&config.admin).await?.saturating_sub(before);
    listeners.shutdown().await;
    let by_message = |count: u64| count as f64 / config.messages.max(1) as f64;
    Ok(ReceiptReport {
        members: config.members,
        messages: config.messages,
        read: config.read,
        entries: grown,
        entries_per_message: by_message(grown),
        arrived: heard.messages.get(),
        receipt_frames_per_message: by_message(heard.receipts.get()),
    })
}
