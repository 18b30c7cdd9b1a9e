//! ⑤ What follows when entries were applied here.
//!
//! Owns: the way from the store's apply to the tail, the outbox and the cluster's record.
//! Must not know: how entries are applied.
//! Invariants: runs after the rows are written, in log order, and never waits.

use super::erase::Erasures;
use super::outbox::Outbox;
use super::rules::OutboxNews;
use super::tail::Tail;
use super::timer::Timer;
use crate::machine;
use crate::store::{ApplyHook, GroupReader};
use crate::types::GroupId;
use messenger_proto::event::{Event, ThreadEventBody};
use messenger_proto::meta::ClusterState;
use messenger_proto::query::{Answer, ClusterStateQuery, Query};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::watch;

/// The hook of a shard's group.
pub(super) struct ShardHook {
    pub(super) group: GroupId,
    pub(super) erasures: Erasures,
    pub(super) tail: Tail,
    pub(super) outbox: Outbox,
    pub(super) timer: Timer,
    /// See [`super::rules::ShardRules`].
    pub(super) outbox_news: Arc<OutboxNews>,
}

fn sets_timer(event: &Event) -> bool {
    let Event::Thread(event) = event else { return false };
    matches!(&event.body, ThreadEventBody::Message(message) if message.expires_at.is_some())
}

impl ApplyHook for ShardHook {
    fn applied(&self, events: Vec<Event>) {
        self.erasures.note(self.group, &events);
        if events.iter().any(sets_timer) {
            self.timer.wake();
        }
        if self.outbox_news.grows.swap(false, Ordering::Relaxed) {
            self.outbox.wake();
        }
        if self.outbox_news.shrinks.swap(false, Ordering::Relaxed) {
            self.outbox.removed();
        }
        self.tail.publish(events);
    }

    fn installed(&self) {
        self.tail.reset();
        self.timer.wake();
        self.outbox.wake();
        self.outbox.removed();
    }
}

/// The hook of the meta group: keeps the cluster's record at hand.
pub(super) struct MetaHook {
    pub(super) reader: GroupReader,
    pub(super) record: watch::Sender<Arc<ClusterState>>,
}

impl MetaHook {
    pub(super) fn refresh(&self) {
        match machine::meta::answer(&self.reader.view(), &Query::ClusterState(ClusterStateQuery {})) {
            Ok(Ok(Answer::ClusterState(state))) => self.publish(state),
            Ok(_) => {}
            Err(error) => self.reader.fail("reading the cluster's record", &error.to_string()),
        }
    }

    fn publish(&self, state: ClusterState) {
        self.record.send_if_modified(|current| {
            let newer = state.epoch > current.epoch;
            if newer {
                *current = Arc::new(state);
            }
            newer
        });
    }
}

impl ApplyHook for MetaHook {
    fn applied(&self, _events: Vec<Event>) {
        self.refresh();
    }

    fn installed(&self) {
        self.refresh();
    }
}
