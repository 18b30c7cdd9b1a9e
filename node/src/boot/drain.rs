//! How a node goes.
//!
//! Owns: the signals, and the order of the steps from SIGTERM to the end.
//! Must not know: what a part does to drain.
//! Invariants: readiness goes first and consensus last, so that whoever is sent away finds the new leader; leaders are
//! handed over until consensus stops.

use super::BootError;
use super::leaders::Leaders;
use super::node::Node;
use super::serving::Serving;
use std::time::Duration;
use tokio::io::AsyncReadExt;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::sleep;

/// Set for a node that must not outlive the process holding its standard input.
pub const PARENT_ENV: &str = "MESSENGER_STOP_WITH_STDIN";
/// How long a draining node still answers, with 503, before its door closes.
const NOTICE: Duration = Duration::from_secs(1);

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

/// Takes a node from serving to nothing.
pub async fn drain(node: &Node, serving: Serving) {
    tracing::info!("draining");
    let rest = async {
        // Whoever asks meanwhile is told to go elsewhere, and whoever watches sees it coming.
        tokio::join!(serving.drain(), sleep(NOTICE));
        serving.stop().await;
    };
    Leaders::new(node.host.clone(), node.transport.clone()).hand_over(&node.readiness, rest).await;
    node.stop().await;
}
