//! Places in lists, as text that clients hand back.
//!
//! Owns: sealing a place so that it is opaque, and believing only what was sealed for the same list and viewer.
//! Must not know: what a place means.
//! Invariants: a cursor that was changed, cut, made up, or belongs to another list or viewer does not open.

use crate::api::error::ApiError;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use hmac::{Hmac, KeyInit, Mac};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{ThreadId, UserId};
use messenger_proto::thread_id::ClusterSecret;
use sha2::Sha256;

const TAG: usize = 16;
/// Characters of a cursor at most; longer ones were never ours.
const TEXT_MAX: usize = 8 * 1024;

/// The list a place is in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum List {
    /// The viewer's threads.
    Threads,
    /// A thread's messages.
    Messages(ThreadId),
}

/// Seals and opens the places of one viewer in one list.
pub(super) struct CursorSeal {
    mac: Hmac<Sha256>,
}

impl CursorSeal {
    /// For a viewer and a list, in any node of the cluster with this secret.
    pub(super) fn new(secret: &ClusterSecret, viewer: &UserId, list: List) -> Self {
        let mut mac = Hmac::<Sha256>::new_from_slice(&secret.0).expect("HMAC takes a key of any length");
        mac.update(b"messenger cursor v1");
        mac.update(&(viewer.as_str().len() as u64).to_be_bytes());
        mac.update(viewer.as_str().as_bytes());
        match list {
            List::Threads => mac.update(b"threads"),
            List::Messages(thread) => {
                mac.update(b"messages");
                mac.update(&thread.0);
            }
        }
        Self { mac }
    }

    /// The cursor of a place.
    pub(super) fn seal(&self, place: &[u8]) -> String {
        let mut mac = self.mac.clone();
        mac.update(place);
        let mut sealed = mac.finalize().into_bytes()[..TAG].to_vec();
        sealed.extend_from_slice(place);
        URL_SAFE_NO_PAD.encode(sealed)
    }

    /// The place of a cursor.
    ///
    /// # Errors
    /// [`ErrorCode::InvalidCursor`] when it was not sealed for this viewer and list.
    pub(super) fn open(&self, text: &str) -> Result<Vec<u8>, ApiError> {
        self.try_open(text).ok_or_else(invalid_cursor)
    }

    fn try_open(&self, text: &str) -> Option<Vec<u8>> {
        if text.len() > TEXT_MAX {
            return None;
        }
        let sealed = URL_SAFE_NO_PAD.decode(text).ok()?;
        let (tag, place) = sealed.split_at_checked(TAG)?;
        let mut mac = self.mac.clone();
        mac.update(place);
        mac.verify_truncated_left(tag).ok()?;
        Some(place.to_vec())
    }
}

/// The answer to a cursor that is not of its list.
pub(super) fn invalid_cursor() -> ApiError {
    ApiError::new(ErrorCode::InvalidCursor, "Use next_cursor of this list's last page, unchanged.")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn seal(secret: u8, viewer: &str, list: List) -> CursorSeal {
        CursorSeal::new(&ClusterSecret([secret; 32]), &UserId::new(viewer).unwrap(), list)
    }

    proptest! {
        #[test]
        fn a_place_comes_back_and_only_to_its_own(place in proptest::collection::vec(any::<u8>(), 0..80)) {
            let own = seal(1, "alice", List::Threads);
            let text = own.seal(&place);
            prop_assert!(text.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-' || byte == b'_'));
            prop_assert_eq!(&own.open(&text).unwrap(), &place);
            let thread = ThreadId([1; 16]);
            let others = [
                seal(2, "alice", List::Threads),
                seal(1, "bob", List::Threads),
                seal(1, "alice", List::Messages(thread)),
            ];
            for other in others {
                prop_assert!(other.open(&text).is_err());
            }
            let messages = seal(1, "alice", List::Messages(thread)).seal(&place);
            prop_assert!(seal(1, "alice", List::Messages(ThreadId([2; 16]))).open(&messages).is_err());
        }

        #[test]
        fn a_changed_cursor_does_not_open(
            place in proptest::collection::vec(any::<u8>(), 0..40),
            at in any::<prop::sample::Index>(),
            to in "[A-Za-z0-9_-]",
            cut in any::<prop::sample::Index>(),
        ) {
            let own = seal(1, "alice", List::Threads);
            let text = own.seal(&place);
            let at = at.index(text.len());
            let mut changed = text.clone();
            changed.replace_range(at..=at, &to);
            prop_assert!(changed == text || own.open(&changed).is_err());
            prop_assert!(own.open(&text[..cut.index(text.len())]).is_err());
            let padded = format!("{text}=");
            prop_assert!(own.open(&padded).is_err());
        }

        #[test]
        fn a_made_up_cursor_does_not_open(text in ".{0,80}") {
            prop_assert!(seal(1, "alice", List::Threads).open(&text).is_err());
        }
    }

    #[test]
    fn an_overlong_cursor_is_not_looked_at() {
        let own = seal(1, "alice", List::Threads);
        assert!(own.open(&own.seal(&vec![0; 10_000])).is_err());
    }
}
