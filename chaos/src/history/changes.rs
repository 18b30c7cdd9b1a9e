//! The record of threads whose messages are changed: what was tried, told and heard of them.
//!
//! Owns: the shapes of that part of the record.
//! Must not know: how it came about, or what is right.

use super::{Ear, Fate, Origin, Send, Thread};
use std::collections::BTreeMap;

/// What was done to a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Deed {
    /// It was to say this.
    Edit(String),
    /// It was to say nothing any more.
    Delete,
}

/// A change of a message, by its sender. Those of one message follow one another, and none follows one whose outcome is
/// unknown but a deletion.
#[derive(Debug, Clone)]
pub struct Change {
    /// The message.
    pub id: String,
    /// What was done.
    pub deed: Deed,
    /// How it ended.
    pub fate: Fate,
}

/// An emoji put on a message, or taken off it. Those of one user, message and emoji follow one another, and none follows
/// one whose outcome is unknown.
#[derive(Debug, Clone)]
pub struct Reacting {
    /// The message.
    pub id: String,
    /// Who.
    pub by: String,
    /// Which emoji.
    pub emoji: String,
    /// Put on, not taken off.
    pub present: bool,
    /// How it ended.
    pub fate: Fate,
}

/// A message as a node tells it, with all that can change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Standing {
    /// Its id.
    pub id: String,
    /// Its event number.
    pub seq: u64,
    /// Who sent it, and that device's number of it.
    pub origin: Origin,
    /// What it says, if anything.
    pub body: Option<String>,
    /// Whether it says that it was edited.
    pub edited: bool,
    /// Whether it was deleted.
    pub deleted: bool,
    /// Each emoji and user, as often as the node names them.
    pub reactions: Vec<(String, String)>,
}

/// What a numbered frame says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum What {
    /// A message, as it is now.
    Message {
        /// Its id.
        id: String,
        /// What it says, if anything.
        body: Option<String>,
        /// Whether it was deleted.
        deleted: bool,
    },
    /// It says something else.
    Edit {
        /// The message's id.
        id: String,
        /// What it says, if anything.
        body: Option<String>,
    },
    /// It says nothing any more.
    Delete {
        /// The message's id.
        id: String,
    },
    /// An emoji came or went.
    Reaction {
        /// The message's id.
        id: String,
        /// Which emoji.
        emoji: String,
        /// Whose.
        by: String,
        /// It came.
        present: bool,
    },
    /// The thread itself changed.
    Thread(String),
}

/// A numbered frame as a device heard it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Event {
    /// Which of the device's connections, in order.
    pub connection: u32,
    /// Its number among the thread's events.
    pub seq: u64,
    /// What it says.
    pub what: What,
}

/// A thread in the end, as a node tells it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Told {
    /// The number of its newest event.
    pub last_seq: u64,
    /// Its messages, oldest first.
    pub messages: Vec<Standing>,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Changes {
    /// The threads, each with the number of its newest event before anybody spoke.
    pub threads: BTreeMap<Thread, u64>,
    /// Every message that was tried.
    pub sends: Vec<Send>,
    /// Every change that was tried, those of a message in their order.
    pub changes: Vec<Change>,
    /// Every reaction that was tried, those of a message, user and emoji in their order.
    pub reactions: Vec<Reacting>,
    /// Each thread after the run, as every node tells it.
    pub told: BTreeMap<Thread, BTreeMap<u16, Told>>,
    /// What each device heard of each thread, in the order it did.
    pub heard: BTreeMap<(Ear, Thread), Vec<Event>>,
}

impl Changes {
    /// The edits of a message that were tried, in their order.
    pub fn edits_of(&self, id: &str) -> impl Iterator<Item = &Change> {
        self.changes.iter().filter(move |change| change.id == id && matches!(change.deed, Deed::Edit(_)))
    }

    /// A thread as the first node tells it; that every node tells the same is an invariant of its own.
    #[must_use]
    pub fn last_told(&self, thread: &str) -> Option<&Told> {
        self.told.get(thread).and_then(|nodes| nodes.values().next())
    }
}
