//! Whether those who are shown are still there.
//!
//! Owns: asking, every few seconds, each shard's leader that users are shown of whether it is still the same; another one
//! is told whom this node shows, and tells everyone of those that don't come back.
//! Must not know: sockets; who is shown.
//! Invariants: one small question per shard and interval, however many users there are; a whole list only after a leader
//! changed or was not reached, in parts of [`PART`].

use super::board::Board;
use futures_util::future::join_all;
use messenger_proto::ephemeral::{PresenceCall, ShownPresence};
use messenger_proto::error::Refusal;
use messenger_proto::ids::{ShardId, Term, UserId};
use messenger_router::Router;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::time::Instant;

/// Between two questions; with the grace that a new leader gives, users that died with it are told offline in time.
const INTERVAL: Duration = Duration::from_secs(3);
/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(2);
/// Users in one list at most.
const PART: usize = 1_000;

/// Watches until the board is gone.
pub(in crate::realtime) async fn watch(router: Router, board: Weak<Mutex<Board>>) {
    let mut tick = tokio::time::interval(INTERVAL);
    tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let Some(board) = board.upgrade() else { return };
        let shards = lock(&board).shards();
        join_all(shards.into_iter().map(|shard| check(&router, &board, shard))).await;
    }
}

fn lock(board: &Arc<Mutex<Board>>) -> MutexGuard<'_, Board> {
    // Each method of a board leaves it whole.
    board.lock().unwrap_or_else(PoisonError::into_inner)
}

async fn check(router: &Router, board: &Arc<Mutex<Board>>, shard: ShardId) {
    let known_in = match ask(router, shard, Vec::new()).await {
        Ok(term) => {
            let users = lock(board).unknown_in(shard, term);
            tell(router, shard, term, users).await
        }
        Err(refusal) => {
            tracing::debug!(%shard, %refusal, "nobody says who is there");
            None
        }
    };
    lock(board).checked(shard, known_in);
}

/// Tells the leader whom this node shows; the term in which it knows all of them.
async fn tell(router: &Router, shard: ShardId, term: Term, users: Vec<UserId>) -> Option<Term> {
    for part in users.chunks(PART) {
        if ask(router, shard, part.to_vec()).await.ok() != Some(term) {
            return None;
        }
    }
    Some(term)
}

async fn ask(router: &Router, shard: ShardId, users: Vec<UserId>) -> Result<Term, Refusal> {
    let call = PresenceCall::Shown(ShownPresence { users });
    router.presence(shard, call, Instant::now() + DEADLINE).await.map(|answer| answer.term)
}
