//! How thread ids are made.
//!
//! Owns: the derivation of a thread's id from who creates it, keyed by the cluster's secret, so that one pair has one
//! thread without a lock, a retried creation finds its first try, and nobody can guess an id.
//! Must not know: whether the thread exists.

use crate::ids::{CommandId, ThreadId, UserId};
use hmac::{Hmac, KeyInit, Mac};
use sha2::Sha256;

/// The cluster's secret: 32 random bytes, made at bootstrap, kept in the meta group.
#[derive(Clone, PartialEq, Eq)]
pub struct ClusterSecret(pub [u8; 32]);

impl std::fmt::Debug for ClusterSecret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("ClusterSecret(..)")
    }
}

impl ClusterSecret {
    fn derive(&self, label: &[u8], parts: &[&[u8]]) -> ThreadId {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes a key of any length");
        mac.update(label);
        for part in parts {
            mac.update(&(part.len() as u64).to_be_bytes());
            mac.update(part);
        }
        let digest = mac.finalize().into_bytes();
        let mut bytes = [0; 16];
        bytes.copy_from_slice(&digest[..16]);
        // RFC 9562, section 5.8: version 8 (custom), variant 10.
        bytes[6] = (bytes[6] & 0x0f) | 0x80;
        bytes[8] = (bytes[8] & 0x3f) | 0x80;
        ThreadId(bytes)
    }

    /// The one thread of a pair, in either order.
    #[must_use]
    pub fn one_to_one(&self, a: &UserId, b: &UserId) -> ThreadId {
        let (low, high) = if a <= b { (a, b) } else { (b, a) };
        self.derive(b"1_TO_1", &[low.as_str().as_bytes(), high.as_str().as_bytes()])
    }

    /// The group that a creation makes: the same for every retry of one command.
    #[must_use]
    pub fn group(&self, creator: &UserId, command: CommandId) -> ThreadId {
        self.derive(b"GROUP", &[creator.as_str().as_bytes(), &command.0])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pair_has_one_thread_and_kinds_do_not_meet() {
        let secret = ClusterSecret([1; 32]);
        let (a, b) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        assert_eq!(secret.one_to_one(&a, &b), secret.one_to_one(&b, &a));
        assert_ne!(secret.one_to_one(&a, &b), ClusterSecret([2; 32]).one_to_one(&a, &b));
        let group = secret.group(&a, CommandId([3; 16]));
        assert_ne!(group, secret.group(&b, CommandId([3; 16])));
        assert_eq!(uuid::Uuid::from_bytes(group.0).get_version_num(), 8);
    }
}
