//! How a replica that nobody needs any more ends.
//!
//! Owns: the order of steps from a replica that runs to one that lies still.
//! Must not know: how it is known that a group does without the replica.
//! Invariants: what is asked last is asked while the replica is stopped, so that nothing it could say afterwards counts
//! anywhere. What it holds stays on disk, log, rows and vote. A replica that came back without its log would, while it
//! catches up, pass configurations in which it once decided, and could elect a leader, or itself, that lacks what it had
//! acknowledged then. Killed in between, or started again, the replica runs, and is asked about again.

use super::{Host, HostError};
use crate::types::GroupId;
use messenger_proto::ids::ShardId;
use std::sync::PoisonError;

impl Host {
    /// Stops a shard's replica and, if it is `needless` still when it has stopped, leaves it so; otherwise it runs again.
    /// Says whether it lies still.
    ///
    /// # Errors
    /// [`HostError`] when storage fails.
    pub async fn retire(&self, shard: ShardId, needless: impl Future<Output = bool>) -> Result<bool, HostError> {
        let group = GroupId::of_shard(shard);
        let replica = self.inner.groups.write().unwrap_or_else(PoisonError::into_inner).remove(&group);
        if let Some(replica) = replica {
            self.inner.parts.registry.remove(group);
            replica.stop().await;
        }
        if !needless.await {
            self.start_shard(shard).await?;
            return Ok(false);
        }
        tracing::info!(%shard, "a replica ends here: its group does without it");
        Ok(true)
    }

    /// The shards that this node has data of.
    ///
    /// # Errors
    /// [`HostError`] when storage fails.
    pub fn stored_shards(&self) -> Result<Vec<ShardId>, HostError> {
        Ok(self.inner.parts.store.groups()?.into_iter().filter_map(GroupId::shard).collect())
    }
}
