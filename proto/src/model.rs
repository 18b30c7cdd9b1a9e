//! What users see: threads, messages, receipts.
//!
//! Owns: the shapes that queries answer and events carry, free of any text encoding.
//! Must not know: JSON, storage keys, or who is connected.

use crate::emoji::Emoji;
use crate::envelope::Enveloped;
use crate::ids::{ClientSeq, DeviceId, MessageId, Millis, Rev, Seq, ThreadId, UserId};
use bytes::Bytes;

crate::wire_code! {
    /// A thread's kind.
    pub enum ThreadKind { 1 => OneToOne = "1_TO_1", 2 => Group = "GROUP" }
}

crate::wire_code! {
    /// What a member may do.
    pub enum Role { 1 => Admin = "admin", 2 => Member = "member" }
}

crate::wire_code! {
    /// What a message's ciphertext stands for; opaque otherwise.
    pub enum ContentType {
        1 => Text = "text",
        2 => ImageRef = "image_ref",
        3 => VideoRef = "video_ref",
        4 => AudioRef = "audio_ref",
        5 => FileRef = "file_ref",
    }
}

crate::wire_code! {
    /// Where a message stands for one recipient.
    pub enum DeliveryState { 1 => Sent = "SENT", 2 => Delivered = "DELIVERED", 3 => Read = "READ", 4 => Failed = "FAILED" }
}

crate::wire_code! {
    /// What a receipt says.
    pub enum ReceiptKind { 1 => Delivered = "delivered", 2 => Read = "read" }
}

crate::wire_code! {
    /// Why a message was deleted.
    pub enum DeletionReason { 1 => Sender = "sender", 2 => Expired = "expired" }
}

crate::wire_struct! {
    /// A present member of a thread.
    pub struct Participant { 1 => user: UserId, 2 => role: Role, 3 => joined_at: Millis }
}

crate::wire_struct! {
    /// A thread as its members see it.
    pub struct Thread {
        1 => id: ThreadId,
        2 => kind: ThreadKind,
        3 => title: Option<String>,
        4 => description: Option<String>,
        5 => created_at: Millis,
        6 => updated_at: Millis,
        7 => created_by: UserId,
        /// In order of joining, then of name.
        8 => participants: Vec<Participant>,
        9 => last_message: Option<MessageId>,
        10 => last_seq: Seq,
        11 => rev: Rev,
    }
}

crate::wire_struct! {
    /// A text that is replaced; `None` takes it away.
    pub struct TextChange { 1 => to: Option<String> }
}

crate::wire_struct! {
    /// How far a message got, as its sender sees it.
    pub struct ReceiptCounts { 1 => of: u32, 2 => delivered: u32, 3 => read: u32 }
}

crate::wire_struct! {
    /// One emoji on a message.
    pub struct Reaction {
        1 => emoji: Emoji,
        /// In the order in which they reacted; never empty.
        2 => by: Vec<UserId>,
    }
}

crate::wire_struct! {
    /// A message.
    pub struct Message {
        1 => id: MessageId,
        2 => thread: ThreadId,
        3 => seq: Seq,
        4 => sender: UserId,
        5 => device: DeviceId,
        6 => client_seq: ClientSeq,
        /// `None` once deleted; where there are envelopes, what the viewer's device has in its own, if it has one.
        7 => ciphertext: Option<Bytes>,
        8 => content_type: ContentType,
        /// Each attachment's JSON object, as the sender wrote it.
        9 => attachments: Vec<String>,
        10 => reply_to: Option<MessageId>,
        11 => edited_at: Option<Millis>,
        12 => expires_at: Option<Millis>,
        13 => deleted: bool,
        /// For the sender only: in answers to it, and in the event of a new message.
        14 => receipts: Option<ReceiptCounts>,
        /// In the order in which their emoji were first used.
        15 => reactions: Vec<Reaction>,
        /// It was sent in envelopes.
        16 => enveloped: Option<Enveloped>,
    }
}

crate::wire_struct! {
    /// A message that stands out in its thread.
    pub struct Pin { 1 => message: MessageId, 2 => by: UserId, 3 => at: Millis }
}

crate::wire_struct! {
    /// One row of a message's recipients.
    pub struct Recipient {
        1 => user: UserId,
        2 => state: DeliveryState,
        3 => delivered_at: Option<Millis>,
        4 => read_at: Option<Millis>,
    }
}

crate::wire_struct! {
    /// A thread in its viewer's list.
    pub struct ThreadSummary {
        1 => thread: Thread,
        2 => last_message: Option<Message>,
        3 => last_read: Option<MessageId>,
        4 => unread: u32,
    }
}

crate::wire_code! {
    /// Who may see whether a user is there. Whoever shows it to nobody is shown nobody's.
    pub enum PresenceAudience {
        1 => Everyone = "everyone",
        2 => Nobody = "nobody",
    }
}
