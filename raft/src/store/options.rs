//! How much storage may use, and how the database is tuned.
//!
//! Owns: every bound of the store, and RocksDB's settings.
//! Must not know: what is stored.
//! Invariants: memory is bounded by [`StoreOptions`]; the log is never written past a sync that failed.

use super::keys;
use rocksdb::{
    BlockBasedOptions, Cache, ColumnFamilyDescriptor, DBCompressionType, DBRecoveryMode, LogLevel, Options,
    WriteBufferManager,
};
use std::fmt;
use std::io;
use std::sync::Arc;

const KIB: usize = 1024;
const MIB: usize = 1024 * KIB;

/// The parts of the memory for write buffers that make one buffer of the log, and bound one of rows.
const PARTS_PER_MEMTABLE: usize = 12;
/// Write buffers of a column family, those being flushed included.
const MEMTABLES_MAX: i32 = 6;
/// One write buffer of rows: what is written to stays in a core's own cache, since finding a row's place is most of what
/// writing it takes.
const ROWS_MEMTABLE: usize = MIB;
/// Full write buffers of rows that become one file, where there is memory for three times as many.
const ROWS_MEMTABLES_MERGED: usize = 8;
/// Of a write buffer, for its filter: some 20 bits per row.
const MEMTABLE_BLOOM_RATIO: f64 = 0.02;

/// Seconds.
const DAY: u64 = 24 * 60 * 60;

/// Of the levels of sorted files, from the newest.
const LEVEL_COMPRESSION: [DBCompressionType; 7] = {
    let mut levels = [DBCompressionType::Lz4; 7];
    levels[0] = DBCompressionType::None;
    levels[1] = DBCompressionType::None;
    levels
};

/// A moment at which a crash is interesting.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Moment {
    /// A batch of the log writer is about to be written.
    Writing,
    /// A batch of the log writer is in the write-ahead log and not yet synced.
    Written,
    /// All that was written up to the last [`Moment::Written`] is on disk.
    Synced,
    /// A received snapshot's rows are in the database, and not yet in force.
    RowsIngested,
    /// A received snapshot's rows are in force, and the old ones are still there.
    SnapshotInForce,
    /// The rows that a received snapshot replaced are gone.
    OldRowsDropped,
}

/// Is told of each [`Moment`]; an error it returns is taken as the disk's. For tests of crashes and failing disks.
pub trait Observer: Send + Sync + 'static {
    /// Called on the thread that does the work.
    ///
    /// # Errors
    /// Whatever the disk should seem to have said.
    fn at(&self, moment: Moment) -> io::Result<()>;
}

/// The bounds of a store.
#[derive(Clone)]
pub struct StoreOptions {
    /// Bytes of blocks cached for reading, index and filters included.
    pub block_cache_bytes: usize,
    /// Bytes of rows not yet in sorted files.
    pub memtable_bytes: usize,
    /// Bytes of write-ahead log, and so of what a start has to replay.
    pub wal_bytes: u64,
    /// Bytes of entries and votes that may wait for the log writer; an append waits when there are more.
    pub queue_bytes: usize,
    /// Bytes the log writer writes at once.
    pub batch_bytes: usize,
    /// Bytes of recent entries, of all groups, kept at hand for replication and apply.
    pub log_cache_bytes: usize,
    /// Bytes of entries read at once for a follower, unless a single entry is larger.
    pub read_bytes: usize,
    /// Bytes of packs applied in one batch, unless a single pack is larger.
    pub apply_bytes: usize,
    /// Entries applied in one batch.
    pub apply_entries: usize,
    /// Files the database keeps open.
    pub open_files: i32,
    /// Threads of the database for flushes and compaction.
    pub background_jobs: i32,
    /// Bytes of rows per frame of a snapshot, unless a single row is larger.
    pub snapshot_frame_bytes: usize,
    /// Bytes per second at which this node sends a snapshot.
    pub snapshot_bytes_per_second: u64,
    /// Bytes of one file of a received snapshot, roughly.
    pub snapshot_file_bytes: u64,
    /// Told of crash-worthy moments.
    pub observer: Option<Arc<dyn Observer>>,
}

impl Default for StoreOptions {
    fn default() -> Self {
        Self {
            block_cache_bytes: 64 * MIB,
            memtable_bytes: 96 * MIB,
            wal_bytes: 256 * MIB as u64,
            queue_bytes: 32 * MIB,
            batch_bytes: 4 * MIB,
            log_cache_bytes: 32 * MIB,
            read_bytes: MIB,
            apply_bytes: 256 * KIB,
            apply_entries: 256,
            open_files: 512,
            background_jobs: 2,
            snapshot_frame_bytes: 256 * KIB,
            snapshot_bytes_per_second: 64 * MIB as u64,
            snapshot_file_bytes: 64 * MIB as u64,
            observer: None,
        }
    }
}

