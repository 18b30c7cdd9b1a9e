//! Tokens of a local cluster's own.
//!
//! Owns: minting HS256 tokens, for development and for tests.
//! Must not know: where the secret is kept.

use super::{KeyAlgorithm, KeyConfig, Scopes, SecretText};
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use messenger_proto::ids::{DeviceId, Millis, UserId};
use serde::Serialize;
use std::time::Duration;

/// Signing failed; only a broken key does that.
#[derive(Debug, thiserror::Error)]
#[error("the token could not be signed: {0}")]
pub struct SignError(String);

/// A shared secret that tokens are signed with, and the parties they name.
pub struct SigningKey {
    /// The key's id.
    pub kid: String,
    /// The tokens' `iss`.
    pub issuer: String,
    /// The tokens' `aud`.
    pub audience: String,
    /// At least 32 bytes.
    pub secret: Vec<u8>,
}

/// Whom a token is for.
#[derive(Debug, Clone)]
pub struct Grant {
    /// The user.
    pub user: UserId,
    /// The user's device.
    pub device: DeviceId,
    /// What the device may do.
    pub scopes: Scopes,
    /// For how long; counted in whole seconds.
    pub lifetime: Duration,
}

impl Grant {
    /// Reading and writing for a day.
    #[must_use]
    pub fn full(user: UserId, device: DeviceId) -> Self {
        Self { user, device, scopes: Scopes::ALL, lifetime: Duration::from_hours(24) }
    }
}

#[derive(Serialize)]
struct Claims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'a str,
    did: &'a str,
    scope: String,
    iat: u64,
    exp: u64,
}

impl SigningKey {
    /// A signed token, valid from `issued_at`.
    ///
    /// # Errors
    /// [`SignError`] when the library refuses the key.
    pub fn mint(&self, grant: &Grant, issued_at: Millis) -> Result<String, SignError> {
        let iat = issued_at.0 / 1000;
        let claims = Claims {
            iss: &self.issuer,
            aud: &self.audience,
            sub: grant.user.as_str(),
            did: grant.device.as_str(),
            scope: grant.scopes.text(),
            iat,
            exp: iat.saturating_add(grant.lifetime.as_secs()),
        };
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::HS256) };
        let key = EncodingKey::from_secret(&self.secret);
        jsonwebtoken::encode(&header, &claims, &key).map_err(|error| SignError(error.to_string()))
    }

    /// The configuration that verifies what this signs.
    #[must_use]
    pub fn key_config(&self) -> KeyConfig {
        KeyConfig {
            kid: self.kid.clone(),
            algorithm: KeyAlgorithm::HS256,
            secret: Some(SecretText(STANDARD.encode(&self.secret))),
            secret_file: None,
            jwk: None,
        }
    }
}
