//! The keys that tokens are verified with.
//!
//! Owns: how keys are configured, and the set of them that a node runs with.
//! Must not know: where the configuration comes from, or what a token claims.
//! Invariants: a key id names one key, and a key one algorithm; no secret is ever printed.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk};
use jsonwebtoken::{Algorithm, DecodingKey};
use serde::{Deserialize, Serialize};
use std::collections::HashMap;
use std::fmt;
use std::path::PathBuf;

/// Bytes of an HS256 secret at least: the hash's own size (RFC 7518, section 3.2).
const SECRET_MIN: usize = 32;

/// The algorithms a key may be pinned to.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum KeyAlgorithm {
    /// HMAC with SHA-256 and a shared secret.
    HS256,
    /// RSA PKCS#1 v1.5 with SHA-256.
    RS256,
    /// ECDSA over P-256 with SHA-256.
    ES256,
    /// Ed25519.
    EdDSA,
}

impl KeyAlgorithm {
    pub(super) fn jwa(self) -> Algorithm {
        match self {
            Self::HS256 => Algorithm::HS256,
            Self::RS256 => Algorithm::RS256,
            Self::ES256 => Algorithm::ES256,
            Self::EdDSA => Algorithm::EdDSA,
        }
    }
}

/// A secret in a text form; never shown.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretText(pub String);

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("(secret)")
    }
}

impl SecretText {
    /// The bytes behind it: base64, standard with padding or URL-safe without.
    #[must_use]
    pub fn bytes(&self) -> Option<Vec<u8>> {
        let text = self.0.trim();
        STANDARD.decode(text).or_else(|_| URL_SAFE_NO_PAD.decode(text)).ok()
    }
}

/// One key: `secret` for HS256, `jwk` (RFC 7517) for the others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyConfig {
    /// The `kid` of the tokens it verifies.
    pub kid: String,
    /// The only algorithm it verifies.
    pub algorithm: KeyAlgorithm,
    /// The shared secret, at least 32 bytes in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<SecretText>,
    /// The file that holds the shared secret in `secret`'s stead, beside the file of the keys if it says no more.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret_file: Option<PathBuf>,
    /// The public key.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub jwk: Option<Jwk>,
}

/// Whose tokens are believed, as the file says that `auth.keys` of a node's configuration names.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BelievedKeys {
    /// Every token's `iss`.
    pub issuer: String,
    /// Among every token's `aud`.
    pub audience: String,
    /// The keys in force.
    pub keys: Vec<KeyConfig>,
}

/// Why keys cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyError {
    /// Nobody could ever be let in.
    #[error("auth: no key is configured")]
    None,
    /// Empty issuer or audience would match tokens made for anyone.
    #[error("auth: issuer and audience must not be empty")]
    EmptyParty,
    /// Two keys have one id.
    #[error("auth: the key id {0:?} is used twice, or empty")]
    Kid(String),
    /// The key's material is not what its algorithm takes.
    #[error("auth: key {kid:?}: {what}")]
    Material {
        /// Which key.
        kid: String,
        /// What is wrong with it.
        what: &'static str,
    },
}

pub(super) struct VerifyingKey {
    pub(super) algorithm: KeyAlgorithm,
    pub(super) key: DecodingKey,
}

/// The keys in force, by key id, and the issuer and audience they stand for.
pub struct KeySet {
    pub(super) issuer: String,
    pub(super) audience: String,
    keys: HashMap<String, VerifyingKey>,
}

impl fmt::Debug for KeySet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kids: Vec<_> = self.keys.keys().collect();
        f.debug_struct("KeySet").field("issuer", &self.issuer).field("kids", &kids).finish_non_exhaustive()
    }
}

impl KeySet {
    /// Checks and takes a configuration.
    ///
    /// # Errors
    /// [`KeyError`] naming the first thing that cannot be used.
    pub fn load(config: &BelievedKeys) -> Result<Self, KeyError> {
        if config.issuer.is_empty() || config.audience.is_empty() {
            return Err(KeyError::EmptyParty);
        }
        if config.keys.is_empty() {
            return Err(KeyError::None);
        }
        let mut keys = HashMap::with_capacity(config.keys.len());
        for entry in &config.keys {
            let material = |what| KeyError::Material { kid: entry.kid.clone(), what };
            let key = VerifyingKey { algorithm: entry.algorithm, key: material_of(entry).map_err(material)? };
            if entry.kid.is_empty() || keys.insert(entry.kid.clone(), key).is_some() {
                return Err(KeyError::Kid(entry.kid.clone()));
            }
        }
        Ok(Self { issuer: config.issuer.clone(), audience: config.audience.clone(), keys })
    }

