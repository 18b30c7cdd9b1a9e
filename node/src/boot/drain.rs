//! How a node goes.
//!
//! Owns: the signals, and the steps from SIGTERM to the end with the bound of each.
//! Must not know: what a part does to drain.
//! Invariants: readiness goes first and consensus last, so that whoever is sent away finds the new leader; a second
//! signal ends the process at once.

use super::BootError;
use super::readiness::Readiness;
use messenger_raft::group::host::Host;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, sleep};

/// Longest wait for other nodes to take over this one's leaders.
const HAND_OVER_WITHIN: Duration = Duration::from_secs(8);
/// Between two looks at what this node still leads.
const HAND_OVER_POLL: Duration = Duration::from_millis(100);

/// The signals that end a node.
pub struct Signals {
    terminate: Signal,
    interrupt: Signal,
    /// Whether the end of standard input counts as a signal.
    stdin: bool,
}

impl Signals {
    /// Listens from now on.
    ///
    /// # Errors
    /// [`BootError::Runtime`] when the system refuses.
    pub fn new(stdin: bool) -> Result<Self, BootError> {
        let failed = |error: std::io::Error| BootError::Runtime(format!("cannot listen for signals: {error}"));
        Ok(Self {
            terminate: signal(SignalKind::terminate()).map_err(failed)?,
            interrupt: signal(SignalKind::interrupt()).map_err(failed)?,
            stdin,
        })
    }

    /// Waits for the next one.
    pub async fn next(&mut self) {
        let stdin = self.stdin;
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
            () = end_of_stdin(), if stdin => self.stdin = false,
        }
    }
}

async fn end_of_stdin() {
    let mut stdin = tokio::io::stdin();
    let mut ignored = [0; 64];
    while matches!(stdin.read(&mut ignored).await, Ok(1..)) {}
}

/// Hands over every leader, as far as others can take over in time.
pub async fn hand_over(host: &Host, readiness: &Readiness) {
    readiness.draining();
    let deadline = Instant::now() + HAND_OVER_WITHIN;
    loop {
        let led = host.balance(true).await;
        if led == 0 {
            return;
        }
        if Instant::now() >= deadline {
            tracing::warn!(led, "leaving while still leading: no other replica was fit to take over");
            return;
        }
        sleep(HAND_OVER_POLL).await;
    }
}
