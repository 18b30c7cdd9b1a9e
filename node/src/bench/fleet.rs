//! The users, devices, tokens and threads that a load needs.
//!
//! Owns: making them on a running cluster, through its API alone.
//! Must not know: what is then sent.
//! Invariants: every run has users of its own, so that no run meets the history of another.

use crate::dev_key::{DevKey, Grant, MintError};
use futures_util::{StreamExt, TryStreamExt, stream};
use messenger_client::{ClientError, NewThread, Rest, RestConfig, ServerUrl, Servers, TokenSource, fresh_key};
use messenger_proto::ids::{DeviceId, ThreadId, UserId};
use std::sync::Arc;
use std::time::Duration;
use tokio::time::{Instant, sleep};

/// Threads created at once.
const SETUP_WIDTH: usize = 16;

/// Why a fleet could not be set up.
#[derive(Debug, thiserror::Error)]
pub enum FleetError {
    /// A token could not be minted.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// The cluster did not do what the set-up asks.
    #[error("setting up: {0}")]
    Client(#[from] ClientError),
    /// A node is not ready in time.
    #[error("{server} is not ready: {reason}")]
    NotReady {
        /// Which.
        server: String,
        /// What it said last.
        reason: String,
    },
    /// The load could not be run.
    #[error("running the load: {0}")]
    Io(#[from] std::io::Error),
}

/// How large.
#[derive(Debug, Clone)]
pub struct FleetConfig {
    /// The nodes to load; clients are spread over them.
    pub servers: Servers,
    /// Signs the clients' tokens.
    pub key: DevKey,
    /// Senders.
    pub clients: usize,
    /// Threads; spread over the shards by their ids.
    pub threads: usize,
}

/// One sender: a device, its token, and the threads it writes to in turn.
#[derive(Debug, Clone)]
pub(super) struct Member {
    pub(super) server: ServerUrl,
    pub(super) token: Arc<str>,
    pub(super) device: DeviceId,
    pub(super) threads: Vec<ThreadId>,
}

/// The senders of a run.
#[derive(Debug, Clone)]
pub struct Fleet {
    pub(super) run: String,
    pub(super) servers: Vec<ServerUrl>,
    pub(super) members: Vec<Member>,
}

/// A user of a run.
pub(super) fn user(run: &str, role: &str, number: usize) -> UserId {
    UserId::new(&format!("bench-{run}-{role}{number}")).expect("letters, digits and dashes, well under 64")
}

/// A device of a user.
pub(super) fn device(number: usize) -> DeviceId {
    DeviceId::new(&format!("d{number}")).expect("a letter and digits")
}

/// A name for a run.
pub(super) fn run_name() -> String {
    format!("{:08x}", rand::random::<u32>())
}

impl Fleet {
    /// Mints tokens and creates the threads. Thread `t` is a 1:1 between sender user `t mod users` and a peer of its
    /// own; when there are fewer threads than clients, several clients are devices of one user.
    ///
    /// # Errors
    /// [`FleetError`].
    pub async fn set_up(config: &FleetConfig) -> Result<Self, FleetError> {
        let run = run_name();
        let users = config.clients.min(config.threads).max(1);
        let creation = |number: usize| {
            let run = &run;
            async move {
                let owner = Grant::full(user(run, "s", number % users), device(0));
                let token = config.key.clone().source(owner);
                let mut rest = RestConfig::new(config.servers.clone(), token);
                rest.deadline = Duration::from_secs(30);
                let new = NewThread::one_to_one(&user(run, "r", number));
                let thread = Rest::new(rest).create_thread(&new, &fresh_key()).await?;
                Ok::<_, FleetError>((number, thread.id))
            }
        };
        let threads: Vec<(usize, ThreadId)> =
            stream::iter((0..config.threads.max(1)).map(creation)).buffered(SETUP_WIDTH).try_collect().await?;
        let members = (0..config.clients).map(|number| {
            let grant = Grant::full(user(&run, "s", number % users), device(number / users));
            let mut own: Vec<_> =
                threads.iter().filter(|(t, _)| t % users == number % users).map(|(_, id)| *id).collect();
            // Devices of one user start at different threads.
            let start = (number / users) % own.len().max(1);
            own.rotate_left(start);
            Ok(Member {
                server: config.servers.at(number).clone(),
                token: config.key.mint(&grant)?.into(),
                device: grant.device,
                threads: own,
            })
        });
        let members = members.collect::<Result<_, FleetError>>()?;
        Ok(Self { run, servers: config.servers.all().to_vec(), members })
    }
}

/// Waits until every server says it is ready.
///
/// # Errors
/// [`FleetError::NotReady`] when one does not within `limit`.
pub async fn wait_ready(servers: &Servers, limit: Duration) -> Result<(), FleetError> {
    let until = Instant::now() + limit;
    let rest = Rest::new(RestConfig::new(servers.clone(), TokenSource::fixed("")));
    let probe = messenger_client::Call::new(http::Method::GET, "/readyz");
    for (at, server) in servers.all().iter().enumerate() {
        loop {
            let reason = match rest.raw(at, &probe).await {
                Ok(answer) if answer.is_success() => break,
                Ok(answer) => format!("it answers {}", answer.status),
                Err(error) => error.to_string(),
            };
            if Instant::now() >= until {
                return Err(FleetError::NotReady { server: server.to_string(), reason });
            }
            sleep(Duration::from_millis(100)).await;
        }
    }
    Ok(())
}
