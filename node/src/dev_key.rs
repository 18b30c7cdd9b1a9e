//! Tokens from a local cluster's signing key.
//!
//! Owns: reading that key, and minting a client's tokens with it.
//! Must not know: how tokens are signed or checked.

pub use crate::auth::Grant;

use crate::auth::{self, SigningKey, dev_keys_path, load_signing_key};
use messenger_client::{Mint, NoToken, TokenSource};
use messenger_proto::ids::Millis;
use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

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
    Sign(#[from] auth::SignError),
}

/// The HS256 key that a local cluster trusts; for development only.
#[derive(Clone)]
pub struct DevKey(Arc<SigningKey>);

impl fmt::Debug for DevKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DevKey").field("kid", &self.0.kid).finish_non_exhaustive()
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

    /// Tokens to one effect, signed whenever one is needed.
    #[must_use]
    pub fn source(self, grant: Grant) -> TokenSource {
        TokenSource::Minted(Arc::new(Minter { key: self, grant }))
    }

    /// Signs a token.
    ///
    /// # Errors
    /// [`MintError::Sign`] when the signer refuses.
    pub fn mint(&self, grant: &Grant) -> Result<String, MintError> {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        let issued_at = Millis(u64::try_from(now.as_millis()).unwrap_or(u64::MAX));
        Ok(self.0.mint(grant, issued_at)?)
    }
}

struct Minter {
    key: DevKey,
    grant: Grant,
}

impl Mint for Minter {
    fn mint(&self) -> Result<String, NoToken> {
        self.key.mint(&self.grant).map_err(|error| NoToken(error.to_string()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_client::bearer_of;
    use messenger_proto::ids::{DeviceId, UserId};

    #[test]
    fn a_token_is_minted_from_a_local_clusters_directory() {
        let dir = tempfile::tempdir().unwrap();
        assert!(matches!(DevKey::load(dir.path()), Err(MintError::NoKey(_))));
        auth::ensure_dev_keys(&dev_keys_path(dir.path())).unwrap();
        let grant = Grant::full(UserId::new("alice").unwrap(), DeviceId::new("phone").unwrap());
        let source = DevKey::load(dir.path()).unwrap().source(grant);
        let bearer = bearer_of(&source.token().unwrap()).unwrap();
        assert_eq!((bearer.0.as_str(), bearer.1.as_str()), ("alice", "phone"));
        assert!(source.renews());
    }
}
