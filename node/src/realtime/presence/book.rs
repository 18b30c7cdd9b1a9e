//! Who is there, as a user's shard leader remembers it.
//!
//! Owns: the rule from devices' registrations to a user's status, and what of it others have still to be told.
//! Must not know: tokio, clocks, how others are told.
//! Invariants: a user is online while any of its devices is, and away when all that are say so; it is offline [`GRACE`]
//! after the last one went, or once the last one was not renewed for [`LIFETIME`]; others are told a user's changes no
//! more often than every [`CALM`], the latest. A leader that begins with nothing tells nobody offline whom it was not told
//! of: a user is known from its registrations, or from a node that shows it, and then [`GRACE`] is the time to come back.
//! What a shard's users are is forgotten with the term.

use crate::realtime::registry::{LIFETIME, RENEWAL};
use messenger_proto::ephemeral::{Presence, PresenceStatus};
use messenger_proto::ids::{ConnectionId, DeviceId, Millis, ShardId, Term, UserId};
use messenger_proto::rpc::RegisterSession;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// After the last device went, so that one that comes back at once never was away.
pub const GRACE: Duration = Duration::from_secs(10);
/// Between two changes of a user that others are told.
pub const CALM: Duration = Duration::from_secs(2);
/// How long a leader is new: what it does not know, others may have been told by the one before it.
pub const NEW: Duration = Duration::from_secs(20);
/// Devices of a user that are counted; each costs a connection, and of more the first are as good as all.
const DEVICES_MAX: usize = 64;

#[derive(Debug)]
struct Beat {
    connection: ConnectionId,
    away: bool,
    renewed: Instant,
    renewed_at: Millis,
}

#[derive(Debug)]
struct Person {
    devices: BTreeMap<DeviceId, Beat>,
    /// When the last device went, or when one was first missed; and by the cluster's time, where that is known.
    gone: (Instant, Option<Millis>),
    /// Since when it is known here.
    known: Instant,
    /// What others were told; `None`: it is not known that they were.
    told: Option<PresenceStatus>,
    told_at: Option<Instant>,
}

impl Person {
    fn new(now: Instant, told: PresenceStatus) -> Self {
        Self { devices: BTreeMap::new(), gone: (now, None), known: now, told: Some(told), told_at: None }
    }

    /// Takes out the devices that were not renewed.
    fn expire(&mut self, now: Instant) {
        self.devices.retain(|_, beat| {
            let alive = now.saturating_duration_since(beat.renewed) < LIFETIME;
            if !alive {
                self.gone = self.gone.max((beat.renewed, Some(beat.renewed_at)));
            }
            alive
        });
    }

    fn status(&self, now: Instant) -> PresenceStatus {
        if self.devices.values().any(|beat| !beat.away) {
            return PresenceStatus::Online;
        }
        if !self.devices.is_empty() {
            return PresenceStatus::Away;
        }
        if now.saturating_duration_since(self.gone.0) >= GRACE {
            return PresenceStatus::Offline;
        }
        // Nothing changes until then.
        self.told.unwrap_or(PresenceStatus::Online)
    }

    fn presence(&self, user: &UserId, now: Instant) -> Presence {
        let status = self.status(now);
        let last_seen = self.gone.1.filter(|_| status == PresenceStatus::Offline);
        Presence { user: user.clone(), status, last_seen }
    }

    /// Whether others are to be told now.
    fn is_due(&self, now: Instant) -> bool {
        let calm = self.told_at.is_none_or(|told| now.saturating_duration_since(told) >= CALM);
        calm && self.told != Some(self.status(now))
    }
}

#[derive(Debug)]
struct Shard {
    term: Term,
    since: Instant,
    people: HashMap<UserId, Person>,
    /// Those whom something was heard of since others were last told.
    stirred: BTreeSet<UserId>,
}

/// A change that others are to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Due {
    pub(super) shard: ShardId,
    pub(super) term: Term,
    pub(super) presence: Presence,
}

