//! What a cluster in memory is made of, for tests: shards that run the real state machine, a record and a key.
//!
//! Owns: one shard's rows, how membership changes reach the users' shards, the record of one node, the key of all tokens.
//! Must not know: how calls come to a shard, what time it is, or who hears of events.

use crate::auth::{AuthConfig, KeySet, SigningKey};
use messenger_proto::command::{
    Command, CommandResult, IndexMembership, Op, OutboxDelivered, OutboxKey, Pack, Retention,
};
use messenger_proto::event::Event;
use messenger_proto::ids::{ClusterId, CommandId, Millis, NodeId, ShardId};
use messenger_proto::meta::{ClusterState, NodeInfo, NodeState, ShardPlacement};
use messenger_proto::query::{Query, QueryResult};
use messenger_proto::slot::{Slot, SlotMap};
use messenger_raft::machine::tables::{MemoryTables, Overlay};
use messenger_raft::machine::{answer, apply, outbox_scan};

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
        let mut applied = apply(&mut overlay, self.index, &pack).unwrap();
        let writes = overlay.into_writes();
        self.tables.absorb(writes);
        (applied.results.pop().unwrap(), applied.events)
    }

    pub(crate) fn query(&self, query: &Query) -> QueryResult {
        answer(&self.tables, query, self.now).unwrap()
    }

    /// Membership changes that users' shards were not told of.
    pub(crate) fn outbox(&self) -> Vec<(OutboxKey, IndexMembership)> {
        outbox_scan(&self.tables, None, 10_000).unwrap()
    }
}

/// Carries the outbox of a shard to the users' shards.
pub(crate) fn deliver(
    from: ShardId,
    outbox: Vec<(OutboxKey, IndexMembership)>,
    apply: impl Fn(ShardId, Command) -> CommandResult,
) {
    if outbox.is_empty() {
        return;
    }
    let mut rows = Vec::new();
    for (key, change) in outbox {
        apply(shard_of(Slot::of_user(&change.user)), plain(Op::IndexMembership(change))).unwrap();
        rows.push(key);
    }
    apply(from, plain(Op::OutboxDelivered(OutboxDelivered { rows }))).unwrap();
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
    let place =
        |shard| ShardPlacement { shard: ShardId(shard), replicas: vec![NodeId(1)], first_members: vec![NodeId(1)] };
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
    }
}

/// The key that signs tokens, and the set that knows it.
pub(crate) fn keys() -> (SigningKey, KeySet) {
    let (issuer, audience) = ("issuer".to_owned(), "messenger".to_owned());
    let key =
        SigningKey { kid: "test".into(), issuer: issuer.clone(), audience: audience.clone(), secret: vec![3; 32] };
    let known = KeySet::load(&AuthConfig { issuer, audience, keys: vec![key.key_config()] }).unwrap();
    (key, known)
}
