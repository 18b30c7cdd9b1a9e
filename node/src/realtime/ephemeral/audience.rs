//! Who is shown what others do.
//!
//! Owns: the one rule by which a user is, or is not, shown another one's typing and presence in frames.
//! Must not know: how it is told; who hides from everyone.
//! Invariants: whoever may not be shown it is not, whichever of the two keeps the other away: what is told names whom its
//! user keeps away, and who is shown it knows its own list. Sharing a thread is checked before, where it is known: by the
//! hub for what is told, by the question for what is asked; and what is asked is held against both lists by the users'
//! shards.

use messenger_proto::ids::UserId;
use messenger_proto::limits::USER_BLOCKS_MAX;
use std::collections::{BTreeMap, BTreeSet};

/// Whom a session's user keeps away, from its list and from word of changes to it, whichever arrives first.
#[derive(Debug, Default)]
pub struct Away {
    users: BTreeSet<UserId>,
    /// The version of the list.
    version: u64,
    /// Those that were added later, and in which version; at most [`USER_BLOCKS_MAX`].
    later: BTreeMap<UserId, u64>,
}

impl Away {
    /// Takes the list of a version; one that is older than what is known says nothing.
    pub fn told(&mut self, users: Vec<UserId>, version: u64) {
        if version < self.version {
            return;
        }
        self.version = version;
        self.later.retain(|_, later| *later > version);
        self.users = users.into_iter().chain(self.later.keys().cloned()).collect();
    }

    /// Takes word that the user keeps another one away since a version, or 0 when it is not known since which; whether it
    /// still does.
    pub fn blocked(&mut self, other: &UserId, version: u64) -> bool {
        if version != 0 && version <= self.version {
            return self.users.contains(other);
        }
        self.users.insert(other.clone());
        if version > self.version && (self.later.len() < USER_BLOCKS_MAX || self.later.contains_key(other)) {
            self.later.insert(other.clone(), version);
        }
        true
    }

    /// The list, and the version up to which it is complete.
    #[must_use]
    pub fn list(&self) -> (Vec<UserId>, u64) {
        (self.users.iter().cloned().collect(), self.version)
    }
}

/// A user and whom it keeps away.
#[derive(Debug, Clone, Copy)]
pub struct Viewer<'a> {
    /// The user.
    pub user: &'a UserId,
    /// Its list.
    pub away: &'a Away,
}

/// Whether a viewer, who shares a thread with `from`, is shown its typing and presence; `away` is whom that one keeps away.
#[must_use]
pub fn shows(from: &UserId, away: &[UserId], viewer: Viewer<'_>) -> bool {
    from != viewer.user && !away.contains(viewer.user) && !viewer.away.users.contains(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_hides_both_from_each_other_and_nobody_else() {
        let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| UserId::new(name).unwrap());
        let (nobody, mut only_bob) = (Away::default(), Away::default());
        only_bob.told(vec![bob.clone()], 1);
        let viewer = |user, away| Viewer { user, away };
        assert!(shows(&ann, &[], viewer(&bob, &nobody)));
        assert!(!shows(&ann, &[], viewer(&ann, &nobody)), "oneself");
        assert!(!shows(&ann, std::slice::from_ref(&bob), viewer(&bob, &nobody)));
        assert!(shows(&ann, std::slice::from_ref(&bob), viewer(&eve, &nobody)));
        assert!(!shows(&bob, &[], viewer(&ann, &only_bob)));
        assert!(shows(&eve, &[], viewer(&ann, &only_bob)));
    }

    #[test]
    fn a_list_and_word_of_a_block_may_overtake_each_other() {
        let [bob, eve] = ["bob", "eve"].map(|name| UserId::new(name).unwrap());
        let names = |away: &Away| away.list().0.iter().map(ToString::to_string).collect::<Vec<_>>();
        let mut away = Away::default();
        away.told(vec![eve.clone()], 3);
        assert!(away.blocked(&bob, 5));
        away.told(vec![eve.clone()], 4);
        assert_eq!((names(&away), away.list().1), (vec!["bob".to_owned(), "eve".to_owned()], 4));
        away.told(vec![bob.clone()], 3);
        assert_eq!(names(&away), ["bob", "eve"], "it is older than what is known");
        away.told(vec![], 6);
        assert!(names(&away).is_empty());
        assert!(!away.blocked(&bob, 5), "that ended");
        assert!(away.blocked(&eve, 0) && !away.blocked(&bob, 6));
        assert_eq!(names(&away), ["eve"]);
        away.told(vec![bob.clone()], 8);
        assert!(away.blocked(&bob, 7));
    }
}
