//! Many devices that come back at once, each with messages that it missed.
//!
//! Owns: the devices, what they miss, and how long it takes until all have it.
//! Must not know: how results are printed.
//! Invariants: a device has caught up when it has every message it missed and was told `caught_up`.

use super::fleet::{FleetError, device, run_name, user};
use super::idle::resident_kib;
use super::load::{Progress, on_own_thread};
use super::report::{Latencies, Recorder};
use super::send_socket::{Counted, kind};
use crate::dev_key::{DevKey, Grant};
use futures_util::{StreamExt, TryStreamExt, stream};
use messenger_client::{ClientError, Draft, NewThread, Rest, RestConfig, Servers, Socket, SocketConfig, fresh_key};
use messenger_proto::ids::{ClientSeq, UserId};
use serde::{Deserialize, Serialize};
use std::cell::{Cell, RefCell};
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{JoinSet, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

/// Of a handshake, and of one call.
const LIMIT: Duration = Duration::from_secs(30);
/// Calls and handshakes at once, but for the one that is measured.
const WIDTH: usize = 64;
/// Presence is listened to for so long after everyone is there.
const LISTEN: Duration = Duration::from_secs(15);
/// Longer than presence waits for a device to come back.
const AWAY: Duration = Duration::from_secs(15);
/// The whole of what is measured is given up after this.
const GIVE_UP: Duration = Duration::from_mins(2);
/// Memory is read this often.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// What to run.
#[derive(Debug, Clone)]
pub struct Reconnect {
    /// Devices are spread over these.
    pub servers: Servers,
    /// Signs the tokens.
    pub key: DevKey,
    /// How many, in pairs that share a thread.
    pub devices: usize,
    /// Messages that each misses.
    pub missed: u64,
    /// Processes whose memory is watched.
    pub pids: Vec<u32>,
}

/// What it gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ReconnectReport {
    /// Devices that came back at once.
    pub devices: usize,
    /// Messages that each had missed.
    pub missed: u64,
    /// Devices that had not caught up in the end.
    pub behind: u64,
    /// From the moment they came back to the last one's last message.
    pub all_caught_up_in_s: f64,
    /// The same by the device.
    #[serde(flatten)]
    pub latencies: Latencies,
    /// Presence frames that the device which was told most was told.
    pub presence_frames_most: u64,
    /// Memory of the processes with all devices online, before they went.
    pub resident_before_kib: Option<u64>,
    /// The most it took while they came back.
    pub resident_peak_kib: Option<u64>,
}

/// Measures it; `progress` is told how many have caught up.
///
/// # Errors
/// [`FleetError`] when the devices can't be set up.
pub async fn reconnect(config: Reconnect, progress: Progress) -> Result<ReconnectReport, FleetError> {
    on_own_thread(move || run(config, progress)).await?
}

struct Member {
    user: UserId,
    settings: SocketConfig,
}

/// One of each pair, and the other.
fn members(config: &Reconnect, run: &str) -> Result<Vec<Member>, FleetError> {
    let member = |number: usize| {
        let (user, device) = (user(run, ["a", "b"][number % 2], number / 2), device(0));
        let token = config.key.mint(&Grant::full(user.clone(), device.clone()))?.into();
        let server = config.servers.at(number).clone();
        Ok(Member { user, settings: SocketConfig { server, token, device, last_seen: None, limit: LIMIT } })
    };
    (0..config.devices.next_multiple_of(2)).map(member).collect()
}

fn rest_of(config: &Reconnect, user: UserId) -> Rest {
    let token = config.key.clone().source(Grant::full(user, device(0)));
    Rest::new(RestConfig { deadline: LIMIT, ..RestConfig::new(config.servers.clone(), token) })
}

fn closed(reason: &messenger_client::CloseReason) -> ClientError {
    ClientError::Closed(reason.to_string())
}

/// A socket that is up to date.
async fn online(settings: &SocketConfig) -> Result<Counted, ClientError> {
    let mut socket = Counted::new(Socket::connect(settings).await?);
    while kind(&socket.next().await.map_err(|reason| closed(&reason))?) != "caught_up" {}
    socket.ack().await.map_err(|reason| closed(&reason))?;
    Ok(socket)
}

struct Shared {
    began: Instant,
    caught_up: RefCell<Recorder>,
    last: Cell<Duration>,
    presence: Cell<u64>,
}

