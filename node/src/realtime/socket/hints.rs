//! What a client says that is told to others and stored nowhere.
//!
//! Owns: how often one connection may say it; and when its device is shown who is there, if it is.
//! Must not know: the shape of frames, who else is shown what.
//! Invariants: whatever a client sends, what leaves the node is bounded by the interval and by [`THREADS_MAX`]; what was
//! found out about a user never comes behind what is newer; until it is known that the user does not hide, nobody's
//! presence is shown, and [`MEMBERS_MAX`] users' is held at most.

use crate::realtime::ephemeral::gate::Gate;
use crate::realtime::event::{EphemeralFrame, EphemeralKind};
use crate::realtime::presence::greeting::{Found, MEMBERS_MAX};
use crate::realtime::session::Session;
use crate::realtime::{Realtime, encode};
use messenger_proto::ephemeral::{Ephemeral, Typing};
use messenger_proto::ids::{ThreadId, UserId};
use messenger_proto::limits::TYPING_INTERVAL;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

/// Threads that somebody types in on one connection at a time.
const THREADS_MAX: usize = 16;

/// What one connection told of late; made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Hints {
    typing: Option<Box<Gate<ThreadId>>>,
    greeting: Greeting,
    greetings: u32,
}

/// Presence of users, by user.
type Held = BTreeMap<UserId, Arc<EphemeralFrame>>;

/// Telling the device who is there, and whether it is shown that at all.
#[derive(Debug)]
enum Greeting {
    /// It is to be found out; what came since is held.
    Due(Held),
    /// It is being found out.
    UnderWay(Held),
    /// It is shown what comes.
    Open,
    /// It is shown nothing: the user hides.
    Closed,
}

impl Default for Greeting {
    fn default() -> Self {
        Self::Due(Held::new())
    }
}

impl Greeting {
    /// What came of a user is out of date, and what is being found out may be.
    fn parted(&mut self, user: &UserId) {
        match self {
            Self::Due(held) => drop(held.remove(user)),
            Self::UnderWay(held) => {
                held.remove(user);
                *self = Self::Due(std::mem::take(held));
            }
            Self::Open | Self::Closed => {}
        }
    }
}

impl Hints {
    /// Whether it is to be found out now who is there, and for the how manieth time.
    pub(super) fn begin_greeting(&mut self) -> Option<u32> {
        let Greeting::Due(held) = &mut self.greeting else { return None };
        self.greeting = Greeting::UnderWay(std::mem::take(held));
        self.greetings = self.greetings.wrapping_add(1);
        Some(self.greetings)
    }

    /// What came for the device: gives what it is to be shown now.
    pub(super) fn take(&mut self, frame: Arc<EphemeralFrame>) -> Option<Arc<EphemeralFrame>> {
        match (frame.kind, &mut self.greeting) {
            (EphemeralKind::Blocked | EphemeralKind::Parted, greeting) => {
                greeting.parted(&frame.from);
                return Some(frame);
            }
            (EphemeralKind::Typing(_), _) | (EphemeralKind::Presence, Greeting::Open) => return Some(frame),
            (EphemeralKind::Presence, Greeting::Due(held) | Greeting::UnderWay(held)) => {
                if held.len() < MEMBERS_MAX || held.contains_key(&frame.from) {
                    held.insert(frame.from.clone(), frame);
                }
            }
            (EphemeralKind::Presence, Greeting::Closed) | (EphemeralKind::Privacy, Greeting::Due(_)) => {}
            (EphemeralKind::Privacy, Greeting::UnderWay(held)) => self.greeting = Greeting::Due(std::mem::take(held)),
            (EphemeralKind::Privacy, Greeting::Open | Greeting::Closed) => self.greeting = Greeting::default(),
        }
        None
    }

