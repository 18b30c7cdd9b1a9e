//! What waits to be told to one node.
//!
//! Owns: its bounds, and what is dropped beyond them.
//! Must not know: tasks, nodes.
//! Invariants: at most [`SMALL_MAX`] small items (typing, and word that a setting changed) of [`SMALL_BYTES`], and
//! [`PRESENCE_BYTES`] of presence wait, and one presence per user, the latest; what does not fit takes the place of the
//! oldest; small items never take the place of presence.

use crate::metric_names as names;
use messenger_proto::ephemeral::{Ephemeral, PresenceChange};
use messenger_proto::ids::UserId;
use std::collections::{BTreeMap, VecDeque};

/// Small items that wait for one node at most.
const SMALL_MAX: usize = 1_024;
/// Bytes of them, about: a typing names whom its user keeps away.
const SMALL_BYTES: usize = 4 * 1024 * 1024;
/// Bytes of presence that wait for one node at most.
const PRESENCE_BYTES: usize = 4 * 1024 * 1024;
/// Small items in one call at most, and bytes of them, and one more.
const SMALL_TAKE: usize = 256;
const SMALL_TAKE_BYTES: usize = 256 * 1024;
/// Bytes of presence in one call, and a change more.
const PRESENCE_TAKE: usize = 64 * 1024;

/// The queue.
#[derive(Debug, Default)]
pub(super) struct Queue {
    small: VecDeque<Ephemeral>,
    small_bytes: usize,
    presence: BTreeMap<UserId, PresenceChange>,
    /// The users of `presence`, in the order in which they first changed.
    order: VecDeque<UserId>,
    bytes: usize,
}

/// A user's name, about.
const NAME: usize = 70;

fn small_weight(item: &Ephemeral) -> usize {
    match item {
        Ephemeral::Typing(typing) => 256 + NAME * typing.away.len(),
        Ephemeral::Privacy(_) | Ephemeral::Block(_) | Ephemeral::Presence(_) => 256,
    }
}

fn weight(change: &PresenceChange) -> usize {
    256 + 20 * change.threads.len() + NAME * change.away.len()
}

fn dropped() {
    metrics::counter!(names::EPHEMERAL_DROPPED, names::WHERE => "queue").increment(1);
}

impl Queue {
    /// Adds an item at the end, or where an older one of the same user waits.
    pub(super) fn push(&mut self, item: Ephemeral) {
        match item {
            small @ (Ephemeral::Typing(_) | Ephemeral::Privacy(_) | Ephemeral::Block(_)) => {
                self.small_bytes += small_weight(&small);
                while (self.small.len() >= SMALL_MAX || self.small_bytes > SMALL_BYTES) && self.pop_small().is_some() {
                    dropped();
                }
                self.small.push_back(small);
            }
            Ephemeral::Presence(change) => {
                let user = change.of.user.clone();
                self.bytes += weight(&change);
                match self.presence.insert(user.clone(), change) {
                    Some(older) => self.bytes -= weight(&older),
                    None => self.order.push_back(user),
                }
                while self.bytes > PRESENCE_BYTES && self.presence.len() > 1 && self.pop().is_some() {
                    dropped();
                }
            }
        }
    }

    fn pop(&mut self) -> Option<PresenceChange> {
        let change = self.presence.remove(&self.order.pop_front()?)?;
        self.bytes -= weight(&change);
        Some(change)
    }

    fn pop_small(&mut self) -> Option<Ephemeral> {
        let small = self.small.pop_front()?;
        self.small_bytes -= small_weight(&small);
        Some(small)
    }

    /// Takes what fits in one call.
    pub(super) fn take(&mut self) -> Vec<Ephemeral> {
        let (mut items, mut bytes) = (Vec::new(), 0);
        while items.len() < SMALL_TAKE
            && bytes < SMALL_TAKE_BYTES
            && let Some(small) = self.pop_small()
        {
            bytes += small_weight(&small);
            items.push(small);
        }
        let mut bytes = 0;
        while bytes < PRESENCE_TAKE
            && let Some(change) = self.pop()
        {
            bytes += weight(&change);
            items.push(Ephemeral::Presence(change));
        }
        items
    }

