//! Where the workspace lies.
//!
//! Owns: finding it.
//! Must not know: what lies in it.
//! Invariants: a test looks into the clone it was run in, also when its binary was built in another one that shares the
//! target directory.

use std::path::PathBuf;

/// The folder of the workspace: the one cargo runs the test in; for a binary that is run by hand, the one it was built in.
///
/// # Panics
/// When cargo names a folder that is no crate of a workspace.
#[must_use]
pub fn root() -> PathBuf {
    let named = std::env::var_os("CARGO_MANIFEST_DIR").unwrap_or_else(|| env!("CARGO_MANIFEST_DIR").into());
    let mut root = PathBuf::from(named);
    assert!(root.pop(), "the crate lies in the workspace");
    root
}
