//! Power loss: what was written and not synced is gone.
//!
//! `kill -9` keeps what the kernel was given, and so proves nothing about syncs. Here each node runs with `synced.c`
//! loaded, which records what its completed syncs covered; when the power fails, the rest is taken away.
//!
//! Owns: giving nodes such disks, and failing the power.
//! Must not know: what nodes write, or what should survive.
//! Invariants: nothing is taken from a node that runs, and everything unsynced from one whose power failed.

pub mod cut;

pub use cut::Lost;

use messenger_tests::cluster::{Cluster, Environment, process};
use messenger_tests::{wait, workspace};
use nix::sys::signal::Signal;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Where the records lie, in the cluster's directory.
const HOME: &str = "synced";
/// A file whose presence there makes the disks lie.
const LYING: &str = "lying";
/// A file whose presence there makes syncs last.
const STALLED: &str = "stalled";
/// How long something unsynced is waited for; without load there is nothing.
const STALL: Duration = Duration::from_secs(2);
/// Names of a C compiler.
const COMPILERS: [&str; 2] = ["cc", "gcc"];

/// Compiles the shim into a directory and makes a place for its records there; what loads it into a process.
///
/// # Panics
/// When there is no C compiler, or the directory can't be written.
#[must_use]
pub fn disks_in(directory: &Path) -> Environment {
    let home = directory.join(HOME);
    for records in ["lengths", "names", "files"] {
        fs::create_dir_all(home.join(records)).expect("the directory is writable");
    }
    let source = workspace::root().join("chaos/src/power/synced.c");
    let library = home.join("synced.so");
    let compile = |compiler: &&str| {
        let mut command = Command::new(compiler);
        command.args(["-shared", "-fPIC", "-O2", "-o"]).arg(&library).arg(&source).args(["-ldl", "-pthread"]);
        command.output().ok()
    };
    let compiled = COMPILERS.iter().find_map(compile).expect("there is a C compiler");
    assert!(compiled.status.success(), "{}", String::from_utf8_lossy(&compiled.stderr));
    vec![("LD_PRELOAD", library.into()), ("SYNCED_HOME", home.into())]
}

/// The disks of a cluster that was started with [`disks_in`].
#[derive(Debug)]
pub struct Disks {
    home: PathBuf,
    lost: Mutex<Lost>,
}

impl Disks {
    /// Those of this cluster.
    #[must_use]
    pub fn of(cluster: &Cluster) -> Self {
        Self { home: cluster.directory().join(HOME), lost: Mutex::default() }
    }

    /// From now on every disk says that it has synced, and does nothing.
    ///
    /// # Panics
    /// When the records can't be written.
    pub fn lie(&self) {
        fs::write(self.home.join(LYING), "").expect("the directory is writable");
    }

    /// As [`Disks::fail_power`], while syncs are under way: with load on, each of these nodes has something to lose.
    ///
    /// # Panics
    /// When a node's files can't be read or changed.
    pub fn fail_power_while_syncing(&self, cluster: &Cluster, nodes: &[u16]) {
        let stalled = self.home.join(STALLED);
        fs::write(&stalled, "").expect("the directory is writable");
        let has_tail = |node: &u16| {
            let tail = cut::unsynced(&self.home, &cluster.node_directory(*node).join("data"));
            tail.expect("a node's files can be read") > 0
        };
        let until = Instant::now() + STALL;
        while Instant::now() < until && !nodes.iter().all(has_tail) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.fail_power(cluster, nodes);
        fs::remove_file(&stalled).expect("the directory is writable");
    }

    /// These nodes are gone at once, and with each what it had not synced.
    ///
    /// # Panics
    /// When a node's files can't be changed.
    pub fn fail_power(&self, cluster: &Cluster, nodes: &[u16]) {
        let pids: Vec<_> = nodes.iter().filter_map(|node| cluster.pid(*node)).collect();
        for pid in &pids {
            process::signal(*pid, Signal::SIGKILL);
        }
        // A thread that is still in the kernel might write after the cut; a process that was reaped has none.
        wait::until("every process is reaped", wait::PATIENCE, || {
            for node in nodes {
                // Reaps it, if it is a child of this process.
                let _ended = cluster.exit_status(*node);
            }
            pids.iter().all(|pid| !process::exists(*pid)).then_some(())
        });
        for node in nodes {
            let lost = cut::cut(&self.home, &cluster.node_directory(*node).join("data"));
            let lost = lost.expect("a dead node's files can be changed");
            println!("node {node} has lost {lost}");
            *self.lost.lock().unwrap_or_else(PoisonError::into_inner) += lost;
        }
    }

    /// What was lost so far, by all nodes.
    #[must_use]
    pub fn lost(&self) -> Lost {
        *self.lost.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
