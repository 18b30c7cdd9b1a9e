//! The record of keys: what devices published, who took what, and how many nodes say are left.
//!
//! Owns: the shapes of that part of the record.
//! Must not know: how it came about, or what is right.

use super::{Fate, Tick};
use std::collections::BTreeMap;

/// A one-time key: its number and itself.
pub type Key = (u64, Vec<u8>);

/// A device's attempt to publish.
#[derive(Debug, Clone)]
pub struct Publication {
    /// Which device's.
    pub device: String,
    /// The one-time keys.
    pub keys: Vec<Key>,
    /// After the last answer.
    pub ended: Tick,
    /// How it ended.
    pub fate: Fate,
}

/// What a taker was told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Answer {
    /// Something of some devices.
    Given {
        /// The key of each device that gave one, its last resort included.
        keys: BTreeMap<String, Key>,
        /// Devices that had nothing.
        exhausted: Vec<String>,
    },
    /// No device asked for had anything.
    Exhausted,
    /// Nothing for sure, and nothing was taken.
    Refused,
    /// Nobody knows.
    Unknown,
}

/// One request for keys, with all its attempts.
#[derive(Debug, Clone)]
pub struct Taking {
    /// Who.
    pub by: String,
    /// Under which idempotency key.
    pub under: String,
    /// Of this device alone, or of all.
    pub device: Option<String>,
    /// Before the first attempt.
    pub began: Tick,
    /// After the last answer.
    pub ended: Tick,
    /// Whether an attempt that was not answered may have taken something, or may yet.
    pub doubted: bool,
    /// What came of it.
    pub answer: Answer,
}

/// All of it; one user's devices, as many takers.
#[derive(Debug, Clone, Default)]
pub struct Keys {
    /// The devices, each with the number of its last resort if it has one.
    pub devices: BTreeMap<String, Option<u64>>,
    /// Everything that was published.
    pub publications: Vec<Publication>,
    /// Everything that was asked for.
    pub takings: Vec<Taking>,
    /// The same requests once more, under the same keys, long after they were answered.
    pub repeats: Vec<Taking>,
    /// When the nodes were asked what is left: what is taken from then on is taken to see that it is there.
    pub counted: Tick,
    /// How many one-time keys each device had left then, as every node tells it.
    pub left: BTreeMap<String, BTreeMap<u16, u32>>,
}

impl Keys {
    /// What was published, for sure or perhaps.
    pub fn published(&self) -> impl Iterator<Item = &Publication> {
        self.publications.iter().filter(|one| !matches!(one.fate, Fate::Refused(_)))
    }
}
