//! ③ The proposer of a group: packs waiting commands into log entries.
//!
//! Owns: the queue of commands at a leader, how they are packed, and the way back of each result.
//! Must not know: what a command does.
//! Invariants: a command is answered exactly once; a refusal for want of leadership given before the entry was handed
//! to consensus surely had no effect, anything after may have; packs leave in the order their commands came, but for
//! a device's sends that wait together, which are ordered by its numbers; the queue is bounded by count and by bytes; nothing lingers while the group is idle.

use super::outcome::{Lost, Proposed};
use super::sequence::{self, Place};
use crate::clock::HybridClock;
use crate::types::{PackBytes, PackResults, TypeConfig};
use futures_util::stream::{FuturesUnordered, StreamExt};
use messenger_proto::command::{Command, CommandResult, Pack};
use messenger_proto::ids::{Millis, NodeId};
use messenger_proto::limits::PACK_MAX;
use messenger_proto::wire::{Field, Wire};
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::OneshotReceiverOf;
use std::sync::Arc;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Commands that may wait at one group.
const QUEUE: usize = 16 * 1024;
/// Packs of one group between proposal and apply. Beside one under way another leaves only when it is worth its cost;
/// what is less waits for the one under way, and so makes one pack of many.
const IN_FLIGHT: usize = 3;
/// Commands that are worth a pack of their own while another is under way.
const WORTH_A_PACK: usize = 32;
/// Bytes of a pack's time stamp, tag included, at most.
const STAMP_MAX: usize = 16;

/// Commands of all groups of a node that wait or are in flight, by bytes.
#[derive(Debug, Clone)]
pub struct Admission(Arc<Semaphore>);

impl Admission {
    /// Admits at most `bytes` bytes.
    #[must_use]
    pub fn new(bytes: u32) -> Self {
        Self(Arc::new(Semaphore::new(bytes as usize)))
    }
}

struct Waiting {
    encoded: Vec<u8>,
    place: Option<Place>,
    answer: oneshot::Sender<Result<Proposed, Lost>>,
    admitted: OwnedSemaphorePermit,
}

/// The handle to a group's proposer; cheap to clone.
#[derive(Debug, Clone)]
pub struct Proposer {
    queue: mpsc::Sender<Waiting>,
    admission: Admission,
}

/// The consensus handle that packs are proposed to.
pub type Raft<S> = openraft::Raft<TypeConfig, S>;

impl Proposer {
    /// Starts the proposer of a group on the current runtime; it ends with the last handle.
    pub fn spawn<S>(raft: Raft<S>, clock: HybridClock, admission: Admission) -> Self
    where
        S: openraft::storage::RaftStateMachine<TypeConfig>,
    {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(Worker { raft, clock, waiting, in_flight: FuturesUnordered::new() }.run());
        Self { queue, admission }
    }

    /// Proposes a command and waits until it is applied.
    ///
    /// # Errors
    /// [`Lost`] when the outcome can't be known here.
    pub async fn propose(&self, command: &Command) -> Result<Proposed, Lost> {
        // As an element of `Pack.commands`, ready to be strung together.
        let mut encoded = Vec::with_capacity(512);
        messenger_proto::wire::write_delimited(2, &mut encoded, |buf| command.write(1, buf));
        let bytes = u32::try_from(encoded.len()).unwrap_or(u32::MAX);
        let Ok(admitted) = Arc::clone(&self.admission.0).try_acquire_many_owned(bytes) else {
            return Ok(Proposed::Overloaded);
        };
        let (answer, answered) = oneshot::channel();
        match self.queue.try_send(Waiting { encoded, place: Place::of(command), answer, admitted }) {
            Ok(()) => {}
            Err(mpsc::error::TrySendError::Full(_)) => return Ok(Proposed::Overloaded),
            Err(mpsc::error::TrySendError::Closed(_)) => return Ok(Proposed::NotLeader(None)),
        }
        answered.await.unwrap_or_else(|_| Err(Lost("the group stopped".into())))
    }
}

type Answers = Vec<oneshot::Sender<Result<Proposed, Lost>>>;
type InFlight = std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;

/// Commands that will be one pack.
#[derive(Default)]
struct Gathered {
    commands: Vec<Waiting>,
    bytes: usize,
}

impl Gathered {
    fn push(&mut self, waiting: Waiting) {
        self.bytes += waiting.encoded.len();
        self.commands.push(waiting);
    }

    fn is_full(&self) -> bool {
        self.bytes >= PACK_MAX
    }

    /// The commands strung together behind a stamp, and whom to answer.
    fn pack(mut self, stamp: Millis) -> (Vec<u8>, Answers, Vec<OwnedSemaphorePermit>) {
        sequence::by_number(&mut self.commands, |waiting| waiting.place);
        let mut pack = Vec::with_capacity(self.bytes + STAMP_MAX);
        stamp.write(1, &mut pack);
        let (mut answers, mut admitted) = (Vec::new(), Vec::new());
        for waiting in self.commands {
            pack.extend_from_slice(&waiting.encoded);
            answers.push(waiting.answer);
            admitted.push(waiting.admitted);
        }
        (pack, answers, admitted)
    }

