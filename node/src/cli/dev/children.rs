//! The processes of a local cluster.
//!
//! Owns: starting, watching and stopping them.
//! Must not know: what they are configured to do.

use super::Layout;
use crate::boot::PARENT_ENV;
use crate::cli::exit::CliError;
use crate::config::Address;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::fs::File;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{ExitStatus, Stdio};
use std::time::Duration;
use tokio::process::{Child, ChildStdin, Command};
use tokio::time::{Instant, sleep};

/// Between two looks at a node that isn't ready.
const READY_POLL: Duration = Duration::from_millis(50);

struct Node {
    id: u64,
    child: Child,
    /// Its end, when this process goes, tells the child to go too.
    _leash: Option<ChildStdin>,
    ended: bool,
}

impl Node {
    /// Whether the process was killed, which is reported; an error when it ended by itself.
    fn is_gone(&mut self, log: &Path) -> Result<bool, CliError> {
        if self.ended {
            return Ok(true);
        }
        let Ok(Some(status)) = self.child.try_wait() else { return Ok(false) };
        self.ended = true;
        let how = format!("node {} {}", self.id, describe(status));
        let Some(code) = status.code() else {
            super::say(&how);
            return Ok(true);
        };
        // One that was told to stop ended well, and yet there is no cluster.
        let status = u8::try_from(code).ok().filter(|status| *status != 0).unwrap_or(1);
        Err(CliError::Node { status, message: format!("{how}: {}", last_line(log)) })
    }
}

/// Makes sure that nobody else holds an address that a node will listen on: it would answer in the node's stead.
///
/// # Errors
/// [`CliError::Address`] for the first that is taken.
pub fn addresses_are_free(layout: &Layout) -> Result<(), CliError> {
    for config in &layout.nodes {
        let node = config.this_node().map_err(|error| CliError::Config(error.to_string()))?;
        for address in [node.client_addr, node.peer_addr, node.admin_addr] {
            std::net::TcpListener::bind(address.to_string())
                .map_err(|error| CliError::Address(format!("cannot listen on {address}: {error}; see --base-port")))?;
        }
    }
    Ok(())
}

/// A local cluster's nodes.
pub struct Children(Vec<Node>);

impl Children {
    /// Starts every node.
    ///
    /// # Errors
    /// [`CliError`] when a process or its log can't be made.
    pub fn start(layout: &Layout) -> Result<Self, CliError> {
        let failed = |error: std::io::Error| CliError::Failed(format!("cannot start a node: {error}"));
        let program = std::env::current_exe().map_err(failed)?;
        let mut nodes = Vec::new();
        for config in &layout.nodes {
            let id = config.node.id;
            let log = File::options().create(true).append(true).open(layout.log_path(id)).map_err(failed)?;
            let mut child = Command::new(&program)
                .arg("serve")
                .arg("--config")
                .arg(layout.config_path(id))
                .env_remove("MESSENGER_DATA")
                .env(PARENT_ENV, "1")
                .stdin(Stdio::piped())
                .stdout(log.try_clone().map_err(failed)?)
                .stderr(log)
                .process_group(0)
                .kill_on_drop(true)
                .spawn()
                .map_err(failed)?;
            // Waiting for a child closes what it holds of its input.
            let leash = child.stdin.take();
            nodes.push(Node { id, child, _leash: leash, ended: false });
        }
        Ok(Self(nodes))
    }

    /// Waits until every node says that it is ready; one that is killed meanwhile is reported and passed over.
    ///
    /// # Errors
    /// [`CliError`], with the node's own exit status, when one ends by itself; or when `within` passes first. Its log
    /// says why.
    pub async fn ready(&mut self, layout: &Layout, within: Duration) -> Result<(), CliError> {
        let deadline = Instant::now() + within;
        for (node, config) in self.0.iter_mut().zip(&layout.nodes) {
            let address = config.this_node().map_err(|error| CliError::Config(error.to_string()))?.client_addr;
            let log = layout.log_path(node.id);
            loop {
                // What answers may be another process that holds the port, so the child is looked at before and after.
                if node.is_gone(&log)? {
                    break;
                }
                let ready = is_ready(&address).await;
                if node.is_gone(&log)? || ready {
                    break;
                }
                if Instant::now() > deadline {
                    let message = format!("node {} is not ready after {within:?}; see {}", node.id, log.display());
                    return Err(CliError::Failed(message));
                }
                sleep(READY_POLL).await;
            }
        }
        Ok(())
    }

    /// Waits for a node to end, reports it with what starts it again, and says how many are left.
    pub async fn next_death(&mut self, layout: &Layout) -> usize {
        let waits = self.0.iter_mut().filter(|node| !node.ended).map(|node| {
            Box::pin(async move {
                let status = node.child.wait().await;
                node.ended = true;
                (node.id, status)
            })
        });
        let (id, status) = match futures_util::future::select_all(waits).await {
            ((id, Ok(status)), ..) => (id, describe(status)),
            ((id, Err(error)), ..) => (id, format!("is lost: {error}")),
        };
        let left = self.0.iter().filter(|node| !node.ended).count();
        super::say(&format!("node {id} {status}; {left} left. To start it again: {}", layout.how_to_start(id)));
        left
    }

    /// Asks every node to drain.
    pub fn terminate(&mut self) {
        for node in self.0.iter().filter(|node| !node.ended) {
            if let Some(pid) = node.child.id().and_then(|pid| i32::try_from(pid).ok()) {
                // One that is gone needs no signal.
                let _ = kill(Pid::from_raw(pid), Signal::SIGTERM);
            }
        }
    }

    /// Waits until every node has ended.
    pub async fn all_ended(&mut self) {
        for node in self.0.iter_mut().filter(|node| !node.ended) {
            let _ = node.child.wait().await;
            node.ended = true;
        }
    }

    /// Kills what still runs.
    pub async fn kill(&mut self) {
        for node in self.0.iter_mut().filter(|node| !node.ended) {
            let _ = node.child.kill().await;
            node.ended = true;
        }
    }
}

fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with status {code}"),
        (None, Some(signal)) => format!("was killed by signal {signal}"),
        (None, None) => "ended".into(),
    }
}

fn last_line(log: &Path) -> String {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    text.lines().last().unwrap_or("its log is empty").to_owned()
}

/// Asks `/readyz` over a fresh connection; anything but 200 is not ready.
async fn is_ready(address: &Address) -> bool {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let ask = async {
        let mut socket = tokio::net::TcpStream::connect(address.to_string()).await?;
        let request = format!("GET /readyz HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes()).await?;
        let mut status = [0; 12];
        socket.read_exact(&mut status).await?;
        Ok::<_, std::io::Error>(&status == b"HTTP/1.1 200")
    };
    matches!(tokio::time::timeout(Duration::from_secs(1), ask).await, Ok(Ok(true)))
}
