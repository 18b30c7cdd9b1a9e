//! The record of reading: marks that were moved, how messages stood meanwhile, and what was told of it.
//!
//! Owns: the shapes of that part of the record.
//! Must not know: how it came about, or what is right.

use super::{Ear, Fate, Thread, Tick};
use std::collections::BTreeMap;

/// A user's attempt to move its read mark.
#[derive(Debug, Clone)]
pub struct Marking {
    /// Who.
    pub by: String,
    /// Where.
    pub thread: Thread,
    /// To which message.
    pub up_to: String,
    /// Before the first attempt.
    pub began: Tick,
    /// After the last answer.
    pub ended: Tick,
    /// How it ended.
    pub fate: Fate,
}

/// How far a message got with one recipient.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stand {
    /// Who.
    pub recipient: String,
    /// The state, as nodes call it.
    pub state: String,
    /// When it was delivered.
    pub delivered_at: Option<String>,
    /// When it was read.
    pub read_at: Option<String>,
}

/// A look at a message's recipients.
#[derive(Debug, Clone)]
pub struct Look {
    /// Where.
    pub thread: Thread,
    /// Which message.
    pub message: String,
    /// Before the question.
    pub began: Tick,
    /// After the answer.
    pub ended: Tick,
    /// Its recipients.
    pub stands: Vec<Stand>,
}

/// A receipt as a device heard it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipt {
    /// Which of the device's connections, in order.
    pub connection: u32,
    /// Where.
    pub thread: Thread,
    /// Read, not only delivered.
    pub read: bool,
    /// Who.
    pub by: String,
    /// The newest message it covers.
    pub up_to: String,
}

/// A user's place in a thread, as a node's list of its threads has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Place {
    /// Its read mark.
    pub last_read: Option<String>,
    /// Messages of others after it.
    pub unread: u32,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Receipts {
    /// Every mark that was moved, or not.
    pub markings: Vec<Marking>,
    /// Looks at messages, during the run and after it.
    pub looks: Vec<Look>,
    /// What each device heard.
    pub heard: BTreeMap<Ear, Vec<Receipt>>,
    /// Each user's place in each thread after the run, as every node tells it.
    pub places: BTreeMap<(String, Thread), BTreeMap<u16, Place>>,
}
