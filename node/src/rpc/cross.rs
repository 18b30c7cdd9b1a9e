//! The outbox's way to other shards.
//!
//! Owns: how a change of membership becomes a command at the user's shard, and a profile commands at its threads' shards.
//! Must not know: outbox rows.
//! Invariants: the commands are idempotent, by their source event or version, so they carry no remembered id.

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, TryStreamExt, stream};
use messenger_proto::command::{Command, IndexMembership, Op, Reply, ReplyBody, Retention};
use messenger_proto::ids::{CommandId, ShardId, ThreadId, UserId};
use messenger_proto::limits::PROFILE_THREADS_MAX;
use messenger_proto::profile::{Profile, UpdateProfile};
use messenger_proto::slot::Slot;
use messenger_raft::group::outbox::{CrossShard, NotArrived};
use messenger_router::Router;
use std::collections::BTreeMap;
use std::sync::OnceLock;
use std::time::Duration;
use tokio::time::Instant;

/// Shards that are told of one user at once.
const CALLS: usize = 8;
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

fn command(op: Op) -> Command {
    Command { id: CommandId([0; 16]), retention: Retention::None, body_hash: 0, op }
}

impl CrossShard for RouterCross {
    fn shard_of(&self, user: &UserId) -> Option<ShardId> {
        self.router.get().map(|router| router.shard_of(Slot::of_user(user)))
    }

    fn deliver(&self, change: IndexMembership) -> BoxFuture<'_, Result<Option<Profile>, NotArrived>> {
        async move {
            let router = self.router.get().ok_or(NotArrived::Starting)?;
            let slot = Slot::of_user(&change.user);
            let op = Op::IndexMembership(change);
            match router.command(slot, command(op), Instant::now() + WITHIN).await {
                Ok(Reply { body: ReplyBody::Profile(profile), .. }) => Ok(Some(profile)),
                Ok(_) => Ok(None),
                // A change is never refused for what it says, so whatever this is, it is tried again.
                Err(refusal) => Err(refusal.into()),
            }
        }
        .boxed()
    }

    fn tell(&self, user: UserId, profile: Profile, threads: Vec<ThreadId>) -> BoxFuture<'_, Result<(), NotArrived>> {
        async move {
            let router = self.router.get().ok_or(NotArrived::Starting)?;
            let mut shards: BTreeMap<ShardId, Vec<ThreadId>> = BTreeMap::new();
            for thread in threads {
                shards.entry(router.shard_of(Slot::of_thread(thread))).or_default().push(thread);
            }
            let parts = shards.values().flat_map(|threads| threads.chunks(PROFILE_THREADS_MAX)).map(<[_]>::to_vec);
            let parts: Vec<Vec<ThreadId>> = parts.collect();
            let (user, profile) = (&user, &profile);
            stream::iter(parts.into_iter().map(Ok))
                .try_for_each_concurrent(CALLS, |threads| async move {
                    let Some(first) = threads.first() else { return Ok(()) };
                    let slot = Slot::of_thread(*first);
                    let update = UpdateProfile { user: user.clone(), profile: profile.clone(), threads };
                    let told = router.command(slot, command(Op::UpdateProfile(update)), Instant::now() + WITHIN).await;
                    told.map(|_| ()).map_err(NotArrived::from)
                })
                .await
        }
        .boxed()
    }
}
