//! Taking new limits without a restart.
//!
//! Owns: SIGHUP, and what of a configuration it puts in force: `[rate_limits]` and `[proxies]`.
//! Must not know: how requests are limited.
//! Invariants: a configuration that a start would refuse changes nothing, and costs one line in the log.

use super::BootError;
use crate::config::{Config, ConfigError};
use crate::rates::Rates;
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Reads the configuration again, as it was read at the start.
pub type Reload = Box<dyn Fn() -> Result<Config, ConfigError> + Send + Sync>;

/// SIGHUP, and what is to be read then.
pub struct Reloads {
    signal: Signal,
    reload: Reload,
}

impl Reloads {
    /// Listens from now on; until then SIGHUP ends the process.
    ///
    /// # Errors
    /// [`BootError::Runtime`] when the system refuses.
    pub fn new(reload: Reload) -> Result<Self, BootError> {
        let failed = |error: std::io::Error| BootError::Runtime(format!("cannot listen for signals: {error}"));
        Ok(Self { signal: signal(SignalKind::hangup()).map_err(failed)?, reload })
    }

    /// Puts limits in force whenever the signal comes. Two that come close together may count as one.
    pub async fn follow(mut self, rates: &Rates) {
        while self.signal.recv().await.is_some() {
            apply((self.reload)(), rates);
        }
    }
}

fn apply(read: Result<Config, ConfigError>, rates: &Rates) {
    match read {
        Ok(config) => {
            rates.replace(&config.rate_limits, &config.proxies);
            tracing::info!("SIGHUP: rate_limits and proxies are in force as configured now; the rest needs a restart");
        }
        Err(error) => tracing::error!(%error, "SIGHUP: the configuration is wrong, the limits stay as they were"),
    }
}
