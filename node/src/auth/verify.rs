//! Verifying bearer tokens.
//!
//! Owns: the checks a token passes, and the memory of those that passed.
//! Must not know: where a token was found.
//! Invariants: the memory is bounded in entries and in bytes; it holds verified tokens only.

use super::keys::VerifyingKey;
use super::{AuthError, Clock, Identity, KeySet, Scopes, TOKEN_MAX, leeway_ms};
use arc_swap::ArcSwap;
use jsonwebtoken::errors::ErrorKind;
use jsonwebtoken::{Algorithm, Validation};
use lru::LruCache;
use messenger_proto::ids::{DeviceId, MessageId, Millis, UserId};
use serde::Deserialize;
use std::num::NonZeroUsize;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Tokens remembered at most.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");
/// Bytes of a token that is remembered at most: with [`REMEMBERED`], 32 MiB in all.
const REMEMBERED_TOKEN_MAX: usize = 2 * 1024;

/// Decides whether a token is believed, and whose it is.
pub struct Authenticator {
    ring: ArcSwap<Keyring>,
    clock: Clock,
}

/// Keys, and what was verified by them and no others.
struct Keyring {
    keys: KeySet,
    verified: Mutex<LruCache<Box<str>, Arc<Identity>>>,
}

impl Keyring {
    fn new(keys: KeySet) -> Self {
        Self { keys, verified: Mutex::new(LruCache::new(REMEMBERED)) }
    }

    fn verified(&self) -> MutexGuard<'_, LruCache<Box<str>, Arc<Identity>>> {
        self.verified.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl std::fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Authenticator").field("keys", &self.ring.load().keys).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Claims {
    iss: String,
    aud: Audience,
    sub: String,
    did: String,
    #[serde(default)]
    scope: String,
    exp: f64,
    iat: f64,
    nbf: Option<f64>,
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Several(Vec<String>),
}

impl Audience {
    fn includes(&self, name: &str) -> bool {
        match self {
            Self::One(one) => one == name,
            Self::Several(several) => several.iter().any(|one| one == name),
        }
    }
}

impl Authenticator {
    /// Verifies with these keys, by this clock.
    #[must_use]
    pub fn new(keys: KeySet, clock: Clock) -> Self {
        Self { ring: ArcSwap::from_pointee(Keyring::new(keys)), clock }
    }

    /// Believes these keys and no others from now on. A token that is verified again and again is so by these too.
    pub fn replace(&self, keys: KeySet) {
        self.ring.store(Arc::new(Keyring::new(keys)));
    }

    /// Whose token it is.
    ///
    /// # Errors
    /// [`AuthError`] when it is not to be believed.
    pub fn verify(&self, token: &str) -> Result<Arc<Identity>, AuthError> {
        let (now, ring) = ((self.clock)(), self.ring.load_full());
        let remembered = ring.verified().get(token).cloned();
        if let Some(identity) = remembered {
            return if identity.is_expired(now) { Err(AuthError::Expired) } else { Ok(identity) };
        }
        let identity = Arc::new(check(&ring.keys, token, now)?);
        if token.len() <= REMEMBERED_TOKEN_MAX {
            ring.verified().put(token.into(), Arc::clone(&identity));
        }
        Ok(identity)
    }

    /// Whose token it is, if it was verified before and is still good; costs no signature.
    #[must_use]
    pub fn recall(&self, token: &str) -> Option<Arc<Identity>> {
        let remembered = self.ring.load().verified().get(token).cloned();
        remembered.filter(|identity| !identity.is_expired((self.clock)()))
    }
}

fn check(keys: &KeySet, token: &str, now: Millis) -> Result<Identity, AuthError> {
    if token.len() > TOKEN_MAX {
        return Err(AuthError::Malformed);
    }
    // `alg: none` is no value of the library's algorithms, so such a header is malformed.
    let header = jsonwebtoken::decode_header(token).map_err(|_| AuthError::Malformed)?;
    // RFC 7515, section 4.1.11: an extension that is marked critical and not understood makes the token invalid.
    if header.crit.is_some() {
        return Err(AuthError::Malformed);
    }
    let key = header.kid.as_deref().and_then(|kid| keys.find(kid)).ok_or(AuthError::UnknownKey)?;
    let algorithm = key.algorithm.jwa();
    if header.alg != algorithm {
        return Err(AuthError::WrongAlgorithm);
    }
    let claims = signed_claims(token, key, algorithm)?;
    if claims.iss != keys.issuer || !claims.aud.includes(&keys.audience) {
        return Err(AuthError::WrongParty);
    }
    let identity = Identity {
        user: UserId::new(&claims.sub).map_err(|_| AuthError::BadClaim)?,
        device: DeviceId::new(&claims.did).map_err(|_| AuthError::BadClaim)?,
        scopes: Scopes::parse(&claims.scope),
        issued_at: numeric_date(claims.iat),
        expires_at: numeric_date(claims.exp),
    };
    if identity.is_expired(now) {
        return Err(AuthError::Expired);
    }
    let latest_start = now.0.saturating_add(leeway_ms());
    let starts = numeric_date(claims.nbf.unwrap_or(claims.iat)).max(numeric_date(claims.iat));
    if starts.0 > latest_start { Err(AuthError::NotYetValid) } else { Ok(identity) }
}

/// The token in an `Authorization` header's value.
///
/// # Errors
/// [`AuthError::Missing`] when it holds none.
pub fn bearer(value: &str) -> Result<&str, AuthError> {
    match value.split_once(' ') {
        Some((scheme, token)) if scheme.eq_ignore_ascii_case("bearer") => Ok(token.trim_matches(' ')),
        _ => Err(AuthError::Missing),
    }
}

fn signed_claims(token: &str, key: &VerifyingKey, algorithm: Algorithm) -> Result<Claims, AuthError> {
    // Times, issuer and audience are checked by the caller, against its own clock and with its own answers.
    let mut validation = Validation::new(algorithm);
    validation.required_spec_claims.clear();
    validation.validate_exp = false;
    validation.validate_aud = false;
    match jsonwebtoken::decode::<Claims>(token, &key.key, &validation) {
        Ok(data) => Ok(data.claims),
        Err(error) => Err(match error.kind() {
            ErrorKind::InvalidSignature => AuthError::BadSignature,
            ErrorKind::Json(_) | ErrorKind::Utf8(_) => AuthError::BadClaim,
            _ => AuthError::Malformed,
        }),
    }
}

/// Seconds since the epoch, perhaps with a fraction (RFC 7519, section 2), as milliseconds; the end of time at most.
fn numeric_date(seconds: f64) -> Millis {
    // A float cast saturates; a token's times are finite, as JSON's numbers are.
    #[allow(clippy::cast_sign_loss)]
    let ms = (seconds * 1000.0) as u64;
    Millis(ms.min(MessageId::MS_MAX))
}