/// The people of the shards that this node leads.
#[derive(Debug, Default)]
pub(super) struct Book {
    shards: BTreeMap<ShardId, Shard>,
}

impl Book {
    /// The shard's people in this term; those of another one are forgotten.
    fn shard(&mut self, shard: ShardId, term: Term, now: Instant) -> &mut Shard {
        let fresh = || Shard { term, since: now, people: HashMap::new(), stirred: BTreeSet::new() };
        let shard = self.shards.entry(shard).or_insert_with(fresh);
        if shard.term != term {
            *shard = fresh();
        }
        shard
    }

    /// A connection is there; whether others may have to be told. `rumour` is what this node heard of the user last, from
    /// whichever leader.
    pub(super) fn beat(
        &mut self,
        place: (ShardId, Term),
        session: &RegisterSession,
        rumour: Option<PresenceStatus>,
        now: (Instant, Millis),
    ) -> bool {
        let (now, at) = now;
        let shard = self.shard(place.0, place.1, now);
        // Nobody is to be told again because the leader changed: of whom was rumoured or is settled, another one told.
        let settled = session.settled.then(|| status_of(session));
        let assumed = rumour.or(settled).filter(|_| shard.is_new(now)).unwrap_or(PresenceStatus::Offline);
        let person = shard.people.entry(session.user.clone()).or_insert_with(|| Person::new(now, assumed));
        if person.devices.len() < DEVICES_MAX || person.devices.contains_key(&session.device) {
            let beat = Beat { connection: session.connection, away: session.away, renewed: now, renewed_at: at };
            person.devices.insert(session.device.clone(), beat);
        }
        let learning = now.saturating_duration_since(person.known) <= RENEWAL && person.told_at.is_none();
        if learning && session.settled && person.told != Some(PresenceStatus::Offline) {
            person.told = Some(person.status(now));
        }
        let stirs = person.told != Some(person.status(now));
        if stirs {
            shard.stirred.insert(session.user.clone());
        }
        stirs
    }

    /// A connection went.
    pub(super) fn gone(&mut self, place: (ShardId, Term), session: &RegisterSession, now: (Instant, Millis)) {
        let (now, at) = now;
        let shard = self.shard(place.0, place.1, now);
        let Some(person) = shard.people.get_mut(&session.user) else { return };
        if person.devices.get(&session.device).is_some_and(|beat| beat.connection == session.connection) {
            person.devices.remove(&session.device);
            person.gone = (now, Some(at));
            shard.stirred.insert(session.user.clone());
        }
    }

    /// A node shows these users as being there. Of one that this leader does not know, nobody knows better when it went:
    /// it was there until shortly before.
    pub(super) fn shown(&mut self, place: (ShardId, Term), users: Vec<UserId>, now: (Instant, Millis)) {
        let (now, at) = now;
        let shard = self.shard(place.0, place.1, now);
        for user in users {
            let fresh = || Person { gone: (now, Some(at)), ..Person::new(now, PresenceStatus::Online) };
            let person = shard.people.entry(user.clone()).or_insert_with(fresh);
            // That was lost on the way.
            if person.told == Some(PresenceStatus::Offline) {
                person.told = None;
                shard.stirred.insert(user);
            }
        }
    }

    /// How a user is. `rumour` is what this node heard of the user last, from whichever leader: while this one is new it
    /// is the best there is, and later it says when the user was last seen.
    pub(super) fn ask(
        &mut self,
        place: (ShardId, Term),
        user: &UserId,
        rumour: Option<Presence>,
        now: Instant,
    ) -> Presence {
        let shard = self.shard(place.0, place.1, now);
        if let Some(person) = shard.people.get_mut(user) {
            person.expire(now);
            return person.presence(user, now);
        }
        let new = shard.is_new(now);
        let known = rumour.filter(|rumour| new || rumour.status == PresenceStatus::Offline);
        known.unwrap_or_else(|| Presence { user: user.clone(), status: PresenceStatus::Offline, last_seen: None })
    }

