//! Who is shown what others do.
//!
//! Owns: the one rule by which a user is, or is not, shown another one's typing and presence in frames.
//! Must not know: how it is told; who hides from everyone.
//! Invariants: whoever may not be shown it is not, whichever of the two keeps the other away: what is told names whom its
//! user keeps away, and who is shown it knows its own list. Sharing a thread is checked before, where it is known: by the
//! hub for what is told, by the question for what is asked; and what is asked is held against both lists by the users'
//! shards.

use messenger_proto::ids::UserId;
use std::collections::BTreeSet;

/// A user and whom it keeps away.
#[derive(Debug, Clone, Copy)]
pub struct Viewer<'a> {
    /// The user.
    pub user: &'a UserId,
    /// Its list.
    pub away: &'a BTreeSet<UserId>,
}

/// Whether a viewer, who shares a thread with `from`, is shown its typing and presence; `away` is whom that one keeps away.
#[must_use]
pub fn shows(from: &UserId, away: &[UserId], viewer: Viewer<'_>) -> bool {
    from != viewer.user && !away.contains(viewer.user) && !viewer.away.contains(from)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_block_hides_both_from_each_other_and_nobody_else() {
        let [ann, bob, eve] = ["ann", "bob", "eve"].map(|name| UserId::new(name).unwrap());
        let (nobody, only_bob) = (BTreeSet::new(), BTreeSet::from([bob.clone()]));
        let viewer = |user, away| Viewer { user, away };
        assert!(shows(&ann, &[], viewer(&bob, &nobody)));
        assert!(!shows(&ann, &[], viewer(&ann, &nobody)), "oneself");
        assert!(!shows(&ann, std::slice::from_ref(&bob), viewer(&bob, &nobody)));
        assert!(shows(&ann, std::slice::from_ref(&bob), viewer(&eve, &nobody)));
        assert!(!shows(&bob, &[], viewer(&ann, &only_bob)));
        assert!(shows(&eve, &[], viewer(&ann, &only_bob)));
    }
}
