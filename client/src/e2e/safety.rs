//! Safety numbers: how two people find out whether somebody sits between them.
//!
//! Owns: the number of a pair of users, and how it is written.
//! Must not know: where identities come from.
//! Invariants: both users compute the same number; it changes whenever a device's keys on either side do.

use super::identity::Identity;
use messenger_proto::ids::UserId;
use sha2::{Digest, Sha512};

/// So many rounds make it dear to search for keys with a number of one's choice.
const ROUNDS: usize = 5_200;
/// Digits in a group.
const GROUP: usize = 5;
/// Groups for each user.
const GROUPS: usize = 6;
const CONTEXT: &[u8] = b"messenger safety number v1\0";

/// The number of two users: 60 digits in twelve groups, the same whoever asks.
///
/// For each of them SHA-512 runs 5,200 times over the user's id and the sorted identity keys of all its devices; 30 bytes
/// of the last hash give six groups of five digits, each five bytes modulo 100,000. The smaller half comes first.
#[must_use]
pub fn safety_number(one: (&UserId, &[Identity]), other: (&UserId, &[Identity])) -> String {
    let mut halves = [half(one), half(other)];
    halves.sort_unstable();
    halves.concat().join(" ")
}

fn half((user, devices): (&UserId, &[Identity])) -> Vec<String> {
    let mut devices = devices.to_vec();
    devices.sort_unstable();
    devices.dedup();
    let mut content = CONTEXT.to_vec();
    content.extend_from_slice(user.as_str().as_bytes());
    content.push(0);
    for device in &devices {
        content.extend_from_slice(device.as_bytes());
    }
    let mut hash = Sha512::digest(&content);
    for _ in 0..ROUNDS {
        hash = Sha512::new().chain_update(hash).chain_update(&content).finalize();
    }
    let group = |bytes: &[u8]| {
        let number = bytes.iter().fold(0u64, |number, byte| (number << 8) | u64::from(*byte));
        format!("{:05}", number % 100_000)
    };
    hash.chunks_exact(GROUP).take(GROUPS).map(group).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use vodozemac::olm::Account;

    fn identities(count: usize) -> Vec<Identity> {
        (0..count).map(|_| Identity::of(&Account::new())).collect()
    }

    #[test]
    fn both_see_the_same_sixty_digits_and_any_new_key_changes_them() {
        let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        let (hers, his) = (identities(2), identities(3));
        let number = safety_number((&alice, &hers), (&bob, &his));
        let turned: Vec<_> = his.iter().rev().copied().collect();
        assert_eq!(number, safety_number((&bob, &turned), (&alice, &hers)));
        assert_eq!(number.chars().filter(char::is_ascii_digit).count(), 60);
        assert_eq!(number.split(' ').count(), 12);
        assert_ne!(number, safety_number((&alice, &hers), (&bob, &his[..2])));
        assert_ne!(number, safety_number((&alice, &hers[1..]), (&bob, &his)));
        assert_ne!(number, safety_number((&bob, &hers), (&alice, &his)), "whose they are counts");
    }

    #[test]
    fn the_number_is_pinned() {
        let key = |hex: &str| {
            let bytes: Vec<u8> = (0..32).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect();
            Identity::from_slice(&[&bytes[..], &[5; 32]].concat()).unwrap()
        };
        // The public key of RFC 8032's first test vector.
        let known = key("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a");
        let (alice, bob) = (UserId::new("alice").unwrap(), UserId::new("bob").unwrap());
        assert_eq!(
            safety_number((&alice, &[known]), (&bob, &[])),
            "24341 50915 48433 59860 39547 92139 65450 21296 49886 24912 36721 02159"
        );
    }
}
