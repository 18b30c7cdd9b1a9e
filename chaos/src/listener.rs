//! A device that listens, loses its connection, and comes back through another node.
//!
//! Owns: which numbered events it heard, of which thread, on which connection.
//! Must not know: who sends, or whether what it heard is right.
//! Invariants: it ends when it has heard each thread up to the end it is told, or when patience runs out.

use crate::history::Thread;
use crate::history::changes::{Event, What};
use crate::history::receipts::Receipt;
use messenger_tests::cluster::Cluster;
use messenger_tests::device::{Device, text, text_of};
use messenger_tests::socket::{Next, Socket, handshake};
use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::time::Duration;
use tokio::sync::watch;

/// Event numbers to wait for, per thread; `None` while the run goes on.
pub type Ends = Option<BTreeMap<Thread, u64>>;

/// How long a listener waits for what is still due once the run has ended.
const PATIENCE: Duration = Duration::from_mins(1);
/// How long one look at the connection lasts, before the run's end is looked at.
const GLANCE: Duration = Duration::from_millis(200);
/// Between two tries to connect.
const PAUSE: Duration = Duration::from_millis(50);
/// How often a frame is acknowledged.
const ACKS: f64 = 0.2;
/// How often, per frame, a device goes off the air by itself.
const LEAVES: f64 = 0.002;

/// What a device heard.
#[derive(Debug, Default)]
pub struct Hearing {
    /// The numbered events of each thread, in the order they came.
    pub events: BTreeMap<Thread, Vec<Event>>,
    /// The receipts, likewise.
    pub receipts: Vec<Receipt>,
}

/// A listening device.
pub struct Listener {
    through: Vec<Device>,
    random: StdRng,
    heard: Hearing,
    connection: u32,
    last_id: Option<String>,
}

impl Listener {
    /// A device of `user`.
    #[must_use]
    pub fn new(cluster: &Cluster, user: &str, random: StdRng) -> Self {
        Self::of(cluster, user, "ear", random)
    }

    /// The same, by the device's name.
    #[must_use]
    pub fn of(cluster: &Cluster, user: &str, device: &str, random: StdRng) -> Self {
        let device = cluster.device(1, user, device);
        let through = cluster.nodes().map(|node| device.at(cluster.client_addr(node))).collect();
        Self { through, random, heard: Hearing::default(), connection: 0, last_id: None }
    }

    /// Listens until everything up to the run's end was heard; what was.
    pub async fn run(mut self, mut ends: watch::Receiver<Ends>) -> Hearing {
        let mut deadline = None;
        while !self.has_heard(&ends.borrow_and_update()) {
            if ends.borrow().is_some() {
                let end = *deadline.get_or_insert_with(|| tokio::time::Instant::now() + PATIENCE);
                if tokio::time::Instant::now() > end {
                    break;
                }
            }
            match self.connect().await {
                Some(socket) => self.listen(socket, &mut ends, deadline).await,
                None => tokio::time::sleep(PAUSE).await,
            }
        }
        self.heard
    }

    fn has_heard(&self, ends: &Ends) -> bool {
        let Some(ends) = ends else { return false };
        ends.iter().all(|(thread, end)| {
            let heard = self.heard.events.get(thread).into_iter().flatten();
            heard.map(|heard| heard.seq).max().unwrap_or(0) >= *end
        })
    }

    async fn connect(&mut self) -> Option<Socket> {
        let device = &self.through[self.random.random_range(0..self.through.len())];
        let mut query = format!("device_id={}", device.device);
        // A client may or may not say where it is; what it acknowledged counts either way.
        if let Some(id) = self.last_id.as_ref().filter(|_| self.random.random_bool(0.5)) {
            query.push_str("&last_seen_id=");
            query.push_str(id);
        }
        let addr = device.http.addr();
        Socket::try_open(addr, handshake(addr, &query, Some(&device.token))).await.ok()
    }

    /// Listens until the connection ends, by its end or ours, or nothing is due any more.
    async fn listen(
        &mut self,
        mut socket: Socket,
        ends: &mut watch::Receiver<Ends>,
        deadline: Option<tokio::time::Instant>,
    ) {
        self.connection += 1;
        loop {
            match socket.next_within(GLANCE).await {
                Next::Frame(frame) => {
                    self.hear(&frame);
                    if self.random.random_bool(ACKS) {
                        socket.try_say(&json!({"t": "client_ack", "frame_seq": frame["frame_seq"]})).await;
                    }
                    if self.random.random_bool(LEAVES) {
                        return;
                    }
                }
                Next::Silence => {
                    let late = deadline.is_some_and(|deadline| tokio::time::Instant::now() > deadline);
                    // A run that has just ended starts the clock anew, in `run`.
                    let first_word = deadline.is_none() && ends.borrow().is_some();
                    if late || first_word || self.has_heard(&ends.borrow_and_update()) {
                        return;
                    }
                }
                Next::Closed(_) => return,
            }
        }
    }

    fn hear(&mut self, frame: &Value) {
        if let "delivered" | "read" = frame["t"].as_str().unwrap_or_default() {
            let read = frame["t"] == "read";
            let up_to = text(frame, if read { "up_to" } else { "id" });
            let (connection, thread, by) = (self.connection, text(frame, "thread_id"), text(frame, "by"));
            self.heard.receipts.push(Receipt { connection, thread, read, by, up_to });
        }
        let Some(what) = what(frame) else { return };
        if let What::Message { id, .. } = &what {
            self.last_id = Some(id.clone());
        }
        let seq = frame["seq"].as_u64().expect("an event has a number");
        let event = Event { connection: self.connection, seq, what };
        self.heard.events.entry(text(frame, "thread_id")).or_default().push(event);
    }
}

/// What a frame says of a thread, if it is one of its numbered events.
fn what(frame: &Value) -> Option<What> {
    let id = || text(frame, "id");
    let body = || frame["ciphertext"].is_string().then(|| text_of(frame));
    let what = match frame["t"].as_str()? {
        "msg" => What::Message { id: id(), body: body(), deleted: frame["deleted"] == true },
        "edit" => What::Edit { id: id(), body: body() },
        "del" => What::Delete { id: id() },
        "reaction" => {
            let (emoji, by, present) = (text(frame, "emoji"), text(frame, "by"), frame["op"] == "added");
            What::Reaction { id: id(), emoji, by, present }
        }
        "thread" => What::Thread(text(frame, "op")),
        _ => return None,
    };
    Some(what)
}
