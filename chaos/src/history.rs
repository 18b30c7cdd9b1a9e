//! The record of a run: what clients tried, were told and heard, and what every node answered in the end.
//!
//! Owns: the shapes of the record and the run's clock.
//! Must not know: how it came about, or what is right.
//! Invariants: all instants of one record come from one monotonic clock, so "ended before it began" is a fact.

pub mod blocks;
pub mod changes;
pub mod envelopes;
pub mod keys;
pub mod members;
pub mod receipts;

use std::collections::BTreeMap;
use std::time::Instant;

/// Microseconds since the run began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Tick(pub u64);

/// The run's clock.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// A clock that begins now.
    #[must_use]
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The time.
    #[must_use]
    pub fn now(&self) -> Tick {
        Tick(u64::try_from(self.0.elapsed().as_micros()).unwrap_or(u64::MAX))
    }
}

/// A thread's id, as clients write it.
pub type Thread = String;

/// Who sent a message: its device, and that device's own number of it in the thread.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Origin {
    /// The user.
    pub user: String,
    /// Its device.
    pub device: String,
    /// The `client_seq`.
    pub client_seq: u64,
}

/// How a send ended for its sender, after all its retries.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// It was acknowledged.
    Accepted {
        /// The message's id.
        id: String,
        /// Its event number.
        seq: u64,
    },
    /// Every attempt was refused before it could have an effect.
    Refused,
    /// The sender gave up without knowing.
    Unknown,
}

/// How anything but a send ended, after all its attempts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fate {
    /// It was acknowledged.
    Acknowledged,
    /// Every attempt was refused before it could have an effect, the last with this code.
    Refused(String),
    /// Nobody knows, nor when it comes into force if it does.
    Unknown,
}

/// One message that a sender tried to send.
#[derive(Debug, Clone)]
pub struct Send {
    /// Where to.
    pub thread: Thread,
    /// Who, and its number.
    pub origin: Origin,
    /// What it says.
    pub body: String,
    /// Before the first attempt.
    pub began: Tick,
    /// After the last answer.
    pub ended: Tick,
    /// How it ended.
    pub outcome: Outcome,
}

/// A message as a node tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stored {
    /// Its id.
    pub id: String,
    /// Its event number.
    pub seq: u64,
    /// Who sent it, and that device's number of it.
    pub origin: Origin,
    /// What it says.
    pub body: String,
}

/// A look at the end of a thread during the run.
#[derive(Debug, Clone)]
pub struct Glance {
    /// Which thread.
    pub thread: Thread,
    /// Before the question.
    pub began: Tick,
    /// The newest event number the answer holds; 0 for none.
    pub newest: u64,
}

/// A message as a device heard it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Heard {
    /// Which of the device's connections, in order.
    pub connection: u32,
    /// The message's id.
    pub id: String,
    /// Its event number.
    pub seq: u64,
}

/// A listening device.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub struct Ear {
    /// The user.
    pub user: String,
    /// Its device.
    pub device: String,
}

/// How far a replica of a shard has applied, as its node says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Replica {
    /// The shard.
    pub shard: u64,
    /// Where the replica is.
    pub node: u16,
    /// The last entry it applied.
    pub applied: u64,
    /// All it has applied up to there, as one number.
    pub digest: String,
}

/// All of a run.
#[derive(Debug, Clone, Default)]
pub struct Record {
    /// Every message that was tried.
    pub sends: Vec<Send>,
    /// Looks at threads during the run.
    pub glances: Vec<Glance>,
    /// What each device heard of each thread it is in, in the order it did.
    pub heard: BTreeMap<(Ear, Thread), Vec<Heard>>,
    /// Each thread's whole history, oldest first, as every node tells it after the run.
    pub told: BTreeMap<Thread, BTreeMap<u16, Vec<Stored>>>,
    /// Every replica of every shard after the run, at several moments.
    pub replicas: Vec<Replica>,
    /// Of threads whose messages are changed.
    pub changes: changes::Changes,
    /// Of keys that are published and taken.
    pub keys: keys::Keys,
    /// Of reading.
    pub receipts: receipts::Receipts,
    /// Of a group in which one user keeps another away.
    pub blocks: blocks::Blocks,
    /// Of a group whose members come and go.
    pub members: members::Members,
    /// Of a group whose messages say something else to each device.
    pub envelopes: envelopes::Envelopes,
}

impl Record {
    /// A thread's history as the first node tells it; the sequence invariant is what makes one node's word enough.
    #[must_use]
    pub fn history(&self, thread: &str) -> &[Stored] {
        self.told.get(thread).and_then(|nodes| nodes.values().next()).map_or(&[], Vec::as_slice)
    }
}
