//! What can be asked of a shard.
//!
//! Owns: queries and their answers. All are answered after a ReadIndex round, from one snapshot of the shard's tables.
//! Must not know: HTTP, cursors' text form.
//! Invariants: answers are bounded by `limit`, a page or `max_bytes`; whoever may not see a thing gets a refusal.

use crate::error::Refusal;
use crate::event::ThreadEvent;
use crate::ids::{DeviceId, MessageId, Millis, Position, Seq, ThreadId, UserId};
use crate::keys::{DeviceStatus, DeviceStatusQuery, DevicesAnswer, DevicesQuery, KeyCounts, KeyCountsQuery};
use crate::meta::ClusterState;
use crate::model::{Message, Pin, Recipient, Thread, ThreadSummary};
use crate::moderation::{ReportsAnswer, ReportsQuery, SuspensionQuery, SuspensionState};

crate::wire_enum! {
    /// A question to one shard.
    pub enum Query {
        1 => Thread(ThreadQuery),
        2 => Message(MessageQuery),
        3 => Recipients(RecipientsQuery),
        4 => History(HistoryQuery),
        5 => UserThreads(UserThreadsQuery),
        6 => Activity(ActivityQuery),
        7 => Summaries(SummariesQuery),
        8 => Resume(ResumeQuery),
        9 => ClusterState(ClusterStateQuery),
        10 => Room(RoomQuery),
        11 => Pins(PinsQuery),
        40 => Privacy(PrivacyQuery),
        20 => Devices(DevicesQuery),
        21 => KeyCounts(KeyCountsQuery),
        22 => DeviceStatus(DeviceStatusQuery),
        70 => Suspension(SuspensionQuery),
        71 => Reports(ReportsQuery),
        41 => Blocks(BlocksQuery),
    }
}

crate::wire_struct! {
    /// A thread as `viewer`, a member, sees it. Answer: [`Answer::Thread`].
    pub struct ThreadQuery { 1 => thread: ThreadId, 2 => viewer: UserId }
}

crate::wire_struct! {
    /// A thread's pins. Answer: [`Answer::Pins`].
    pub struct PinsQuery { 1 => thread: ThreadId, 2 => viewer: UserId }
}

crate::wire_struct! {
    /// One message. Answer: [`Answer::Message`].
    pub struct MessageQuery { 1 => id: MessageId, 2 => viewer: UserId, 3 => device: DeviceId }
}

crate::wire_struct! {
    /// A message's recipients. Answer: [`Answer::Recipients`].
    pub struct RecipientsQuery { 1 => id: MessageId, 2 => viewer: UserId }
}

crate::wire_struct! {
    /// A page of a thread's messages. Answer: [`Answer::Messages`].
    pub struct HistoryQuery {
        1 => thread: ThreadId,
        2 => viewer: UserId,
        3 => device: DeviceId,
        4 => range: HistoryRange,
        /// `1..=`[`crate::limits::PAGE_MAX`].
        5 => limit: u32,
    }
}

crate::wire_enum! {
    /// Which messages, in which order.
    pub enum HistoryRange {
        /// Newest first, from just before an event; `seq` 0 means from the end.
        1 => NewestBefore(SeqBound),
        /// Oldest first, from just after an event.
        2 => OldestAfter(SeqBound),
        /// Newest first, from just before a message.
        3 => NewestBeforeMessage(IdBound),
        /// Oldest first, from just after a message.
        4 => OldestAfterMessage(IdBound),
        /// Oldest first, those created later than a time.
        5 => OldestAfterTime(TimeBound),
        /// Those created or changed by events after `seq`, oldest change first.
        6 => ChangedAfter(SeqBound),
    }
}

crate::wire_struct! {
    /// An event number.
    pub struct SeqBound { 1 => seq: Seq }
}

crate::wire_struct! {
    /// A message; it need not exist, its place in the order counts. It must carry the thread's slot.
    pub struct IdBound { 1 => id: MessageId }
}

crate::wire_struct! {
    /// An instant.
    pub struct TimeBound { 1 => at: Millis }
}

crate::wire_struct! {
    /// To a user's shard: every thread the user is in. Answer: [`Answer::UserThreads`].
    pub struct UserThreadsQuery {
        1 => user: UserId,
        /// Asks for threads that the user left at this time or later, too.
        2 => left_since: Option<Millis>,
    }
}

crate::wire_struct! {
    /// To the shard of some users: which of them have no room for a thread. Whoever is in it needs none, and when it is
    /// about to be made nor does who ever was: then this is the creation's repeat. Answer: [`Answer::Room`].
    pub struct RoomQuery { 1 => users: Vec<UserId>, 2 => thread: ThreadId, 3 => creates: bool }
}

crate::wire_struct! {
    /// When each thread was last active, as of an instant. Answer: [`Answer::Activity`].
    pub struct ActivityQuery { 1 => viewer: UserId, 2 => threads: Vec<ThreadId>, 3 => as_of: Millis }
}

crate::wire_struct! {
    /// A page's rows of the thread list. Answer: [`Answer::Summaries`].
    pub struct SummariesQuery { 1 => viewer: UserId, 2 => device: DeviceId, 3 => threads: Vec<ThreadId> }
}

crate::wire_struct! {
    /// What a device missed. Answer: [`Answer::Resume`].
    pub struct ResumeQuery {
        1 => user: UserId,
        2 => device: DeviceId,
        3 => threads: Vec<ResumeFrom>,
        /// Where the client says it is; placed with [`crate::limits::CLOCK_OVERLAP`] in threads other than its own.
        4 => last_seen: Option<MessageId>,
        /// Stop collecting events once they take about this much.
        5 => max_bytes: u32,
    }
}

