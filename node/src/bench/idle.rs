//! Sockets that do nothing, held open so that their cost can be read.
//!
//! Owns: opening them, answering pings, and reading the memory of the processes they are connected to.
//! Must not know: which process serves which socket.

use super::fleet::{FleetError, device, run_name, user};
use super::load::{Progress, on_own_thread};
use super::send_socket::Counted;
use crate::dev_key::{DevKey, Grant};
use messenger_client::{ClientError, Servers, Socket, SocketConfig};
use serde::Serialize;
use std::cell::Cell;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};

/// Of a handshake.
const LIMIT: Duration = Duration::from_secs(30);
/// Handshakes at once.
const WIDTH: usize = 32;
/// The servers' allocators come to rest.
const SETTLE: Duration = Duration::from_secs(3);

/// What to hold.
#[derive(Debug, Clone)]
pub struct IdleSockets {
    /// Spread over these.
    pub servers: Servers,
    /// Signs the tokens.
    pub key: DevKey,
    /// How many.
    pub count: usize,
    /// How long, once all are open.
    pub hold: Duration,
    /// Processes whose memory is read before and after.
    pub pids: Vec<u32>,
}

/// What they cost.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct IdleReport {
    /// Open at the end.
    pub open: usize,
    /// That could not be opened, or closed meanwhile.
    pub lost: usize,
    /// The time to open them all.
    pub opened_in_s: f64,
    /// Resident memory of the processes named, before; all together.
    pub resident_before_kib: Option<u64>,
    /// The same with all sockets open.
    pub resident_after_kib: Option<u64>,
    /// The difference by the socket, in bytes.
    pub bytes_per_socket: Option<f64>,
}

/// Resident memory of some processes; `None` if there are none or one cannot be read.
pub(super) fn resident_kib(pids: &[u32]) -> Option<u64> {
    let one = |pid: &u32| {
        let status = std::fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
        resident_of(&status)
    };
    if pids.is_empty() { None } else { pids.iter().map(one).sum() }
}

fn resident_of(status: &str) -> Option<u64> {
    let line = status.lines().find(|line| line.starts_with("VmRSS:"))?;
    line.split_whitespace().nth(1)?.parse().ok()
}

/// Opens and holds sockets; `progress` is told how many are open.
///
/// # Errors
/// [`FleetError`] when no token can be minted.
pub async fn idle_sockets(config: IdleSockets, progress: Progress) -> Result<IdleReport, FleetError> {
    on_own_thread(move || run(config, progress)).await?
}

async fn run(config: IdleSockets, progress: Progress) -> Result<IdleReport, FleetError> {
    let before = resident_kib(&config.pids);
    let began = Instant::now();
    let name = run_name();
    let open = Rc::new(Cell::new(0));
    let (mut opening, mut holding) = (JoinSet::new(), JoinSet::new());
    let mut lost = 0;
    let mut next = 0;
    while next < config.count || !opening.is_empty() {
        while next < config.count && opening.len() < WIDTH {
            let settings = settings(&config, &name, next)?;
            opening.spawn_local(async move { Socket::connect(&settings).await });
            next += 1;
        }
        match opening.join_next().await {
            Some(Ok(Ok(socket))) => {
                open.set(open.get() + 1);
                holding.spawn_local(hold(Counted::new(socket), Rc::clone(&open)));
            }
            Some(Ok(Err(_)) | Err(_)) => lost += 1,
            None => {}
        }
        progress(began.elapsed(), open.get() as u64);
    }
    let opened_in_s = began.elapsed().as_secs_f64();
    sleep(SETTLE.min(config.hold)).await;
    let after = resident_kib(&config.pids);
    sleep(config.hold.saturating_sub(SETTLE)).await;
    let held = open.get();
    holding.shutdown().await;
    let grown = before.zip(after).map(|(before, after)| after.saturating_sub(before) as f64 * 1024.0);
    Ok(IdleReport {
        open: held,
        lost: lost + (config.count - lost).saturating_sub(held),
        opened_in_s,
        resident_before_kib: before,
        resident_after_kib: after,
        bytes_per_socket: grown.filter(|_| held > 0).map(|bytes| (bytes / held as f64).round()),
    })
}

fn settings(config: &IdleSockets, name: &str, number: usize) -> Result<SocketConfig, FleetError> {
    let grant = Grant::full(user(name, "i", number), device(0));
    let token = config.key.mint(&grant)?.into();
    Ok(SocketConfig {
        server: config.servers.at(number).clone(),
        token,
        device: grant.device,
        last_seen: None,
        limit: LIMIT,
    })
}

async fn hold(mut socket: Counted, open: Rc<Cell<usize>>) {
    let silent = Duration::from_mins(5);
    while let Ok(Ok(_)) = timeout(silent, socket.next()).await {}
    open.set(open.get().saturating_sub(1));
}

/// How many files this process may open is raised as far as it goes.
///
/// # Errors
/// [`ClientError::Full`] when `count` sockets do not fit.
pub fn raise_file_limit(count: usize) -> Result<(), ClientError> {
    let wanted = count as u64 + 256;
    match rlimit::increase_nofile_limit(wanted) {
        Ok(limit) if limit >= wanted => Ok(()),
        _ => Err(ClientError::Full),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resident_memory_is_read() {
        assert_eq!(resident_of("Name:\tx\nVmRSS:\t  1234 kB\n"), Some(1234));
        assert_eq!(resident_of("Name:\tx\n"), None);
        assert!(resident_kib(&[std::process::id()]).unwrap() > 0);
        assert_eq!(resident_kib(&[]), None);
    }
}
