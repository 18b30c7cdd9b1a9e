//! What was seen before.
//!
//! Owns: a bounded memory of message ids.
//! Must not know: where they come from.
//! Invariants: never holds more than its capacity; forgets the oldest first.

use messenger_proto::ids::MessageId;
use std::collections::{HashSet, VecDeque};

/// The latest ids seen.
#[derive(Debug)]
pub struct Seen {
    known: HashSet<MessageId>,
    order: VecDeque<MessageId>,
    capacity: usize,
}

impl Seen {
    /// Remembers up to `capacity` ids, at least one.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        Self { known: HashSet::new(), order: VecDeque::new(), capacity: capacity.max(1) }
    }

    /// Whether the id is new; it no longer is afterwards.
    pub fn insert(&mut self, id: MessageId) -> bool {
        if !self.known.insert(id) {
            return false;
        }
        self.order.push_back(id);
        if self.order.len() > self.capacity
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_repeat_is_seen_until_it_is_forgotten() {
        let mut seen = Seen::new(2);
        assert!(seen.insert(MessageId(1)) && seen.insert(MessageId(2)));
        assert!(!seen.insert(MessageId(1)));
        assert!(seen.insert(MessageId(3)));
        assert!(seen.insert(MessageId(1)));
        assert_eq!((seen.known.len(), seen.order.len()), (2, 2));
    }
}
