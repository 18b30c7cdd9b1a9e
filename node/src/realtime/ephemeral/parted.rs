//! Who parted from whom of late.
//!
//! Owns: which word of a block is the latest, and who is not shown what was told of a user by a list from before it.
//! Must not know: sockets, how word travels, what is shown.
//! Invariants: of a pair the highest version counts, in whatever order word of it and word of how a user is arrive: they
//! come from different nodes. The last [`PAIRS_MAX`] pairs are remembered, far more than block each other while something
//! told of one of them is on its way, which is seconds.

use messenger_proto::ephemeral::BlockChange;
use messenger_proto::ids::UserId;
use std::collections::{BTreeMap, VecDeque};

/// Pairs remembered.
const PAIRS_MAX: usize = 4_096;

#[derive(Debug, Clone, Copy)]
struct Latest {
    version: u64,
    parted: bool,
}

/// What is remembered.
#[derive(Debug, Default)]
pub(super) struct Parted {
    /// By the one whose list it is.
    users: BTreeMap<UserId, BTreeMap<UserId, Latest>>,
    /// The pairs, in the order in which they were first heard of.
    order: VecDeque<(UserId, UserId)>,
}

impl Parted {
    /// Takes note of a change; whether it is news.
    pub(super) fn hear(&mut self, change: &BlockChange) -> bool {
        let BlockChange { user, other, parted, version } = change.clone();
        if version == 0 {
            return true;
        }
        let pairs = self.users.entry(user.clone()).or_default();
        match pairs.get_mut(&other) {
            Some(latest) if latest.version > version => return false,
            Some(latest) => *latest = Latest { version, parted },
            None => {
                pairs.insert(other.clone(), Latest { version, parted });
                self.order.push_back((user, other));
            }
        }
        if self.order.len() > PAIRS_MAX {
            self.forget_first();
        }
        true
    }

    fn forget_first(&mut self) {
        let Some((user, other)) = self.order.pop_front() else { return };
        if let Some(pairs) = self.users.get_mut(&user) {
            pairs.remove(&other);
            if pairs.is_empty() {
                self.users.remove(&user);
            }
        }
    }

    /// Adds to a user's list, as it was in a version, those from whom it parted later.
    pub(super) fn complete(&self, user: &UserId, version: u64, away: &mut Vec<UserId>) {
        let Some(pairs) = self.users.get(user) else { return };
        let later = pairs.iter().filter(|(_, latest)| latest.parted && latest.version > version);
        away.extend(later.map(|(other, _)| other.clone()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    fn change(user: &UserId, other: &UserId, parted: bool, version: u64) -> BlockChange {
        BlockChange { user: user.clone(), other: other.clone(), parted, version }
    }

    proptest! {
        /// One user's list changes again and again; word of it, and of how the user is, arrives in any order.
        #[test]
        fn whatever_arrives_when_nobody_is_shown_what_a_later_word_took_back(
            changes in prop::collection::vec((0..3usize, any::<bool>()), 1..12),
            order in prop::collection::vec(any::<prop::sample::Index>(), 24),
        ) {
            let (ann, others) = (user("ann"), ["bob", "cy", "dee"].map(user));
            let mut lists: Vec<Vec<UserId>> = vec![Vec::new()];
            let mut words = Vec::new();
            for ((other, parted), version) in changes.into_iter().zip(1..) {
                let mut list = lists[version as usize - 1].clone();
                list.retain(|user| *user != others[other]);
                if parted {
                    list.push(others[other].clone());
                }
                lists.push(list);
                words.push(change(&ann, &others[other], parted, version));
            }
            let (mut known, mut heard) = (Parted::default(), BTreeMap::new());
            for (pick, told) in order.chunks(2).map(|pair| (pair[0], pair[1])) {
                if words.is_empty() {
                    break;
                }
                let word = words.remove(pick.index(words.len()));
                let newest = heard.get(&word.other).is_none_or(|(version, _)| *version < word.version);
                prop_assert_eq!(known.hear(&word), newest);
                if newest {
                    heard.insert(word.other.clone(), (word.version, word.parted));
                }
                let version = told.index(lists.len());
                let mut away = lists[version].clone();
                known.complete(&ann, version as u64, &mut away);
                for other in &others {
                    let expected = match heard.get(other) {
                        Some((later, parted)) if *later > version as u64 => *parted || lists[version].contains(other),
                        _ => lists[version].contains(other),
                    };
                    prop_assert_eq!(away.contains(other), expected, "{} by {}", other, version);
                }
            }
        }
    }

    #[test]
    fn a_bounded_number_of_pairs_is_remembered_and_word_without_a_version_is_news() {
        let (mut known, ann) = (Parted::default(), user("ann"));
        for n in 0..=PAIRS_MAX as u64 {
            assert!(known.hear(&change(&user(&format!("u{n}")), &ann, true, n + 1)));
        }
        let away = |known: &Parted, name: &str| {
            let mut away = Vec::new();
            known.complete(&user(name), 0, &mut away);
            away
        };
        assert_eq!((away(&known, "u0"), away(&known, "u1")), (vec![], vec![ann.clone()]));
        assert_eq!((known.users.len(), known.order.len()), (PAIRS_MAX, PAIRS_MAX));
        assert!(known.hear(&change(&user("u1"), &ann, false, 0)));
        assert_eq!(away(&known, "u1"), [ann]);
    }
}
