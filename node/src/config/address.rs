//! Where a node is reached.
//!
//! Owns: the text form of an address: an IP address or a DNS name, and a port.
//! Must not know: who listens there, or what a name stands for.
//! Invariants: what was read is written as it is compared; a name is never taken for a mistyped IP address.

use messenger_proto::limits::ADDRESS_MAX;
use serde::{Deserialize, Serialize};
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

/// Characters of a part of a DNS name at most (RFC 1035).
const LABEL_MAX: usize = 63;

/// A host.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Host {
    Ip(IpAddr),
    Name(String),
}

/// Where a node is reached: `10.0.0.7:7401`, `[::1]:7401` or `messenger-0.messenger:7401`. A name is looked up whenever a
/// connection is made, so what it stands for may change.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Address {
    host: Host,
    port: u16,
}

/// What is no address.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be a host and a port of at most 64 characters, as 10.0.0.7:7401, [::1]:7401 or node-1.example:7401")]
pub struct NotAnAddress;

impl Address {
    /// The address of a host's port.
    ///
    /// # Errors
    /// [`NotAnAddress`] when the host is neither a name nor an IP address.
    pub fn of(host: &str, port: u16) -> Result<Self, NotAnAddress> {
        let ip = host.parse::<IpAddr>().ok().map(Host::Ip);
        let host = ip.or_else(|| is_name(host).then(|| Host::Name(host.to_ascii_lowercase()))).ok_or(NotAnAddress)?;
        let address = Self { host, port };
        if address.to_string().len() <= ADDRESS_MAX { Ok(address) } else { Err(NotAnAddress) }
    }

    /// The port.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The IP address, unless it is a name.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        match self.host {
            Host::Ip(ip) => Some(ip),
            Host::Name(_) => None,
        }
    }

    /// Whether it is this host's, an IP address or a name.
    #[must_use]
    pub fn is_of(&self, host: &str) -> bool {
        Self::of(host, self.port).as_ref() == Ok(self)
    }

    /// Where to listen for it: at itself, or at its port of another IP address.
    #[must_use]
    pub fn listening_at(&self, ip: Option<IpAddr>) -> Self {
        Self { host: ip.map_or_else(|| self.host.clone(), Host::Ip), port: self.port }
    }
}

/// Letters, digits, `-` and `_` between dots; not ending in a number, which would be an IP address with a mistake.
fn is_name(host: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_';
    let label = |label: &str| (1..=LABEL_MAX).contains(&label.len()) && label.bytes().all(plain);
    let last = host.rsplit('.').next().unwrap_or_default();
    host.split('.').all(label) && !last.bytes().all(|byte| byte.is_ascii_digit())
}

impl fmt::Display for Address {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.host {
            Host::Ip(ip) => SocketAddr::new(*ip, self.port).fmt(f),
            Host::Name(name) => write!(f, "{name}:{}", self.port),
        }
    }
}

impl FromStr for Address {
    type Err = NotAnAddress;
    fn from_str(text: &str) -> Result<Self, NotAnAddress> {
        if let Ok(address) = text.parse::<SocketAddr>() {
            return Self::of(&address.ip().to_string(), address.port());
        }
        let (host, port) = text.rsplit_once(':').ok_or(NotAnAddress)?;
        if host.parse::<IpAddr>().is_ok() || !port.bytes().all(|byte| byte.is_ascii_digit()) {
            return Err(NotAnAddress);
        }
        Self::of(host, port.parse().map_err(|_| NotAnAddress)?)
    }
}

impl TryFrom<String> for Address {
    type Error = NotAnAddress;
    fn try_from(text: String) -> Result<Self, NotAnAddress> {
        text.parse()
    }
}

impl From<Address> for String {
    fn from(address: Address) -> Self {
        address.to_string()
    }
}

impl From<SocketAddr> for Address {
    fn from(address: SocketAddr) -> Self {
        Self { host: Host::Ip(address.ip()), port: address.port() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn names_are_taken_and_mistyped_numbers_are_not() {
        for text in ["10.0.0.7:7401", "[::1]:7401", "messenger-0.messenger:7501", "node_1:1", "localhost:0"] {
            assert_eq!(text.parse::<Address>().unwrap().to_string(), text);
        }
        assert_eq!("Node-1.Example:7".parse::<Address>(), "node-1.example:7".parse());
        let long = format!("{}:1", "a".repeat(63));
        for text in [
            "",
            ":1",
            "here",
            "here:",
            "here:x",
            "here:+1",
            "here:65536",
            "10.0.0:1",
            "10.0.0.256:1",
            "::1:7401",
            "a..b:1",
            "a/b:1",
            "a b:1",
            "[::1:1",
            "http://a:1",
            long.as_str(),
        ] {
            assert_eq!(text.parse::<Address>(), Err(NotAnAddress), "{text}");
        }
    }

    #[test]
    fn a_node_may_listen_elsewhere_than_it_is_reached() {
        let address: Address = "messenger-0.messenger:7501".parse().unwrap();
        assert!(address.is_of("messenger-0.messenger") && !address.is_of("messenger-0") && address.ip().is_none());
        assert_eq!(address.listening_at(None), address);
        assert_eq!(address.listening_at(Some([0; 4].into())).to_string(), "0.0.0.0:7501");
    }

    proptest! {
        #[test]
        fn what_is_taken_reads_as_it_is_written(text in "\\PC{0,20}|[a-z0-9.:\\[\\]-]{0,24}(:[0-9]{1,5})?") {
            if let Ok(address) = text.parse::<Address>() {
                let written = address.to_string();
                prop_assert!(written.len() <= ADDRESS_MAX);
                prop_assert_eq!(written.parse::<Address>(), Ok(address));
            }
        }

        #[test]
        fn every_socket_address_is_one(ip: IpAddr, port: u16) {
            let address = Address::from(SocketAddr::new(ip, port));
            prop_assert_eq!(address.to_string().parse::<Address>(), Ok(address));
        }
    }
}
