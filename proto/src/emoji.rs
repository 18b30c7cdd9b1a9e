//! What users react with.
//!
//! Owns: the bounds of an emoji, and its text and byte forms.
//! Must not know: which texts are drawn as one picture, or who reacted.
//! Invariants: a value is always well-formed, and can stand as a segment of a path once it is percent-encoded; two that
//! differ in any byte are two emoji.

use crate::ids::InvalidId;
use crate::limits::EMOJI_MAX;
use crate::wire::{Field, WireError};
use bytes::Bytes;
use prost::encoding::WireType;
use std::fmt;
use std::str::FromStr;

/// An emoji; opaque here.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Emoji(String);

impl Emoji {
    /// Checks and wraps a text.
    ///
    /// # Errors
    /// [`InvalidId`] unless it has 1-64 bytes, no control characters, and is not `.` or `..`.
    pub fn new(text: &str) -> Result<Self, InvalidId> {
        let fits = (1..=EMOJI_MAX).contains(&text.len());
        if fits && !text.chars().any(char::is_control) && !matches!(text, "." | "..") {
            return Ok(Self(text.to_owned()));
        }
        Err(InvalidId("emoji"))
    }

    /// The emoji's text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Emoji {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Emoji {
    type Err = InvalidId;
    fn from_str(text: &str) -> Result<Self, InvalidId> {
        Self::new(text)
    }
}

impl Field for Emoji {
    fn write(&self, tag: u32, buf: &mut Vec<u8>) {
        self.0.write(tag, buf);
    }
    fn merge(slot: &mut Option<Self>, wire_type: WireType, buf: &mut Bytes) -> Result<(), WireError> {
        let mut text = None;
        String::merge(&mut text, wire_type, buf)?;
        *slot = Some(Self::new(&text.unwrap_or_default()).map_err(|_| WireError::Invalid("emoji"))?);
        Ok(())
    }
    fn missing() -> Option<Self> {
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::Reaction;
    use crate::wire::Wire;
    use proptest::prelude::*;

    #[test]
    fn an_emoji_is_bounded() {
        for good in ["+", "\u{1f44d}", "\u{1f469}\u{200d}\u{1f680}", " ", "a/b", "...", &"x".repeat(64)] {
            assert_eq!(good.parse::<Emoji>().unwrap().as_str(), good);
        }
        for bad in ["", ".", "..", "a\nb", "\0", "\u{7f}", "\u{85}", &"x".repeat(65), &"\u{1f44d}".repeat(17)] {
            assert!(Emoji::new(bad).is_err(), "{bad:?}");
        }
    }

    proptest! {
        #[test]
        fn any_text_comes_back_or_is_refused(text in ".{0,20}") {
            if let Ok(emoji) = Emoji::new(&text) {
                let reaction = Reaction { emoji, by: Vec::new() };
                prop_assert_eq!(Reaction::from_wire(&reaction.to_wire()).unwrap(), reaction);
            }
        }
    }
}
