//! One connection per device, whichever nodes hold its sockets.
//!
//! Owns: the registry that a user's shard leader keeps in memory, and how a displaced connection's node is told.
//! Must not know: sockets; which node leads a shard is the caller's knowledge.
//! Invariants: nothing here is replicated: a new leader starts empty and learns from the gateways' renewals, so a device
//! may have two connections for as long as a failover and a renewal take, and no longer.

mod book;
mod renew;

pub use self::book::LIFETIME;
pub use self::renew::{RENEWAL, Registrations, next_connection_id};

use self::book::Book;
use crate::metric_names as names;
use messenger_proto::ids::{NodeId, ShardId};
use messenger_proto::rpc::{NodeCall, RegisterSession, SessionCall, SessionOutcome};
use std::future::Future;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// Tries to tell a node of a displaced connection; the connection's own next renewal tells it too.
const TELL_TRIES: u32 = 3;
/// How long one try may take.
const TELL_DEADLINE: Duration = Duration::from_millis(500);

/// Carries a call to a node, this one included.
pub trait NodeCaller: Send + Sync + 'static {
    /// Whether the node took it within the deadline.
    fn call(
        &self,
        node: NodeId,
        call: NodeCall,
        deadline: tokio::time::Instant,
    ) -> Pin<Box<dyn Future<Output = bool> + Send + '_>>;
}

/// The registry of a node; answers for the shards it leads.
pub struct SessionRegistry {
    book: Mutex<(Book, Instant)>,
    caller: Arc<dyn NodeCaller>,
}

impl SessionRegistry {
    /// An empty registry that tells displaced connections through `caller`.
    #[must_use]
    pub fn new(caller: Arc<dyn NodeCaller>) -> Self {
        Self { book: Mutex::new((Book::default(), Instant::now())), caller }
    }

    /// Carries out a call to the leader of `shard`, which this node is.
    pub fn handle(&self, shard: ShardId, call: SessionCall) -> SessionOutcome {
        let now = Instant::now();
        let verdict = {
            let mut guard = self.book.lock().unwrap_or_else(PoisonError::into_inner);
            let (book, swept) = &mut *guard;
            if now.duration_since(*swept) >= LIFETIME {
                book.sweep(now);
                *swept = now;
                metrics::gauge!(names::REGISTERED_SESSIONS).set(u32::try_from(book.len()).unwrap_or(u32::MAX));
            }
            book.handle(shard, call, now)
        };
        if let Some(displaced) = verdict.displaced {
            tokio::spawn(tell(Arc::clone(&self.caller), displaced));
        }
        verdict.outcome
    }
}

async fn tell(caller: Arc<dyn NodeCaller>, displaced: RegisterSession) {
    for _ in 0..TELL_TRIES {
        let deadline = tokio::time::Instant::now() + TELL_DEADLINE;
        if caller.call(displaced.node, NodeCall::CloseReplaced(displaced.clone()), deadline).await {
            return;
        }
        tokio::time::sleep_until(deadline).await;
    }
    tracing::debug!(node = %displaced.node, "a displaced connection's node was not reached");
}
