//! What nodes say to each other.
//!
//! Owns: the tonic service, the frames of a link between two nodes, and the calls that travel in them.
//! Must not know: sockets, retries, or how a call is carried out.
//! Invariants: every call carries the time it may still take; a receiver never works on one that has run out.

use crate::audit::{AuditQuery, SendersQuery};
use crate::command::{Command, Reply};
use crate::ephemeral::{EphemeralItems, PresenceAnswer, PresenceCall};
use crate::error::Refusal;
use crate::event::Event;
use crate::ids::{ConnectionId, DeviceId, LogIndex, Millis, NodeId, ShardId, Term, ThreadId, UserId};
use crate::query::{Answer, Query};

/// The generated tonic service and its frames.
#[allow(clippy::all, clippy::pedantic, missing_docs)]
pub mod pb {
    tonic::include_proto!("messenger.v1");
}

crate::wire_struct! {
    /// A call to the node that leads a shard.
    pub struct ShardRequest {
        1 => shard: ShardId,
        /// Milliseconds the caller still waits.
        2 => deadline_ms: u32,
        3 => call: ShardCall,
    }
}

crate::wire_enum! {
    /// What is asked of a shard's leader.
    pub enum ShardCall {
        1 => Command(Command),
        2 => Query(Query),
        3 => Session(SessionCall),
        20 => Presence(PresenceCall),
    }
}

crate::wire_enum! {
    /// How a shard call ended.
    pub enum ShardOutcome {
        1 => Reply(Reply),
        2 => Answer(Answer),
        3 => Refused(Refusal),
        4 => Redirect(Redirect),
        5 => Session(SessionOutcome),
        20 => Presence(PresenceAnswer),
    }
}

crate::wire_struct! {
    /// The node does not lead the shard; nothing was done.
    pub struct Redirect {
        /// Who leads, as far as the node knows.
        1 => leader: Option<NodeId>,
    }
}

crate::wire_enum! {
    /// To a user's shard leader, whose memory holds the registry of sessions.
    pub enum SessionCall {
        /// A connection opened, or is still open: the newest per device wins.
        1 => Register(RegisterSession),
        /// A connection closed.
        2 => Unregister(RegisterSession),
    }
}

crate::wire_struct! {
    /// A device's connection.
    pub struct RegisterSession {
        1 => user: UserId,
        2 => device: DeviceId,
        3 => connection: ConnectionId,
        /// The node that holds the socket.
        4 => node: NodeId,
        /// When it opened, by that node's hybrid clock; the later of two wins, ties by connection id.
        5 => opened_at: Millis,
        /// Its client says that nobody looks.
        20 => away: bool,
        /// The shard has known it for at least one renewal: others have been told that its user is there.
        21 => settled: bool,
    }
}

crate::wire_struct! {
    /// Whether a newer connection of the device is registered.
    pub struct SessionOutcome { 1 => replaced: bool }
}

crate::wire_enum! {
    /// A call to a node itself.
    pub enum NodeCall {
        /// Close this connection with 4409: a newer one of its device is registered.
        1 => CloseReplaced(RegisterSession),
        /// How are your replicas? Answer: [`NodeStatus`].
        2 => Status(StatusQuery),
        /// Show these to whom they concern.
        20 => Ephemeral(EphemeralItems),
        /// A device was deleted: what this node knows of it is out of date.
        21 => ForgetDevice(ForgetDevice),
        /// A user or one of its devices was suspended, or is not any more: what this node knows of them is out of date.
        70 => ForgetUser(ForgetUser),
        /// Which writes did this node take? Answer: [`crate::audit::AuditPage`].
        71 => Audit(AuditQuery),
        /// Who sends the most through this node? Answer: [`crate::audit::SendersAnswer`].
        72 => Senders(SendersQuery),
        /// Who belongs to this shard's group? Answered by its leader alone, once it is sure that it leads, with
        /// [`GroupMembers`]; by others with bytes that are none.
        90 => Members(MembersQuery),
    }
}

