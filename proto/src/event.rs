//! What a shard's stream carries.
//!
//! Owns: the events that applying a command gives, and how they answer to a viewer.
//! Must not know: frames, sockets, JSON.
//! Invariants: a thread's events carry `rev` without gaps, in order; one with a `seq` is also stored, one without is a
//! receipt, recoverable as a watermark. So a follower that holds `rev` n takes n + 1 next and anything else is a gap.

use crate::emoji::Emoji;
use crate::envelope::{Envelope, EnvelopeKind};
use crate::ids::{MessageId, Millis, Rev, Seq, ThreadId, UserId};
use crate::keys::{DeviceEvent, MemberDevices, PrekeysLow};
use crate::model::{DeletionReason, Message, Participant, ReceiptKind, TextChange, Thread};
use crate::moderation::SuspensionEvent;
use bytes::Bytes;

crate::wire_enum! {
    /// One item of a shard's stream.
    #[allow(clippy::large_enum_variant, reason = "nearly all are of threads")]
    pub enum Event {
        1 => Thread(ThreadEvent),
        2 => User(UserEvent),
        20 => Device(DeviceEvent),
        21 => PrekeysLow(PrekeysLow),
        22 => MemberDevices(MemberDevices),
        70 => Suspension(SuspensionEvent),
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
        /// Members at the time who are not told: it is of a message that they may not see. Empty in what is read from
        /// storage, which is read for one viewer.
        6 => hidden_from: Vec<UserId>,
        /// What each device has for itself of a new or edited message, in order of user and device. Empty in what is read
        /// from storage, which is read for one device.
        7 => envelopes: Vec<Envelope>,
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
        6 => Updated(Updated),
        7 => Edited(Edited),
        8 => Deleted(Deleted),
        9 => Reacted(Reacted),
        10 => Pinned(Pinned),
        11 => Resent(Resent),
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
    /// The thread is called otherwise; what is `None` stayed as it was.
    pub struct Updated { 1 => by: UserId, 2 => title: Option<TextChange>, 3 => description: Option<TextChange> }
}

crate::wire_struct! {
    /// The message that an event changed.
    pub struct Subject {
        1 => id: MessageId,
        /// Its own number.
        2 => seq: Seq,
    }
}

crate::wire_struct! {
    /// A message says something else.
    pub struct Edited {
        1 => of: Subject,
        /// What it says when the event is read, not when it happened; `None` once it was deleted, and in storage.
        2 => ciphertext: Option<Bytes>,
        /// What that is called, if it was in an envelope.
        3 => kind: Option<EnvelopeKind>,
    }
}

crate::wire_struct! {
    /// A message says nothing any more.
    pub struct Deleted { 1 => of: Subject, 2 => reason: DeletionReason }
}

crate::wire_struct! {
    /// A member put an emoji on a message, or took it off.
    pub struct Reacted { 1 => of: Subject, 2 => emoji: Emoji, 3 => by: UserId, 4 => present: bool }
}

crate::wire_struct! {
    /// A member made a message stand out, or ended that; one that is deleted ends it without this event.
    pub struct Pinned { 1 => of: Subject, 2 => by: UserId, 3 => present: bool }
}

crate::wire_struct! {
    /// A message that had failed was sent again to these. It is stored as this; they are told the message.
    pub struct Resent { 1 => of: Subject, 2 => to: Vec<UserId> }
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

impl ThreadEventBody {
    /// The older message that it is about, if it is about one.
    #[must_use]
    pub fn subject(&self) -> Option<&Subject> {
        match self {
            Self::Edited(edited) => Some(&edited.of),
            Self::Deleted(deleted) => Some(&deleted.of),
            Self::Reacted(reacted) => Some(&reacted.of),
            Self::Pinned(pinned) => Some(&pinned.of),
            Self::Resent(resent) => Some(&resent.of),
            Self::Message(_)
            | Self::Created(_)
            | Self::ParticipantAdded(_)
            | Self::ParticipantRemoved(_)
            | Self::Receipt(_)
            | Self::Updated(_) => None,
        }
    }
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
            _ => !self.hidden_from.contains(viewer),
        }
    }
}
