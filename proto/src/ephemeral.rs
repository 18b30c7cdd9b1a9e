//! What is told and never stored: who types, and who is there.
//!
//! Owns: the items that travel from node to node for it, and the questions to a user's shard leader, whose memory knows
//! who is there.
//! Must not know: the log; connections; who is shown what.
//! Invariants: nothing of this is ever proposed; each item stands for itself, so any of them may be lost or repeated.

use crate::ids::{Millis, ShardId, Term, ThreadId, UserId};

crate::wire_struct! {
    /// To a node: show these to whom they concern there.
    pub struct EphemeralItems { 1 => items: Vec<Ephemeral> }
}

crate::wire_enum! {
    /// Something that is told once.
    pub enum Ephemeral {
        1 => Typing(Typing),
        2 => Presence(PresenceChange),
        3 => Privacy(PrivacyChange),
        4 => Block(BlockChange),
    }
}

crate::wire_struct! {
    /// A member types in a thread, or stopped.
    pub struct Typing {
        1 => thread: ThreadId,
        2 => user: UserId,
        3 => stop: bool,
        /// Whom the user keeps away, who are not shown it; at most [`crate::limits::USER_BLOCKS_MAX`].
        4 => away: Vec<UserId>,
        /// The version of that list: word of a newer one counts more.
        5 => version: u64,
    }
}

crate::wire_struct! {
    /// A user changed who may see its presence: whoever acts on that looks again.
    pub struct PrivacyChange { 1 => user: UserId }
}

crate::wire_struct! {
    /// A user keeps another one away, or does so no longer: whoever acts on that looks again. If they are `parted` by it,
    /// who share a thread, each is shown once more, as not being there.
    pub struct BlockChange {
        1 => user: UserId,
        2 => other: UserId,
        3 => parted: bool,
        /// The version of the user's list that says so; 0 when it could not be asked.
        4 => version: u64,
    }
}

crate::wire_code! {
    /// Whether a user is there.
    pub enum PresenceStatus {
        1 => Online = "online",
        /// Connected, and every device says that nobody looks.
        2 => Away = "away",
        3 => Offline = "offline",
    }
}

crate::wire_struct! {
    /// A user came, went, or is away; for those who share one of these threads.
    pub struct PresenceChange {
        1 => of: Presence,
        2 => threads: Vec<ThreadId>,
        /// The user's shard, and the term of the leader that says so: an earlier leader is not believed after a later one.
        3 => shard: ShardId,
        4 => term: Term,
        /// Whom the user keeps away, who are not shown it; at most [`crate::limits::USER_BLOCKS_MAX`].
        5 => away: Vec<UserId>,
        /// As [`Typing::version`].
        6 => version: u64,
    }
}

crate::wire_struct! {
    /// How a user is.
    pub struct Presence {
        1 => user: UserId,
        2 => status: PresenceStatus,
        /// When the last of its devices went, of one that is offline and whose going is remembered.
        3 => last_seen: Option<Millis>,
    }
}

crate::wire_enum! {
    /// To a user's shard leader, whose memory knows who is there. Answer: [`PresenceAnswer`].
    pub enum PresenceCall {
        1 => Ask(AskPresence),
        2 => Shown(ShownPresence),
    }
}

crate::wire_struct! {
    /// How are these users?
    pub struct AskPresence { 1 => users: Vec<UserId> }
}

crate::wire_struct! {
    /// A node shows these users as online or away: tell everyone if they are not. An empty list asks for the term alone.
    pub struct ShownPresence { 1 => users: Vec<UserId> }
}

