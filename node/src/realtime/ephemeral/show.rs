//! From what other nodes tell to the sessions of this one.
//!
//! Owns: what is told is encoded once and handed to the hub; what came too often from several devices of a user, or from a
//! leader that is one no more, is not.
//! Must not know: how it came, who listens.
//! Invariants: whatever other nodes tell, a member is shown typing once per [`AT_LEAST`] in a thread; what is remembered
//! for that is bounded by [`TYPING_MAX`]. A change of presence reaches each device once, however many threads it shares.
//! What was told of a user before it parted from somebody is not shown to that one after word of the parting.

use super::gate::Gate;
use super::parted::Parted;
use crate::realtime::encode;
use crate::realtime::event::{EphemeralFrame, EphemeralKind};
use crate::realtime::hub::Hub;
use crate::realtime::presence::Desk;
use crate::realtime::presence::board::Board;
use bytes::Bytes;
use messenger_proto::ephemeral::{BlockChange, Ephemeral, Presence, PresenceChange, PresenceStatus, Typing};
use messenger_proto::ids::{ThreadId, UserId};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between two typings of a member that are shown: less than senders keep to, since the way here is not always as long.
const AT_LEAST: Duration = Duration::from_millis(2_500);
/// Members that type at a time, of threads that are heard here; more are not shown.
const TYPING_MAX: usize = 16_384;

/// What shows.
pub(in crate::realtime) struct Show {
    typing: Gate<(ThreadId, UserId)>,
    parted: Parted,
    hub: Hub,
    desk: Desk,
    board: Arc<Mutex<Board>>,
}

impl Show {
    /// Shows through a hub; the desk and the board take note.
    pub(in crate::realtime) fn new(hub: Hub, desk: Desk, board: Arc<Mutex<Board>>) -> Self {
        Self { typing: Gate::new(AT_LEAST, TYPING_MAX), parted: Parted::default(), hub, desk, board }
    }

    /// Shows what the node is told, until nobody can tell it anything any more.
    pub(in crate::realtime) async fn run(mut self, mut heard: mpsc::Receiver<Vec<Ephemeral>>) {
        while let Some(items) = heard.recv().await {
            for item in items {
                match item {
                    Ephemeral::Typing(typing) => self.typing(typing),
                    Ephemeral::Presence(change) => self.presence(change),
                    Ephemeral::Privacy(change) => self.privacy(change.user),
                    Ephemeral::Block(change) => self.block(change),
                }
            }
        }
    }

    fn typing(&mut self, mut typing: Typing) {
        let listeners = self.hub.listeners(&[typing.thread]);
        let key = (typing.thread, typing.user.clone());
        if !listeners.is_empty() && self.typing.passes(key, typing.stop, Instant::now()) {
            self.parted.complete(&typing.user, typing.version, &mut typing.away);
            listeners.show(encode::typing(&typing));
        }
    }

    /// The user's own sessions look again what they may show, and its shard's leader what it may tell.
    fn privacy(&self, user: UserId) {
        let sessions = self.hub.sessions_of(&user);
        self.desk.look_again(&user);
        sessions.show(EphemeralFrame {
            from: user,
            kind: EphemeralKind::Privacy,
            body: Bytes::new(),
            away: Vec::new(),
            version: 0,
        });
    }

    /// A block between two that share a thread takes back, on either side, what was shown of the other. Where one ended, the
    /// user's sessions look again, and its shard's leader tells anew how it is. Word that was overtaken by a later one
    /// changes nothing.
    fn block(&mut self, change: BlockChange) {
        if !self.parted.hear(&change) {
            return;
        }
        let BlockChange { user, other, parted, version } = change;
        if !parted {
            return self.privacy(user);
        }
        let gone = |user: &UserId, kind| {
            let of = Presence { user: user.clone(), status: PresenceStatus::Offline, last_seen: None };
            EphemeralFrame { kind, version, ..encode::presence(&of) }
        };
        self.hub.sessions_of(&user).show(gone(&other, EphemeralKind::Blocked));
        self.hub.sessions_of(&other).show(gone(&user, EphemeralKind::Parted));
    }

    fn presence(&self, change: PresenceChange) {
        let PresenceChange { of, threads, shard, term, mut away, version } = change;
        let listeners = self.hub.listeners(&threads);
        let believed = {
            let mut board = self.board.lock().unwrap_or_else(PoisonError::into_inner);
            board.hear(shard, term, &of, !listeners.is_empty())
        };
        if believed {
            self.parted.complete(&of.user, version, &mut away);
            listeners.show(EphemeralFrame { away, ..encode::presence(&of) });
            self.desk.hear(of);
        }
    }
}
