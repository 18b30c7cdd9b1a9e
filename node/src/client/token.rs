//! Bearer tokens: given, or minted from a local cluster's signing key.
//!
//! Owns: where a client's token comes from.
//! Must not know: how tokens are signed or checked.
//! Invariants: a token never reaches a URL, a log or an error text.

use crate::auth::{self, Scopes, SigningKey, dev_keys_path, load_signing_key};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use messenger_proto::ids::{DeviceId, Millis, UserId};
use serde::Deserialize;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Why no token could be minted.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// There is no key: the cluster was not started here.
    #[error("{} does not exist: start a local cluster first (`messenger dev`), or name its --data directory", .0.display())]
    NoKey(PathBuf),
    /// The file cannot be read or is no key.
    #[error(transparent)]
    File(#[from] auth::KeyFileError),
    /// Signing failed.
    #[error(transparent)]
    Sign(#[from] auth::MintError),
}

/// The HS256 key that a local cluster trusts; for development only.
#[derive(Clone)]
pub struct DevKey(Arc<SigningKey>);

impl fmt::Debug for DevKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevKey").field("kid", &self.0.kid).finish_non_exhaustive()
    }
}

/// Whom a token speaks for, and what it allows.
#[derive(Debug, Clone)]
pub struct Grant {
    /// `sub`.
    pub user: UserId,
    /// `did`.
    pub device: DeviceId,
    /// `scope`.
    pub scopes: Scopes,
    /// From now on.
    pub ttl: Duration,
}

impl Grant {
    /// Reading and writing for a day.
    #[must_use]
    pub fn full(user: UserId, device: DeviceId) -> Self {
        Self { user, device, scopes: Scopes::ALL, ttl: Duration::from_hours(24) }
    }
}

impl DevKey {
    /// Reads the key of a local cluster from its data directory.
    ///
    /// # Errors
    /// [`MintError`] when there is no key or it cannot be read.
    pub fn load(data: &Path) -> Result<Self, MintError> {
        let path = dev_keys_path(data);
        if !path.exists() {
            return Err(MintError::NoKey(path));
        }
        Ok(Self::new(load_signing_key(&path)?))
    }

    /// A key that is at hand.
    #[must_use]
    pub fn new(key: SigningKey) -> Self {
        Self(Arc::new(key))
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`MintError::Sign`] when the signer refuses.
    pub fn mint(&self, grant: &Grant) -> Result<String, MintError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let Grant { user, device, scopes, ttl } = grant.clone();
        let issued_at = Millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        Ok(self.0.mint(&auth::Grant { user, device, scopes, issued_at, lifetime: ttl })?)
    }
}

/// Where a client takes its token from.
#[derive(Clone)]
pub enum TokenSource {
    /// One token, for as long as it lasts.
    Fixed(Arc<str>),
    /// Minted whenever one is needed.
    Minted {
        /// With this key.
        key: DevKey,
        /// To this effect.
        grant: Arc<Grant>,
    },
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Fixed(_) => f.write_str("Fixed(..)"),
            Self::Minted { key, grant } => f.debug_struct("Minted").field("key", key).field("grant", grant).finish(),
        }
    }
}

impl TokenSource {
    /// A token given from outside.
    #[must_use]
    pub fn fixed(token: &str) -> Self {
        Self::Fixed(token.trim().into())
    }

    /// A token.
    ///
    /// # Errors
    /// [`MintError`] when it is to be minted and cannot be.
    pub fn token(&self) -> Result<Arc<str>, MintError> {
        match self {
            Self::Fixed(token) => Ok(Arc::clone(token)),
            Self::Minted { key, grant } => key.mint(grant).map(Into::into),
        }
    }

    /// Whether asking again can give another token.
    #[must_use]
    pub fn renews(&self) -> bool {
        matches!(self, Self::Minted { .. })
    }
}

/// Whose a token says it is, unchecked: only its issuer can tell whether that is true.
#[must_use]
pub fn bearer_of(token: &str) -> Option<(UserId, DeviceId)> {
    #[derive(Deserialize)]
    struct Bearer {
        sub: String,
        did: String,
    }
    let claims = URL_SAFE_NO_PAD.decode(token.trim().split('.').nth(1)?).ok()?;
    let Bearer { sub, did } = serde_json::from_slice(&claims).ok()?;
    Some((UserId::new(&sub).ok()?, DeviceId::new(&did).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_minted_from_a_local_clusters_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(DevKey::load(dir.path()), Err(MintError::NoKey(_))));
        auth::ensure_dev_keys(&dev_keys_path(dir.path())).unwrap();
        let grant = Grant::full(UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap());
        let token = DevKey::load(dir.path()).unwrap().mint(&grant).unwrap();
        let bearer = bearer_of(&token).unwrap();
        assert_eq!((bearer.0.as_str(), bearer.1.as_str()), ("alice", "phone"));
        assert!(bearer_of("a.b.c").is_none() && bearer_of("").is_none());
    }

    #[test]
    fn a_token_does_not_show_in_debug() {
        let shown = format!("{:?}", TokenSource::fixed(" secret\n"));
        assert!(!shown.contains("secret"));
        assert_eq!(&*TokenSource::fixed(" secret\n").token().unwrap(), "secret");
    }
}
