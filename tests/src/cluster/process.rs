//! Processes of a cluster, by what they were started for.
//!
//! Owns: finding, signalling and reaping them, and that none outlives the test that started it.
//! Must not know: what they serve.
//! Invariants: only processes whose arguments name the cluster's own directory are ever signalled.

use crate::wait;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use std::path::Path;
use std::process::{Child, ChildStdin, Command, Stdio};
use std::time::Duration;

/// How long a killed process may linger.
const REAPED_WITHIN: Duration = Duration::from_secs(10);

/// The processes that have `argument` among their arguments.
#[must_use]
pub fn with_argument(argument: &str) -> Vec<Pid> {
    with_arguments(|own| own == argument)
}

/// The processes that work in or under a directory, by their arguments.
#[must_use]
pub fn naming(directory: &Path) -> Vec<Pid> {
    let directory = directory.to_string_lossy().into_owned();
    with_arguments(|own| own.starts_with(&directory))
}

fn with_arguments(wanted: impl Fn(&str) -> bool) -> Vec<Pid> {
    let Ok(processes) = std::fs::read_dir("/proc") else { return Vec::new() };
    let own = std::process::id();
    processes
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|pid| *pid != own)
        .filter(|pid| {
            // Empty for a zombie: it has ended, though nobody has asked how.
            let arguments = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            arguments.split(|byte| *byte == 0).any(|argument| std::str::from_utf8(argument).is_ok_and(&wanted))
        })
        .filter_map(|pid| i32::try_from(pid).ok().map(Pid::from_raw))
        .collect()
}

/// Sends a signal; nothing happens when the process is gone.
pub fn signal(pid: Pid, signal: Signal) {
    let _gone = kill(pid, signal);
}

/// Whether there is such a process, be it one that has ended and was not yet asked how.
#[must_use]
pub fn exists(pid: Pid) -> bool {
    kill(pid, None).is_ok()
}

/// Kills every process of a directory and waits until none is left.
pub fn kill_all(directory: &Path) {
    wait::until("the cluster's processes end", REAPED_WITHIN, || {
        let left = naming(directory);
        for pid in &left {
            signal(*pid, Signal::SIGKILL);
        }
        left.is_empty().then_some(())
    });
}

/// Kills a directory's processes when the test process ends without having done so, be it by `kill -9`.
#[derive(Debug)]
pub struct Guard {
    shell: Child,
    /// Closed by the kernel when this process ends.
    lifeline: Option<ChildStdin>,
}

impl Guard {
    /// Stands guard over a directory's processes.
    ///
    /// # Panics
    /// When no shell can be started.
    #[must_use]
    pub fn over(directory: &Path) -> Self {
        const SCRIPT: &str = r#"
            while read -r line; do [ "$line" = dismissed ] && exit 0; done
            for process in /proc/[0-9]*; do
                if tr '\0' '\n' < "$process/cmdline" 2>/dev/null | grep -q "^$GUARDED/"; then
                    kill -9 "${process#/proc/}" 2>/dev/null
                fi
            done"#;
        let mut shell = Command::new("sh")
            .args(["-c", SCRIPT])
            .env("GUARDED", directory)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a shell starts");
        let lifeline = shell.stdin.take();
        Self { shell, lifeline }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Some(mut lifeline) = self.lifeline.take() {
            let _ended = std::io::Write::write_all(&mut lifeline, b"dismissed\n");
        }
        let _reaped = self.shell.wait();
    }
}