    /// Takes up to `max` changes that others are to be told now, of those whom something was heard of or, if `all`, of
    /// everyone; they count as told.
    pub(super) fn take_due(&mut self, now: Instant, all: bool, max: usize) -> Vec<Due> {
        let mut due = Vec::new();
        for (id, shard) in &mut self.shards {
            if all {
                shard.stirred.extend(shard.people.keys().cloned());
            }
            while due.len() < max
                && let Some(user) = shard.stirred.pop_first()
            {
                due.extend(shard.take(&user, now).map(|presence| Due { shard: *id, term: shard.term, presence }));
            }
        }
        due
    }

    /// Others could not be told after all.
    pub(super) fn untold(&mut self, due: &Due, now: Instant) {
        let Some(shard) = self.shards.get_mut(&due.shard).filter(|shard| shard.term == due.term) else { return };
        if let Some(person) = shard.people.get_mut(&due.presence.user) {
            person.told = None;
            person.told_at = Some(now);
        }
    }

    /// Others may have to be told again how a user is, since it chose anew what to show.
    pub(super) fn look_again(&mut self, shard: ShardId, user: &UserId) {
        let Some(shard) = self.shards.get_mut(&shard) else { return };
        if let Some(person) = shard.people.get_mut(user) {
            person.told = None;
            person.told_at = None;
            shard.stirred.insert(user.clone());
        }
    }

    /// Forgets the shards that `leads` does not say this node leads in the same term.
    pub(super) fn keep(&mut self, leads: impl Fn(ShardId) -> Option<Term>) {
        self.shards.retain(|id, shard| leads(*id) == Some(shard.term));
    }

    /// How many people are known.
    pub(super) fn len(&self) -> usize {
        self.shards.values().map(|shard| shard.people.len()).sum()
    }
}

impl Shard {
    fn is_new(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.since) < NEW
    }

    fn take(&mut self, user: &UserId, now: Instant) -> Option<Presence> {
        let person = self.people.get_mut(user)?;
        person.expire(now);
        let due = person.is_due(now).then(|| person.presence(user, now));
        if let Some(presence) = &due {
            person.told = Some(presence.status);
            person.told_at = Some(now);
        }
        // Whoever went, and of whom others have been told for long enough to know that they were, is nobody to keep.
        let told = person.told_at.is_none_or(|told| now.saturating_duration_since(told) >= GRACE);
        let offline = person.told == Some(PresenceStatus::Offline) && person.status(now) == PresenceStatus::Offline;
        if person.devices.is_empty() && offline && told {
            self.people.remove(user);
        }
        due
    }
}

fn status_of(session: &RegisterSession) -> PresenceStatus {
    if session.away { PresenceStatus::Away } else { PresenceStatus::Online }
}

#[cfg(test)]
mod tests {
    use super::*;
    use PresenceStatus::{Away, Offline, Online};
    use messenger_proto::ids::NodeId;
    use proptest::prelude::*;

    const HERE: (ShardId, Term) = (ShardId(1), Term(7));

    fn user() -> UserId {
        UserId::new("u").unwrap()
    }

    fn session(device: u8, away: bool, settled: bool) -> RegisterSession {
        RegisterSession {
            user: user(),
            device: DeviceId::new(&format!("d{device}")).unwrap(),
            connection: ConnectionId([device; 16]),
            node: NodeId(1),
            opened_at: Millis(1),
            away,
            settled,
        }
    }

    /// A book and the time that passes for it, in milliseconds since it began.
    struct World {
        book: Book,
        start: Instant,
        at: u64,
    }

    impl World {
        fn new() -> Self {
            Self { book: Book::default(), start: Instant::now(), at: 0 }
        }

        fn pass(&mut self, millis: u64) -> &mut Self {
            self.at += millis;
            self
        }

