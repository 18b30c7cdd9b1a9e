//! The name under which one request is found again.
//!
//! Owns: the trace id, taken from `traceparent` (<https://www.w3.org/TR/trace-context/>) or made up.
//! Must not know: what is done with it.

use axum::http::HeaderMap;
use std::fmt;

/// A trace: 16 bytes, not all zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceId(pub [u8; 16]);

impl TraceId {
    /// The caller's trace, or a new one when it names none.
    #[must_use]
    pub fn of(headers: &HeaderMap) -> Self {
        let given = headers.get("traceparent").and_then(|value| value.to_str().ok()).and_then(parse);
        given.unwrap_or_else(Self::random)
    }

    /// A new trace.
    #[must_use]
    pub fn random() -> Self {
        Self(rand::random())
    }

    /// The 32 hex digits.
    #[must_use]
    pub fn hex(self) -> [u8; 32] {
        let mut text = [0; 32];
        for (pair, byte) in text.chunks_exact_mut(2).zip(self.0) {
            pair[0] = DIGITS[usize::from(byte >> 4)];
            pair[1] = DIGITS[usize::from(byte & 15)];
        }
        text
    }
}

const DIGITS: &[u8; 16] = b"0123456789abcdef";

impl fmt::Display for TraceId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(std::str::from_utf8(&self.hex()).map_err(|_| fmt::Error)?)
    }
}

/// `version-trace-parent-flags` in lower-case hex; later versions may go on after the flags.
fn parse(text: &str) -> Option<TraceId> {
    let mut parts = text.split('-');
    let (version, trace) = (parts.next()?, parts.next()?);
    let (parent, flags) = (parts.next()?, parts.next()?);
    let well_formed = is_hex(version, 2) && is_hex(trace, 32) && is_hex(parent, 16) && is_hex(flags, 2);
    if !well_formed || version == "ff" || (version == "00" && parts.next().is_some()) {
        return None;
    }
    if u64::from_str_radix(parent, 16) == Ok(0) {
        return None;
    }
    let trace = u128::from_str_radix(trace, 16).ok().filter(|trace| *trace != 0)?;
    Some(TraceId(trace.to_be_bytes()))
}

fn is_hex(text: &str, length: usize) -> bool {
    text.len() == length && text.bytes().all(|byte| DIGITS.contains(&byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_followed() {
        let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
        for text in ["00-T-00f067aa0ba902b7-01", "cc-T-00f067aa0ba902b7-01-what-comes"] {
            let found = parse(&text.replace('T', trace)).unwrap();
            assert_eq!(found.to_string(), trace);
        }
    }

    #[test]
    fn a_malformed_one_is_not() {
        let bad = [
            "",
            "00",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01-x",
            "ff-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
            "00-4BF92F3577B34DA6A3CE929D0E0E4736-00f067aa0ba902b7-01",
            "00-00000000000000000000000000000000-00f067aa0ba902b7-01",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
            "00-4bf92f3577b34da6a3ce929d0e0e47-00f067aa0ba902b7-01",
        ];
        for text in bad {
            assert_eq!(parse(text), None, "{text}");
        }
        assert_ne!(TraceId::of(&HeaderMap::new()), TraceId::of(&HeaderMap::new()));
    }
}
