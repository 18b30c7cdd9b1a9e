//! Who on this node listens to what in one shard.
//!
//! Owns: the table from topics to sessions' mailboxes.
//! Must not know: streams, tasks, what mail says.
//! Invariants: a mailbox is listed once per topic; a topic without listeners is not listed.

use crate::metric_names as names;
use crate::realtime::mailbox::{Mail, Mailbox};
use messenger_proto::ids::ShardId;
use messenger_router::Topic;
use std::collections::HashMap;
use std::sync::Arc;

/// The listeners of one shard.
#[derive(Debug, Default)]
pub(super) struct Routes {
    topics: HashMap<Topic, Vec<Arc<Mailbox>>>,
}

impl Routes {
    /// Adds a listener.
    pub(super) fn add(&mut self, topic: Topic, mailbox: &Arc<Mailbox>) {
        let listeners = self.topics.entry(topic).or_insert_with(|| Vec::with_capacity(1));
        if !listeners.iter().any(|listener| Arc::ptr_eq(listener, mailbox)) {
            listeners.push(Arc::clone(mailbox));
        }
    }

    /// Takes a listener away; whether it was the topic's last.
    pub(super) fn remove(&mut self, topic: &Topic, mailbox: &Arc<Mailbox>) -> bool {
        let Some(listeners) = self.topics.get_mut(topic) else { return false };
        listeners.retain(|listener| !Arc::ptr_eq(listener, mailbox));
        let last = listeners.is_empty();
        if last {
            self.topics.remove(topic);
        }
        last
    }

    /// Whether anyone listens to a topic.
    pub(super) fn has(&self, topic: &Topic) -> bool {
        self.topics.contains_key(topic)
    }

    /// Whether nobody listens to anything.
    pub(super) fn is_empty(&self) -> bool {
        self.topics.is_empty()
    }

    /// Hands mail to everyone who listens to a topic.
    pub(super) fn deliver(&self, topic: &Topic, mail: &Mail) {
        self.deliver_each(topic, |_| mail.clone());
    }

    /// Hands everyone who listens to a topic mail of its own.
    pub(super) fn deliver_each(&self, topic: &Topic, mail: impl Fn(&Mailbox) -> Mail) {
        for listener in self.listeners(topic) {
            if !listener.push(mail(listener)) {
                metrics::counter!(names::MAIL_DROPPED).increment(1);
            }
        }
    }

    /// Those who listen to a topic.
    pub(super) fn listeners(&self, topic: &Topic) -> impl Iterator<Item = &Arc<Mailbox>> {
        self.topics.get(topic).into_iter().flatten()
    }

    /// Tells everyone that the shard's stream was interrupted.
    pub(super) fn interrupted(&self, shard: ShardId) {
        // A mailbox that listens to several topics takes the same mark again.
        for listener in self.topics.values().flatten() {
            listener.interrupted(shard);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::event::UserEvent;
    use messenger_proto::ids::{Seq, ThreadId, UserId};

    #[test]
    fn mail_reaches_each_listener_of_its_topic_once() {
        let user = UserId::new("u").unwrap();
        let (topic, other) = (Topic::User(user.clone()), Topic::Thread(ThreadId([1; 16])));
        let (a, b) = (Arc::new(Mailbox::default()), Arc::new(Mailbox::default()));
        let mut routes = Routes::default();
        routes.add(topic.clone(), &a);
        routes.add(topic.clone(), &a);
        routes.add(other.clone(), &b);
        let event = UserEvent { user, thread: ThreadId([1; 16]), present: true, source_seq: Seq(1) };
        routes.deliver(&topic, &Mail::Index(event));
        assert!(a.pop().is_some() && a.pop().is_none() && b.pop().is_none());
        assert!(!routes.remove(&topic, &b));
        assert!(routes.remove(&topic, &a) && !routes.has(&topic) && !routes.is_empty());
        assert!(routes.remove(&other, &b) && routes.is_empty());
    }
}
