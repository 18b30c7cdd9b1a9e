//! Answers that a client need not be sent twice (RFC 9110, sections 8.8.3 and 13.1.2).
//!
//! Owns: the tag of an answer, and whether a request's `If-None-Match` holds it.
//! Must not know: what is answered, or to whom.
//! Invariants: the tag is a digest of the whole body, so it changes whenever the body does, and with the viewer whenever
//! viewers see different things; every node gives one body one tag. It is weak, as a body may go out in several
//! encodings. A field that is not as the RFC says matches nothing: the client is then sent the body.

use axum::http::{HeaderMap, HeaderValue, header};
use sha2::{Digest, Sha256};

/// Bytes of the digest that are kept.
const DIGEST: usize = 16;

/// A weak entity tag, `W/"…"`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct EntityTag(String);

impl EntityTag {
    /// The tag of a body.
    pub(super) fn of(body: &[u8]) -> Self {
        let digest = Sha256::digest(body);
        let kept = digest.iter().take(DIGEST).fold(0, |kept: u128, byte| kept << 8 | u128::from(*byte));
        Self(format!("{kept:032x}"))
    }

    /// The value of an `ETag` header.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        HeaderValue::from_str(&format!("W/\"{}\"", self.0)).ok()
    }

    /// Whether a request's `If-None-Match` says that the client has what this is the tag of.
    pub(super) fn is_held(&self, headers: &HeaderMap) -> bool {
        let values = headers.get_all(header::IF_NONE_MATCH);
        let mut fields = values.iter().map(|value| IfNoneMatch(value.as_bytes()));
        // A list may come in several fields; `*` stands alone, and means whatever there is.
        fields.any(|field| field.holds(self.0.as_bytes()))
    }
}

/// One `If-None-Match` field.
struct IfNoneMatch<'a>(&'a [u8]);

impl IfNoneMatch<'_> {
    /// Whether one of its tags has these characters between its quotes: weak comparison, as the RFC has it for this field.
    fn holds(&self, opaque: &[u8]) -> bool {
        if self.0.trim_ascii() == b"*" {
            return true;
        }
        let (mut rest, mut found) = (self.0, false);
        loop {
            rest = rest.trim_ascii_start();
            match rest.split_first() {
                None => return found,
                // Empty members of a list are passed over.
                Some((b',', after)) => rest = after,
                Some(_) => {
                    let Some((tag, after)) = take_tag(rest) else { return false };
                    found |= tag == opaque;
                    rest = after.trim_ascii_start();
                    if !matches!(rest.first(), None | Some(b',')) {
                        return false;
                    }
                }
            }
        }
    }
}

/// Takes `"…"` or `W/"…"` off the front: what is between the quotes, and what follows them.
fn take_tag(text: &[u8]) -> Option<(&[u8], &[u8])> {
    let quoted = text.strip_prefix(b"W/").unwrap_or(text).strip_prefix(b"\"")?;
    let end = quoted.iter().position(|byte| *byte == b'"')?;
    let (tag, after) = quoted.split_at_checked(end)?;
    let is_tag = tag.iter().all(|byte| matches!(byte, 0x21 | 0x23..=0x7e | 0x80..));
    is_tag.then_some((tag, after.get(1..)?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn holds(field: &str, opaque: &str) -> bool {
        IfNoneMatch(field.as_bytes()).holds(opaque.as_bytes())
    }

    #[test]
    fn a_tag_is_found_in_any_list_that_holds_it() {
        for field in ["\"a\"", "W/\"a\"", " \"a\" ", "\"x\", W/\"a\"", "\"a,b\",\"a\"", ",, \"a\" ,", "*", " * "] {
            assert!(holds(field, "a"), "{field}");
        }
        assert!(holds("\"a,b\"", "a,b") && holds("\"\"", ""));
        let broken =
            ["a", "\"a", "a\"", "\"b\"", "w/\"a\"", "\"a\" \"b\"", "\"a\"x", "*, \"a\"", "W/a", "\"a\", b", "\"a b\""];
        for field in broken.into_iter().chain(["", ","]) {
            assert!(!holds(field, "a"), "{field}");
        }
    }

    #[test]
    fn several_fields_are_one_list() {
        let tag = EntityTag::of(b"body");
        let mut headers = HeaderMap::new();
        assert!(!tag.is_held(&headers));
        headers.append(header::IF_NONE_MATCH, HeaderValue::from_static("\"x\""));
        assert!(!tag.is_held(&headers));
        headers.append(header::IF_NONE_MATCH, tag.header().unwrap());
        assert!(tag.is_held(&headers));
    }

    fn tag() -> impl Strategy<Value = String> {
        "[!#-~]{0,20}"
    }

    proptest! {
        #[test]
        fn a_list_holds_its_tags_and_no_others(
            tags in proptest::collection::vec((tag(), any::<bool>(), " {0,2}"), 0..6),
            other in tag(),
        ) {
            let written = tags.iter().map(|(tag, weak, space)| {
                format!("{space}{}\"{tag}\"{space}", if *weak { "W/" } else { "" })
            });
            let field = written.collect::<Vec<_>>().join(",");
            for (tag, ..) in &tags {
                prop_assert!(holds(&field, tag));
            }
            prop_assert_eq!(holds(&field, &other), tags.iter().any(|(tag, ..)| *tag == other));
        }

        #[test]
        fn any_bytes_get_an_answer(field in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = IfNoneMatch(&field).holds(b"a");
        }

        #[test]
        fn bodies_have_one_tag_each(body in proptest::collection::vec(any::<u8>(), 1..100), at in any::<usize>()) {
            let mut other = body.clone();
            other[at % body.len()] ^= 1;
            prop_assert_eq!(EntityTag::of(&body), EntityTag::of(&body));
            prop_assert_ne!(EntityTag::of(&body), EntityTag::of(&other));
            let mut headers = HeaderMap::new();
            headers.insert(header::IF_NONE_MATCH, EntityTag::of(&body).header().unwrap());
            prop_assert!(EntityTag::of(&body).is_held(&headers) && !EntityTag::of(&other).is_held(&headers));
        }
    }
}
