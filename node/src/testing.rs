//! What a cluster in memory is made of, for tests: shards that run the real state machine, a record and a key.
//!
//! Owns: one shard's rows, how membership changes reach the users' shards, the record of one node, the key of all tokens.
//! Must not know: how calls come to a shard, what time it is, or who hears of events.

use crate::auth::{BelievedKeys, KeySet, SigningKey};
use messenger_proto::command::{
    Command, CommandResult, IndexMembership, Op, OutboxDelivered, OutboxKey, Pack, ReplyBody, Retention,
};
use messenger_proto::event::Event;
use messenger_proto::ids::{ClusterId, CommandId, LogIndex, Millis, NodeId, ShardId, ThreadId, UserId};
use messenger_proto::meta::{ClusterState, NodeInfo, NodeState, ShardPlacement};
use messenger_proto::profile::{NewMember, Profile, ProfileTold, UpdateProfile};
use messenger_proto::query::{Query, QueryResult};
use messenger_proto::slot::{Slot, SlotMap};
use messenger_raft::machine::tables::{MemoryTables, Overlay};
use messenger_raft::machine::{answer, apply, outbox_scan, profile_of, profiles_due, threads_of};

pub(crate) const SHARDS: u32 = 4;

/// A shard without a log: what is applied is there at once.
#[derive(Default)]
pub(crate) struct MemoryShard {
    tables: MemoryTables,
    index: u64,
    now: Millis,
}

impl MemoryShard {
    pub(crate) fn apply(&mut self, stamp: Millis, command: Command) -> (CommandResult, Vec<Event>) {
        self.index += 1;
        self.now = self.now.max(stamp);
        let pack = Pack { stamp, commands: vec![command] };
        let mut overlay = Overlay::new(&self.tables);
        let mut applied = apply(&mut overlay, LogIndex(self.index), &pack).unwrap();
        let writes = overlay.into_writes();
        self.tables.absorb(writes);
        (applied.results.pop().unwrap(), applied.events)
    }

    pub(crate) fn query(&self, query: &Query) -> QueryResult {
        answer(&self.tables, query, self.now).unwrap()
    }

    /// What other shards were not told yet.
    pub(crate) fn outbox(&self) -> Untold {
        let due = profiles_due(&self.tables, None, 10_000).unwrap().into_iter().map(|user| {
            let profile = profile_of(&self.tables, &user).unwrap();
            let threads = threads_of(&self.tables, &user).unwrap();
            (user, profile, threads)
        });
        Untold { changes: outbox_scan(&self.tables, None, 10_000).unwrap(), profiles: due.collect() }
    }
}

/// What a shard has to say to others.
pub(crate) struct Untold {
    changes: Vec<(OutboxKey, IndexMembership)>,
    profiles: Vec<(UserId, Profile, Vec<ThreadId>)>,
}

/// Carries the outbox of a shard to the others.
pub(crate) fn deliver(from: ShardId, untold: Untold, apply: impl Fn(ShardId, Command) -> CommandResult) {
    let (mut rows, mut members) = (Vec::new(), Vec::new());
    for (key, change) in untold.changes {
        let reply = apply(shard_of(Slot::of_user(&change.user)), plain(Op::IndexMembership(change))).unwrap();
        if let ReplyBody::Profile(profile) = reply.body {
            members.push(NewMember { thread: key.thread, user: key.user.clone(), profile });
        }
        rows.push(key);
    }
    if !rows.is_empty() {
        apply(from, plain(Op::OutboxDelivered(OutboxDelivered { rows, members }))).unwrap();
    }
    for (user, profile, threads) in untold.profiles {
        let version = profile.version;
        for thread in threads {
            let update = UpdateProfile { user: user.clone(), profile: profile.clone(), threads: vec![thread] };
            apply(shard_of(Slot::of_thread(thread)), plain(Op::UpdateProfile(update))).unwrap();
        }
        apply(from, plain(Op::ProfileTold(ProfileTold { user, version }))).unwrap();
    }
}

/// A command that is not remembered.
pub(crate) fn plain(op: Op) -> Command {
    Command { id: CommandId(rand::random()), retention: Retention::None, body_hash: 0, op }
}

pub(crate) fn shard_of(slot: Slot) -> ShardId {
    SlotMap::new(SHARDS).unwrap().shard_of(slot)
}

/// The record of a cluster whose shards all live on node 1.
pub(crate) fn cluster_state() -> ClusterState {
    let place = |shard| ShardPlacement {
        shard: ShardId(shard),
        replicas: vec![NodeId(1)],
        first_members: vec![NodeId(1)],
        moved: false,
        held: false,
    };
    let node = NodeInfo {
        id: NodeId(1),
        zone: "a".into(),
        client_addr: "127.0.0.1:1".into(),
        peer_addr: "127.0.0.1:2".into(),
        admin_addr: "127.0.0.1:3".into(),
        state: NodeState::Active,
        store: None,
    };
    ClusterState {
        cluster: ClusterId([1; 16]),
        epoch: 1,
        secret: vec![5; 32].into(),
        nodes: vec![node],
        shards: (0..SHARDS).map(place).collect(),
        replication: 1,
        wished: 1,
        moves_paused: false,
    }
}

/// The key that signs tokens, and the set that knows it.
pub(crate) fn keys() -> (SigningKey, KeySet) {
    let (issuer, audience) = ("issuer".to_owned(), "messenger".to_owned());
    let key =
        SigningKey { kid: "test".into(), issuer: issuer.clone(), audience: audience.clone(), secret: vec![3; 32] };
    let known = KeySet::load(&BelievedKeys { issuer, audience, keys: vec![key.key_config()] }).unwrap();
    (key, known)
}
