//! A cluster of real processes on loopback ports.
//!
//! Owns: starting it as a user would, killing, stopping and restarting its nodes, its logs, and its end.
//! Must not know: what its nodes do; it sees ports, processes and exit statuses.
//! Invariants: two clusters share nothing; none outlives the process that started it; a failing test prints its logs.

pub mod binary;
mod newcomer;
pub mod ports;
pub mod process;

use crate::device::Device;
use crate::http::status_of;
use crate::token::Key;
use crate::wait;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use std::ffi::OsString;
use std::fs::File;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::sync::atomic::{AtomicU16, Ordering};
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::Duration;

/// How long a cluster may take to serve, from nothing or after a crash.
const READY_WITHIN: Duration = Duration::from_mins(1);
/// Lines of each log that a failing test shows.
const LOG_TAIL: usize = 40;

/// How large a cluster is.
#[derive(Debug, Clone, Copy)]
pub struct Size {
    /// Nodes, from 1.
    pub nodes: u16,
    /// Shards, from 1.
    pub shards: u32,
}

impl Default for Size {
    fn default() -> Self {
        Self { nodes: 3, shards: 16 }
    }
}

/// Environment variables that every node is started with, each time.
pub type Environment = Vec<(&'static str, OsString)>;

/// A running cluster. Nodes are numbered from 1.
#[derive(Debug)]
pub struct Cluster {
    size: Size,
    environment: Environment,
    base_port: u16,
    directory: tempfile::TempDir,
    dev: Mutex<Child>,
    /// Nodes this fixture started again; the others are children of `dev`.
    restarted: Mutex<Vec<(u16, Child)>>,
    /// Nodes that were added to those it started with.
    added: AtomicU16,
    _guard: process::Guard,
}

impl Cluster {
    /// Starts a cluster with `messenger dev` and waits until every node is ready.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start(size: Size) -> Self {
        Self::start_with(size, |_| Environment::new())
    }

    /// The same, its nodes in an environment that is prepared in the cluster's own directory.
    ///
    /// # Panics
    /// When it does not come up.
    #[must_use]
    pub fn start_with(size: Size, prepare: impl FnOnce(&Path) -> Environment) -> Self {
        let directory = tempfile::Builder::new().prefix("messenger-test-").tempdir().expect("a temporary directory");
        let base_port = ports::free_base(size.nodes);
        let guard = process::Guard::over(directory.path());
        let environment = prepare(directory.path());
        let log = File::create(directory.path().join("dev.log")).expect("the directory is writable");
        let dev = Command::new(binary::messenger())
            .arg("dev")
            .args(["--nodes", &size.nodes.to_string(), "--shards", &size.shards.to_string()])
            .args(["--base-port", &base_port.to_string()])
            .arg("--data")
            .arg(directory.path().join("data"))
            .envs(environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        let (dev, restarted) = (Mutex::new(dev), Mutex::default());
        let added = AtomicU16::new(0);
        let cluster = Self { size, environment, base_port, directory, dev, restarted, added, _guard: guard };
        cluster.wait_ready();
        // It asks the nodes itself, one by one: until it has said so, a node that a test kills is one that did not start.
        wait::until("messenger dev says so", READY_WITHIN, || {
            cluster.dev_output().contains("nodes are ready").then_some(())
        });
        cluster
    }

    /// The default cluster that tests of one file share while any of them runs, for those that harm no node.
    #[must_use]
    pub fn shared() -> Arc<Self> {
        static SHARED: Mutex<Weak<Cluster>> = Mutex::new(Weak::new());
        // A start that panicked left nothing behind.
        let mut shared = SHARED.lock().unwrap_or_else(PoisonError::into_inner);
        shared.upgrade().unwrap_or_else(|| {
            let cluster = Arc::new(Self::start(Size::default()));
            *shared = Arc::downgrade(&cluster);
            cluster
        })
    }

    /// The numbers of its nodes.
    pub fn nodes(&self) -> std::ops::RangeInclusive<u16> {
        1..=self.size.nodes + self.added.load(Ordering::Relaxed)
    }

    /// Its size when it was started.
    #[must_use]
    pub fn size(&self) -> Size {
        self.size
    }

    /// Where a node listens for clients.
    #[must_use]
    pub fn client_addr(&self, node: u16) -> SocketAddr {
        self.addr(node, 0)
    }

    /// Where a node listens for other nodes.
    #[must_use]
    pub fn peer_addr(&self, node: u16) -> SocketAddr {
        self.addr(node, ports::PEER_OFFSET)
    }

    /// Where a node listens for operators.
    #[must_use]
    pub fn admin_addr(&self, node: u16) -> SocketAddr {
        self.addr(node, ports::ADMIN_OFFSET)
    }

    fn addr(&self, node: u16, offset: u16) -> SocketAddr {
        assert!(self.nodes().contains(&node), "there is no node {node}");
        (Ipv4Addr::LOCALHOST, self.base_port + offset + node - 1).into()
    }

    /// The cluster's own directory, which goes with it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The cluster's data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.directory.path().join("data")
    }

    /// A node's own directory.
    #[must_use]
    pub fn node_directory(&self, node: u16) -> PathBuf {
        self.data().join(format!("node-{node}"))
    }

    /// A node's configuration file, which also tells its process from others.
    #[must_use]
    pub fn config(&self, node: u16) -> PathBuf {
        self.node_directory(node).join("node.toml")
    }

    /// The process of `messenger dev`.
    #[must_use]
    pub fn dev_pid(&self) -> Pid {
        pid_of(&self.dev.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Waits until `messenger dev` has ended, and says how.
    #[must_use]
    pub fn wait_dev(&self) -> ExitStatus {
        let mut dev = self.dev.lock().unwrap_or_else(PoisonError::into_inner);
        wait::until("messenger dev ends", wait::PATIENCE, || dev.try_wait().ok().flatten())
    }

    /// What `messenger dev` said so far.
    #[must_use]
    pub fn dev_output(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("dev.log")).unwrap_or_default()
    }

    /// A node's process, while it runs.
    #[must_use]
    pub fn pid(&self, node: u16) -> Option<Pid> {
        process::with_argument(&self.config(node).to_string_lossy()).first().copied()
    }

    /// `kill -9`, without waiting for anything.
    pub fn strike(&self, node: u16) {
        if let Some(pid) = self.pid(node) {
            process::signal(pid, Signal::SIGKILL);
        }
    }

    /// `kill -9`, and the process is gone.
    pub fn kill(&self, node: u16) {
        self.strike(node);
        self.wait_gone(node);
    }

    /// `SIGTERM`, without waiting for anything.
    pub fn terminate(&self, node: u16) {
        if let Some(pid) = self.pid(node) {
            process::signal(pid, Signal::SIGTERM);
        }
    }

    /// Waits until a node's process has ended.
    pub fn wait_gone(&self, node: u16) {
        wait::until(&format!("node {node} ends"), wait::PATIENCE, || {
            // A process on its way out has no arguments any more, and yet its files: one's own child is waited for.
            let runs = self.is_own(node) && self.exit_status(node).is_none();
            (!runs && self.pid(node).is_none() && self.is_unbound(node)).then_some(())
        });
    }

    /// Whether nobody listens where a node does: one that `dev` started may have no arguments any more, and yet its sockets.
    fn is_unbound(&self, node: u16) -> bool {
        let addresses = [self.client_addr(node), self.peer_addr(node), self.admin_addr(node)];
        addresses.into_iter().all(|address| TcpListener::bind(address).is_ok())
    }

    /// Whether this fixture, and not `dev`, started a node last.
    fn is_own(&self, node: u16) -> bool {
        let restarted = self.restarted.lock().unwrap_or_else(PoisonError::into_inner);
        restarted.iter().any(|(own, _)| *own == node)
    }

    /// How a node that this fixture restarted has ended; `None` while it runs, or when `dev` started it.
    #[must_use]
    pub fn exit_status(&self, node: u16) -> Option<ExitStatus> {
        let mut restarted = self.restarted.lock().unwrap_or_else(PoisonError::into_inner);
        let (_, child) = restarted.iter_mut().rev().find(|(own, _)| *own == node)?;
        child.try_wait().ok().flatten()
    }

    /// Starts a node again from the arguments `messenger dev` gave it, without waiting until it is ready.
    ///
    /// # Panics
    /// When it runs.
    pub fn start_node(&self, node: u16) {
        self.start_node_with(node, &[]);
    }

    /// The same with more arguments.
    ///
    /// # Panics
    /// When it runs.
    pub fn start_node_with(&self, node: u16, arguments: &[&str]) {
        assert!(self.pid(node).is_none(), "node {node} runs");
        let log = File::options().append(true).create(true).open(self.node_directory(node).join("log"));
        let log = log.expect("the node's directory is writable");
        let child = Command::new(binary::messenger())
            .args(["serve", "--config"])
            .arg(self.config(node))
            .args(arguments)
            .envs(self.environment.iter().cloned())
            .stdin(Stdio::null())
            .stdout(log.try_clone().expect("a file handle can be cloned"))
            .stderr(log)
            .spawn()
            .expect("the binary starts");
        self.restarted.lock().unwrap_or_else(PoisonError::into_inner).push((node, child));
    }

    /// Starts a node again and waits until it is ready.
    pub fn restart(&self, node: u16) {
        self.start_node(node);
        self.wait_node_ready(node);
    }

    /// Waits until every node is ready.
    pub fn wait_ready(&self) {
        for node in self.nodes() {
            self.wait_node_ready(node);
        }
    }

    /// Waits until a node is ready.
    pub fn wait_node_ready(&self, node: u16) {
        let what = format!("node {node} is ready");
        wait::until(&what, READY_WITHIN, || (self.ready_status(node) == Some(200)).then_some(()));
    }

    /// The status of a node's `/readyz`; `None` when it doesn't answer.
    #[must_use]
    pub fn ready_status(&self, node: u16) -> Option<u16> {
        status_of(self.client_addr(node), "/readyz")
    }

    /// Runs a command of the binary in the cluster's directory.
    ///
    /// # Panics
    /// When the binary does not start.
    #[must_use]
    pub fn messenger(&self, arguments: &[&str]) -> Output {
        Command::new(binary::messenger())
            .args(arguments)
            .current_dir(self.directory.path())
            .stdin(Stdio::null())
            .output()
            .expect("the binary starts")
    }

    /// The cluster's key, to sign tokens with, good and bad.
    #[must_use]
    pub fn key(&self) -> Key {
        Key::of(&self.data())
    }

    /// A user's device that talks to one node.
    #[must_use]
    pub fn device(&self, node: u16, user: &str, device: &str) -> Device {
        Device::new(self.client_addr(node), user, device, self.key().token(user, device))
    }

    /// What `messenger cluster status --output json` prints, asked of one node.
    ///
    /// # Panics
    /// When it is no JSON.
    #[must_use]
    pub fn status(&self, node: u16) -> Value {
        let admin = format!("http://{}", self.admin_addr(node));
        let output = self.messenger(&["cluster", "status", "--output", "json", "--admin", &admin]);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {output:?}"))
    }

    /// Waits until each shard is led by the node that the cluster prefers, and says by which: from then on nothing moves
    /// without need. A cluster is ready some seconds before.
    ///
    /// # Panics
    /// When it takes too long.
    #[must_use]
    pub fn settled_leaders(&self) -> Vec<u16> {
        wait::until("all shards have the leaders they should have", wait::PATIENCE, || {
            let status = self.status(1);
            let led_as_preferred = |row: &Value| {
                let leader = row["leader"].as_u64()?;
                let preferred = row["replicas"][0]["node"].as_u64()?;
                u16::try_from(leader).ok().filter(|_| leader == preferred)
            };
            // In order of shard.
            status["shards"].as_array()?.iter().map(led_as_preferred).collect()
        })
    }

    /// The node that leads a shard, as far as `asked` knows.
    #[must_use]
    pub fn leader_of(&self, asked: u16, shard: u32) -> Option<u16> {
        let status = self.status(asked);
        let shards = status["shards"].as_array()?;
        let row = shards.iter().find(|row| row["id"] == shard)?;
        u16::try_from(row["leader"].as_u64()?).ok()
    }

    /// Prints the end of every log.
    pub fn print_logs(&self) {
        print_tail(&self.directory.path().join("dev.log"));
        for node in self.nodes() {
            print_tail(&self.node_directory(node).join("log"));
        }
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        if std::thread::panicking() {
            self.print_logs();
        }
        process::kill_all(self.directory.path());
        let _reaped = self.dev.lock().unwrap_or_else(PoisonError::into_inner).wait();
        for (_, child) in self.restarted.lock().unwrap_or_else(PoisonError::into_inner).iter_mut() {
            let _reaped = child.wait();
        }
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(i32::try_from(child.id()).expect("process ids are positive 32-bit numbers"))
}

fn print_tail(log: &Path) {
    let text = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = text.lines().collect();
    eprintln!("--- {}", log.display());
    for line in &lines[lines.len().saturating_sub(LOG_TAIL)..] {
        eprintln!("{line}");
    }
}
