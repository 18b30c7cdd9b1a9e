//! The machine a figure was measured on.
//!
//! Owns: what a reader needs to judge it.
//! Must not know: host names and paths.

use serde::{Deserialize, Serialize};
use std::fmt;
use std::fs::read_to_string;

/// A machine, as Linux tells of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Machine {
    /// The processor's model.
    pub cpu: String,
    /// Usable by this process.
    pub cores: usize,
    /// In all.
    pub memory_gib: f64,
    /// Name and version.
    pub kernel: String,
}

impl Machine {
    /// This one; what cannot be read is "unknown".
    #[must_use]
    pub fn this() -> Self {
        let unknown = || "unknown".to_owned();
        let field = |text: &str, name: &str| {
            text.lines()
                .find(|line| line.starts_with(name))
                .and_then(|line| line.split_once(':'))
                .map(|(_, v)| v.trim().to_owned())
        };
        let cpu =
            read_to_string("/proc/cpuinfo").ok().and_then(|text| field(&text, "model name")).unwrap_or_else(unknown);
        let kib = read_to_string("/proc/meminfo").ok().and_then(|text| field(&text, "MemTotal"));
        let kib: f64 = kib.and_then(|text| text.split(' ').next()?.parse().ok()).unwrap_or(0.0);
        let kernel =
            read_to_string("/proc/sys/kernel/osrelease").map_or_else(|_| unknown(), |text| text.trim().to_owned());
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Self { cpu, cores, memory_gib: (kib / 104_857.6).round() / 10.0, kernel: format!("Linux {kernel}") }
    }
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}, {} cores, {:.0} GiB, {}", self.cpu, self.cores, self.memory_gib, self.kernel)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let machine = Machine::this();
        assert!(machine.cores > 0 && machine.memory_gib > 0.0 && machine.kernel != "Linux unknown");
    }
}
