//! Which connection each device has, as a user's shard leader remembers it.
//!
//! Owns: the rule that one connection per device stays, the newest.
//! Must not know: tokio, clocks, who is told.
//! Invariants: the later `opened_at` wins, and of one millisecond the one that registered last; one that was beaten stays
//! so while its better is known; an entry that was not renewed for [`LIFETIME`] is gone, so a dead node's connections
//! stand in nobody's way.

use messenger_proto::ids::{ConnectionId, DeviceId, ShardId, UserId};
use messenger_proto::rpc::{RegisterSession, SessionCall, SessionOutcome};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// How long a connection is remembered that is not renewed; three times the gateways' interval.
pub const LIFETIME: Duration = Duration::from_secs(15);

#[derive(Debug)]
struct Entry {
    session: RegisterSession,
    /// Those of the same millisecond that it displaced; of each device there are few.
    beaten: Vec<ConnectionId>,
    expires: Instant,
}

/// The connections of the devices whose users live in the shards this node leads.
#[derive(Debug, Default)]
pub(super) struct Book {
    entries: HashMap<(ShardId, UserId, DeviceId), Entry>,
}

/// What a call came to.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Verdict {
    /// The answer.
    pub outcome: SessionOutcome,
    /// The connection that has to go, if another one than the caller's.
    pub displaced: Option<RegisterSession>,
}

impl Book {
    /// Carries out a call.
    pub(super) fn handle(&mut self, shard: ShardId, call: SessionCall, now: Instant) -> Verdict {
        match call {
            SessionCall::Register(session) => self.register(shard, session, now),
            SessionCall::Unregister(session) => {
                let key = (shard, session.user, session.device);
                if self.entries.get(&key).is_some_and(|entry| entry.session.connection == session.connection) {
                    self.entries.remove(&key);
                }
                Verdict { outcome: SessionOutcome { replaced: false }, displaced: None }
            }
        }
    }

    fn register(&mut self, shard: ShardId, session: RegisterSession, now: Instant) -> Verdict {
        let key = (shard, session.user.clone(), session.device.clone());
        let (outcome, expires) = (SessionOutcome { replaced: false }, now + LIFETIME);
        let known = self.entries.get_mut(&key).filter(|entry| entry.expires > now);
        let Some(known) = known else {
            self.entries.insert(key, Entry { session, beaten: Vec::new(), expires });
            return Verdict { outcome, displaced: None };
        };
        if known.session.connection == session.connection {
            known.expires = expires;
            return Verdict { outcome, displaced: None };
        }
        if known.session.opened_at > session.opened_at || known.beaten.contains(&session.connection) {
            return Verdict { outcome: SessionOutcome { replaced: true }, displaced: None };
        }
        let displaced = std::mem::replace(&mut known.session, session);
        if displaced.opened_at < known.session.opened_at {
            known.beaten.clear();
        } else {
            known.beaten.push(displaced.connection);
        }
        known.expires = expires;
        Verdict { outcome, displaced: Some(displaced) }
    }

    /// Drops what was not renewed.
    pub(super) fn sweep(&mut self, now: Instant) {
        self.entries.retain(|_, entry| entry.expires > now);
    }

    /// How many connections are remembered.
    #[must_use]
    pub(super) fn len(&self) -> usize {
        self.entries.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::{ConnectionId, Millis, NodeId};
    use proptest::prelude::*;

    const SHARD: ShardId = ShardId(1);

    fn session(connection: u8, opened_at: u64) -> RegisterSession {
        RegisterSession {
            user: UserId::new("u").unwrap(),
            device: DeviceId::new("d").unwrap(),
            connection: ConnectionId([connection; 16]),
            node: NodeId(u64::from(connection)),
            opened_at: Millis(opened_at),
            away: false,
            settled: false,
        }
    }

    fn register(book: &mut Book, session: &RegisterSession, now: Instant) -> (bool, Option<RegisterSession>) {
        let verdict = book.handle(SHARD, SessionCall::Register(session.clone()), now);
        (verdict.outcome.replaced, verdict.displaced)
    }

    #[test]
    fn the_newest_connection_stays() {
        let (mut book, now) = (Book::default(), Instant::now());
        let (old, new) = (session(1, 10), session(2, 20));
        assert_eq!(register(&mut book, &old, now), (false, None));
        assert_eq!(register(&mut book, &old, now), (false, None), "a renewal");
        assert_eq!(register(&mut book, &new, now), (false, Some(old.clone())));
        assert_eq!(register(&mut book, &old, now), (true, None), "the older one has to go whenever it comes");
        assert_eq!(
            register(&mut book, &session(1, 20), now),
            (false, Some(new.clone())),
            "of one millisecond the last"
        );
        assert_eq!(register(&mut book, &new, now), (true, None), "once beaten, it stays so");
    }

    #[test]
    fn a_connection_that_is_not_renewed_is_forgotten() {
        let (mut book, now) = (Book::default(), Instant::now());
        let (old, new) = (session(1, 10), session(2, 20));
        register(&mut book, &new, now);
        assert_eq!(register(&mut book, &old, now + Duration::from_millis(14_999)), (true, None));
        assert_eq!(register(&mut book, &old, now + LIFETIME), (false, None));
        book.sweep(now + LIFETIME);
        assert_eq!(book.len(), 1);
        book.sweep(now + LIFETIME * 2);
        assert_eq!(book.len(), 0);
    }

    #[test]
    fn only_the_connection_itself_unregisters() {
        let (mut book, now) = (Book::default(), Instant::now());
        let (old, new) = (session(1, 10), session(2, 20));
        register(&mut book, &new, now);
        book.handle(SHARD, SessionCall::Unregister(old.clone()), now);
        assert_eq!(register(&mut book, &old, now), (true, None));
        book.handle(SHARD, SessionCall::Unregister(new), now);
        assert_eq!(register(&mut book, &old, now), (false, None));
    }

    proptest! {
        #[test]
        fn in_any_order_of_calls_every_connection_but_the_newest_is_told(
            calls in prop::collection::vec(1u8..6, 1..30),
        ) {
            let (mut book, now) = (Book::default(), Instant::now());
            let (mut told, mut seen) = (Vec::new(), Vec::new());
            for connection in calls {
                let session = session(connection, u64::from(connection) % 3);
                let (replaced, displaced) = register(&mut book, &session, now);
                if replaced {
                    told.push((session.opened_at, session.connection));
                }
                told.extend(displaced.map(|session| (session.opened_at, session.connection)));
                seen.push((session.opened_at, session.connection));
            }
            // Of the latest millisecond, the one whose first call came last.
            let latest = seen.iter().map(|one| one.0).max().unwrap();
            let mut first_calls: Vec<_> = seen.iter().filter(|one| one.0 == latest).copied().collect();
            let mut known = std::collections::BTreeSet::new();
            first_calls.retain(|one| known.insert(*one));
            let newest = *first_calls.last().unwrap();
            prop_assert!(!told.contains(&newest));
            prop_assert!(seen.iter().all(|one| *one == newest || told.contains(one)));
        }
    }
}