        fn now(&self) -> (Instant, Millis) {
            (self.start + Duration::from_millis(self.at), Millis(self.at))
        }

        fn beat(&mut self, session: &RegisterSession) -> &mut Self {
            self.rumoured(session, None)
        }

        fn rumoured(&mut self, session: &RegisterSession, rumour: Option<PresenceStatus>) -> &mut Self {
            let now = self.now();
            self.book.beat(HERE, session, rumour, now);
            self
        }

        fn gone(&mut self, device: u8) -> &mut Self {
            let now = self.now();
            self.book.gone(HERE, &session(device, false, false), now);
            self
        }

        /// What others are told now.
        fn told(&mut self) -> Vec<(PresenceStatus, Option<u64>)> {
            let now = self.now().0;
            let due = self.book.take_due(now, true, 10);
            due.into_iter().map(|due| (due.presence.status, due.presence.last_seen.map(|at| at.0))).collect()
        }
    }

    #[test]
    fn a_user_is_there_while_any_device_is_and_away_when_all_say_so() {
        let mut world = World::new();
        assert_eq!(world.beat(&session(1, false, false)).told(), [(Online, None)]);
        assert_eq!(world.pass(3_000).beat(&session(2, true, false)).told(), []);
        assert_eq!(world.beat(&session(1, true, false)).told(), [(Away, None)]);
        assert_eq!(world.pass(3_000).beat(&session(2, false, false)).told(), [(Online, None)]);
        assert_eq!(world.pass(3_000).gone(2).told(), [(Away, None)]);
        assert_eq!(world.pass(3_000).gone(2).told(), [], "it has gone already");
    }

    #[test]
    fn one_that_went_is_offline_after_the_grace_unless_it_comes_back() {
        let mut world = World::new();
        world.beat(&session(1, false, false)).told();
        assert_eq!(world.pass(3_000).gone(1).pass(9_999).told(), []);
        assert_eq!(world.beat(&session(2, false, false)).told(), []);
        assert_eq!(world.gone(2).pass(9_999).told(), []);
        assert_eq!(world.pass(1).told(), [(Offline, Some(12_999))]);
        let now = world.now().0;
        let known = world.book.ask(HERE, &user(), None, now);
        assert_eq!((known.status, known.last_seen), (Offline, Some(Millis(12_999))));
        assert_eq!((world.pass(10_000).told(), world.book.len()), (vec![], 0), "nobody to keep");
    }

    #[test]
    fn one_whose_node_died_is_offline_once_it_would_have_been_renewed() {
        let mut world = World::new();
        world.beat(&session(1, false, false)).told();
        world.pass(5_000).beat(&session(1, false, true));
        assert_eq!(world.pass(14_999).told(), []);
        assert_eq!(world.pass(1).told(), [(Offline, Some(5_000))]);
    }

    #[test]
    fn a_new_leader_tells_nobody_again_and_nobody_gone_who_may_come_back() {
        let mut world = World::new();
        assert_eq!(world.beat(&session(1, true, true)).told(), [], "an earlier leader told of it");
        assert_eq!(world.beat(&session(2, false, true)).told(), [], "of both");
        let mut world = World::new();
        assert_eq!(world.rumoured(&session(1, false, false), Some(Online)).told(), [], "it reconnected meanwhile");
        assert_eq!(world.pass(3_000).rumoured(&session(1, true, false), Some(Online)).told(), [(Away, None)]);
        let mut world = World::new();
        world.beat(&session(1, false, false)).told();
        world.pass(30_000).told();
        world.pass(10_000).told();
        assert_eq!(world.book.len(), 0);
        assert_eq!(world.beat(&session(1, false, true)).told(), [(Online, None)], "this leader said that it was gone");
    }

