//! From what other nodes tell to the sessions of this one.
//!
//! Owns: what is told is encoded once and handed to the hub; what came too often from several devices of a user is not.
//! Must not know: how it came, who listens.
//! Invariants: whatever other nodes tell, a member is shown typing once per [`AT_LEAST`] in a thread; what is remembered
//! for that is bounded by [`TYPING_MAX`].

use super::gate::Gate;
use crate::realtime::encode;
use crate::realtime::hub::Hub;
use messenger_proto::ephemeral::{Ephemeral, Typing};
use messenger_proto::ids::{ThreadId, UserId};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::mpsc;

/// Between two typings of a member that are shown: less than senders keep to, since the way here is not always as long.
const AT_LEAST: Duration = Duration::from_millis(2_500);
/// Members that type at a time, of threads that are heard here; more are not shown.
const TYPING_MAX: usize = 16_384;

/// Shows what the node is told, until nobody can tell it anything any more.
pub(in crate::realtime) async fn show_all(mut heard: mpsc::Receiver<Vec<Ephemeral>>, hub: Hub) {
    let mut typing = Gate::new(AT_LEAST, TYPING_MAX);
    while let Some(items) = heard.recv().await {
        for item in items {
            match item {
                Ephemeral::Typing(item) => show_typing(&mut typing, &hub, &item),
                Ephemeral::Presence(_) => {}
            }
        }
    }
}

fn show_typing(gate: &mut Gate<(ThreadId, UserId)>, hub: &Hub, typing: &Typing) {
    let key = (typing.thread, typing.user.clone());
    if hub.listens(typing.thread) && gate.passes(key, typing.stop, Instant::now()) {
        hub.show(typing.thread, &Arc::new(encode::typing(typing)));
    }
}
