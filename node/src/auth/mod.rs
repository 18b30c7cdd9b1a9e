//! Who a request comes from.
//!
//! Owns: bearer tokens (RFC 7519): their keys, how they are verified and remembered, and how a local one is minted.
//! Must not know: HTTP, frames, or what an identity may do to a thread.
//! Invariants: a key has one algorithm and accepts no other; nothing of an unverified token is believed but its `kid`;
//! a remembered token is honoured no longer than a fresh one.

mod file;
mod keys;
mod mint;
mod verify;

pub use file::{KeyFileError, dev_keys_path, ensure_dev_keys, load_keys, load_signing_key};
pub use keys::{BelievedKeys, KeyAlgorithm, KeyConfig, KeyError, KeySet, SecretText};
pub use mint::{Grant, SignError, SigningKey};
pub use verify::{Authenticator, bearer};

use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{DeviceId, Millis, UserId};
use std::sync::Arc;
use std::time::Duration;

/// Tells the time: milliseconds since the Unix epoch.
pub type Clock = Arc<dyn Fn() -> Millis + Send + Sync>;

/// How far the clocks of a token's issuer and of this node may be apart.
pub const LEEWAY: Duration = Duration::from_secs(10);

/// Bytes of a token at most; longer ones are refused unread.
pub const TOKEN_MAX: usize = 8 * 1024;

/// One thing a token lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Scope {
    /// See threads, messages and receipts.
    Read,
    /// Send, mark as read, change membership.
    Write,
}

impl Scope {
    /// The name in a token's `scope`.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "chat.read",
            Self::Write => "chat.write",
        }
    }
}

/// What a token lets its bearer do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Scopes {
    read: bool,
    write: bool,
}

impl Scopes {
    /// Everything there is.
    pub const ALL: Self = Self { read: true, write: true };

    /// Reads a space-separated list (RFC 8693, section 4.2); names of other services are passed over.
    #[must_use]
    pub fn parse(text: &str) -> Self {
        let mut scopes = Self::default();
        for name in text.split(' ') {
            scopes.read |= name == Scope::Read.as_str();
            scopes.write |= name == Scope::Write.as_str();
        }
        scopes
    }

    /// Whether `scope` is among them.
    #[must_use]
    pub fn contains(self, scope: Scope) -> bool {
        match scope {
            Scope::Read => self.read,
            Scope::Write => self.write,
        }
    }

    /// The space-separated list.
    #[must_use]
    pub fn text(self) -> String {
        let held = [Scope::Read, Scope::Write].into_iter().filter(|scope| self.contains(*scope));
        held.map(Scope::as_str).collect::<Vec<_>>().join(" ")
    }
}

/// A verified bearer: which device of which user, what it may do, and until when.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// The token's `sub`.
    pub user: UserId,
    /// The token's `did`.
    pub device: DeviceId,
    /// The token's `scope`.
    pub scopes: Scopes,
    /// The token's `iat`.
    pub issued_at: Millis,
    /// The token's `exp`, without leeway.
    pub expires_at: Millis,
}

impl Identity {
    /// Whether the token is past its end, leeway included.
    #[must_use]
    pub fn is_expired(&self, now: Millis) -> bool {
        now.0 >= self.valid_until().0
    }

    /// When a connection opened with the token must end: its `exp` and the leeway.
    #[must_use]
    pub fn valid_until(&self) -> Millis {
        Millis(self.expires_at.0.saturating_add(leeway_ms()))
    }
}

fn leeway_ms() -> u64 {
    u64::try_from(LEEWAY.as_millis()).unwrap_or(u64::MAX)
}

/// Why a token is not believed. Its text is for the client and says nothing about keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum AuthError {
    /// There is none.
    #[error("no bearer token was given")]
    Missing,
    /// It is not a signed JWT of a known algorithm.
    #[error("the token is malformed")]
    Malformed,
    /// Its `kid` is absent or names no key here.
    #[error("the token's key is unknown")]
    UnknownKey,
    /// It is signed with another algorithm than its key's.
    #[error("the token's algorithm is not its key's")]
    WrongAlgorithm,
    /// The signature does not match.
    #[error("the token's signature does not match")]
    BadSignature,
    /// It was issued by or for someone else.
    #[error("the token was not issued for this service")]
    WrongParty,
    /// A claim is absent, of the wrong type or out of bounds.
    #[error("the token lacks a claim, or holds one that is not valid")]
    BadClaim,
    /// Its time has not come.
    #[error("the token is not valid yet")]
    NotYetValid,
    /// Its time is over.
    #[error("the token has expired")]
    Expired,
    /// Its device was deleted.
    #[error("the device was deleted after the token was issued")]
    Revoked,
    /// An operator suspended its user or device.
    #[error("the user or the device is suspended")]
    Suspended,
}

impl AuthError {
    /// The code clients see.
    #[must_use]
    pub fn code(self) -> ErrorCode {
        match self {
            Self::Expired => ErrorCode::TokenExpired,
            Self::Revoked => ErrorCode::DeviceRevoked,
            Self::Suspended => ErrorCode::Suspended,
            Self::Missing
            | Self::Malformed
            | Self::UnknownKey
            | Self::WrongAlgorithm
            | Self::BadSignature
            | Self::WrongParty
            | Self::BadClaim
            | Self::NotYetValid => ErrorCode::Unauthenticated,
        }
    }
}

#[cfg(test)]
mod tests;
