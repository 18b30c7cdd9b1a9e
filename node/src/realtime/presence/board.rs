//! Who is shown as being there on this node.
//!
//! Owns: the users that devices here were told are online or away, and from which leader's memory that comes.
//! Must not know: devices, streams, how leaders are asked.
//! Invariants: at most [`SHOWN_MAX`] users are listed; a leader is not believed after one of a later term; a shard whose
//! leader may have begun with an empty memory, or was not reached, is to be told whom the node shows.

use messenger_proto::ephemeral::{Presence, PresenceStatus};
use messenger_proto::ids::{ShardId, Term, UserId};
use std::collections::{BTreeMap, BTreeSet};

/// Users listed at most. One that is not listed may be shown for longer than it should when its leader dies with it.
const SHOWN_MAX: usize = 65_536;

#[derive(Debug, Default)]
struct Shown {
    /// The latest that was heard of.
    term: Term,
    /// The one whose memory holds all of `users`, if any does for sure.
    known_in: Option<Term>,
    users: BTreeSet<UserId>,
}

/// The users that are shown, by their shard.
#[derive(Debug, Default)]
pub(in crate::realtime) struct Board {
    shards: BTreeMap<ShardId, Shown>,
    count: usize,
}

impl Board {
    /// A leader says how a user is, and `listened` whether anyone here is told. Whether to believe it.
    pub(in crate::realtime) fn hear(&mut self, shard: ShardId, term: Term, of: &Presence, listened: bool) -> bool {
        let shown = self.shards.entry(shard).or_default();
        if term < shown.term {
            return false;
        }
        shown.term = term;
        if of.status != PresenceStatus::Offline && listened {
            if shown.users.is_empty() {
                shown.known_in = Some(term);
            }
            if self.count < SHOWN_MAX && shown.users.insert(of.user.clone()) {
                self.count += 1;
            }
        } else if shown.users.remove(&of.user) {
            self.count -= 1;
        }
        true
    }

    /// The shards that users are shown of.
    pub(super) fn shards(&self) -> Vec<ShardId> {
        self.shards.iter().filter(|(_, shown)| !shown.users.is_empty()).map(|(shard, _)| *shard).collect()
    }

    /// Whom to tell a leader of that leads in `term`.
    pub(super) fn unknown_in(&self, shard: ShardId, term: Term) -> Vec<UserId> {
        let shown = self.shards.get(&shard).filter(|shown| shown.known_in != Some(term));
        shown.map(|shown| shown.users.iter().cloned().collect()).unwrap_or_default()
    }

    /// The leader was told, or was not reached: then something may have been missed.
    pub(super) fn checked(&mut self, shard: ShardId, term: Option<Term>) {
        if let Some(shown) = self.shards.get_mut(&shard) {
            shown.known_in = term;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SHARD: ShardId = ShardId(3);

    fn presence(user: &str, status: PresenceStatus) -> Presence {
        Presence { user: UserId::new(user).unwrap(), status, last_seen: None }
    }

    fn names(users: &[UserId]) -> Vec<&str> {
        users.iter().map(UserId::as_str).collect()
    }

    #[test]
    fn a_leader_with_another_memory_is_told_who_is_shown() {
        let mut board = Board::default();
        assert!(board.hear(SHARD, Term(1), &presence("a", PresenceStatus::Online), true));
        assert!(board.hear(SHARD, Term(1), &presence("b", PresenceStatus::Away), true));
        assert!(board.hear(SHARD, Term(1), &presence("c", PresenceStatus::Online), false));
        assert_eq!(board.shards(), [SHARD]);
        assert!(board.unknown_in(SHARD, Term(1)).is_empty(), "it said so itself");
        assert_eq!(names(&board.unknown_in(SHARD, Term(2))), ["a", "b"]);
        board.checked(SHARD, Some(Term(2)));
        assert!(board.unknown_in(SHARD, Term(2)).is_empty());
        board.checked(SHARD, None);
        assert_eq!(names(&board.unknown_in(SHARD, Term(2))), ["a", "b"]);
        assert!(board.hear(SHARD, Term(2), &presence("a", PresenceStatus::Offline), true));
        assert!(board.hear(SHARD, Term(2), &presence("b", PresenceStatus::Away), false), "nobody listens any more");
        assert!(board.shards().is_empty() && board.count == 0);
    }

    #[test]
    fn an_earlier_leader_is_not_believed_after_a_later_one() {
        let mut board = Board::default();
        assert!(board.hear(SHARD, Term(2), &presence("a", PresenceStatus::Online), true));
        assert!(!board.hear(SHARD, Term(1), &presence("a", PresenceStatus::Offline), true));
        assert_eq!(board.shards(), [SHARD]);
        assert!(
            board.hear(ShardId(4), Term(1), &presence("b", PresenceStatus::Online), true),
            "terms are a shard's own"
        );
    }

    #[test]
    fn it_lists_a_bounded_number() {
        let mut board = Board::default();
        for n in 0..=SHOWN_MAX {
            board.hear(SHARD, Term(1), &presence(&format!("u{n}"), PresenceStatus::Online), true);
        }
        assert_eq!(board.unknown_in(SHARD, Term(2)).len(), SHOWN_MAX);
    }
}
