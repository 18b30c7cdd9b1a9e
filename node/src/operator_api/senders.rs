//! Who sends how much.
//!
//! Owns: the JSON of `GET /admin/senders`.
//! Must not know: how it is counted.

use serde::{Deserialize, Serialize};

/// Those who send the most, the first first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Senders {
    /// Seconds that are counted, up to now.
    pub window_s: u32,
    /// In the order that was asked for.
    pub senders: Vec<SenderRow>,
    /// Nodes whose counts are missing.
    pub unanswered: Vec<u64>,
}

/// What one user sent.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SenderRow {
    /// The user.
    pub user_id: String,
    /// Messages.
    pub sends: u64,
    /// Of the busiest ten minutes, a minute.
    pub peak_sends_per_minute: f64,
    /// Members that messages went to, added up.
    pub recipients: u64,
    /// The most that one message went to.
    pub recipients_max: u32,
    /// Messages by how many members they went to.
    pub fan_out: FanOut,
    /// Threads made.
    pub new_threads: u64,
    /// Writes that were refused.
    pub refused: u64,
}

/// Messages by how many members they went to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FanOut {
    /// To one.
    #[serde(rename = "1")]
    pub one: u64,
    /// To a few.
    #[serde(rename = "2-9")]
    pub few: u64,
    /// To many.
    #[serde(rename = "10-49")]
    pub many: u64,
    /// To more.
    #[serde(rename = "50+")]
    pub most: u64,
}
