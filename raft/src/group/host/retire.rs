//! How a replica that nobody needs any more goes.
//!
//! Owns: the order of steps from a replica that runs to one that is gone.
//! Must not know: how it is known that a group does without the replica.
//! Invariants: what is asked last is asked while the replica is stopped, so that nothing it could say afterwards counts
//! anywhere: a group that takes the node in again begins with a replica that holds nothing. The vote stays, so that the
//! node never votes twice in a term. Killed in between, the replica is still there, and is asked about again.

use super::{Host, HostError};
use crate::store::Erased;
use crate::types::GroupId;
use messenger_proto::ids::ShardId;
use std::sync::PoisonError;

impl Host {
    /// Stops a shard's replica and, if it is `needless` still when it has stopped, destroys it; otherwise it runs again.
    /// Says whether it is gone.
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
        let store = &self.inner.parts.store;
        store.destroy_group(group).await?;
        tracing::info!(%shard, "a replica is gone: its group does without it");
        let store = store.clone();
        // What it held leaves the disk too; a failed write stops the node by itself.
        drop(self.inner.parts.storage_watch.spawn_blocking(move || store.erase(&[(group, Erased::All)])));
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
