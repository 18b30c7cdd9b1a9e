//! What users report.
//!
//! Owns: a page of `GET /admin/reports`.
//! Must not know: how reports are kept, how they are shown.

use crate::api::time::Rfc3339;
use serde::{Deserialize, Serialize};

/// Reports of all shards, in order of time. Who shows them as they came reads rows as raw JSON.
#[derive(Debug, Serialize, Deserialize)]
pub struct Reports<Row = ReportRow> {
    /// The oldest first.
    pub reports: Vec<Row>,
    /// Where the next page begins, if there is more.
    pub next_cursor: Option<String>,
    /// Shards whose reports are not among them.
    pub unanswered_shards: Vec<u64>,
}

/// One report: of a message, a thread or a user, which has the members that go with it.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ReportRow {
    /// Its id.
    pub report_id: String,
    /// When it was filed.
    pub at: Option<Rfc3339>,
    /// By whom.
    pub reporter: String,
    /// By which device.
    pub reporter_device: String,
    /// Why.
    pub reason: String,
    /// In the reporter's words.
    pub note: Option<String>,
    /// The message.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub message_id: Option<String>,
    /// Its number in its thread.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub seq: Option<u64>,
    /// Who sent it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_id: Option<String>,
    /// From which device.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sender_device_id: Option<String>,
    /// When.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub sent_at: Option<Rfc3339>,
    /// The thread, the message's as well.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_id: Option<String>,
    /// Who made the thread that is reported.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub thread_created_by: Option<String>,
    /// The user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user_id: Option<String>,
}
