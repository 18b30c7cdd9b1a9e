//! How a replica that nobody needs any more ends.
//!
//! Owns: the order of steps from a replica that runs to a disk that does not hold it any more.
//! Must not know: how it is known that a group does without the replica.
//! Invariants: what is asked last is asked while the replica is stopped, so that nothing it could say afterwards counts
//! anywhere. Its log, rows and snapshots go in one step, and its vote and where its log ended stay, which is what the replica
//! that may begin here in its place goes by (see [`crate::group::restraint`]). Killed before that step the replica runs again,
//! and is asked about again; killed after it, what is left to do is to give the bytes back, and a start does that again.

use super::{Host, HostError};
use crate::store::StoreError;
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
        match self.inner.parts.store.destroy_group(group).await {
            Ok(()) => {}
            Err(StoreError::Misuse(why)) => {
                tracing::warn!(%shard, why, "a replica does not end yet");
                self.start_shard(shard).await?;
                return Ok(false);
            }
            Err(error) => return Err(error.into()),
        }
        tracing::info!(%shard, "a replica ends here: its group does without it");
        self.reclaim(vec![group]);
        Ok(true)
    }

    /// Gives back, in the background, the disk that replicas took which were destroyed before this start.
    ///
    /// # Errors
    /// [`HostError`] when storage fails.
    pub fn reclaim_destroyed(&self) -> Result<(), HostError> {
        let groups = self.inner.parts.store.destroyed()?;
        if !groups.is_empty() {
            self.reclaim(groups);
        }
        Ok(())
    }

    /// One after the other, as it reads and writes what is left around them.
    fn reclaim(&self, groups: Vec<GroupId>) {
        let (store, turn) = (self.inner.parts.store.clone(), self.inner.reclaims.clone());
        self.inner.parts.storage_watch.spawn(async move {
            let _turn = turn.lock().await;
            // A storage error has stopped the node; whatever else it was, the next start tries again.
            let _ = tokio::task::spawn_blocking(move || store.reclaim(&groups)).await;
        });
    }

    /// The shards that this node has data of.
    ///
    /// # Errors
    /// [`HostError`] when storage fails.
    pub fn stored_shards(&self) -> Result<Vec<ShardId>, HostError> {
        Ok(self.inner.parts.store.groups()?.into_iter().filter_map(GroupId::shard).collect())
    }
}