/// Comes back, takes what was missed, and then listens.
async fn come_back(settings: SocketConfig, missed: u64, shared: Rc<Shared>, until: Instant) -> Result<(), ClientError> {
    let mut socket = loop {
        match Socket::connect(&settings).await {
            Ok(socket) => break Counted::new(socket),
            Err(error) if error.retryable() => sleep(Duration::from_millis(100)).await,
            Err(error) => return Err(error),
        }
    };
    let (mut messages, mut complete, mut counted, mut presence) = (0, false, false, 0);
    while let Ok(text) = timeout_at(until, socket.next()).await {
        match kind(&text.map_err(|reason| closed(&reason))?).as_ref() {
            "msg" => messages += 1,
            "caught_up" => complete = true,
            "presence" => {
                presence += 1;
                shared.presence.set(shared.presence.get().max(presence));
            }
            _ => {}
        }
        if complete && messages >= missed && !counted {
            counted = true;
            let took = shared.began.elapsed();
            shared.caught_up.borrow_mut().success(took);
            shared.last.set(shared.last.get().max(took));
            socket.ack().await.map_err(|reason| closed(&reason))?;
        }
    }
    Ok(())
}

async fn run(config: Reconnect, progress: Progress) -> Result<ReconnectReport, FleetError> {
    let members = members(&config, &run_name())?;
    let pairs: Vec<(&Member, &Member)> =
        members.chunks(2).filter_map(|pair| Some((pair.first()?, pair.get(1)?))).collect();
    let create = |(a, b): &(&Member, &Member)| {
        let (rest, new) = (rest_of(&config, a.user.clone()), NewThread::one_to_one(&b.user));
        async move { rest.create_thread(&new, &fresh_key()).await.map(|thread| thread.id) }
    };
    let threads: Vec<_> = stream::iter(pairs.iter().map(create)).buffered(WIDTH).try_collect().await?;
    let connections = members.iter().map(|member| online(&member.settings));
    let connected: Vec<Counted> = stream::iter(connections).buffer_unordered(WIDTH).try_collect().await?;
    sleep(Duration::from_secs(5)).await;
    let before = resident_kib(&config.pids);
    drop(connected);
    let send = |((a, b), thread): (&(&Member, &Member), &messenger_proto::ids::ThreadId)| {
        let (rests, thread) = ([rest_of(&config, a.user.clone()), rest_of(&config, b.user.clone())], *thread);
        async move {
            // Both are shown what either says.
            for number in 0..config.missed {
                let rest = &rests[number as usize % 2];
                rest.send(thread, &Draft::new(ClientSeq(number), b"while you were away".to_vec())).await?;
            }
            Ok::<(), ClientError>(())
        }
    };
    let went = Instant::now();
    stream::iter(pairs.iter().zip(&threads).map(send)).buffer_unordered(WIDTH).try_collect::<()>().await?;
    sleep((went + AWAY).saturating_duration_since(Instant::now())).await;
    measure(&config, &members, before, progress).await
}

async fn measure(
    config: &Reconnect,
    members: &[Member],
    before: Option<u64>,
    progress: Progress,
) -> Result<ReconnectReport, FleetError> {
    let began = Instant::now();
    let shared =
        Rc::new(Shared { began, caught_up: RefCell::default(), last: Cell::default(), presence: Cell::default() });
    let peak = Rc::new(Cell::new(None));
    let (pids, seen, told) = (config.pids.clone(), Rc::clone(&peak), Rc::clone(&shared));
    let watching = spawn_local(async move {
        loop {
            seen.set(resident_kib(&pids).max(seen.get()));
            progress(began.elapsed(), told.caught_up.borrow().acked());
            sleep(LOOK_EVERY).await;
        }
    });
    let mut tasks = JoinSet::new();
    let until = began + GIVE_UP;
    for member in members {
        tasks.spawn_local(come_back(member.settings.clone(), config.missed, Rc::clone(&shared), until));
    }
    let everyone = members.len() as u64;
    while shared.caught_up.borrow().acked() < everyone && Instant::now() < until && !tasks.is_empty() {
        sleep(LOOK_EVERY).await;
    }
    sleep(LISTEN).await;
    watching.abort();
    let caught_up = shared.caught_up.borrow().clone();
    tasks.shutdown().await;
    Ok(ReconnectReport {
        devices: members.len(),
        missed: config.missed,
        behind: everyone.saturating_sub(caught_up.acked()),
        all_caught_up_in_s: shared.last.get().as_secs_f64(),
        latencies: caught_up.latencies(),
        presence_frames_most: shared.presence.get(),
        resident_before_kib: before,
        resident_peak_kib: peak.get(),
    })
}
