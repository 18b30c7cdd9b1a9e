//! What a shard's log holds.
//!
//! Owns: commands, the pack they travel in, and the replies applying them gives.
//! Must not know: how a command is carried out.
//! Invariants: a command carries everything that applying it needs (time comes with the pack, entropy with the id), so
//! every replica computes the same rows; a pack's replies stand in the order of its commands.

use crate::emoji::Emoji;
use crate::envelope::Envelopes;
use crate::error::Refusal;
use crate::ids::{ClientSeq, CommandId, DeviceId, MessageId, Millis, Position, Seq, ThreadId, UserId};
use crate::keys::{Bundles, DeleteDevice, KeyCounts, PublishKeys, TakePrekeys};
use crate::meta::MetaCommand;
use crate::model::{ContentType, Message, Pin, PresenceAudience, TextChange, Thread, ThreadKind};
use crate::moderation::{FileReport, ReportReply, Suspend};
use crate::profile::{NewMember, Profile, ProfileTold, UpdateProfile};
use bytes::Bytes;

crate::wire_struct! {
    /// One log entry: the commands that waited together at a shard's leader.
    pub struct Pack {
        /// The leader's hybrid clock when it packed.
        1 => stamp: Millis,
        2 => commands: Vec<Command>,
    }
}

crate::wire_code! {
    /// How long a command's id is remembered.
    pub enum Retention {
        /// For [`crate::limits::KEYED_RETENTION`]: a client's Idempotency-Key.
        1 => Keyed = "keyed",
        /// For [`crate::limits::MINTED_RETENTION`]: a gateway's own retries.
        2 => Minted = "minted",
        /// Not at all: the operation is idempotent by itself.
        3 => None = "none",
    }
}

crate::wire_struct! {
    /// An operation with its identity.
    pub struct Command {
        /// Also the source of the entropy in the ids it makes.
        1 => id: CommandId,
        2 => retention: Retention,
        /// Hash of the request's canonical body: the same id with another hash is refused.
        3 => body_hash: u64,
        4 => op: Op,
    }
}

crate::wire_enum! {
    /// What to do.
    pub enum Op {
        1 => CreateThread(CreateThread),
        2 => AddParticipants(AddParticipants),
        3 => RemoveParticipant(RemoveParticipant),
        4 => SendMessage(SendMessage),
        5 => MarkRead(MarkRead),
        6 => Acknowledge(Acknowledge),
        7 => OutboxDelivered(OutboxDelivered),
        8 => IndexMembership(IndexMembership),
        9 => Meta(MetaCommand),
        10 => ClaimKey(ClaimKey),
        11 => UpdateThread(UpdateThread),
        12 => EditMessage(EditMessage),
        13 => DeleteMessage(DeleteMessage),
        14 => React(React),
        15 => Pin(PinMessage),
        16 => ExpireMessages(ExpireMessages),
        40 => SetPrivacy(SetPrivacy),
        20 => PublishKeys(PublishKeys),
        21 => TakePrekeys(TakePrekeys),
        22 => DeleteDevice(DeleteDevice),
        24 => UpdateProfile(UpdateProfile),
        25 => ProfileTold(ProfileTold),
        70 => Suspend(Suspend),
        71 => FileReport(FileReport),
        26 => SetBlock(SetBlock),
    }
}

crate::wire_struct! {
    /// Has the command's id and body remembered, and does nothing else: for a request whose own shard depends on its
    /// body, so that the id under another body is refused wherever that one would go.
    pub struct ClaimKey {}
}

crate::wire_struct! {
    /// Makes a thread, or answers with the one that exists under the id.
    pub struct CreateThread {
        1 => thread: ThreadId,
        2 => kind: ThreadKind,
        3 => creator: UserId,
        /// Without the creator, without repeats.
        4 => others: Vec<UserId>,
        5 => title: Option<String>,
        6 => description: Option<String>,
    }
}

crate::wire_struct! {
    /// Changes what a group is called; what is `None` stays as it is.
    pub struct UpdateThread {
        1 => thread: ThreadId,
        2 => actor: UserId,
        3 => title: Option<TextChange>,
        4 => description: Option<TextChange>,
    }
}

crate::wire_struct! {
    /// Adds members; those present already stay as they are.
    pub struct AddParticipants { 1 => thread: ThreadId, 2 => actor: UserId, 3 => users: Vec<UserId> }
}

crate::wire_struct! {
    /// Removes a member, or lets it leave.
    pub struct RemoveParticipant { 1 => thread: ThreadId, 2 => actor: UserId, 3 => user: UserId }
}

crate::wire_struct! {
    /// Stores a message.
    pub struct SendMessage {
        1 => thread: ThreadId,
        2 => sender: UserId,
        3 => device: DeviceId,
        4 => client_seq: ClientSeq,
        /// Empty when there are envelopes.
        5 => ciphertext: Bytes,
        6 => content_type: ContentType,
        7 => attachments: Vec<String>,
        8 => reply_to: Option<MessageId>,
        /// Seconds after which it disappears, up to [`crate::limits::TTL_MAX`]; `None` for never.
        9 => ttl_s: Option<u32>,
        /// A ciphertext for each device, in place of one for all.
        10 => envelopes: Option<Envelopes>,
    }
}

