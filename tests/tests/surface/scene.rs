//! A cluster in which one node leads all that is asked for, and clients talk to the others.

use messenger_proto::ids::{ThreadId, UserId};
use messenger_proto::slot::Slot;
use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::described::Described;
use messenger_tests::device::{Device, text, unique};
use messenger_tests::ledger::Ledger;
use messenger_tests::socket::Socket;
use serde_json::{Value, json};
use std::net::SocketAddr;
use std::sync::Arc;

/// The node that leads whatever is asked for.
pub const LEADS: u16 = 3;

pub struct Scene {
    pub cluster: Cluster,
    pub ledger: Arc<Ledger>,
}

impl Scene {
    pub async fn start() -> Self {
        let cluster = Cluster::start(Size::default());
        let leaders: Vec<SocketAddr> =
            cluster.settled_leaders().into_iter().map(|node| cluster.client_addr(node)).collect();
        let ledger = Ledger::new(Described::of(cluster.client_addr(1)).await, leaders);
        Self { cluster, ledger }
    }

    /// Checks that the leaders are where they were when the run began; one that was lost on the way is waited for.
    pub fn still_leads(&self) {
        let now: Vec<SocketAddr> =
            self.cluster.settled_leaders().into_iter().map(|node| self.cluster.client_addr(node)).collect();
        assert_eq!(now, self.ledger.leaders());
    }

    fn is_led_there(&self, slot: Slot) -> bool {
        self.ledger.leader(slot) == self.cluster.client_addr(LEADS)
    }

    /// A new user that `LEADS` leads.
    pub fn user(&self, name: &str) -> String {
        loop {
            let user = unique(name);
            let id: UserId = user.parse().expect("a user id");
            if self.is_led_there(Slot::of_user(&id)) {
                return user;
            }
        }
    }

    /// A device of a user that talks to `node`, which is not `LEADS`.
    pub fn device(&self, node: u16, user: &str, device: &str) -> Device {
        assert_ne!(node, LEADS);
        self.cluster.device(node, user, device).watched(&self.ledger)
    }

    /// The same with a token of another kind.
    pub fn bearing(&self, node: u16, user: &str, token: String) -> Device {
        Device::new(self.cluster.client_addr(node), user, "phone", token).watched(&self.ledger)
    }

    /// A new user's phone.
    pub fn phone(&self, node: u16, name: &str) -> Device {
        self.device(node, &self.user(name), "phone")
    }

    fn is_thread_there(&self, thread: &str) -> bool {
        self.is_led_there(Slot::of_thread(thread.parse::<ThreadId>().expect("a thread id")))
    }

    /// A group that `LEADS` leads.
    pub async fn group(&self, by: &Device, others: &[&str]) -> String {
        loop {
            let thread = by.group("a title", others).await;
            if self.is_thread_there(&thread) {
                return thread;
            }
        }
    }

    /// The id of a thread that was never made, and that `LEADS` would lead.
    pub fn no_such_thread(&self) -> ThreadId {
        loop {
            let thread = ThreadId(*uuid::Uuid::new_v4().as_bytes());
            if self.is_led_there(Slot::of_thread(thread)) {
                return thread;
            }
        }
    }

    /// Two phones at different nodes, and their thread.
    pub async fn pair(&self) -> (Device, Device, String) {
        let hers = self.phone(1, "alice");
        loop {
            let his = self.phone(2, "bob");
            let thread = hers.one_to_one(&his.user).await;
            if self.is_thread_there(&thread) {
                return (hers, his, thread);
            }
        }
    }
}

/// A connection that has caught up.
pub async fn online(device: &Device) -> Socket {
    let mut socket = device.connect().await;
    socket.catch_up().await;
    socket
}

/// The ids of a page.
pub fn ids_of(page: &Value, list: &str) -> Vec<String> {
    page[list].as_array().expect("a page is a list").iter().map(|row| text(row, "id")).collect()
}

/// A POST under a key of its own.
pub async fn post(device: &Device, path: &str, body: &Value) -> messenger_tests::http::Answer {
    device.post(path, &[("idempotency-key", &unique("key"))], body).await
}

/// An emoji, and how it is written in a path.
pub const EMOJI: (&str, &str) = ("\u{1f44d}", "%F0%9F%91%8D");

/// A body of a text.
pub fn saying(client_seq: u64, said: &str) -> Value {
    json!({"client_seq": client_seq, "ciphertext": messenger_tests::device::base64(said)})
}