    pub(super) fn find(&self, kid: &str) -> Option<&VerifyingKey> {
        self.keys.get(kid)
    }
}

fn material_of(entry: &KeyConfig) -> Result<DecodingKey, &'static str> {
    match (entry.algorithm, &entry.secret, &entry.jwk) {
        (KeyAlgorithm::HS256, Some(secret), None) => {
            let bytes = secret.bytes().ok_or("the secret is not base64")?;
            if bytes.len() < SECRET_MIN {
                return Err("the secret has fewer than 32 bytes");
            }
            Ok(DecodingKey::from_secret(&bytes))
        }
        (KeyAlgorithm::HS256, ..) => Err("HS256 takes a secret, and no jwk"),
        (algorithm, None, Some(jwk)) => {
            let fits = match (algorithm, &jwk.algorithm) {
                (KeyAlgorithm::RS256, AlgorithmParameters::RSA(_)) => true,
                (KeyAlgorithm::ES256, AlgorithmParameters::EllipticCurve(key)) => key.curve == EllipticCurve::P256,
                (KeyAlgorithm::EdDSA, AlgorithmParameters::OctetKeyPair(key)) => key.curve == EllipticCurve::Ed25519,
                _ => false,
            };
            if !fits {
                return Err("the jwk is not a public key of its algorithm");
            }
            DecodingKey::from_jwk(jwk).map_err(|_| "the jwk cannot be read")
        }
        _ => Err("RS256, ES256 and EdDSA take a jwk, and no secret"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn hs256(kid: &str, secret: &[u8]) -> KeyConfig {
        let secret = Some(SecretText(STANDARD.encode(secret)));
        KeyConfig { kid: kid.into(), algorithm: KeyAlgorithm::HS256, secret, secret_file: None, jwk: None }
    }

    fn config(keys: Vec<KeyConfig>) -> BelievedKeys {
        BelievedKeys { issuer: "messenger".into(), audience: "messenger".into(), keys }
    }

    fn refused(keys: Vec<KeyConfig>) -> KeyError {
        KeySet::load(&config(keys)).unwrap_err()
    }

    #[test]
    fn keys_are_read_from_a_file() {
        let text = r#"
            issuer = "https://id.example"
            audience = "messenger"
            [[keys]]
            kid = "dev"
            algorithm = "HS256"
            secret = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8="
            [[keys]]
            kid = "prod"
            algorithm = "EdDSA"
            jwk = { kty = "OKP", crv = "Ed25519", x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo" }
        "#;
        let keys = KeySet::load(&toml::from_str::<BelievedKeys>(text).unwrap()).unwrap();
        assert!(keys.find("dev").is_some() && keys.find("prod").is_some() && keys.find("").is_none());
        assert!(!format!("{keys:?}{:?}", toml::from_str::<BelievedKeys>(text)).contains("AAECAwQFBgcI"));
    }

    #[test]
    fn unusable_keys_are_named() {
        assert_eq!(refused(vec![]), KeyError::None);
        assert_eq!(refused(vec![hs256("a", &[1; 32]), hs256("a", &[2; 32])]), KeyError::Kid("a".into()));
        assert_eq!(refused(vec![hs256("", &[1; 32])]), KeyError::Kid(String::new()));
        assert!(refused(vec![hs256("a", &[1; 31])]).to_string().contains("32 bytes"));
        let with = |algorithm, secret: Option<&str>| KeyConfig {
            kid: "a".into(),
            algorithm,
            secret: secret.map(|text| SecretText(text.into())),
            secret_file: None,
            jwk: None,
        };
        assert!(refused(vec![with(KeyAlgorithm::HS256, Some("***"))]).to_string().contains("base64"));
        assert!(refused(vec![with(KeyAlgorithm::EdDSA, Some("AAAA"))]).to_string().contains("jwk"));
        let rsa: Jwk = serde_json::from_str(r#"{"kty":"RSA","n":"AQAB","e":"AQAB"}"#).unwrap();
        let crossed = KeyConfig { jwk: Some(rsa), ..with(KeyAlgorithm::ES256, None) };
        assert!(refused(vec![crossed]).to_string().contains("its algorithm"));
        let anyone = BelievedKeys { issuer: String::new(), ..config(vec![hs256("a", &[1; 32])]) };
        assert_eq!(KeySet::load(&anyone).unwrap_err(), KeyError::EmptyParty);
    }
}
