//! How a command fails.
//!
//! Owns: the errors that end a command, each one clear line, and the exit statuses that scripts rely on.
//! Must not know: how an error came about.

use crate::bench::FleetError;
use crate::dev_key::MintError;
use messenger_client::{ClientError, InvalidServer};
use std::process::ExitCode;

/// Every status, with its meaning, for `--help`.
pub const EXIT_STATUS: &str = "\
Exit status:
  0   done; for a node: drained after SIGTERM
  1   failed while running
  2   the command line is wrong
  3   the configuration is wrong
  4   an address can't be listened on
  5   the data directory belongs to another cluster or node, or is in use
  6   the data directory is corrupt, or of another version
  7   storage failed
  8   no node can be reached, or none is ready
  9   the cluster refused
  10  no signing key or token, or it is not accepted
  11  a second signal ended the node before it had drained";

/// Why a command ended; the text says what happened and what to do, on one line.
#[derive(Debug, thiserror::Error)]
pub enum CliError {
    /// It failed while running.
    #[error("{0}")]
    Failed(String),
    /// The command line asks for what can't be.
    #[error("{0}")]
    Usage(String),
    /// The configuration is wrong.
    #[error("{0}")]
    Config(String),
    /// An address can't be listened on.
    #[error("{0}")]
    Address(String),
    /// The data directory is another's, or in use.
    #[error("{0}")]
    WrongData(String),
    /// The data directory can't be read.
    #[error("{0}")]
    CorruptData(String),
    /// Storage failed.
    #[error("{0}")]
    Storage(String),
    /// No node can be reached.
    #[error("{0}")]
    Unreachable(String),
    /// The cluster said no.
    #[error("{0}")]
    Refused(String),
    /// No key, or a token that is not accepted.
    #[error("{0}")]
    Token(String),
    /// A second signal came before the node had drained.
    #[error("{0}")]
    CutShort(String),
    /// A node that this command started ended by itself.
    #[error("{message}")]
    Node {
        /// The node's own exit status.
        status: u8,
        /// Which, and why.
        message: String,
    },
}

impl CliError {
    /// The process's exit status.
    #[must_use]
    pub fn status(&self) -> u8 {
        match self {
            Self::Failed(_) => 1,
            Self::Usage(_) => 2,
            Self::Config(_) => 3,
            Self::Address(_) => 4,
            Self::WrongData(_) => 5,
            Self::CorruptData(_) => 6,
            Self::Storage(_) => 7,
            Self::Unreachable(_) => 8,
            Self::Refused(_) => 9,
            Self::Token(_) => 10,
            Self::CutShort(_) => 11,
            Self::Node { status, .. } => *status,
        }
    }
}

impl From<&CliError> for ExitCode {
    fn from(error: &CliError) -> Self {
        Self::from(error.status())
    }
}

impl From<ClientError> for CliError {
    fn from(error: ClientError) -> Self {
        let text = error.to_string();
        match error {
            ClientError::Refused(problem) if problem.status == 401 => Self::Token(text),
            ClientError::Refused(problem) if problem.status == 503 => Self::Unreachable(text),
            ClientError::Refused(_) => Self::Refused(text),
            ClientError::Unreachable { .. } | ClientError::Lost { .. } | ClientError::TimedOut(_) => {
                Self::Unreachable(text)
            }
            ClientError::Token(_) => Self::Token(text),
            ClientError::Protocol(_) | ClientError::Full | ClientError::Closed(_) => Self::Failed(text),
        }
    }
}

impl From<MintError> for CliError {
    fn from(error: MintError) -> Self {
        Self::Token(error.to_string())
    }
}

impl From<InvalidServer> for CliError {
    fn from(error: InvalidServer) -> Self {
        Self::Usage(error.to_string())
    }
}

impl From<FleetError> for CliError {
    fn from(error: FleetError) -> Self {
        match error {
            FleetError::Mint(error) => error.into(),
            FleetError::Client(error) => error.into(),
            FleetError::NotReady { .. } => Self::Unreachable(error.to_string()),
            FleetError::Io(_) => Self::Failed(error.to_string()),
        }
    }
}

impl From<std::io::Error> for CliError {
    fn from(error: std::io::Error) -> Self {
        Self::Failed(error.to_string())
    }
}
