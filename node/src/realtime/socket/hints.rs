//! What a client says that is told to others and stored nowhere.
//!
//! Owns: how often one connection may say it; and that it is told once who is there, of whom it has not heard since.
//! Must not know: the shape of frames, who else is shown what.
//! Invariants: whatever a client sends, what leaves the node is bounded by the interval and by [`THREADS_MAX`]; what was
//! found out about a user never comes behind what is newer.

use crate::realtime::ephemeral::gate::Gate;
use crate::realtime::event::{EphemeralFrame, EphemeralKind};
use crate::realtime::presence::greeting::MEMBERS_MAX;
use crate::realtime::session::Session;
use crate::realtime::{Realtime, encode};
use messenger_proto::ephemeral::{Ephemeral, Presence, Typing};
use messenger_proto::ids::{ThreadId, UserId};
use messenger_proto::limits::TYPING_INTERVAL;
use std::collections::BTreeSet;
use std::time::Instant;

/// Threads that somebody types in on one connection at a time.
const THREADS_MAX: usize = 16;

/// What one connection told of late; made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Hints {
    typing: Option<Box<Gate<ThreadId>>>,
    greeting: Greeting,
}

/// Telling the device who is there.
#[derive(Debug, Default)]
enum Greeting {
    #[default]
    Due,
    /// It is being found out; these were heard of since.
    UnderWay(BTreeSet<UserId>),
    Over,
}

impl Hints {
    /// Whether it is to be found out now who is there.
    pub(super) fn begin_greeting(&mut self) -> bool {
        let due = matches!(self.greeting, Greeting::Due);
        if due {
            self.greeting = Greeting::UnderWay(BTreeSet::new());
        }
        due
    }

    /// Takes note of what the device is shown meanwhile.
    pub(super) fn shown(&mut self, frame: &EphemeralFrame) {
        if let (Greeting::UnderWay(heard), EphemeralKind::Presence) = (&mut self.greeting, frame.kind)
            && heard.len() < MEMBERS_MAX
        {
            heard.insert(frame.from.clone());
        }
    }

    /// Tells the device who is there.
    pub(super) fn greet(&mut self, session: &mut Session, present: &[Presence]) {
        let Greeting::UnderWay(heard) = std::mem::replace(&mut self.greeting, Greeting::Over) else { return };
        for presence in present.iter().filter(|presence| !heard.contains(&presence.user)) {
            session.show(&encode::presence(presence));
        }
    }

    /// The user types in a thread that it is in, or stopped.
    pub(super) fn typing(&mut self, node: &Realtime, user: &UserId, thread: ThreadId, stop: bool) {
        let gate = self.typing.get_or_insert_with(|| Box::new(Gate::new(TYPING_INTERVAL, THREADS_MAX)));
        if gate.passes(thread, stop, Instant::now()) {
            node.relay().tell(&Ephemeral::Typing(Typing { thread, user: user.clone(), stop }));
        }
    }
}
