//! What the shards' groups are, by what nodes say.
//!
//! Owns: putting nodes' answers together: of each shard the members, as whoever leads it by the highest term sees them.
//! Must not know: how the answers came, what follows from them.

use messenger_proto::ids::{ShardId, Term};
use messenger_proto::rpc::{GroupMembers, NodeStatus};
use messenger_router::placement::plan::Observed;
use std::collections::BTreeMap;

/// By shard, what the leader of the highest term says.
pub fn observed(answers: impl Iterator<Item = NodeStatus>) -> BTreeMap<ShardId, Observed> {
    let mut newest: BTreeMap<ShardId, (Term, Observed)> = BTreeMap::new();
    for replica in answers.flat_map(|status| status.replicas) {
        let (Some(shard), Some(GroupMembers { voters, learners, joint })) = (replica.shard, replica.members) else {
            continue;
        };
        if newest.get(&shard).is_none_or(|(term, _)| *term < replica.term) {
            let (voters, learners) = (voters.into_iter().collect(), learners.into_iter().collect());
            newest.insert(shard, (replica.term, Observed { voters, learners, joint }));
        }
    }
    newest.into_iter().map(|(shard, (_, observed))| (shard, observed)).collect()
}
