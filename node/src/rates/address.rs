//! Where a request comes from.
//!
//! Owns: reading what proxies say of it (`X-Forwarded-For`, or `Forwarded` of RFC 7239), as far as they are trusted.
//! Must not know: what is done with the address.
//! Invariants: without a trusted proxy at the other end of the connection nothing that the request says counts; behind
//! one, the address is the rightmost that no trusted proxy has, so whatever a client writes itself lies to the left of it.

use crate::config::{ForwardedHeader, ProxiesConfig};
use axum::http::{HeaderMap, header};
use std::net::{IpAddr, SocketAddr};

/// The name of the older header.
const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The client's address: that of the connection's other end, or the one which trusted proxies name.
#[must_use]
pub fn client_address(peer: IpAddr, headers: &HeaderMap, proxies: &ProxiesConfig) -> IpAddr {
    let is_trusted = |address: IpAddr| proxies.trusted.iter().any(|network| network.contains(address));
    let peer = peer.to_canonical();
    if !is_trusted(peer) {
        return peer;
    }
    let mut client = peer;
    for hop in hops(headers, proxies.header) {
        // Beyond a hop that is not named nothing can be known.
        let Some(address) = hop else { break };
        client = address;
        if !is_trusted(address) {
            break;
        }
    }
    client
}

/// The addresses that proxies wrote down, the last one first; `None` where one wrote something else. No more of the header
/// is read than is asked for.
fn hops(headers: &HeaderMap, header: ForwardedHeader) -> impl Iterator<Item = Option<IpAddr>> {
    let (name, read): (_, fn(&str) -> Option<IpAddr>) = match header {
        ForwardedHeader::XForwardedFor => (header::HeaderName::from_static(X_FORWARDED_FOR), address),
        ForwardedHeader::Forwarded => (header::FORWARDED, forwarded_for),
    };
    let values = headers.get_all(name).into_iter().rev();
    // What is no text names no address either.
    values.flat_map(move |value| split_from_right(value.to_str().unwrap_or_default(), ',').map(read))
}

/// The parts between separators that stand outside quotes, the last one first: read from the right, where a trusted proxy
/// wrote, so that a quote which a client left open can't swallow what follows it.
fn split_from_right(text: &str, separator: char) -> impl Iterator<Item = &str> {
    let mut quoted = false;
    text.rsplit(move |c| {
        quoted ^= c == '"';
        c == separator && !quoted
    })
}

/// The `for` of one element of a `Forwarded` header.
fn forwarded_for(element: &str) -> Option<IpAddr> {
    let mut values = split_from_right(element, ';').filter_map(|pair| {
        let (name, value) = pair.trim().split_once('=')?;
        name.eq_ignore_ascii_case("for").then(|| value.trim_matches('"'))
    });
    address(values.next()?)
}

/// An address as proxies write it: bare, in brackets, or with a port.
fn address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.strip_prefix('[').and_then(|text| text.strip_suffix(']')).unwrap_or(text);
    let parsed = bare.parse().or_else(|_| text.parse::<SocketAddr>().map(|address| address.ip()));
    parsed.ok().map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn proxies(trusted: &[&str], header: ForwardedHeader) -> ProxiesConfig {
        ProxiesConfig { trusted: trusted.iter().map(|network| network.parse().unwrap()).collect(), header }
    }

    fn of(peer: &str, fields: &[(&'static str, &str)], proxies: &ProxiesConfig) -> String {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, value.parse().unwrap());
        }
        client_address(peer.parse().unwrap(), &headers, proxies).to_string()
    }

    #[test]
    fn nobody_untrusted_is_believed() {
        let fields = [("x-forwarded-for", "1.1.1.1"), ("forwarded", "for=1.1.1.1")];
        for header in [ForwardedHeader::XForwardedFor, ForwardedHeader::Forwarded] {
            assert_eq!(of("9.9.9.9", &fields, &proxies(&[], header)), "9.9.9.9");
            assert_eq!(of("9.9.9.9", &fields, &proxies(&["10.0.0.0/8"], header)), "9.9.9.9");
            assert_eq!(of("::ffff:9.9.9.9", &fields, &proxies(&[], header)), "9.9.9.9");
        }
    }

    #[test]
    fn the_rightmost_that_is_not_trusted_counts() {
        let trust = proxies(&["10.0.0.0/8", "fd00::/8"], ForwardedHeader::XForwardedFor);
        let cases: [(&[&str], &str); 9] = [
            (&[], "10.0.0.1"),
            (&["1.1.1.1"], "1.1.1.1"),
            (&["6.6.6.6, 1.1.1.1"], "1.1.1.1"),
            (&["6.6.6.6, 1.1.1.1, 10.0.0.2"], "1.1.1.1"),
            (&["6.6.6.6", "1.1.1.1", "10.0.0.2"], "1.1.1.1"),
            (&["6.6.6.6, junk, 10.0.0.2"], "10.0.0.2"),
            (&["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            (&["1.1.1.1:4711"], "1.1.1.1"),
            (&["2001:db8::1, [fd00::1]:80"], "2001:db8::1"),
        ];
        for (values, expected) in cases {
            let fields: Vec<_> = values.iter().map(|value| ("x-forwarded-for", *value)).collect();
            assert_eq!(of("10.0.0.1", &fields, &trust), expected, "{values:?}");
        }
        assert_eq!(of("10.0.0.1", &[("forwarded", "for=6.6.6.6")], &trust), "10.0.0.1", "the other header");
    }

    #[test]
    fn the_standard_header_is_read_as_the_standard_says() {
        let trust = proxies(&["10.0.0.1"], ForwardedHeader::Forwarded);
        let cases = [
            ("for=1.1.1.1", "1.1.1.1"),
            ("For=\"[2001:db8::1]:4711\";proto=http;by=10.0.0.9", "2001:db8::1"),
            ("for=6.6.6.6, proto=https;for=\"1.1.1.1:80\"", "1.1.1.1"),
            ("for=6.6.6.6, by=\"a,b\"; for=1.1.1.1", "1.1.1.1"),
            ("for=6.6.6.6;x=\", for=1.1.1.1", "1.1.1.1"),
            ("for=6.6.6.6, for=unknown", "10.0.0.1"),
            ("for=6.6.6.6, for=_hidden", "10.0.0.1"),
            ("proto=https", "10.0.0.1"),
        ];
        for (value, expected) in cases {
            assert_eq!(of("10.0.0.1", &[("forwarded", value)], &trust), expected, "{value}");
        }
    }

    proptest! {
        #[test]
        fn what_a_client_writes_itself_never_counts(
            parts in proptest::collection::vec(prop_oneof!["[ -~]{0,20}", "6[.]6[.]6[.]6", "for=6[.]6[.]6[.]6[;,]?", "[\",;]"], 0..6),
            header in any::<bool>(),
        ) {
            let written = parts.concat();
            let (name, real, header) = if header {
                ("forwarded", "for=1.1.1.1", ForwardedHeader::Forwarded)
            } else {
                ("x-forwarded-for", "1.1.1.1", ForwardedHeader::XForwardedFor)
            };
            let trust = proxies(&["10.0.0.1"], header);
            prop_assert_eq!(of("10.0.0.1", &[(name, &written), (name, real)], &trust), "1.1.1.1");
            let joined = format!("{written}, {real}");
            prop_assert_eq!(of("10.0.0.1", &[(name, &joined)], &trust), "1.1.1.1");
        }
    }
}
