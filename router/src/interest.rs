//! What a subscriber wants to hear, and what of it the source has still to be told.
//!
//! Owns: the set of topics, the changes not sent yet, and when a topic counts as in force.
//! Must not know: channels, sources.
//! Invariants: pure; changes to one topic coalesce, so what waits is bounded by the number of topics touched; a stamp is
//! covered only by a change that leaves nothing of its time unsent.

use messenger_proto::ids::{ThreadId, UserId};
use messenger_proto::rpc::InterestChange;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use tokio::time::Instant;

/// Topics in one change at most: about 100 KB.
const CHANGE_MAX: usize = 4_096;
/// Changes on their way at most; what comes meanwhile is sent together.
const UNDER_WAY_MAX: usize = 16;

/// What a subscriber can hear about.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Topic {
    /// Everything in a thread.
    Thread(ThreadId),
    /// Changes to a user's index.
    User(UserId),
}

/// A point in the history of the set; grows with every change.
pub(crate) type Stamp = u64;

/// The set of topics.
#[derive(Debug, Default)]
pub(crate) struct Wanted {
    /// With the stamp of its addition.
    topics: BTreeMap<Topic, Stamp>,
    unsent: BTreeSet<Topic>,
    /// Something has to be said even if there is no topic: a new source answers once it heard all.
    greet: bool,
    now: Stamp,
}

impl Wanted {
    /// Adds a topic; the stamp that has to be covered for it to be in force.
    pub(crate) fn add(&mut self, topic: Topic) -> Stamp {
        if let Some(&stamp) = self.topics.get(&topic) {
            return stamp;
        }
        self.now += 1;
        self.topics.insert(topic.clone(), self.now);
        self.unsent.insert(topic);
        self.now
    }

    /// Takes a topic away, if it is there.
    pub(crate) fn remove(&mut self, topic: Topic) {
        if self.topics.remove(&topic).is_some() {
            self.now += 1;
            self.unsent.insert(topic);
        }
    }

    /// A new source knows of nothing.
    pub(crate) fn start_over(&mut self) {
        self.unsent = self.topics.keys().cloned().collect();
        self.greet = true;
    }

    /// Whether there is something to send.
    pub(crate) fn has_news(&self) -> bool {
        self.greet || !self.unsent.is_empty()
    }

    /// The next change to send, and what it covers once in force, if it leaves nothing unsent.
    fn take(&mut self, version: u64) -> (InterestChange, Option<Stamp>) {
        let mut change = InterestChange {
            version,
            add_threads: Vec::new(),
            remove_threads: Vec::new(),
            add_users: Vec::new(),
            remove_users: Vec::new(),
        };
        for _ in 0..CHANGE_MAX {
            let Some(topic) = self.unsent.pop_first() else { break };
            match (self.topics.contains_key(&topic), topic) {
                (true, Topic::Thread(thread)) => change.add_threads.push(thread),
                (false, Topic::Thread(thread)) => change.remove_threads.push(thread),
                (true, Topic::User(user)) => change.add_users.push(user),
                (false, Topic::User(user)) => change.remove_users.push(user),
            }
        }
        self.greet = false;
        (change, self.unsent.is_empty().then_some(self.now))
    }
}

/// The changes one source has been sent and not yet put in force.
#[derive(Debug, Default)]
pub(crate) struct UnderWay {
    version: u64,
    changes: VecDeque<Change>,
}

#[derive(Debug)]
struct Change {
    version: u64,
    covers: Option<Stamp>,
    sent_at: Instant,
}

impl UnderWay {
    /// Whether another change may be sent.
    pub(crate) fn has_room(&self) -> bool {
        self.changes.len() < UNDER_WAY_MAX
    }

    /// When the oldest change was sent.
    pub(crate) fn oldest(&self) -> Option<Instant> {
        self.changes.front().map(|change| change.sent_at)
    }

    /// The next change, with a version of its own.
    pub(crate) fn send(&mut self, wanted: &mut Wanted, now: Instant) -> InterestChange {
        self.version += 1;
        let (change, covers) = wanted.take(self.version);
        self.changes.push_back(Change { version: self.version, covers, sent_at: now });
        change
    }

