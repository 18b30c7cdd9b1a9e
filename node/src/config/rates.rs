//! How much clients may ask of a node.
//!
//! Owns: the shape, defaults and bounds of `[rate_limits]` and `[proxies]`, the parts that are read again on SIGHUP.
//! Must not know: how requests are counted.

use super::check::{Problems, within};
use serde::{Deserialize, Serialize};
use std::net::IpAddr;
use std::str::FromStr;

/// Requests of a limit at most; with [`WINDOW_S_MAX`], what counts them in 64 bits has room to spare.
pub const TOKENS_MAX: u32 = 10_000_000;
/// Seconds of a window at most: a day.
pub const WINDOW_S_MAX: u32 = 86_400;

/// How much clients may ask of this node. Each node counts for itself: who spreads over n nodes gets up to n times as much.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RateLimitsConfig {
    /// Users, devices and addresses whose use is remembered, each: 1,000 to 10,000,000, some 100 bytes apiece.
    pub remembered_keys: u32,
    /// Messages sent, by POST or frame.
    pub sends: ClassLimits,
    /// Other changes: edits, reactions, pins, reads, deliveries, by request or frame.
    pub writes: ClassLimits,
    /// Requests that change nothing, and sockets opened.
    pub reads: ClassLimits,
    /// Threads made, and participants invited.
    pub threads: ClassLimits,
    /// Fetches of other users' keys.
    pub key_fetches: KeyFetchLimits,
    /// Messages, threads and users reported to the operators.
    pub reports: ClassLimits,
    /// Tokens that are not believed.
    pub failed_auth: FailedAuthLimits,
}

/// Limits of one class of requests: so many at once, and as many again in each window. 0 is for no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClassLimits {
    /// Seconds in which a used-up limit comes back: 1 to 86,400.
    pub window_s: u32,
    /// Requests by one user, all devices together.
    pub per_user: u32,
    /// Requests by one device.
    pub per_device: u32,
    /// Requests from one address; of IPv6, from one /64 network.
    pub per_address: u32,
}

/// Limits of key fetches.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyFetchLimits {
    /// Seconds in which a used-up limit comes back: 1 to 86,400.
    pub window_s: u32,
    /// Fetches by one user.
    pub per_user: u32,
    /// Fetches by one device.
    pub per_device: u32,
    /// Fetches from one address.
    pub per_address: u32,
    /// Fetches by one user of one other user's keys.
    pub per_target: u32,
}

impl KeyFetchLimits {
    /// Those that other classes have, too.
    #[must_use]
    pub fn by_class(&self) -> ClassLimits {
        let Self { window_s, per_user, per_device, per_address, .. } = *self;
        ClassLimits { window_s, per_user, per_device, per_address }
    }
}

/// Limits of failed authentication.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FailedAuthLimits {
    /// Seconds in which a used-up limit comes back: 1 to 86,400.
    pub window_s: u32,
    /// Refused tokens from one address; beyond it, only tokens that the node knows already are taken from there.
    pub per_address: u32,
}

impl Default for RateLimitsConfig {
    fn default() -> Self {
        let class =
            |window_s, per_user, per_device, per_address| ClassLimits { window_s, per_user, per_device, per_address };
        Self {
            remembered_keys: 100_000,
            sends: class(60, 1_200, 600, 12_000),
            writes: class(60, 2_400, 1_200, 24_000),
            reads: class(60, 3_600, 1_800, 36_000),
            threads: class(3_600, 600, 600, 6_000),
            key_fetches: KeyFetchLimits {
                window_s: 60,
                per_user: 300,
                per_device: 300,
                per_address: 3_000,
                per_target: 10,
            },
            reports: class(3_600, 20, 20, 200),
            failed_auth: FailedAuthLimits { window_s: 60, per_address: 300 },
        }
    }
}

impl RateLimitsConfig {
    /// Limits that nobody meets, and that answers still tell of: for development, tests and measuring.
    #[must_use]
    pub fn never_met() -> Self {
        let (window_s, most) = (60, TOKENS_MAX);
        let class = ClassLimits { window_s, per_user: most, per_device: most, per_address: most };
        Self {
            remembered_keys: Self::default().remembered_keys,
            sends: class,
            writes: class,
            reads: class,
            threads: class,
            key_fetches: KeyFetchLimits {
                window_s,
                per_user: most,
                per_device: most,
                per_address: most,
                per_target: most,
            },
            reports: class,
            failed_auth: FailedAuthLimits { window_s, per_address: most },
        }
    }

