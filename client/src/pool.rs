//! Connections at rest.
//!
//! Owns: which connections are kept, and for how long.
//! Must not know: what they were used for.
//! Invariants: at most [`IDLE_MAX`] per server; none older than [`IDLE_FOR`] is handed out.

use crate::address::{ServerUrl, Servers};
use crate::http1::{Answer, Call, Connection, TransportError};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Connections kept per server.
const IDLE_MAX: usize = 64;
/// Shorter than servers keep theirs, so that a reused connection is rarely a dead one.
const IDLE_FOR: Duration = Duration::from_secs(20);

struct Idle {
    connection: Connection,
    since: Instant,
}

/// Idle connections of each server.
pub(super) struct Pool {
    idle: Vec<(ServerUrl, Mutex<Vec<Idle>>)>,
    connect_limit: Duration,
}

impl Pool {
    pub(super) fn new(servers: &Servers, connect_limit: Duration) -> Self {
        let idle = servers.all().iter().map(|server| (server.clone(), Mutex::new(Vec::new()))).collect();
        Self { idle, connect_limit }
    }

    fn slot(&self, server: &ServerUrl) -> Option<&Mutex<Vec<Idle>>> {
        self.idle.iter().find(|(known, _)| known == server).map(|(_, slot)| slot)
    }

    fn take(&self, server: &ServerUrl) -> Option<Connection> {
        let mut idle = self.slot(server)?.lock().unwrap_or_else(PoisonError::into_inner);
        while let Some(mut last) = idle.pop() {
            if last.since.elapsed() >= IDLE_FOR {
                // Those below have rested longer still.
                idle.clear();
            } else if last.connection.alive() {
                return Some(last.connection);
            }
        }
        None
    }

    fn put(&self, server: &ServerUrl, connection: Connection) {
        let Some(slot) = self.slot(server).filter(|_| connection.usable()) else { return };
        let mut idle = slot.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < IDLE_MAX {
            idle.push(Idle { connection, since: Instant::now() });
        }
    }

    /// One exchange, on a connection at rest or a new one. When one at rest turns out to be closed before anything was
    /// sent, a new one is taken; what may have been sent is for the caller to judge.
    pub(super) async fn exchange(&self, server: &ServerUrl, call: &Call) -> Result<Answer, TransportError> {
        while let Some(mut rested) = self.take(server) {
            match rested.exchange(call).await {
                Err(TransportError::NotSent(_)) => {}
                Err(lost) => return Err(lost),
                Ok(answer) => {
                    self.put(server, rested);
                    return Ok(answer);
                }
            }
        }
        let mut connection = Connection::open(server, self.connect_limit).await?;
        let answer = connection.exchange(call).await?;
        self.put(server, connection);
        Ok(answer)
    }
}
