//! Where the `messenger` binary is.
//!
//! Owns: finding it, building it first where nobody said that it is built.
//! Must not know: what it does.

use crate::workspace;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// The binary under test: what `MESSENGER_BIN` names, as `make test` does, else one built from the sources now.
///
/// # Panics
/// When it cannot be built.
pub fn messenger() -> &'static Path {
    static BINARY: OnceLock<PathBuf> = OnceLock::new();
    BINARY.get_or_init(|| {
        let root = workspace::root();
        if let Some(named) = std::env::var_os("MESSENGER_BIN") {
            return root.join(named);
        }
        let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
        let built = Command::new(cargo)
            .args(["build", "--quiet", "--workspace", "--bin", "messenger"])
            .current_dir(root)
            .status()
            .expect("cargo runs");
        assert!(built.success(), "the binary under test does not build");
        // Tests run from `<target>/<profile>/deps`; the binary lies beside that folder.
        let own = std::env::current_exe().expect("a process knows its own path");
        own.parent().and_then(Path::parent).expect("a test lies in a target directory").join("messenger")
    })
}
