//! Certificates.
//!
//! Owns: reading certificates and keys from files, what each listener shows, and making a small authority of one's own.
//! Must not know: who listens, what is said over a connection.
//! Invariants: files that can't be used change nothing; what is replaced counts for every connection made from then on,
//! and those that are open stay; no private key is ever shown or logged.

mod issue;
mod listener;
mod pem;

pub use issue::{Authority, IssueError, Issued, NodeNames, Validity};
pub use listener::{Fresh, ListenerTls};
pub use pem::{TlsFileError, credentials, good_until};

#[cfg(test)]
mod tests;