crate::wire_struct! {
    /// Where to resume a thread.
    pub struct ResumeFrom {
        1 => thread: ThreadId,
        /// `None`: the earlier of the stored position and `last_seen`; on a device's first time, the user's join.
        2 => position: Option<Position>,
        /// Without a position, a device that is new to the thread is told nothing if its user left it.
        3 => unless_new: bool,
    }
}

crate::wire_struct! {
    /// To the shard of some users: which of them are not to be shown to `viewer`, since they show their presence to nobody
    /// or keep the viewer away. Answer: [`Answer::Privacy`].
    pub struct PrivacyQuery { 1 => users: Vec<UserId>, 2 => viewer: Option<UserId> }
}

crate::wire_struct! {
    /// To a user's shard: whom it keeps away. Answer: [`Answer::Blocks`].
    pub struct BlocksQuery { 1 => user: UserId }
}

crate::wire_struct! {
    /// The meta group's state. Answer: [`Answer::ClusterState`].
    pub struct ClusterStateQuery {}
}

/// The outcome of a query.
pub type QueryResult = Result<Answer, Refusal>;

crate::wire_enum! {
    /// What a shard answers.
    pub enum Answer {
        1 => Thread(Thread),
        2 => Message(Message),
        3 => Recipients(RecipientsAnswer),
        4 => Messages(MessagesAnswer),
        5 => UserThreads(UserThreadsAnswer),
        6 => Activity(ActivityAnswer),
        7 => Summaries(SummariesAnswer),
        8 => Resume(ResumeAnswer),
        9 => ClusterState(ClusterState),
        10 => Room(RoomAnswer),
        11 => Pins(PinsAnswer),
        40 => Privacy(PrivacyAnswer),
        20 => Devices(DevicesAnswer),
        21 => KeyCounts(KeyCounts),
        22 => DeviceStatus(DeviceStatus),
        70 => Suspension(SuspensionState),
        71 => Reports(ReportsAnswer),
        41 => Blocks(BlocksAnswer),
    }
}

crate::wire_struct! {
    /// Pins in the viewer's sight, in the order in which they were made.
    pub struct PinsAnswer { 1 => pins: Vec<Pin> }
}

crate::wire_struct! {
    /// Per-recipient states, in order of name.
    pub struct RecipientsAnswer { 1 => recipients: Vec<Recipient> }
}

crate::wire_struct! {
    /// A page and where the next one begins.
    pub struct MessagesAnswer {
        1 => messages: Vec<Message>,
        /// The event number to go on from in the same direction; `None` when there is no more.
        2 => next: Option<Seq>,
    }
}

crate::wire_struct! {
    /// The user's threads.
    pub struct UserThreadsAnswer {
        /// In order of id.
        1 => threads: Vec<UserThread>,
        /// Those it left, if they were asked for: the last first, at most [`crate::limits::DEPARTURES_MAX`].
        2 => left: Vec<UserThread>,
    }
}

crate::wire_struct! {
    /// A row of a user's index, and the thread event that it comes from.
    pub struct UserThread { 1 => thread: ThreadId, 2 => source_seq: Seq }
}

crate::wire_struct! {
    /// The users that are in [`crate::limits::USER_THREADS_MAX`] threads already, in the order asked.
    pub struct RoomAnswer { 1 => full: Vec<UserId> }
}

crate::wire_struct! {
    /// The users that are not shown, in the order asked.
    pub struct PrivacyAnswer { 1 => hidden: Vec<UserId> }
}

crate::wire_struct! {
    /// Whom a user keeps away, in order of name, at most [`crate::limits::USER_BLOCKS_MAX`].
    pub struct BlocksAnswer {
        1 => users: Vec<UserId>,
        /// That of the user's profile: a list of a higher one is newer.
        2 => version: u64,
    }
}

crate::wire_struct! {
    /// Threads the viewer is still in, with the time of their last message or else of their creation.
    pub struct ActivityAnswer { 1 => threads: Vec<ThreadActivity> }
}

crate::wire_struct! {
    /// When a thread was last active.
    pub struct ThreadActivity { 1 => thread: ThreadId, 2 => at: Millis }
}

crate::wire_struct! {
    /// Rows in the order asked for, less the threads the viewer is not in.
    pub struct SummariesAnswer { 1 => summaries: Vec<ThreadSummary> }
}

crate::wire_struct! {
    /// Missed events, thread by thread.
    pub struct ResumeAnswer { 1 => threads: Vec<ResumedThread> }
}

crate::wire_struct! {
    /// A thread's missed events.
    pub struct ResumedThread {
        1 => thread: ThreadId,
        /// In order of `rev`; receipts once per member and kind, the latest. Only what the user is told of.
        2 => events: Vec<ThreadEvent>,
        /// Where the device is after them; unless `more`, equal to the end of what the user sees. Of a thread that
        /// tells it nothing, where it was.
        3 => position: Position,
        /// `max_bytes` was reached: ask again from `position`.
        4 => more: bool,
        /// Older events were left out.
        5 => gap: Option<Gap>,
        /// The user is no member now: the events end at its removal.
        6 => left: bool,
    }
}

crate::wire_struct! {
    /// Events left out, exclusive at both ends.
    pub struct Gap { 1 => after_seq: Seq, 2 => after_id: Option<MessageId>, 3 => before_id: MessageId }
}