    #[test]
    fn one_that_is_shown_somewhere_and_does_not_come_is_told_offline() {
        let mut world = World::new();
        let now = world.now();
        world.book.shown(HERE, vec![user()], now);
        assert_eq!(world.pass(9_999).told(), []);
        assert_eq!(world.pass(1).told(), [(Offline, Some(0))]);
        let now = world.pass(3_000).now();
        world.book.shown(HERE, vec![user()], now);
        assert_eq!(world.told(), [(Offline, Some(0))], "that was lost on the way");
        let mut world = World::new();
        let now = world.now();
        world.book.shown(HERE, vec![user()], now);
        assert_eq!(world.pass(5_000).beat(&session(1, false, true)).pass(9_000).told(), [], "it came");
    }

    #[test]
    fn what_a_leader_does_not_know_it_has_by_hearsay() {
        let mut world = World::new();
        let rumour = |status, last_seen| Some(Presence { user: user(), status, last_seen });
        let now = world.now();
        world.book.shown(HERE, Vec::new(), now);
        let now = now.0;
        assert_eq!(world.book.ask(HERE, &user(), rumour(Online, None), now).status, Online);
        let now = world.pass(20_000).now().0;
        assert_eq!(world.book.ask(HERE, &user(), rumour(Online, None), now).status, Offline, "it would have come");
        let known = world.book.ask(HERE, &user(), rumour(Offline, Some(Millis(5))), now);
        assert_eq!((known.status, known.last_seen), (Offline, Some(Millis(5))));
    }

    #[test]
    fn another_term_begins_with_nothing_and_a_lost_leadership_ends_it() {
        let mut world = World::new();
        world.beat(&session(1, false, false)).told();
        let now = world.now();
        world.book.beat((HERE.0, Term(8)), &session(1, false, true), None, now);
        assert_eq!((world.book.len(), world.pass(5_000).told()), (1, vec![]));
        world.book.keep(|_| Some(Term(8)));
        assert_eq!(world.book.len(), 1);
        world.book.keep(|_| Some(Term(9)));
        assert_eq!((world.book.len(), world.pass(60_000).told()), (0, vec![]));
    }

    #[test]
    fn what_could_not_be_told_is_told_later() {
        let mut world = World::new();
        world.beat(&session(1, false, false));
        let now = world.now().0;
        let due = world.book.take_due(now, false, 10).pop().unwrap();
        world.book.untold(&due, now);
        assert_eq!(world.pass(1_999).told(), []);
        assert_eq!(world.pass(1).told(), [(Online, None)]);
    }

    proptest! {
        /// Whatever devices do, others are told each change at most every two seconds and never the same twice, and once
        /// all is quiet they know how the user is.
        #[test]
        fn others_know_in_the_end_and_are_told_in_measure(
            steps in prop::collection::vec((0_u64..6_000, 0_u8..3, 0_u8..3), 1..60),
        ) {
            let mut world = World::new();
            let (mut last, mut last_at) = (Offline, None);
            let mut alive: BTreeMap<u8, (bool, u64)> = BTreeMap::new();
            for (pause, device, what) in steps {
                world.pass(pause);
                if what == 2 {
                    alive.remove(&device);
                    world.gone(device);
                } else {
                    alive.insert(device, (what == 1, world.at));
                    world.beat(&session(device, what == 1, false));
                }
                for (status, _) in world.told() {
                    prop_assert_ne!(status, last);
                    prop_assert!(last_at.is_none_or(|at| world.at - at >= 2_000));
                    (last, last_at) = (status, Some(world.at));
                }
            }
            let quiet = world.at + 2_000;
            world.pass(2_000);
            for (status, _) in world.told() {
                last = status;
            }
            alive.retain(|_, (_, at)| quiet - *at < 15_000);
            let expected = match alive.values().map(|(away, _)| *away).min() {
                Some(false) => Some(Online),
                Some(true) => Some(Away),
                None => None,
            };
            prop_assert!(expected.is_none_or(|expected| expected == last));
            for (status, _) in world.pass(15_000).told() {
                last = status;
            }
            prop_assert_eq!(last, Offline);
        }
    }
}
