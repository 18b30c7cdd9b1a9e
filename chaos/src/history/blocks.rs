//! The record of a group in which one user keeps another away, on and off.
//!
//! Owns: the shapes of that part of the record.
//! Must not know: how it came about, or what is right.

use super::changes::Event;
use super::{Fate, Send, Tick};
use std::collections::BTreeMap;

/// A block set or lifted. They follow one another, and none follows one of which an attempt's outcome is unknown.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Set, not lifted.
    pub on: bool,
    /// Before the first attempt.
    pub began: Tick,
    /// After the last answer.
    pub ended: Tick,
    /// How it ended.
    pub fate: Fate,
}

/// What a member of the group is shown of it.
#[derive(Debug, Clone, Default)]
pub struct Shown {
    /// Its messages, oldest first, as every node tells it after the run.
    pub told: BTreeMap<u16, Vec<String>>,
    /// What its device heard, in the order it did.
    pub heard: Vec<Event>,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Blocks {
    /// Who is kept away.
    pub talker: String,
    /// What the blocker did, in its order.
    pub turns: Vec<Turn>,
    /// Every message that was tried, by the talker and another.
    pub sends: Vec<Send>,
    /// What the blocker is shown.
    pub blocker: Shown,
    /// What somebody is shown who keeps nobody away.
    pub witness: Shown,
    /// How far each message of the talker's got with the blocker, after the run.
    pub states: BTreeMap<String, String>,
    /// Whom the blocker keeps away after the run, as every node tells it.
    pub lists: BTreeMap<u16, Vec<String>>,
}
