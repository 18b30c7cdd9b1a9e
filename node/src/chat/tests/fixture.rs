//! People at terminals, and the nodes they chat through.

use super::super::conversation::{ChatConfig, ChatError, converse};
use super::super::input::{Console, Line};
use super::super::open::Target;
use super::super::screen::Screen;
use messenger_client::testing::{FakeCluster, Who, minted_for};
use messenger_proto::ids::{DeviceId, UserId};
use std::io::Write;
use std::path::Path;
use std::time::Duration;
use tempfile::TempDir;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;

pub(super) struct Shown(pub(super) mpsc::UnboundedSender<String>);

impl Write for Shown {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0.send(String::from_utf8_lossy(bytes).into_owned()).map_err(std::io::Error::other)?;
        Ok(bytes.len())
    }
    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

/// Some nodes, and the disks of those who chat through them.
pub(super) struct Place {
    pub(super) cluster: FakeCluster,
    pub(super) disks: TempDir,
}

impl Place {
    pub(super) async fn new(nodes: usize) -> Self {
        Self { cluster: FakeCluster::start(nodes).await, disks: tempfile::tempdir().unwrap() }
    }

    pub(super) fn sit_down(&self, user: &str, device: &str) -> Person {
        Person::sit_down(&self.cluster, self.disks.path(), user, device)
    }

    /// With devices of both that know each other's keys.
    pub(super) async fn both(&self) -> (Person, Person) {
        let alice = self.sit_down("alice", "phone");
        self.has_keys(1).await;
        let bob = self.sit_down("bob", "phone");
        self.has_keys(2).await;
        (alice, bob)
    }

    pub(super) async fn has_keys(&self, devices: usize) {
        self.cluster.until(|memory| (memory.devices.len() == devices).then_some(())).await;
    }

    pub(super) async fn connected(&self, times: usize) {
        self.cluster.until(|memory| (memory.resumes.len() >= times).then_some(())).await;
    }
}

pub(super) struct Person {
    pub(super) types: mpsc::Sender<Line>,
    pub(super) edits: watch::Sender<bool>,
    pub(super) sees: mpsc::UnboundedReceiver<String>,
    pub(super) chat: JoinHandle<Result<(), ChatError>>,
}

impl Person {
    pub(super) fn sit_down(cluster: &FakeCluster, disks: &Path, user: &str, device: &str) -> Self {
        let (types, lines) = mpsc::channel(8);
        let (shown, sees) = mpsc::unbounded_channel();
        let who: Who = (UserId::new(user).unwrap(), DeviceId::new(device).unwrap());
        let other = if user == "alice" { "bob" } else { "alice" };
        let config = ChatConfig {
            servers: cluster.servers(),
            token: minted_for(who.clone()),
            user: who.0,
            device: who.1,
            target: Target::With(UserId::new(other).unwrap()),
            store: disks.to_owned(),
            history: 2,
            colours: false,
            tells_typing: user != "bob",
        };
        let (edits, edited) = watch::channel(false);
        let console = Console { lines, edited, screen: Screen::Plain(Box::new(Shown(shown))), terminal: false };
        let chat = tokio::spawn(converse(config, move || console));
        Self { types, edits, sees, chat }
    }

    pub(super) async fn types(&self, text: &str) {
        self.types.send(Line::parse(text)).await.unwrap();
    }

    /// Waits for a line with this text.
    pub(super) async fn sees(&mut self, text: &str) -> String {
        let mut seen = Vec::new();
        let wait = async {
            loop {
                let line = self.sees.recv().await.expect("the chat is over");
                if line.contains(text) {
                    return line;
                }
                seen.push(line);
            }
        };
        timeout(Duration::from_secs(20), wait).await.unwrap_or_else(|_| panic!("{text:?} within 20 s, but {seen:#?}"))
    }

    pub(super) async fn leaves(&mut self) {
        self.types("/quit").await;
        timeout(Duration::from_secs(20), &mut self.chat).await.expect("at once").unwrap().unwrap();
    }

    /// `kill -9`.
    pub(super) async fn dies(self) {
        self.chat.abort();
        assert!(self.chat.await.unwrap_err().is_cancelled());
    }

    pub(super) fn seen(&mut self) -> Vec<String> {
        let mut lines = Vec::new();
        while let Ok(line) = self.sees.try_recv() {
            lines.push(line);
        }
        lines
    }
}
