//! What a node records of writes.
//!
//! Owns: the shape, defaults and bounds of `[audit]`.
//! Must not know: what a record says.

use super::check::{Problems, within};
use serde::{Deserialize, Serialize};

/// The audit log of a node, in `audit/` of its data directory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AuditConfig {
    /// Whether there is one.
    pub enabled: bool,
    /// Days that records are kept, at most: 1 to 3,650.
    pub keep_days: u32,
    /// Bytes of all files at most, and a segment: 1 MiB to 1 TiB. A quarter of it is for refused writes, so that these push
    /// out no others.
    pub max_bytes: u64,
}

impl Default for AuditConfig {
    fn default() -> Self {
        Self { enabled: true, keep_days: 30, max_bytes: 4 << 30 }
    }
}

impl AuditConfig {
    pub(super) fn is_default(&self) -> bool {
        *self == Self::default()
    }

    pub(super) fn check(&self, found: &mut Problems) {
        found.add(within("audit.keep_days", self.keep_days.into(), 1..=3_650));
        found.add(within("audit.max_bytes", self.max_bytes, 1 << 20..=1 << 40));
    }
}