crate::wire_struct! {
    /// See [`NodeCall::ForgetDevice`].
    pub struct ForgetDevice { 1 => user: UserId, 2 => device: DeviceId }
}

crate::wire_struct! {
    /// See [`NodeCall::ForgetUser`].
    pub struct ForgetUser { 1 => user: UserId }
}

crate::wire_struct! {
    /// See [`NodeCall::Status`].
    pub struct StatusQuery {}
}

crate::wire_code! {
    /// A replica's part in its group.
    pub enum ReplicaRole {
        1 => Leader = "leader",
        2 => Follower = "follower",
        3 => Candidate = "candidate",
        4 => Learner = "learner",
        5 => Stopped = "stopped",
    }
}

crate::wire_struct! {
    /// One replica, as its node sees it.
    pub struct ReplicaStatus {
        /// `None` for the meta group.
        1 => shard: Option<ShardId>,
        2 => role: ReplicaRole,
        3 => leader: Option<NodeId>,
        4 => term: Term,
        /// Index of the last entry applied.
        5 => applied: LogIndex,
        /// Index of the last entry in the log.
        6 => last: LogIndex,
        /// What was applied up to `applied`, chained into one number: replicas that applied the same have the same.
        7 => digest: Option<u64>,
        /// Who belongs to the group, as a leader has applied it.
        90 => members: Option<GroupMembers>,
        /// What those lack that only follow, as a leader knows.
        91 => learners: Vec<LearnerLag>,
    }
}

crate::wire_struct! {
    /// What a learner lacks.
    pub struct LearnerLag {
        1 => node: NodeId,
        /// Entries it is not known to hold.
        2 => entries: u64,
    }
}

crate::wire_struct! {
    /// A snapshot on its way to another node.
    pub struct SendingSnapshot {
        1 => shard: ShardId,
        /// Bytes that have gone.
        2 => sent: u64,
        /// Bytes of its rows on disk, about as many as it has.
        3 => whole: u64,
        /// Milliseconds since it began.
        4 => elapsed_ms: u64,
    }
}

crate::wire_struct! {
    /// Who belongs to a group.
    pub struct GroupMembers {
        /// Those that decide; of both configurations, while the group is between two.
        1 => voters: Vec<NodeId>,
        2 => learners: Vec<NodeId>,
        /// The group is between two configurations.
        3 => joint: bool,
    }
}

crate::wire_struct! {
    /// See [`NodeCall::Members`].
    pub struct MembersQuery { 1 => shard: ShardId }
}

crate::wire_struct! {
    /// What a node says of itself.
    pub struct NodeStatus {
        1 => node: NodeId,
        2 => ready: bool,
        3 => replicas: Vec<ReplicaStatus>,
        /// Its disk is almost full: it takes no commands, and leadership only if nobody else can.
        4 => short_of_disk: bool,
        /// It is on its way out.
        5 => draining: bool,
        /// What it sends to a replica that lacks more than the log has.
        90 => sending: Option<SendingSnapshot>,
    }
}

crate::wire_struct! {
    /// A change to what a subscriber wants to hear of a shard.
    pub struct InterestChange {
        /// Echoed by [`StreamItem::InForce`] once the change is in force.
        1 => version: u64,
        2 => add_threads: Vec<ThreadId>,
        3 => remove_threads: Vec<ThreadId>,
        4 => add_users: Vec<UserId>,
        5 => remove_users: Vec<UserId>,
    }
}

crate::wire_enum! {
    /// One item of a shard's stream to a subscriber.
    #[allow(clippy::large_enum_variant, reason = "nearly all are events")]
    pub enum StreamItem {
        1 => Event(Event),
        /// Every event applied after this item is filtered by at least this version of the interest.
        2 => InForce(InForce),
        /// Events were lost: the subscriber resumes its threads from storage.
        3 => Reset(Reset),
    }
}

crate::wire_struct! {
    /// See [`StreamItem::InForce`].
    pub struct InForce { 1 => version: u64 }
}

crate::wire_struct! {
    /// See [`StreamItem::Reset`].
    pub struct Reset {}
}