    /// It was found out who is there, or that the user hides; tells the device, unless that is out of date.
    pub(super) fn greet(&mut self, session: &mut Session, greeting: u32, found: Found) {
        let Greeting::UnderWay(held) = &mut self.greeting else { return };
        if greeting != self.greetings {
            return;
        }
        let held = std::mem::take(held);
        session.keep_away(found.away.users, found.away.version);
        let Some(present) = found.present else {
            self.greeting = Greeting::Closed;
            return;
        };
        self.greeting = Greeting::Open;
        for presence in present.iter().filter(|presence| !held.contains_key(&presence.user)) {
            session.show(&encode::presence(presence));
        }
        for frame in held.values() {
            session.show(frame);
        }
    }

    /// The user types in a thread that it is in, or stopped.
    pub(super) fn typing(&mut self, node: &Realtime, session: &Session, user: &UserId, thread: ThreadId, stop: bool) {
        let gate = self.typing.get_or_insert_with(|| Box::new(Gate::new(TYPING_INTERVAL, THREADS_MAX)));
        if gate.passes(thread, stop, Instant::now()) {
            let (user, (away, version)) = (user.clone(), session.kept_away());
            node.relay().tell(&Ephemeral::Typing(Typing { thread, user, stop, away, version }));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ephemeral::{Presence, PresenceStatus};
    use messenger_proto::query::BlocksAnswer;

    fn presence(user: &str, status: PresenceStatus) -> Presence {
        Presence { user: UserId::new(user).unwrap(), status, last_seen: None }
    }

    fn change(user: &str, status: PresenceStatus) -> Arc<EphemeralFrame> {
        Arc::new(encode::presence(&presence(user, status)))
    }

    fn privacy() -> Arc<EphemeralFrame> {
        let from = UserId::new("self").unwrap();
        let (kind, body) = (EphemeralKind::Privacy, bytes::Bytes::new());
        Arc::new(EphemeralFrame { from, kind, body, away: Vec::new(), version: 0 })
    }

    fn found(present: Option<Vec<Presence>>) -> Found {
        Found { away: BlocksAnswer { users: Vec::new(), version: 0 }, present }
    }

    fn shown(session: &mut Session) -> Vec<String> {
        std::iter::from_fn(|| session.next_frame()).map(|frame| encode::text(&frame)).collect()
    }

    #[test]
    fn what_came_meanwhile_is_newer_than_what_was_found_out() {
        let (mut hints, mut session) = (Hints::default(), Session::new(UserId::new("self").unwrap()));
        assert!(hints.take(change("ann", PresenceStatus::Online)).is_none());
        let greeting = hints.begin_greeting().unwrap();
        assert_eq!(hints.begin_greeting(), None);
        assert!(hints.take(change("ann", PresenceStatus::Offline)).is_none());
        let present = vec![presence("ann", PresenceStatus::Online), presence("bob", PresenceStatus::Away)];
        hints.greet(&mut session, greeting, found(Some(present)));
        let frames = shown(&mut session);
        assert_eq!(frames.len(), 2, "{frames:?}");
        assert!(frames[0].contains("bob") && frames[0].contains("away"), "{frames:?}");
        assert!(frames[1].contains("ann") && frames[1].contains("offline"), "{frames:?}");
        assert!(hints.take(change("ann", PresenceStatus::Online)).is_some());
    }

    #[test]
    fn one_that_hides_is_shown_nobody_until_it_does_not() {
        let (mut hints, mut session) = (Hints::default(), Session::new(UserId::new("self").unwrap()));
        let outdated = hints.begin_greeting().unwrap();
        assert!(hints.take(privacy()).is_none());
        let greeting = hints.begin_greeting().unwrap();
        hints.greet(&mut session, outdated, found(Some(vec![presence("ann", PresenceStatus::Online)])));
        hints.greet(&mut session, greeting, found(None));
        assert!(hints.take(change("ann", PresenceStatus::Online)).is_none());
        assert!(shown(&mut session).is_empty() && hints.begin_greeting().is_none());
        assert!(hints.take(privacy()).is_none());
        let greeting = hints.begin_greeting().unwrap();
        hints.greet(&mut session, greeting, found(Some(vec![presence("ann", PresenceStatus::Online)])));
        assert_eq!(shown(&mut session).len(), 1);
    }
}