    fn may_leave(&self, in_flight: usize) -> bool {
        match in_flight {
            0 => !self.commands.is_empty(),
            1..IN_FLIGHT => self.commands.len() >= WORTH_A_PACK || self.is_full(),
            _ => false,
        }
    }
}

struct Worker<S: openraft::storage::RaftStateMachine<TypeConfig>> {
    raft: Raft<S>,
    clock: HybridClock,
    waiting: mpsc::Receiver<Waiting>,
    in_flight: FuturesUnordered<InFlight>,
}

impl<S: openraft::storage::RaftStateMachine<TypeConfig>> Worker<S> {
    async fn run(mut self) {
        let mut gathered = Gathered::default();
        loop {
            tokio::select! {
                Some(()) = self.in_flight.next() => {}
                first = self.waiting.recv(), if !gathered.is_full() => {
                    let Some(first) = first else { break };
                    gathered.push(first);
                }
            }
            while !gathered.is_full()
                && let Ok(next) = self.waiting.try_recv()
            {
                gathered.push(next);
            }
            if gathered.may_leave(self.in_flight.len()) {
                self.propose(std::mem::take(&mut gathered)).await;
            }
        }
        // Nobody is left who could be answered late.
        drop(gathered);
        while self.in_flight.next().await.is_some() {}
    }

    /// Hands a pack to consensus.
    async fn propose(&mut self, gathered: Gathered) {
        if !self.raft.is_leader() {
            let leader = self.raft.current_leader().await.map(NodeId);
            let answers = gathered.commands.into_iter().map(|waiting| waiting.answer).collect();
            return settle(answers, || {
                Ok(Proposed::NotLeader(leader.filter(|leader| leader.0 != *self.raft.node_id())))
            });
        }
        let (pack, answers, admitted) = gathered.pack(self.clock.now());
        debug_assert!(Pack::from_wire(&pack).is_ok_and(|pack| pack.commands.len() == answers.len()));
        let (responder, done) = ProgressResponder::complete_only();
        match self.raft.client_write_ff(PackBytes(pack.into()), Some(responder)).await {
            Ok(()) => self.in_flight.push(Box::pin(finish(done, answers, admitted))),
            Err(fatal) => settle(answers, || Err(Lost(fatal.to_string()))),
        }
    }
}

async fn finish(
    done: OneshotReceiverOf<TypeConfig, ClientWriteResult<TypeConfig>>,
    answers: Answers,
    _admitted: Vec<OwnedSemaphorePermit>,
) {
    match done.await {
        Ok(Ok(response)) => distribute(answers, response.data),
        // Refused by the core, or leadership went while the entry was in flight: it may still be committed.
        Ok(Err(ClientWriteError::ForwardToLeader(_))) => settle(answers, || Err(Lost("leadership was lost".into()))),
        Ok(Err(other)) => settle(answers, || Err(Lost(other.to_string()))),
        Err(_) => settle(answers, || Err(Lost("the group stopped".into()))),
    }
}

fn distribute(answers: Answers, results: PackResults) {
    let mut results: std::vec::IntoIter<CommandResult> = results.0.into_iter();
    for answer in answers {
        let outcome = match results.next() {
            Some(result) => Ok(Proposed::Applied(result)),
            None => Err(Lost("the entry gave no result".into())),
        };
        // A caller that went away needs no answer.
        let _ = answer.send(outcome);
    }
}

fn settle(answers: Answers, outcome: impl Fn() -> Result<Proposed, Lost>) {
    for answer in answers {
        let _ = answer.send(outcome());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::command::{ClaimKey, Op, Retention, SendMessage};
    use messenger_proto::ids::{ClientSeq, CommandId, DeviceId, ThreadId, UserId};
    use messenger_proto::model::ContentType;

    fn command(number: Option<u64>) -> Command {
        let op = match number {
            None => Op::ClaimKey(ClaimKey {}),
            Some(number) => Op::SendMessage(SendMessage {
                thread: ThreadId([1; 16]),
                sender: UserId::new("u").unwrap(),
                device: DeviceId::new("d").unwrap(),
                client_seq: ClientSeq(number),
                ciphertext: vec![1].into(),
                content_type: ContentType::Text,
                attachments: Vec::new(),
                reply_to: None,
            }),
        };
        Command { id: CommandId([0; 16]), retention: Retention::None, body_hash: 0, op }
    }

    #[test]
    fn a_device_s_sends_that_wait_together_leave_in_order_of_their_numbers() {
        let (queue, mut waiting) = mpsc::channel(8);
        let proposer = Proposer { queue, admission: Admission::new(1 << 20) };
        let mut gathered = Gathered::default();
        for number in [Some(3), None, Some(1), Some(2)] {
            let command = command(number);
            let proposing = proposer.propose(&command);
            assert!(futures_util::FutureExt::now_or_never(proposing).is_none());
            gathered.push(waiting.try_recv().unwrap());
        }
        let (pack, ..) = gathered.pack(Millis(1));
        let expected: Vec<_> = [Some(1), None, Some(2), Some(3)].map(command).into();
        assert_eq!(Pack::from_wire(&pack).unwrap().commands, expected);
    }
}