crate::wire_struct! {
    /// What a leader knows.
    pub struct PresenceAnswer {
        /// Its term: another one than before means that it began with an empty memory.
        1 => term: Term,
        /// Those that were asked for and are not simply unknown.
        2 => people: Vec<Presence>,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire::Wire;
    use proptest::prelude::*;

    fn user(name: &str) -> UserId {
        UserId::new(name).unwrap()
    }

    #[test]
    fn the_tags_are_pinned() {
        let typing = Ephemeral::Typing(Typing {
            thread: ThreadId([7; 16]),
            user: user("al"),
            stop: true,
            away: vec![],
            version: 0,
        });
        let bytes: [&[u8]; 4] = [&[0x0a, 0x18, 0x0a, 0x10], &[7; 16], &[0x12, 2, b'a', b'l'], &[0x18, 1]];
        assert_eq!(typing.to_wire(), bytes.concat());
        let of = Presence { user: user("al"), status: PresenceStatus::Offline, last_seen: Some(Millis(5)) };
        let change = PresenceChange {
            of,
            threads: vec![ThreadId([7; 16])],
            shard: ShardId(2),
            term: Term(9),
            away: vec![],
            version: 0,
        };
        let bytes: [&[u8]; 5] = [
            &[0x12, 0x24, 0x0a, 0x0a, 0x0a, 2, b'a', b'l', 0x10, 3, 0x1a, 2, 0x08, 5],
            &[0x12, 0x12, 0x0a, 0x10],
            &[7; 16],
            &[0x18, 2],
            &[0x20, 9],
        ];
        assert_eq!(Ephemeral::Presence(change).to_wire(), bytes.concat());
        let privacy = Ephemeral::Privacy(PrivacyChange { user: user("al") });
        assert_eq!(privacy.to_wire(), [0x1a, 4, 0x0a, 2, b'a', b'l']);
        let block = Ephemeral::Block(BlockChange { user: user("al"), other: user("b"), parted: true, version: 6 });
        assert_eq!(block.to_wire(), [0x22, 11, 0x0a, 2, b'a', b'l', 0x12, 1, b'b', 0x18, 1, 0x20, 6]);
        let typing =
            Typing { thread: ThreadId([7; 16]), user: user("al"), stop: true, away: vec![user("b")], version: 6 };
        let end = [0x22, 3, 0x0a, 1, b'b', 0x28, 6];
        let bytes: [&[u8]; 4] = [&[0x0a, 0x10], &[7; 16], &[0x12, 2, b'a', b'l', 0x18, 1], &end];
        assert_eq!(typing.to_wire(), bytes.concat());
        assert_eq!(PresenceCall::Ask(AskPresence { users: vec![] }).to_wire(), [0x0a, 0]);
        assert_eq!(PresenceCall::Shown(ShownPresence { users: vec![] }).to_wire(), [0x12, 0]);
    }

    fn item() -> impl Strategy<Value = Ephemeral> {
        let (user, thread) = ("u[a-z]{1,8}", any::<[u8; 16]>().prop_map(ThreadId));
        let names = |names: Vec<String>| names.iter().map(|name| UserId::new(name).unwrap()).collect::<Vec<_>>();
        let away = prop::collection::vec("u[a-z]{1,8}", 0..3).prop_map(names);
        let version = any::<u64>();
        let typing = (user, thread.clone(), any::<bool>(), away.clone(), version).prop_map(
            |(user, thread, stop, away, version)| {
                Ephemeral::Typing(Typing { thread, user: UserId::new(&user).unwrap(), stop, away, version })
            },
        );
        let status = prop::sample::select(PresenceStatus::ALL);
        let threads = prop::collection::vec(thread, 0..5);
        let change = (user, status, any::<Option<u64>>(), threads, any::<u32>(), any::<u64>(), away, version).prop_map(
            |(user, status, last_seen, threads, shard, term, away, version)| {
                let of = Presence { user: UserId::new(&user).unwrap(), status, last_seen: last_seen.map(Millis) };
                Ephemeral::Presence(PresenceChange {
                    of,
                    threads,
                    shard: ShardId(shard),
                    term: Term(term),
                    away,
                    version,
                })
            },
        );
        let privacy = user.prop_map(|user| Ephemeral::Privacy(PrivacyChange { user: UserId::new(&user).unwrap() }));
        let block = (user, user, any::<bool>(), version).prop_map(|(user, other, parted, version)| {
            let [user, other] = [user, other].map(|name| UserId::new(&name).unwrap());
            Ephemeral::Block(BlockChange { user, other, parted, version })
        });
        prop_oneof![typing, change, privacy, block]
    }

    proptest! {
        #[test]
        fn items_come_back(items in prop::collection::vec(item(), 0..5)) {
            let items = EphemeralItems { items };
            prop_assert_eq!(EphemeralItems::from_wire(&items.to_wire()).unwrap(), items);
        }

        #[test]
        fn bytes_that_are_no_items_are_refused_or_read(bytes in prop::collection::vec(any::<u8>(), 0..60)) {
            let _ = EphemeralItems::from_wire(&bytes);
        }
    }
}
