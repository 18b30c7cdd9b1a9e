//! Records of writes.
//!
//! Owns: a page of `GET /admin/audit`.
//! Must not know: what is in a record; it is told as it was written.

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

/// Records of all nodes, in order of time.
#[derive(Debug, Serialize, Deserialize)]
pub struct AuditRecords {
    /// Each as its node wrote it.
    pub records: Vec<Box<RawValue>>,
    /// Where the next page begins, if there is more.
    pub next_cursor: Option<String>,
    /// Nodes whose records are not among them.
    pub unanswered: Vec<u64>,
    /// The ends of the logs, to be noted elsewhere.
    pub ends: Vec<AuditEnd>,
}

/// Where one of a node's logs ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct AuditEnd {
    /// The node.
    pub node: u64,
    /// `writes` or `refused`.
    pub log: String,
    /// The number of its last record.
    pub n: u64,
    /// The chain up to it: 64 hexadecimal digits.
    pub chain: String,
}
