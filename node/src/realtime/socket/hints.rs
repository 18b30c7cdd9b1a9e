//! What a client says that is told to others and stored nowhere.
//!
//! Owns: how often one connection may say it.
//! Must not know: frames, sessions, who is shown it.
//! Invariants: whatever a client sends, what leaves the node is bounded by the interval and by [`THREADS_MAX`].

use crate::realtime::Realtime;
use crate::realtime::ephemeral::gate::Gate;
use messenger_proto::ephemeral::{Ephemeral, Typing};
use messenger_proto::ids::{ThreadId, UserId};
use messenger_proto::limits::TYPING_INTERVAL;
use std::time::Instant;

/// Threads that somebody types in on one connection at a time.
const THREADS_MAX: usize = 16;

/// What one connection told of late; made when it is first needed.
#[derive(Debug, Default)]
pub(super) struct Hints {
    typing: Option<Box<Gate<ThreadId>>>,
}

impl Hints {
    /// The user types in a thread that it is in, or stopped.
    pub(super) fn typing(&mut self, node: &Realtime, user: &UserId, thread: ThreadId, stop: bool) {
        let gate = self.typing.get_or_insert_with(|| Box::new(Gate::new(TYPING_INTERVAL, THREADS_MAX)));
        if gate.passes(thread, stop, Instant::now()) {
            node.relay().tell(&Ephemeral::Typing(Typing { thread, user: user.clone(), stop }));
        }
    }
}
