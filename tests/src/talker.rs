//! A `messenger chat` as a script holds it: lines in, lines out.
//!
//! Owns: starting the process, typing, and waiting for what it shows.
//! Must not know: how a chat works; it sees what a person sees.
//! Invariants: the process ends with the value.

use crate::cluster::{Cluster, binary};
use crate::wait;
use std::io::{BufRead, BufReader, Write};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

/// How long a line may take to show: longer than a leader takes to be replaced.
const SHOWN_WITHIN: Duration = Duration::from_mins(1);

/// A running chat.
#[derive(Debug)]
pub struct Talker {
    /// Whose.
    pub user: String,
    /// On which device.
    pub device: String,
    child: Child,
    keys: Option<ChildStdin>,
    shown: Arc<Mutex<Vec<String>>>,
}

impl Talker {
    /// Starts the chat of a user's device with somebody, through any of the nodes, one of them first.
    ///
    /// # Panics
    /// When the binary does not start.
    #[must_use]
    pub fn start(cluster: &Cluster, first: u16, user: &str, device: &str, with: &str) -> Self {
        let count = *cluster.nodes().end();
        let nodes = cluster.nodes().map(|node| (node + first - 2) % count + 1);
        let servers: Vec<String> = nodes.map(|node| format!("http://{}", cluster.client_addr(node))).collect();
        let mut child = Command::new(binary::messenger())
            .args(["chat", "--as", user, "--device", device, "--with", with, "--server", &servers.join(",")])
            .arg("--data")
            .arg(cluster.data())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let (keys, out, err) = (child.stdin.take(), child.stdout.take(), child.stderr.take());
        let shown = Arc::new(Mutex::new(Vec::new()));
        let lines = Arc::clone(&shown);
        let note = move |line: String| lines.lock().unwrap_or_else(PoisonError::into_inner).push(line);
        let also = note.clone();
        std::thread::spawn(move || BufReader::new(out.expect("a pipe")).lines().map_while(Result::ok).for_each(note));
        std::thread::spawn(move || BufReader::new(err.expect("a pipe")).lines().map_while(Result::ok).for_each(also));
        Self { user: user.to_owned(), device: device.to_owned(), child, keys, shown }
    }

    /// All lines so far.
    #[must_use]
    pub fn shown(&self) -> Vec<String> {
        self.shown.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// Types a line.
    ///
    /// # Panics
    /// When the chat is over.
    pub fn types(&mut self, line: &str) {
        let keys = self.keys.as_mut().expect("the chat has not been left");
        writeln!(keys, "{line}").and_then(|()| keys.flush()).expect("the chat takes lines");
    }

    /// Waits for a line with this text.
    ///
    /// # Panics
    /// When none comes.
    pub fn sees(&self, text: &str) {
        let what = format!("{}'s {} sees {text:?}", self.user, self.device);
        let seen = || self.shown().iter().any(|line| line.contains(text)).then_some(());
        wait::until(&what, SHOWN_WITHIN, seen);
    }

    /// Waits for a line that ends in this text: one that is waiting to be sent says more.
    ///
    /// # Panics
    /// When none comes.
    pub fn sees_at_the_end(&self, text: &str) {
        let what = format!("{}'s {} sees a line that ends in {text:?}", self.user, self.device);
        let seen = || self.shown().iter().any(|line| line.ends_with(text)).then_some(());
        wait::until(&what, SHOWN_WITHIN, seen);
    }

    /// Leaves, and waits until the chat has ended.
    ///
    /// # Panics
    /// When it does not end well.
    pub fn leave(&mut self) {
        self.types("/quit");
        self.keys = None;
        let what = format!("{}'s {} leaves", self.user, self.device);
        let status = wait::until(&what, wait::PATIENCE, || self.child.try_wait().ok().flatten());
        assert!(status.success(), "{status}: {}", self.shown().join("\n"));
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
        self.keys = None;
    }
}

impl Drop for Talker {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("--- {}'s {}\n{}", self.user, self.device, self.shown().join("\n"));
        }
        self.kill();
    }
}
