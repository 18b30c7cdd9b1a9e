//! ReadIndex: when a replica may answer a query.
//!
//! Owns: one round of confirmation per burst of queries (Raft thesis, section 6.4).
//! Must not know: what is queried.
//! Invariants: a query joins a round that starts after it arrived, never one under way; so what it then reads includes
//! every command acknowledged before it arrived.

use super::proposer::Raft;
use crate::transport::{Links, still_leads};
use crate::types::{GroupId, TypeConfig, Vote};
use messenger_proto::ids::NodeId;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::{LinearizableReadError, RaftError};
use openraft::raft::linearizable_read::LinearizerOption;
use openraft::storage::RaftStateMachine;
use std::time::Duration;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

/// Queries that may wait for a round at one group.
const QUEUE: usize = 16 * 1024;
/// Longest wait for a majority to confirm who leads.
const CONFIRM_WITHIN: Duration = Duration::from_millis(500);
/// Longest wait for the applied position to reach the read index.
const APPLY_WAIT: Duration = Duration::from_secs(5);

/// Whether a query may be answered here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Readable {
    /// Yes, from the tables as they are now.
    Yes,
    /// No: this replica does not lead, or could not confirm that it does. Who does, if known.
    NotLeader(Option<NodeId>),
    /// No: too many queries wait.
    Overloaded,
}

/// The gate that a group's queries pass; cheap to clone.
#[derive(Debug, Clone)]
pub struct ReadGate {
    queue: mpsc::Sender<oneshot::Sender<Readable>>,
}

impl ReadGate {
    /// Starts the gate of a group on the current runtime; it ends with the last handle.
    #[must_use]
    pub fn spawn<S: RaftStateMachine<TypeConfig>>(raft: Raft<S>, group: GroupId, links: Links) -> Self {
        let (queue, mut waiting) = mpsc::channel::<oneshot::Sender<Readable>>(QUEUE);
        tokio::spawn(async move {
            while let Some(first) = waiting.recv().await {
                let mut burst = vec![first];
                while let Ok(next) = waiting.try_recv() {
                    burst.push(next);
                }
                let readable = confirm(&raft, group, &links).await;
                for query in burst {
                    // A caller that went away needs no answer.
                    let _ = query.send(readable);
                }
            }
        });
        Self { queue }
    }

    /// Waits until the tables may be read, or says why not.
    pub async fn pass(&self) -> Readable {
        let (answer, answered) = oneshot::channel();
        match self.queue.try_send(answer) {
            Ok(()) => answered.await.unwrap_or(Readable::NotLeader(None)),
            Err(mpsc::error::TrySendError::Full(_)) => Readable::Overloaded,
            Err(mpsc::error::TrySendError::Closed(_)) => Readable::NotLeader(None),
        }
    }
}

async fn confirm<S: RaftStateMachine<TypeConfig>>(raft: &Raft<S>, group: GroupId, links: &Links) -> Readable {
    // What is to be read: at least all that was committed by now. Whether this node still leads is asked below.
    let linearizer = match raft.get_read_linearizer(LinearizerOption::new(None, true)).await {
        Ok(linearizer) => linearizer,
        Err(RaftError::APIError(LinearizableReadError::ForwardToLeader(forward))) => {
            // A leader whose lease ran out names itself or nobody: the caller tries again.
            let leader = forward.leader_id.filter(|leader| leader != raft.node_id());
            return Readable::NotLeader(leader.map(NodeId));
        }
        Err(_) => return Readable::NotLeader(None),
    };
    // The leadership that gave the position, whatever has become of it since: this process may have slept.
    let vote = Vote::new_committed(linearizer.read_log_id().committed_leader_id().term, *raft.node_id());
    let configurations = raft.metrics().borrow_watched().membership_config.membership().get_joint_config().clone();
    if !still_leads(links, group, vote, &configurations, Instant::now() + CONFIRM_WITHIN).await {
        return Readable::NotLeader(None);
    }
    match linearizer.try_await_ready(raft, Some(APPLY_WAIT)).await {
        Ok(Ok(_)) => Readable::Yes,
        Ok(Err(_)) | Err(_) => Readable::NotLeader(None),
    }
}