    /// Puts back what could not be told, where nothing newer came; typing is not worth telling late.
    pub(super) fn give_back(&mut self, items: Vec<Ephemeral>) {
        self.small.retain(|item| !matches!(item, Ephemeral::Typing(_)));
        self.small_bytes = self.small.iter().map(small_weight).sum();
        for item in items.into_iter().rev() {
            let change = match item {
                Ephemeral::Typing(_) => continue,
                Ephemeral::Privacy(_) | Ephemeral::Block(_) => {
                    self.push(item);
                    continue;
                }
                Ephemeral::Presence(change) => change,
            };
            let user = change.of.user.clone();
            if self.bytes + weight(&change) <= PRESENCE_BYTES && !self.presence.contains_key(&user) {
                self.bytes += weight(&change);
                self.presence.insert(user.clone(), change);
                self.order.push_front(user);
            }
        }
    }

    /// Drops everything.
    pub(super) fn clear(&mut self) {
        *self = Self::default();
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ephemeral::{Presence, PresenceStatus, PrivacyChange, Typing};
    use messenger_proto::ids::{ShardId, Term, ThreadId};
    use proptest::prelude::*;

    fn change(user: u32, term: u64, threads: usize) -> Ephemeral {
        let of = Presence {
            user: UserId::new(&format!("u{user}")).unwrap(),
            status: PresenceStatus::Online,
            last_seen: None,
        };
        Ephemeral::Presence(PresenceChange {
            of,
            threads: vec![ThreadId([1; 16]); threads],
            shard: ShardId(0),
            term: Term(term),
            away: vec![],
            version: 0,
        })
    }

    fn typing(n: usize) -> Ephemeral {
        let user = UserId::new(&format!("u{n}")).unwrap();
        Ephemeral::Typing(Typing { thread: ThreadId([1; 16]), user, stop: false, away: vec![], version: 0 })
    }

    #[test]
    fn of_too_much_the_oldest_is_dropped_each_of_its_own_kind() {
        let mut queue = Queue::default();
        queue.push(change(0, 1, 1));
        for n in 0..SMALL_MAX + 10 {
            queue.push(typing(n));
        }
        let items = queue.take();
        assert_eq!((items.len(), &items[0]), (SMALL_TAKE + 1, &typing(10)));
        assert_eq!(items.last(), Some(&change(0, 1, 1)));
        let large = 10_000;
        for user in 1..=40 {
            queue.push(change(user, 1, large));
        }
        assert!(queue.bytes <= PRESENCE_BYTES);
        let mut told = Vec::new();
        loop {
            let items = queue.take();
            if items.is_empty() {
                break;
            }
            told.extend(items.into_iter().filter(|item| matches!(item, Ephemeral::Presence(_))));
        }
        assert_eq!(told.last(), Some(&change(40, 1, large)));
        assert!(told.len() < 40 && (queue.bytes, queue.order.len()) == (0, 0));
    }

    #[test]
    fn of_what_could_not_be_told_only_typing_is_dropped() {
        let privacy = |user: &str| Ephemeral::Privacy(PrivacyChange { user: UserId::new(user).unwrap() });
        let mut queue = Queue::default();
        queue.push(typing(1));
        queue.push(privacy("u"));
        let items = queue.take();
        queue.push(typing(2));
        queue.push(privacy("v"));
        queue.give_back(items);
        assert_eq!(queue.take(), [privacy("v"), privacy("u")]);
    }

    proptest! {
        /// Whatever is pushed, taken and given back, each user's latest change comes out last, and nothing is left over.
        #[test]
        fn the_latest_of_each_user_comes_out(steps in prop::collection::vec((0_u8..4, 0_u32..4), 1..60)) {
            let mut queue = Queue::default();
            let (mut latest, mut told) = (BTreeMap::new(), BTreeMap::new());
            for (term, (step, user)) in (1..).zip(steps) {
                match step {
                    0 => {
                        let items = queue.take();
                        queue.give_back(items);
                    }
                    1 => {
                        for item in queue.take() {
                            if let Ephemeral::Presence(change) = item {
                                told.insert(change.of.user.clone(), change.term.0);
                            }
                        }
                    }
                    _ => {
                        queue.push(change(user, term, 1));
                        latest.insert(UserId::new(&format!("u{user}")).unwrap(), term);
                    }
                }
            }
            for item in queue.take() {
                if let Ephemeral::Presence(change) = item {
                    told.insert(change.of.user.clone(), change.term.0);
                }
            }
            prop_assert_eq!(told, latest);
            prop_assert_eq!((queue.bytes, queue.order.len()), (0, 0));
        }
    }
}
