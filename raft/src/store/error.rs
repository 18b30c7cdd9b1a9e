//! How storage fails.
//!
//! Owns: the errors of opening and of running, and the signal that the node must stop.
//! Must not know: what was being stored.
//! Invariants: the first fatal error wins, and is never taken back; whoever waits for the signal sees it.

use crate::machine::tables::TableError;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use tokio::sync::watch;

/// Why a data directory can't be used.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// Another process, or another part of this one, has it open.
    #[error("{0} is in use by another process")]
    Locked(PathBuf),
    /// What is in it can't be read as a whole.
    #[error("{path} is corrupt: {reason}")]
    Corrupt {
        /// The directory.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// A newer program wrote it.
    #[error("{path} has format {found}, and this program reads up to {supported}")]
    NewerFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The newest format known here.
        supported: u32,
    },
    /// A program from before the first release wrote it.
    #[error(
        "{path} has format {found}, and this program reads {supported}: data from before the first release can't be taken over"
    )]
    OlderFormat {
        /// The directory.
        path: PathBuf,
        /// Its format.
        found: u32,
        /// The oldest format known here.
        supported: u32,
    },
    /// The file system refused.
    #[error("{path}: {reason}")]
    Io {
        /// The directory.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
}

impl OpenError {
    /// What a failure means that is met while a directory is made ready: only bytes that are not what they should be speak
    /// against the directory.
    #[must_use]
    pub fn of(path: &Path, error: &StoreError) -> Self {
        let path = path.to_owned();
        let corrupt = match error {
            StoreError::Corrupt(_) => true,
            StoreError::Stopped(fatal) => fatal.is_corruption(),
            StoreError::Read(_) | StoreError::Misuse(_) => false,
        };
        let reason = error.to_string();
        if corrupt { Self::Corrupt { path, reason } } else { Self::Io { path, reason } }
    }
}

/// Why the store stopped for good.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Fatal(Arc<str>);

impl Fatal {
    /// Whether it stopped because stored bytes are not what they should be.
    #[must_use]
    pub fn is_corruption(&self) -> bool {
        tells_of_corruption(&self.0)
    }
}

/// How the text of an error begins that tells of bytes that are not what they should be, wherever in another text it
/// stands: the database's, whose errors are texts that begin with their kind, and [`StoreError::Corrupt`]'s.
const CORRUPTION: [&str; 2] = ["Corruption: ", "stored data is corrupt: "];

/// Whether a text that went through the consensus core, where errors lose their types, is about stored bytes that are not
/// what they should be.
pub(crate) fn tells_of_corruption(text: &str) -> bool {
    CORRUPTION.iter().any(|beginning| text.contains(beginning))
}

/// Storage failed; unless it is about one received snapshot, the node must stop.
#[derive(Debug, Clone, thiserror::Error)]
pub enum StoreError {
    /// The store stopped, now or earlier.
    #[error("storage has stopped: {0}")]
    Stopped(Fatal),
    /// The database refused to read.
    #[error("storage can't be read: {0}")]
    Read(String),
    /// Stored bytes are not what they should be.
    #[error("stored data is corrupt: {0}")]
    Corrupt(String),
    /// The caller broke a rule of the log, such as leaving a hole in it.
    #[error("not possible on this log: {0}")]
    Misuse(String),
}

impl From<StoreError> for std::io::Error {
    fn from(error: StoreError) -> Self {
        Self::other(error)
    }
}

impl From<StoreError> for TableError {
    fn from(error: StoreError) -> Self {
        Self(error.to_string())
    }
}

/// The signal that the store has stopped; cheap to clone.
#[derive(Debug, Clone)]
pub(crate) struct FatalSignal(Arc<watch::Sender<Option<Fatal>>>);

impl FatalSignal {
    pub(crate) fn new() -> Self {
        Self(Arc::new(watch::Sender::new(None)))
    }

    /// Raises the signal, unless it is; the error to return.
    pub(crate) fn raise(&self, doing: &str, reason: &str) -> StoreError {
        self.0.send_if_modified(|current| {
            let first = current.is_none();
            if first {
                tracing::error!(doing, reason, "storage failed; the node must stop");
                *current = Some(Fatal(format!("{doing}: {reason}").into()));
            }
            first
        });
        self.check().err().unwrap_or(StoreError::Stopped(Fatal(reason.into())))
    }

    /// Fails once the signal is raised.
    pub(crate) fn check(&self) -> Result<(), StoreError> {
        match &*self.0.borrow() {
            Some(fatal) => Err(StoreError::Stopped(fatal.clone())),
            None => Ok(()),
        }
    }

    pub(crate) fn subscribe(&self) -> watch::Receiver<Option<Fatal>> {
        self.0.subscribe()
    }

    /// Resolves once the signal is raised.
    pub(crate) async fn raised(&self) -> StoreError {
        let mut receiver = self.0.subscribe();
        match receiver.wait_for(Option::is_some).await.map(|fatal| fatal.clone()) {
            Ok(Some(fatal)) => StoreError::Stopped(fatal),
            // The sender lives in `self`.
            _ => std::future::pending().await,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_damage_speaks_against_a_directory() {
        let of = |error| OpenError::of(Path::new("d"), &error);
        let stopped = |reason: &str| FatalSignal::new().raise("writing", reason);
        assert!(matches!(of(StoreError::Corrupt("a log key".into())), OpenError::Corrupt { .. }));
        assert!(matches!(of(stopped("Corruption: bad block")), OpenError::Corrupt { .. }));
        assert!(matches!(of(stopped("IO error: No space left on device")), OpenError::Io { .. }));
        assert!(matches!(of(StoreError::Read("IO error: input/output error".into())), OpenError::Io { .. }));
    }

    #[test]
    fn corruption_is_told_from_other_failures_through_any_wrapping() {
        let of = |error: StoreError| tells_of_corruption(&format!("when Write Vote: {}", std::io::Error::from(error)));
        assert!(of(StoreError::Corrupt("a log key".into())));
        let signal = FatalSignal::new();
        assert!(of(signal.raise("writing", "Corruption: block checksum mismatch: stored = 1, computed = 2")));
        assert!(signal.subscribe().borrow().as_ref().is_some_and(Fatal::is_corruption));
        assert!(!of(FatalSignal::new().raise("syncing", "IO error: No space left on device")));
        assert!(!of(StoreError::Read("IO error: input/output error".into())));
    }
}
