//! What can be called on a peer, and on which lane of the connection it travels.
//!
//! Owns: the method codes and the lanes.
//! Must not know: bodies.
//! Invariants: codes are never reused; 0 marks an answer.

/// What a frame calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[repr(u32)]
pub enum Method {
    /// Log entries for a group, in the order of their stream.
    Append = 1,
    /// A leader's sign of life; carries no entries and keeps no order.
    Heartbeat = 2,
    /// A candidate asks for a vote.
    Vote = 3,
    /// A node asks whether it would get a vote.
    PreVote = 4,
    /// A leader hands over.
    TransferLeader = 5,
    /// `ShardRequest`s for shards this node leads.
    Shard = 7,
    /// A `NodeCall`.
    Node = 8,
    /// An operator's or a joining node's request to the meta group's leader.
    Admin = 9,
}

impl Method {
    /// The code on the wire.
    #[must_use]
    pub fn code(self) -> u32 {
        self as u32
    }

    /// The method with a code.
    #[must_use]
    pub fn of(code: u32) -> Option<Self> {
        Some(match code {
            1 => Self::Append,
            2 => Self::Heartbeat,
            3 => Self::Vote,
            4 => Self::PreVote,
            5 => Self::TransferLeader,
            7 => Self::Shard,
            8 => Self::Node,
            9 => Self::Admin,
            _ => return None,
        })
    }
}

/// A stream of the connection to a peer; none waits for another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lane {
    /// Small and urgent: heartbeats, votes, transfers.
    Priority,
    /// Log entries.
    Bulk,
    /// Calls on behalf of clients.
    Calls,
}

impl Lane {
    /// Every lane, in the order of [`Lane::index`].
    pub(crate) const ALL: [Self; 3] = [Self::Priority, Self::Bulk, Self::Calls];

    pub(crate) fn index(self) -> usize {
        self as usize
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_and_methods_answer_to_each_other() {
        let known: Vec<u32> = (0..100).filter(|code| Method::of(*code).is_some()).collect();
        assert_eq!(known, [1, 2, 3, 4, 5, 7, 8, 9], "6 had a meaning once");
        assert!(known.iter().all(|code| Method::of(*code).map(Method::code) == Some(*code)));
        assert!(Lane::ALL.iter().enumerate().all(|(index, lane)| lane.index() == index));
    }
}
