//! Tokens as the cluster's own key signs them, with any claims.
//!
//! Owns: reading the key a local cluster made for itself, and signing with it or with something else.
//! Must not know: how a node checks a token.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

/// Seconds a good token is good for.
const TTL: u64 = 3_600;

/// A local cluster's signing key.
#[derive(Debug, Clone)]
pub struct Key {
    kid: String,
    issuer: String,
    audience: String,
    secret: Vec<u8>,
}

impl Key {
    /// The key in a local cluster's data directory.
    ///
    /// # Panics
    /// When there is none.
    #[must_use]
    pub fn of(data: &Path) -> Self {
        let text = std::fs::read_to_string(data.join("keys/dev.json")).expect("a local cluster keeps its key there");
        let file: Value = serde_json::from_str(&text).expect("a key file is JSON");
        let member = |value: &Value, name: &str| {
            value[name].as_str().unwrap_or_else(|| panic!("the key file names no {name}")).to_owned()
        };
        let key = &file["keys"][0];
        Self {
            kid: member(key, "kid"),
            issuer: member(&file, "issuer"),
            audience: member(&file, "audience"),
            secret: STANDARD.decode(member(key, "secret")).expect("a secret is base64"),
        }
    }

    /// Seconds since the epoch.
    ///
    /// # Panics
    /// When the system's clock stands before it.
    #[must_use]
    pub fn now(&self) -> u64 {
        SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970").as_secs()
    }

    /// The claims of a good token.
    #[must_use]
    pub fn claims(&self, user: &str, device: &str, scope: &str) -> Value {
        let now = self.now();
        json!({"sub": user, "did": device, "scope": scope, "iss": self.issuer, "aud": self.audience, "iat": now,
            "exp": now + TTL})
    }

    /// A good token that may do everything.
    #[must_use]
    pub fn token(&self, user: &str, device: &str) -> String {
        self.token_for(user, device, "chat.read chat.write")
    }

    /// A good token with a scope.
    #[must_use]
    pub fn token_for(&self, user: &str, device: &str, scope: &str) -> String {
        self.sign(&self.claims(user, device, scope))
    }

    /// A token with any claims, well signed.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        self.sign_as(&self.kid, claims)
    }

    /// The same, naming another key.
    #[must_use]
    pub fn sign_as(&self, kid: &str, claims: &Value) -> String {
        encode(kid, &self.secret, claims)
    }

    /// The same, naming this key but signed with another.
    #[must_use]
    pub fn sign_with_secret(&self, secret: &[u8], claims: &Value) -> String {
        encode(&self.kid, secret, claims)
    }
}

fn encode(kid: &str, secret: &[u8], claims: &Value) -> String {
    let header = Header { kid: Some(kid.to_owned()), ..Header::new(Algorithm::HS256) };
    jsonwebtoken::encode(&header, claims, &EncodingKey::from_secret(secret)).expect("any claims can be signed")
}
