//! What a connection hears of its user and of the devices of others.
//!
//! Owns: asking the user's shard, once it is listened to; which changes of devices were told already.
//! Must not know: sockets, how frames are numbered.
//! Invariants: whoever asks hears what happens from then on; one change of someone's devices is told once, in however many
//! threads it is announced, as long as it is among the last few.

use super::replay::deadline;
use super::work::{Done, Indexed};
use crate::auth::Identity;
use crate::realtime::mailbox::{Mail, Mailbox};
use crate::realtime::{Realtime, encode};
use bytes::Bytes;
use messenger_proto::ids::{DeviceId, Millis, UserId};
use messenger_proto::keys::DeviceStatusQuery;
use messenger_proto::limits::DEPARTURE_RETENTION;
use messenger_proto::query::{BlocksQuery, Query, UserThreadsQuery};
use messenger_proto::slot::Slot;
use messenger_router::Topic;
use std::collections::VecDeque;
use std::sync::Arc;

/// Changes of devices that are remembered as told.
const TOLD_MAX: usize = 16;

/// Listens to the user's shard, then asks it for the user's threads, whom it keeps away and how the device stands.
pub(super) async fn ask(node: Realtime, user: UserId, device: DeviceId, mailbox: Arc<Mailbox>) -> Done {
    let slot = Slot::of_user(&user);
    node.hub().listen(node.shard_of_user(&user), vec![Topic::User(user.clone())], &mailbox).await;
    let retention = u64::try_from(DEPARTURE_RETENTION.as_millis()).unwrap_or(u64::MAX);
    let left_since = Some(Millis(node.now().0.saturating_sub(retention)));
    let threads = Query::UserThreads(UserThreadsQuery { user: user.clone(), left_since });
    let blocks = Query::Blocks(BlocksQuery { user: user.clone() });
    let status = Query::DeviceStatus(DeviceStatusQuery { user, device });
    let router = node.router();
    let ask = |query| router.query(slot, query, deadline());
    let (index, status, blocks) = tokio::join!(ask(threads), ask(status), ask(blocks));
    Done::Indexed(Box::new(Indexed { index, status, blocks }))
}

/// Which changes of devices were told.
#[derive(Debug, Default)]
pub(super) struct Told(VecDeque<(UserId, u64)>);

impl Told {
    /// The frame that mail about devices comes to, if any.
    pub(super) fn frame(&mut self, mail: &Mail, me: &Identity) -> Option<Bytes> {
        match mail {
            Mail::Low(event) => {
                (event.device == me.device).then(|| encode::prekeys_low(&event.device, event.remaining))
            }
            // What a device does to itself it knows.
            Mail::Device(event) => (event.device != me.device).then(|| encode::device(&event.user)),
            // The user's own devices hear of each other through the user's shard.
            Mail::Member(event) => {
                let news = event.user != me.user && self.is_news(event.user.clone(), event.version);
                news.then(|| encode::device(&event.user))
            }
            Mail::Event(_) | Mail::Late(_) | Mail::Index(_) | Mail::Suspension(_) => None,
        }
    }

    /// Whether a change is news; it is not any more.
    fn is_news(&mut self, user: UserId, version: u64) -> bool {
        let change = (user, version);
        if self.0.contains(&change) {
            return false;
        }
        if self.0.len() == TOLD_MAX {
            self.0.pop_front();
        }
        self.0.push_back(change);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_is_told_once_and_forgotten_in_the_end() {
        let (user, other) = (UserId::new("u").unwrap(), UserId::new("v").unwrap());
        let mut told = Told::default();
        assert!(told.is_news(user.clone(), 1) && told.is_news(other.clone(), 1));
        assert!(!told.is_news(user.clone(), 1) && told.is_news(user.clone(), 2));
        for at in 0..TOLD_MAX as u64 {
            told.is_news(other.clone(), 10 + at);
        }
        assert_eq!(told.0.len(), TOLD_MAX);
        assert!(told.is_news(user, 1));
    }
}
