//! How close storage is to its limits.
//!
//! Owns: the figures by which new work is shed before the database slows down or the disk is full.
//! Must not know: what is shed.

use super::engine::Engine;
use super::keys;
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
    /// Full memtables that wait to be flushed, in the family that has most.
    pub unflushed_memtables: u64,
    /// Bytes that wait for compaction, in the family that has most.
    pub compaction_bytes: u64,
    /// Bytes left on the disk; `None` when that is unknown.
    pub disk_free_bytes: Option<u64>,
}

impl Pressure {
    pub(super) fn read(engine: &Engine, writer: &LogWriter) -> Self {
        let db = engine.db();
        // A figure that can't be had counts as no pressure.
        let whole = |name: &str| db.property_int_value(name).ok().flatten().unwrap_or(0);
        let most = |name: &str| {
            let figure =
                |family: &str| db.property_int_value_cf(engine.family(family), name).ok().flatten().unwrap_or(0);
            [keys::LOG, keys::META, keys::STATE].map(figure).into_iter().max().unwrap_or(0)
        };
        Self {
            write_stopped: whole("rocksdb.is-write-stopped") > 0,
            write_delayed: whole("rocksdb.actual-delayed-write-rate") > 0,
            queued_bytes: writer.queued_bytes(),
            unflushed_memtables: most("rocksdb.num-immutable-mem-table"),
            compaction_bytes: most("rocksdb.estimate-pending-compaction-bytes"),
            disk_free_bytes: disk_free(engine.root()),
        }
    }
}

fn disk_free(path: &std::path::Path) -> Option<u64> {
    let stat = nix::sys::statvfs::statvfs(path).ok()?;
    Some(stat.blocks_available() * stat.fragment_size())
}