    pub(super) fn check(&self, found: &mut Problems) {
        found.add(within("rate_limits.remembered_keys", self.remembered_keys.into(), 1_000..=10_000_000));
        let class = |name: &'static str, limits: ClassLimits| {
            let ClassLimits { window_s, per_user, per_device, per_address } = limits;
            (name, window_s, vec![("per_user", per_user), ("per_device", per_device), ("per_address", per_address)])
        };
        let (keys, failed) = (self.key_fetches, self.failed_auth);
        let tables = [
            class("sends", self.sends),
            class("writes", self.writes),
            class("reads", self.reads),
            class("threads", self.threads),
            class("reports", self.reports),
            class("key_fetches", keys.by_class()),
            ("key_fetches", keys.window_s, vec![("per_target", keys.per_target)]),
            ("failed_auth", failed.window_s, vec![("per_address", failed.per_address)]),
        ];
        for (table, window_s, limits) in tables {
            found.add(within(&format!("rate_limits.{table}.window_s"), window_s.into(), 1..=WINDOW_S_MAX.into()));
            for (name, limit) in limits {
                found.add(within(&format!("rate_limits.{table}.{name}"), limit.into(), 0..=TOKENS_MAX.into()));
            }
        }
    }
}

/// Whose word is taken for where a request comes from.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ProxiesConfig {
    /// Addresses and networks of the proxies in front of the node, as `10.0.0.7` or `10.0.0.0/8`; none by default.
    pub trusted: Vec<Network>,
    /// The header that they add the address of their peer to; the other one is not looked at.
    pub header: ForwardedHeader,
}

/// A header that proxies write.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ForwardedHeader {
    /// `X-Forwarded-For`.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Addresses with a common beginning.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Network {
    address: IpAddr,
    prefix: u8,
}

impl Network {
    /// Whether an address is one of them.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let shared = |own: u128, other: u128, bits: u32| {
            let left = bits - u32::from(self.prefix).min(bits);
            own.checked_shr(left).unwrap_or(0) == other.checked_shr(left).unwrap_or(0)
        };
        match (self.address, address.to_canonical()) {
            (IpAddr::V4(own), IpAddr::V4(other)) => shared(own.to_bits().into(), other.to_bits().into(), 32),
            (IpAddr::V6(own), IpAddr::V6(other)) => shared(own.to_bits(), other.to_bits(), 128),
            _ => false,
        }
    }
}

/// What is no network.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("must be an address or a network, as 10.0.0.7 or 10.0.0.0/8")]
pub struct NotANetwork;

impl FromStr for Network {
    type Err = NotANetwork;
    fn from_str(text: &str) -> Result<Self, NotANetwork> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(address, prefix)| (address, Some(prefix)));
        let address: IpAddr = address.parse().map_err(|_| NotANetwork)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = prefix.map_or(Ok(most), str::parse).map_err(|_| NotANetwork)?;
        if prefix <= most { Ok(Self { address, prefix }) } else { Err(NotANetwork) }
    }
}

impl TryFrom<String> for Network {
    type Error = NotANetwork;
    fn try_from(text: String) -> Result<Self, NotANetwork> {
        text.parse()
    }
}

impl From<Network> for String {
    fn from(network: Network) -> Self {
        format!("{}/{}", network.address, network.prefix)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_named_keeps_its_default() {
        let text = "[sends]\nwindow_s = 5\nper_user = 4\nper_device = 3\nper_address = 0\n";
        let limits: RateLimitsConfig = toml::from_str(text).unwrap();
        let sends = ClassLimits { window_s: 5, per_user: 4, per_device: 3, per_address: 0 };
        assert_eq!(limits, RateLimitsConfig { sends, ..RateLimitsConfig::default() });
        for limits in [limits, RateLimitsConfig::default(), RateLimitsConfig::never_met()] {
            let mut found = Problems::default();
            limits.check(&mut found);
            assert!(found.is_empty());
            let written = toml::to_string(&limits).unwrap();
            assert_eq!(toml::from_str::<RateLimitsConfig>(&written).unwrap(), limits);
        }
        let proxies: ProxiesConfig = toml::from_str("trusted = [\"10.0.0.7\"]\nheader = \"forwarded\"").unwrap();
        assert_eq!((proxies.trusted.len(), proxies.header), (1, ForwardedHeader::Forwarded));
    }

    #[test]
    fn networks_contain_what_begins_alike() {
        let cases = [
            ("10.0.0.0/8", "10.255.1.2", true),
            ("10.0.0.0/8", "11.0.0.1", false),
            ("10.0.0.7", "10.0.0.7", true),
            ("10.0.0.7", "10.0.0.6", false),
            ("0.0.0.0/0", "200.1.2.3", true),
            ("0.0.0.0/0", "::1", false),
            ("10.0.0.0/8", "::ffff:10.1.2.3", true),
            ("2001:db8::/32", "2001:db8:ffff::1", true),
            ("2001:db8::/32", "2001:db9::1", false),
            ("::/0", "fe80::1", true),
        ];
        for (network, address, inside) in cases {
            let network: Network = network.parse().unwrap();
            assert_eq!(network.contains(address.parse().unwrap()), inside, "{network:?} {address}");
            assert_eq!(String::from(network).parse(), Ok(network));
        }
        for text in ["", "x", "10.0.0.0/33", "10.0.0/8", "::/129", "10.0.0.0/", "10.0.0.0/-1"] {
            assert_eq!(text.parse::<Network>(), Err(NotANetwork), "{text}");
        }
    }
}
