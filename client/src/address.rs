//! Where a cluster's nodes listen.
//!
//! Owns: parsing base URLs, and which of several servers to try next.
//! Must not know: what is said to a server.

use crate::wire::Trust;
use std::fmt;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// A text that does not name a server.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{text:?} is not a server address: {reason}")]
pub struct InvalidServer {
    text: String,
    reason: &'static str,
}

/// The base URL of a node's listener, and over `https` whom to believe there.
#[derive(Clone, PartialEq, Eq)]
pub struct ServerUrl {
    authority: Arc<str>,
    trust: Option<Trust>,
}

impl ServerUrl {
    /// `host:port`.
    #[must_use]
    pub fn authority(&self) -> &str {
        &self.authority
    }

    /// The host alone, as certificates name it.
    #[must_use]
    pub fn host(&self) -> &str {
        let host = self.authority.rsplit_once(':').map_or(&*self.authority, |(host, _)| host);
        host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host)
    }

    /// Whom to believe; `None` over plain HTTP.
    #[must_use]
    pub fn trust(&self) -> Option<&Trust> {
        self.trust.as_ref()
    }

    /// The same server, believed by these authorities; over plain HTTP there is nobody to believe.
    #[must_use]
    pub fn trusting(self, trust: &Trust) -> Self {
        Self { trust: self.trust.map(|_| trust.clone()), ..self }
    }
}

impl FromStr for ServerUrl {
    type Err = InvalidServer;

    /// Takes `http://host[:port][/]`, `https://host[:port][/]` or `host:port`, which is plain HTTP.
    fn from_str(text: &str) -> Result<Self, InvalidServer> {
        let invalid = |reason| InvalidServer { text: text.to_owned(), reason };
        let (rest, trust) = match text.split_once("://") {
            None => (text, None),
            Some(("http", rest)) => (rest, None),
            Some(("https", rest)) => (rest, Some(Trust::default())),
            Some(_) => return Err(invalid("only http:// and https:// are spoken here")),
        };
        let rest = rest.strip_suffix('/').unwrap_or(rest);
        let parsed: http::uri::Authority =
            rest.parse().map_err(|_| invalid("expected http://host:port or https://host:port"))?;
        if parsed.host().is_empty() || rest.contains('@') {
            return Err(invalid("expected http://host:port or https://host:port"));
        }
        let authority = match parsed.port() {
            Some(port) if port.as_u16() == 0 => return Err(invalid("port 0 cannot be connected to")),
            Some(_) => rest.to_owned(),
            None if rest.contains(':') && !rest.ends_with(']') => return Err(invalid("the port is not a number")),
            None => format!("{rest}:{}", if trust.is_some() { 443 } else { 80 }),
        };
        Ok(Self { authority: authority.into(), trust })
    }
}

impl fmt::Display for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.trust.is_some() { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.authority)
    }
}

impl fmt::Debug for ServerUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Several servers of one cluster, and the one in favour; clones share it.
#[derive(Debug, Clone)]
pub struct Servers {
    all: Arc<[ServerUrl]>,
    favourite: Arc<AtomicUsize>,
}

impl Servers {
    /// The servers, the first in favour.
    ///
    /// # Errors
    /// [`InvalidServer`] when there is none.
    pub fn new(all: Vec<ServerUrl>) -> Result<Self, InvalidServer> {
        if all.is_empty() {
            return Err(InvalidServer { text: String::new(), reason: "name at least one server" });
        }
        Ok(Self { all: all.into(), favourite: Arc::new(AtomicUsize::new(0)) })
    }

    /// How many there are; at least one.
    #[must_use]
    pub fn count(&self) -> usize {
        self.all.len()
    }

    /// All of them, in the order given.
    #[must_use]
    pub fn all(&self) -> &[ServerUrl] {
        &self.all
    }

    /// The server at a position, wrapping around.
    #[must_use]
    pub fn at(&self, position: usize) -> &ServerUrl {
        // Never empty, so the remainder is in range.
        &self.all[position % self.all.len()]
    }

    /// The position in favour.
    #[must_use]
    pub fn favourite(&self) -> usize {
        self.favourite.load(Ordering::Relaxed) % self.all.len()
    }

    /// Moves on from a server that failed; does nothing if another task already has.
    pub fn move_on(&self, from: usize) {
        let next = (from + 1) % self.all.len();
        let _ = self.favourite.compare_exchange(from % self.all.len(), next, Ordering::Relaxed, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_are_taken_with_and_without_scheme_and_port() {
        for (text, authority) in [
            ("http://127.0.0.1:7401", "127.0.0.1:7401"),
            ("http://localhost:7401/", "localhost:7401"),
            ("127.0.0.1:7401", "127.0.0.1:7401"),
            ("http://example.org", "example.org:80"),
            ("http://[::1]:7401", "[::1]:7401"),
            ("http://[::1]", "[::1]:80"),
            ("https://example.org", "example.org:443"),
            ("https://[::1]:7401/", "[::1]:7401"),
        ] {
            assert_eq!(text.parse::<ServerUrl>().unwrap().authority(), authority, "{text}");
        }
        let url: ServerUrl = "127.0.0.1:7401".parse().unwrap();
        assert_eq!(url.to_string(), "http://127.0.0.1:7401");
        assert!(url.trust().is_none() && url.clone().trusting(&Trust::default()) == url);
        let url: ServerUrl = "https://[::1]:7401".parse().unwrap();
        assert_eq!((url.to_string().as_str(), url.host()), ("https://[::1]:7401", "::1"));
        assert_eq!("https://example.org".parse::<ServerUrl>().unwrap().host(), "example.org");
    }

    #[test]
    fn what_is_no_address_is_refused() {
        for text in [
            "",
            "http://",
            "https://",
            "wss://a:1",
            "ftp://a:1",
            "http://a:b",
            "http://a:99999",
            "http://a:0",
            "http://u@a:1",
            "http://a:1/path",
            "a b",
        ] {
            assert!(text.parse::<ServerUrl>().is_err(), "{text:?}");
        }
        assert!(Servers::new(Vec::new()).is_err());
    }

    #[test]
    fn moving_on_goes_round_and_only_once_per_failure() {
        let all = ["a:1", "b:1", "c:1"].map(|text| text.parse().unwrap()).to_vec();
        let servers = Servers::new(all).unwrap();
        servers.move_on(0);
        servers.move_on(0);
        assert_eq!(servers.favourite(), 1);
        servers.move_on(1);
        servers.move_on(2);
        assert_eq!(servers.favourite(), 0);
    }
}