crate::wire_struct! {
    /// Replaces what a message says.
    pub struct EditMessage {
        1 => id: MessageId,
        2 => actor: UserId,
        /// Empty when there are envelopes.
        3 => ciphertext: Bytes,
        4 => envelopes: Option<Envelopes>,
        /// The actor's; commands of before there were envelopes name none.
        5 => device: Option<DeviceId>,
    }
}

crate::wire_struct! {
    /// Takes away what a message says; a message that was deleted stays so.
    pub struct DeleteMessage { 1 => id: MessageId, 2 => actor: UserId }
}

crate::wire_struct! {
    /// Puts an emoji of a member's on a message, or takes it off.
    pub struct React {
        1 => id: MessageId,
        2 => actor: UserId,
        3 => emoji: Emoji,
        4 => present: bool,
        /// As [`EditMessage::device`].
        5 => device: Option<DeviceId>,
    }
}

crate::wire_struct! {
    /// Makes a message stand out in its thread, or ends that.
    pub struct PinMessage { 1 => thread: ThreadId, 2 => id: MessageId, 3 => actor: UserId, 4 => present: bool }
}

crate::wire_struct! {
    /// Takes away what messages say whose time has come; those whose time has not, and those already gone, are left alone.
    pub struct ExpireMessages { 1 => due: Vec<DueMessage> }
}

crate::wire_struct! {
    /// A message and when it disappears.
    pub struct DueMessage { 1 => at: Millis, 2 => thread: ThreadId, 3 => seq: Seq }
}

crate::wire_struct! {
    /// Moves a member's read watermark, and with it the delivery watermark.
    pub struct MarkRead { 1 => thread: ThreadId, 2 => user: UserId, 3 => up_to: MessageId }
}

crate::wire_struct! {
    /// What the devices of one gateway took since its last acknowledgement to this shard.
    pub struct Acknowledge { 1 => items: Vec<Acknowledgement> }
}

crate::wire_struct! {
    /// One device's progress in one thread; ignored when its user never was a member, and cut to what it saw of it.
    pub struct Acknowledgement {
        1 => thread: ThreadId,
        2 => user: UserId,
        3 => device: DeviceId,
        /// The user has every message up to here; 0 when nothing new was delivered.
        4 => delivered: Seq,
        /// The device's position to keep; `None` leaves what is stored.
        5 => position: Option<Position>,
    }
}

crate::wire_struct! {
    /// Drops outbox rows that their receivers have applied, and takes what those answered.
    pub struct OutboxDelivered { 1 => rows: Vec<OutboxKey>, 2 => members: Vec<NewMember> }
}

crate::wire_struct! {
    /// Names one outbox row: the change to `user`'s index that event `seq` of `thread` made.
    pub struct OutboxKey { 1 => thread: ThreadId, 2 => seq: Seq, 3 => user: UserId }
}

crate::wire_struct! {
    /// To a user's shard: the user is, or is no longer, a member of a thread.
    pub struct IndexMembership {
        1 => user: UserId,
        2 => thread: ThreadId,
        /// The thread event that changed it; a lower one than stored is ignored.
        3 => source_seq: Seq,
        4 => present: bool,
    }
}

crate::wire_struct! {
    /// To a user's shard: who may see whether the user is there.
    pub struct SetPrivacy { 1 => user: UserId, 2 => presence: PresenceAudience }
}

crate::wire_struct! {
    /// To a user's shard: the user keeps another one away, or does so no longer.
    pub struct SetBlock { 1 => user: UserId, 2 => other: UserId, 3 => present: bool }
}

/// The outcome of one command.
pub type CommandResult = Result<Reply, Refusal>;

crate::wire_struct! {
    /// What a command did.
    pub struct Reply {
        /// True when the command's id was seen before: nothing was done, and `body` is the first answer again.
        1 => replayed: bool,
        2 => body: ReplyBody,
        /// The answer may be given once other shards were told what follows from the command.
        3 => barrier: Option<OutboxBarrier>,
    }
}

crate::wire_struct! {
    /// Outbox rows of a thread, up to an event.
    pub struct ThreadBarrier { 1 => thread: ThreadId, 2 => seq: Seq }
}

crate::wire_struct! {
    /// A user's profile, up to a version.
    pub struct ProfileBarrier { 1 => user: UserId, 2 => version: u64 }
}

crate::wire_enum! {
    /// What other shards are yet to be told.
    pub enum OutboxBarrier {
        1 => Thread(ThreadBarrier),
        2 => Profile(ProfileBarrier),
    }
}

crate::wire_enum! {
    /// What there is to say of it.
    pub enum ReplyBody {
        1 => Thread(ThreadReply),
        2 => Message(MessageReply),
        3 => Done(Done),
        4 => Pins(PinsReply),
        5 => Profile(Profile),
        20 => KeyCounts(KeyCounts),
        21 => Bundles(Bundles),
        70 => Report(ReportReply),
    }
}

crate::wire_struct! {
    /// A thread, after the command.
    pub struct ThreadReply {
        1 => thread: Thread,
        /// Whether the command (or the one it repeats) made it.
        2 => created: bool,
    }
}

crate::wire_struct! {
    /// A message, after the command.
    pub struct MessageReply {
        1 => message: Message,
        /// The `client_seq` was seen before with the same body, under another command id.
        2 => duplicate: bool,
    }
}

crate::wire_struct! {
    /// A thread's pins in the actor's sight, after the command, in the order in which they were made.
    pub struct PinsReply { 1 => pins: Vec<Pin> }
}

crate::wire_struct! {
    /// Nothing to say but that it is done.
    pub struct Done {}
}
