//! What this node heard of users last.
//!
//! Owns: the last word on each user, from whichever leader it came, as far as there is room.
//! Must not know: who leads, who is connected.
//! Invariants: at most [`RUMOURS_MAX`] users are remembered; of more, those of whom something was heard last.

use messenger_proto::ephemeral::Presence;
use messenger_proto::ids::UserId;
use std::collections::{BTreeMap, HashMap};

/// Users remembered at most, some 200 bytes each.
const RUMOURS_MAX: usize = 65_536;

/// The last word on each user.
#[derive(Debug, Default)]
pub(super) struct Rumours {
    users: HashMap<UserId, (Presence, u64)>,
    order: BTreeMap<u64, UserId>,
    next: u64,
}

impl Rumours {
    /// Takes what was heard.
    pub(super) fn hear(&mut self, presence: Presence) {
        let user = presence.user.clone();
        self.next += 1;
        if let Some((_, before)) = self.users.insert(user.clone(), (presence, self.next)) {
            self.order.remove(&before);
        }
        self.order.insert(self.next, user);
        while self.users.len() > RUMOURS_MAX
            && let Some((_, oldest)) = self.order.pop_first()
        {
            self.users.remove(&oldest);
        }
    }

    /// What was heard of a user last.
    pub(super) fn of(&self, user: &UserId) -> Option<&Presence> {
        self.users.get(user).map(|(presence, _)| presence)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ephemeral::PresenceStatus;
    use messenger_proto::ids::Millis;

    fn user(n: usize) -> UserId {
        UserId::new(&format!("u{n}")).unwrap()
    }

    fn offline(n: usize, at: u64) -> Presence {
        Presence { user: user(n), status: PresenceStatus::Offline, last_seen: Some(Millis(at)) }
    }

    #[test]
    fn the_last_word_on_those_last_heard_of_is_kept() {
        let mut rumours = Rumours::default();
        for n in 0..RUMOURS_MAX {
            rumours.hear(offline(n, 1));
        }
        rumours.hear(offline(0, 2));
        rumours.hear(offline(RUMOURS_MAX, 3));
        assert_eq!(rumours.of(&user(0)), Some(&offline(0, 2)));
        assert_eq!(rumours.of(&user(1)), None);
        assert_eq!(rumours.of(&user(RUMOURS_MAX)), Some(&offline(RUMOURS_MAX, 3)));
        assert_eq!((rumours.users.len(), rumours.order.len()), (RUMOURS_MAX, RUMOURS_MAX));
    }
}
