//! The record of a group whose messages say something else to each device.
//!
//! Owns: the shapes of that part of the record.
//! Must not know: how it came about, or what is right.

use super::changes::Event;
use super::{Fate, Outcome, Tick};
use std::collections::BTreeMap;

/// A device, as `user/device`.
pub type Recipient = String;

/// What a device is sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Letter {
    /// The registration it was made for.
    pub registration: u64,
    /// What it says; no two letters say the same.
    pub body: String,
}

/// A message in envelopes that was tried, one for each device. What was refused is tried again with others, under the
/// same number, as a message of its own.
#[derive(Debug, Clone)]
pub struct Sealed {
    /// The sending device's own number of it.
    pub client_seq: u64,
    /// What each device is sent.
    pub letters: BTreeMap<Recipient, Letter>,
    /// Before the first attempt.
    pub began: Tick,
    /// After the last answer.
    pub ended: Tick,
    /// How it ended; refused is what did not match the devices.
    pub outcome: Outcome,
}

/// A device's attempt to give itself a new registration.
#[derive(Debug, Clone)]
pub struct Registration {
    /// Which device.
    pub device: Recipient,
    /// The new one.
    pub id: u64,
    /// Before the first attempt.
    pub began: Tick,
    /// After the last answer.
    pub ended: Tick,
    /// How it ended.
    pub fate: Fate,
}

/// A message as a node tells it to a device.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Opened {
    /// Its id.
    pub id: String,
    /// What it says to the device, if anything.
    pub body: Option<String>,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Envelopes {
    /// Every message that was tried.
    pub sends: Vec<Sealed>,
    /// New registrations, those of a device in their order; each device begins with 1.
    pub registrations: Vec<Registration>,
    /// The group's messages after the run, oldest first, as every node tells them to each device.
    pub told: BTreeMap<Recipient, BTreeMap<u16, Vec<Opened>>>,
    /// What each device heard, in the order it did.
    pub heard: BTreeMap<Recipient, Vec<Event>>,
}
