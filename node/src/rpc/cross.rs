//! The outbox's way to other shards.
//!
//! Owns: how a change of membership becomes a command at the user's shard.
//! Must not know: outbox rows.
//! Invariants: the command is idempotent by its source event, so it carries no remembered id.

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use messenger_proto::command::{Command, IndexMembership, Op, Retention};
use messenger_proto::ids::{CommandId, ShardId, UserId};
use messenger_proto::slot::Slot;
use messenger_raft::group::outbox::CrossShard;
use messenger_router::Router;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::Instant;

/// One delivery's deadline; the outbox tries again after it.
const WITHIN: Duration = Duration::from_secs(3);

/// Delivers through the router, which is made after the groups that need it.
#[derive(Default)]
pub struct RouterCross {
    router: OnceLock<Router>,
}

impl RouterCross {
    /// Connects it; later calls change nothing.
    pub fn connect(&self, router: Router) {
        let _ = self.router.set(router);
    }
}

impl CrossShard for RouterCross {
    fn shard_of(&self, user: &UserId) -> Option<ShardId> {
        self.router.get().map(|router| router.shard_of(Slot::of_user(user)))
    }

    fn deliver(&self, change: IndexMembership) -> BoxFuture<'_, Result<(), String>> {
        async move {
            let router = self.router.get().ok_or("the router is not there yet")?;
            let slot = Slot::of_user(&change.user);
            let op = Op::IndexMembership(change);
            let command = Command { id: CommandId([0; 16]), retention: Retention::None, body_hash: 0, op };
            match router.command(slot, command, Instant::now() + WITHIN).await {
                Ok(_) => Ok(()),
                // A change is never refused for what it says, so whatever this is, it is tried again.
                Err(refusal) => Err(refusal.to_string()),
            }
        }
        .boxed()
    }
}