impl fmt::Debug for StoreOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StoreOptions")
            .field("block_cache_bytes", &self.block_cache_bytes)
            .field("memtable_bytes", &self.memtable_bytes)
            .field("wal_bytes", &self.wal_bytes)
            .finish_non_exhaustive()
    }
}

impl StoreOptions {
    /// What all column families share.
    pub(crate) fn database(&self, create: bool) -> Options {
        let mut options = Options::default();
        options.create_if_missing(create);
        options.create_missing_column_families(create);
        // A torn tail is what a crash leaves, so recovery ends there; every prefix of the log is a valid state.
        options.set_wal_recovery_mode(DBRecoveryMode::PointInTime);
        // A closed log that is missing or short is not a torn tail.
        options.set_track_and_verify_wals_in_manifest(true);
        options.set_max_total_wal_size(self.wal_bytes);
        // What is not synced is nobody's to rely on, so it reaches the file with the next sync, or by the mebibyte.
        options.set_manual_wal_flush(true);
        options.set_write_buffer_manager(&WriteBufferManager::new_write_buffer_manager(self.memtable_bytes, false));
        options.set_max_background_jobs(self.background_jobs);
        options.set_max_open_files(self.open_files);
        options.set_bytes_per_sync(MIB as u64);
        options.set_avoid_unnecessary_blocking_io(true);
        // Writers are the log writer and the applying tasks, each with batches of its own: spinning for each other or
        // splitting the work costs more than it saves.
        options.set_allow_concurrent_memtable_write(false);
        options.set_enable_write_thread_adaptive_yield(false);
        options.set_stats_dump_period_sec(0);
        options.set_stats_persist_period_sec(0);
        options.set_keep_log_file_num(4);
        options.set_max_log_file_size(4 * MIB);
        options.set_log_level(LogLevel::Warn);
        options
    }

    /// The column families, tuned each for its rows.
    pub(crate) fn families(&self) -> Vec<ColumnFamilyDescriptor> {
        let cache = Cache::new_lru_cache(self.block_cache_bytes);
        [keys::LOG, keys::META, keys::STATE]
            .map(|name| ColumnFamilyDescriptor::new(name, self.family(name, Some(&cache))))
            .into()
    }

    /// One column family's options; also those of files made for it.
    pub(crate) fn family(&self, name: &str, cache: Option<&Cache>) -> Options {
        let mut table = BlockBasedOptions::default();
        match cache {
            Some(cache) => table.set_block_cache(cache),
            None => table.disable_cache(),
        }
        table.set_cache_index_and_filter_blocks(true);
        table.set_pin_l0_filter_and_index_blocks_in_cache(true);
        table.set_format_version(6);
        let mut options = Options::default();
        // Slow down late: what waits is bounded before it gets here.
        options.set_level_zero_slowdown_writes_trigger(24);
        options.set_level_zero_stop_writes_trigger(40);
        options.set_max_write_buffer_number(MEMTABLES_MAX);
        options.set_level_zero_file_num_compaction_trigger(8);
        match name {
            keys::LOG => {
                // Written once, read from memory, purged soon; packs are mostly ciphertext.
                options.set_write_buffer_size(self.memtable_bytes / PARTS_PER_MEMTABLE);
                options.set_compression_type(DBCompressionType::None);
            }
            keys::STATE => {
                table.set_bloom_filter(10.0, false);
                // Every command asks for ids that are new.
                options.set_memtable_prefix_bloom_ratio(MEMTABLE_BLOOM_RATIO);
                options.set_memtable_whole_key_filtering(true);
                table.set_block_size(8 * KIB);
                let buffer = ROWS_MEMTABLE.min(self.memtable_bytes / PARTS_PER_MEMTABLE);
                let most = self.memtable_bytes / 2 / buffer.max(1);
                options.set_write_buffer_size(buffer);
                options.set_max_write_buffer_number(i32::try_from(most).unwrap_or(i32::MAX));
                let merged = ROWS_MEMTABLES_MERGED.min(most / 3);
                options.set_min_write_buffer_number_to_merge(i32::try_from(merged).unwrap_or(1));
                // The upper levels are soon rewritten.
                options.set_compression_per_level(&LEVEL_COMPRESSION);
                // What no longer counts goes within days, asked for or not.
                options.set_ttl(DAY);
                // Queues in the rows (outbox, remembered ids) leave runs of tombstones at their head.
                options.add_compact_on_deletion_collector_factory(4096, 2048, 0.0);
            }
            _ => options.set_write_buffer_size((4 * MIB).min(self.memtable_bytes / 6)),
        }
        options.set_block_based_table_factory(&table);
        options
    }
}
