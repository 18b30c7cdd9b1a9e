//! From a configuration to a running node, and back to nothing.
//!
//! Owns: the order in which a node's parts start, join and stop.
//! Must not know: what any part does inside.
//! Invariants: the configuration, with the files it names, is checked before anything is made; a port is bound and the
//! data directory checked before anything is said to anyone; the node is ready only
//! once it knows the cluster's record and every replica it hosts has found a leader; a storage failure ends the process
//! with its own status and nothing is written after it.

mod absence;
mod behind;
mod bootstrap;
mod drain;
mod gauges;
mod join;
mod leaders;
mod moves;
mod node;
mod notify;
mod peers;
mod reload;
mod secured;
mod serving;
mod sessions;

pub use bootstrap::first_record;
pub use drain::PARENT_ENV;
pub use reload::Reload;
pub use secured::tls_problem;

use crate::config::{Address, Config, ConfigError, LogConfig, LogFormat};
use messenger_client::ServerUrl;
use messenger_proto::error::Refusal;
use messenger_raft::group::host::HostError;
use messenger_raft::store::{Fatal, OpenError};
use tracing_subscriber::EnvFilter;

/// Threads of a runtime that wait for the disk, at most: what reads rows, and what takes snapshots in.
const BLOCKING_THREADS_MAX: usize = 64;
/// Consensus, beside the main runtime, gets a thread for so many cores: its groups share no work, but each wake of
/// another thread costs more than what most of their messages take.
const CORES_PER_RAFT_THREAD: usize = 4;
/// And never more than these.
const RAFT_THREADS_MAX: usize = 8;
/// Sockets the process would like to hold at once.
const FILES_WANTED: u64 = 1 << 20;

/// Why a node can't start, or had to stop.
#[derive(Debug, thiserror::Error)]
pub enum BootError {
    /// The configuration, or a file it names, is wrong.
    #[error("configuration: {0}")]
    Config(String),
    /// An address can't be listened on.
    #[error("cannot listen on {address}: {source}")]
    Address {
        /// Which.
        address: Address,
        /// What the system said.
        source: std::io::Error,
    },
    /// The data directory is another's, or in use.
    #[error("data directory: {0}")]
    WrongData(String),
    /// The data directory can't be read.
    #[error("data directory: {0}")]
    CorruptData(String),
    /// Storage failed while running.
    #[error("storage failed: {0}")]
    Storage(String),
    /// The cluster does not take this node.
    #[error("the cluster refuses this node: {0}")]
    Refused(String),
    /// No node of the cluster that it should join answers.
    #[error("{0}")]
    Unreachable(String),
    /// A second signal came while it drained.
    #[error("a second signal ended it before it had drained, while it led {led} of its groups")]
    CutShort {
        /// Groups that it still led.
        led: usize,
    },
    /// Something else failed.
    #[error("{0}")]
    Runtime(String),
}

impl From<Refusal> for BootError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal.detail)
    }
}

impl From<ConfigError> for BootError {
    fn from(error: ConfigError) -> Self {
        Self::Config(error.to_string())
    }
}

impl From<OpenError> for BootError {
    fn from(error: OpenError) -> Self {
        match error {
            OpenError::Locked(_) => Self::WrongData(error.to_string()),
            OpenError::Corrupt { .. } | OpenError::OlderFormat { .. } | OpenError::NewerFormat { .. } => {
                Self::CorruptData(error.to_string())
            }
            OpenError::Io { .. } => Self::Storage(error.to_string()),
        }
    }
}

impl From<HostError> for BootError {
    fn from(error: HostError) -> Self {
        // A consensus core refuses to start, or stops, over its storage alone.
        let line = error.to_string().replace('\n', " ");
        if error.is_corruption() { Self::CorruptData(line) } else { Self::Storage(line) }
    }
}

impl From<Fatal> for BootError {
    fn from(fatal: Fatal) -> Self {
        let line = fatal.to_string().replace('\n', " ");
        if fatal.is_corruption() { Self::CorruptData(line) } else { Self::Storage(line) }
    }
}

/// Runs a node until it is told to stop; `reload` is asked for the configuration again when SIGHUP comes. A node whose
/// data directory is new, and whose configuration names no nodes, asks `join`, an admin listener, to be taken in.
///
/// # Errors
/// [`BootError`].
pub fn run(config: Config, join: Option<ServerUrl>, reload: Reload) -> Result<(), BootError> {
    start_logging(&config.log);
    // Fewer files than wanted only lowers how many sockets fit.
    let _ = rlimit::increase_nofile_limit(FILES_WANTED);
    let runtime = |name: &str, threads: usize| {
        tokio::runtime::Builder::new_multi_thread()
            .worker_threads(threads)
            .thread_name(name)
            .max_blocking_threads(BLOCKING_THREADS_MAX)
            .enable_all()
            .build()
            .map_err(|error| BootError::Runtime(format!("cannot start threads: {error}")))
    };
    let cores = std::thread::available_parallelism().map_or(2, std::num::NonZero::get);
    let raft_threads = cores.div_ceil(CORES_PER_RAFT_THREAD).min(RAFT_THREADS_MAX);
    let raft = runtime("raft", raft_threads)?;
    let main = runtime("gateway", cores.saturating_sub(raft_threads).max(1))?;
    let outcome = main.block_on(node::run(config, join, reload, raft.handle().clone()));
    // What still runs belongs to clients that were told to go; it must not hold up the end.
    main.shutdown_background();
    raft.shutdown_background();
    outcome
}

fn start_logging(config: &LogConfig) {
    let filter = EnvFilter::try_new(&config.filter).unwrap_or_else(|_| EnvFilter::new("info"));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr).with_ansi(false);
    // A second start in one process, as in tests, keeps the first.
    let _ = match config.format {
        LogFormat::Text => lines.try_init(),
        LogFormat::Json => lines.json().try_init(),
    };
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_raft::store::StoreError;
    use messenger_raft::types::META_GROUP;

    #[test]
    fn a_group_that_cannot_start_is_a_matter_of_storage() {
        let corrupt = HostError::Store(StoreError::Corrupt("a block".into()));
        assert!(matches!(BootError::from(corrupt), BootError::CorruptData(_)));
        let raft = |message: &str| BootError::from(HostError::Raft { group: META_GROUP, message: message.into() });
        assert!(matches!(raft("when Read Logs: IO error: a block"), BootError::Storage(_)));
        let damaged = raft("when Read Logs: stored data is corrupt:\nCorruption: a block");
        assert!(matches!(damaged, BootError::CorruptData(line) if !line.contains('\n')));
    }
}
