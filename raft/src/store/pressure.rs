//! How close storage is to its limits.
//!
//! Owns: the figures by which new work is shed.
//! Must not know: what is shed.

use super::engine::Engine;
use super::writer::LogWriter;

/// Figures of one moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pressure {
    /// The database refuses writes until it has caught up.
    pub write_stopped: bool,
    /// The database has slowed writes down.
    pub write_delayed: bool,
    /// Bytes that wait for the log writer.
    pub queued_bytes: usize,
    /// Bytes left on the disk; `None` when that is unknown.
    pub disk_free_bytes: Option<u64>,
}

impl Pressure {
    pub(super) fn read(engine: &Engine, writer: &LogWriter) -> Self {
        // A figure that can't be had counts as no pressure.
        let figure = |name: &str| engine.db().property_int_value(name).ok().flatten().unwrap_or(0);
        Self {
            write_stopped: figure("rocksdb.is-write-stopped") > 0,
            write_delayed: figure("rocksdb.actual-delayed-write-rate") > 0,
            queued_bytes: writer.queued_bytes(),
            disk_free_bytes: disk_free(engine.root()),
        }
    }
}

fn disk_free(path: &std::path::Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some(stat.blocks_available() * stat.fragment_size())
}
