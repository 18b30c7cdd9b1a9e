//! Bearer tokens: given, or made anew whenever one is needed.
//!
//! Owns: where a client's token comes from.
//! Must not know: how tokens are signed or checked.
//! Invariants: a token never reaches a URL, a log or an error text.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use messenger_proto::ids::{DeviceId, UserId};
use serde::Deserialize;
use std::fmt;
use std::sync::Arc;

/// No token could be made; says why, and holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct NoToken(pub String);

/// Makes tokens: a signing key at hand, or whoever can be asked for one.
pub trait Mint: Send + Sync {
    /// A token that is good from now on.
    ///
    /// # Errors
    /// [`NoToken`].
    fn mint(&self) -> Result<String, NoToken>;
}

/// Where a client takes its token from.
#[derive(Clone)]
pub enum TokenSource {
    /// One token, for as long as it lasts.
    Fixed(Arc<str>),
    /// Made whenever one is needed.
    Minted(Arc<dyn Mint>),
}

impl fmt::Debug for TokenSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Fixed(_) => "Fixed(..)",
            Self::Minted(_) => "Minted(..)",
        })
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
    /// [`NoToken`] when it is to be made and cannot be.
    pub fn token(&self) -> Result<Arc<str>, NoToken> {
        match self {
            Self::Fixed(token) => Ok(Arc::clone(token)),
            Self::Minted(mint) => mint.mint().map(Into::into),
        }
    }

    /// Whether asking again can give another token.
    #[must_use]
    pub fn renews(&self) -> bool {
        matches!(self, Self::Minted(_))
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
    use crate::testing::minted;

    #[test]
    fn a_token_says_whose_it_is() {
        let token = minted("alice").token().unwrap();
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
