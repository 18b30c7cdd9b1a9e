//! Taking new limits, keys and certificates without a restart.
//!
//! Owns: SIGHUP, and what of a configuration it puts in force: `[rate_limits]`, `[proxies]`, the keys of tokens and
//! certificates.
//! Must not know: how requests are limited, tokens verified, or connections encrypted.
//! Invariants: a configuration that a start would refuse changes nothing, and costs one line in the log.

use super::BootError;
use super::secured::Secured;
use crate::auth::{self, Authenticator};
use crate::config::{Config, ConfigError};
use crate::rates::Rates;
use std::sync::Arc;
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

    /// Puts it in force whenever the signal comes. Two that come close together may count as one.
    pub async fn follow(mut self, now: &InForce) {
        while self.signal.recv().await.is_some() {
            match (self.reload)().map_err(BootError::from).and_then(|config| now.take(&config)) {
                Ok(()) => {
                    let what = "rate_limits, proxies, keys of tokens and certificates";
                    tracing::info!("SIGHUP: {what} are in force as configured now; the rest needs a restart");
                }
                Err(error) => tracing::error!(%error, "SIGHUP: the configuration is wrong, all stays as it was"),
            }
        }
    }
}

/// What a node goes by that may change while it runs.
pub struct InForce {
    /// How much clients may ask.
    pub rates: Rates,
    /// By which keys tokens are believed.
    pub authenticator: Arc<Authenticator>,
    /// What listeners show.
    pub secured: Secured,
}

impl InForce {
    /// Takes all of it or nothing.
    fn take(&self, config: &Config) -> Result<(), BootError> {
        let keys =
            auth::load_keys(&config.auth.keys).map_err(|error| BootError::Config(format!("auth.keys: {error}")))?;
        self.secured.renew(&config.tls)?;
        Secured::tell(&config.tls);
        self.authenticator.replace(keys);
        self.rates.replace(&config.rate_limits, &config.proxies);
        Ok(())
    }
}
