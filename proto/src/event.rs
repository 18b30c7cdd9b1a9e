//! What a shard's stream carries.
//!
//! Owns: the events that applying a command gives, and how they answer to a viewer.
//! Must not know: frames, sockets, JSON.
//! Invariants: a thread's events carry `rev` without gaps, in order; one with a `seq` is also stored, one without is a
//! receipt, recoverable as a watermark. So a follower that holds `rev` n takes n + 1 next and anything else is a gap.

use crate::ids::{MessageId, Millis, Rev, Seq, ThreadId, UserId};
use crate::model::{Message, Participant, ReceiptKind, Thread};

crate::wire_enum! {
    /// One item of a shard's stream.
    #[allow(clippy::large_enum_variant, reason = "nearly all are of threads")]
    pub enum Event {
        1 => Thread(ThreadEvent),
        2 => User(UserEvent),
    }
}

crate::wire_struct! {
    /// Something happened in a thread.
    pub struct ThreadEvent {
        1 => thread: ThreadId,
        2 => rev: Rev,
        /// The thread's event number; `None` for receipts.
        3 => seq: Option<Seq>,
        4 => at: Millis,
        5 => body: ThreadEventBody,
    }
}

crate::wire_enum! {
    /// What happened.
    pub enum ThreadEventBody {
        1 => Message(Message),
        2 => Created(Created),
        3 => ParticipantAdded(ParticipantAdded),
        4 => ParticipantRemoved(ParticipantRemoved),
        5 => Receipt(Receipt),
    }
}

crate::wire_struct! {
    /// The thread was made; the thread as of then.
    pub struct Created { 1 => thread: Thread }
}

crate::wire_struct! {
    /// A member joined.
    pub struct ParticipantAdded { 1 => by: UserId, 2 => participant: Participant }
}

crate::wire_struct! {
    /// A member left or was removed; `promoted` became admin because of it.
    pub struct ParticipantRemoved { 1 => by: UserId, 2 => user: UserId, 3 => promoted: Option<UserId> }
}

crate::wire_struct! {
    /// A member's watermark moved.
    pub struct Receipt {
        1 => kind: ReceiptKind,
        2 => by: UserId,
        /// The highest message covered.
        3 => up_to: MessageId,
        4 => up_to_seq: Seq,
        /// Those whose messages this newly covers; `None` when they were too many to name.
        5 => senders: Option<Vec<UserId>>,
        /// Members present; in a large thread reads are told less often.
        6 => members: u32,
    }
}

crate::wire_struct! {
    /// A user's index changed: it joined or left a thread.
    pub struct UserEvent { 1 => user: UserId, 2 => thread: ThreadId, 3 => present: bool, 4 => source_seq: Seq }
}

impl ThreadEvent {
    /// Whether `viewer`, a member at the time, is told of it.
    #[must_use]
    pub fn concerns(&self, viewer: &UserId) -> bool {
        match &self.body {
            ThreadEventBody::Receipt(receipt) if receipt.by == *viewer => false,
            ThreadEventBody::Receipt(Receipt { kind: ReceiptKind::Delivered, senders: Some(senders), .. }) => {
                senders.contains(viewer)
            }
            _ => true,
        }
    }
}