    /// Notes that changes up to a version are in force; the stamp that is covered by them, if any.
    pub(crate) fn in_force(&mut self, version: u64) -> Option<Stamp> {
        let mut covered = None;
        while let Some(change) = self.changes.pop_front_if(|change| change.version <= version) {
            covered = change.covers.or(covered);
        }
        covered
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn thread(id: u8) -> Topic {
        Topic::Thread(ThreadId([id; 16]))
    }

    #[test]
    fn a_large_set_goes_in_pieces_and_only_the_last_covers_it() {
        let mut wanted = Wanted::default();
        let mut stamp = 0;
        for id in 0..=CHANGE_MAX as u128 {
            stamp = wanted.add(Topic::Thread(ThreadId(id.to_be_bytes())));
        }
        let mut under_way = UnderWay::default();
        let now = Instant::now();
        assert_eq!(under_way.send(&mut wanted, now).add_threads.len(), CHANGE_MAX);
        assert_eq!(under_way.send(&mut wanted, now).add_threads.len(), 1);
        assert!(!wanted.has_news());
        assert_eq!(under_way.in_force(1), None);
        assert_eq!(under_way.in_force(2), Some(stamp));
    }

    #[test]
    fn adding_twice_waits_for_the_first_addition() {
        let mut wanted = Wanted::default();
        let stamp = wanted.add(thread(1));
        wanted.add(thread(2));
        assert_eq!(wanted.add(thread(1)), stamp);
    }

    #[test]
    fn a_new_source_is_greeted_even_without_topics() {
        let mut wanted = Wanted::default();
        assert!(!wanted.has_news());
        wanted.start_over();
        assert!(wanted.has_news());
        let mut under_way = UnderWay::default();
        let change = under_way.send(&mut wanted, Instant::now());
        assert_eq!((change.version, change.add_threads.len()), (1, 0));
        assert!(!wanted.has_news());
    }

    #[test]
    fn a_flood_of_changes_is_held_back() {
        let (mut wanted, mut under_way) = (Wanted::default(), UnderWay::default());
        for id in 0..UNDER_WAY_MAX {
            assert!(under_way.has_room());
            wanted.add(thread(id as u8));
            under_way.send(&mut wanted, Instant::now());
        }
        assert!(!under_way.has_room());
        under_way.in_force(1);
        assert!(under_way.has_room());
    }

    proptest! {
        /// Whatever is done in whatever order, a source that follows the changes ends up with the set, and a covered
        /// stamp means that its topic is there unless it was taken away again.
        #[test]
        fn the_source_follows(steps in prop::collection::vec((0_u8..5, 0_u8..6), 1..80)) {
            let (mut wanted, mut under_way) = (Wanted::default(), UnderWay::default());
            let (mut model, mut source) = (BTreeSet::new(), BTreeSet::new());
            let follow = |change: InterestChange, source: &mut BTreeSet<Topic>| {
                source.extend(change.add_threads.into_iter().map(Topic::Thread));
                for thread in change.remove_threads {
                    source.remove(&Topic::Thread(thread));
                }
                change.version
            };
            let mut stamps = BTreeMap::new();
            for (step, id) in steps {
                match step {
                    0 | 1 => {
                        stamps.insert(thread(id), wanted.add(thread(id)));
                        model.insert(thread(id));
                    }
                    2 => {
                        wanted.remove(thread(id));
                        model.remove(&thread(id));
                    }
                    3 => {
                        wanted.start_over();
                        (under_way, source) = (UnderWay::default(), BTreeSet::new());
                    }
                    _ if wanted.has_news() && under_way.has_room() => {
                        let version = follow(under_way.send(&mut wanted, Instant::now()), &mut source);
                        let covered = under_way.in_force(version).unwrap_or(0);
                        for topic in &model {
                            prop_assert!(stamps[topic] > covered || source.contains(topic));
                        }
                    }
                    _ => {}
                }
            }
            while wanted.has_news() {
                let version = follow(under_way.send(&mut wanted, Instant::now()), &mut source);
                prop_assert!(under_way.in_force(version).is_some());
            }
            prop_assert_eq!(source, model);
        }
    }
}
