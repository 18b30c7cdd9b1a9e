//! ③ The proposer of a group: packs waiting commands into log entries.
//!
//! Owns: the queue of commands at a leader, how they are packed, and the way back of each result.
//! Must not know: what a command does.
//! Invariants: a command is answered exactly once; one that was refused for want of leadership surely had no effect:
//! the core says so only of what it did not append, and anything after that may have one; packs leave in the order their
//! commands came, but for a device's sends that wait together, which are ordered by its numbers; the queue is bounded by
//! count and by bytes; nothing lingers while the group is idle.

use super::outcome::{Lost, Proposed};
use super::pace::{Advice, Gathering, Pace};
use super::sequence::{self, Place};
use crate::clock::HybridClock;
use crate::types::{PackBytes, PackResults, TypeConfig};
use futures_util::stream::{FuturesUnordered, StreamExt};
use messenger_proto::command::{Command, CommandResult};
use messenger_proto::ids::{Millis, NodeId};
use messenger_proto::limits::PACK_MAX;
use messenger_proto::wire::Field;
use openraft::async_runtime::watch::WatchReceiver;
use openraft::errors::ClientWriteError;
use openraft::impls::ProgressResponder;
use openraft::raft::ClientWriteResult;
use openraft::type_config::alias::OneshotReceiverOf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Commands that may wait at one group.
const QUEUE: usize = 16 * 1024;
/// Bytes of a pack's time stamp, tag included, at most.
const STAMP_MAX: usize = 16;

/// Commands of all groups of a node that wait or are in flight, by bytes; none while storage is at its limits.
#[derive(Debug, Clone)]
pub struct Admission {
    bytes: Arc<Semaphore>,
    closed: Arc<AtomicBool>,
}

impl Admission {
    /// Admits at most `bytes` bytes.
    #[must_use]
    pub fn new(bytes: u32) -> Self {
        Self { bytes: Arc::new(Semaphore::new(bytes as usize)), closed: Arc::default() }
    }

    /// Admits nothing from now on, or no longer so.
    pub fn shed(&self, closed: bool) {
        self.closed.store(closed, Ordering::Relaxed);
    }

    fn admit(&self, bytes: u32) -> Option<OwnedSemaphorePermit> {
        if self.closed.load(Ordering::Relaxed) {
            return None;
        }
        Arc::clone(&self.bytes).try_acquire_many_owned(bytes).ok()
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
    #[must_use]
    pub fn spawn<S>(raft: Raft<S>, clock: HybridClock, admission: Admission) -> Self
    where
        S: openraft::storage::RaftStateMachine<TypeConfig>,
    {
        let (queue, waiting) = mpsc::channel(QUEUE);
        tokio::spawn(Worker { raft, clock, waiting, in_flight: FuturesUnordered::new(), pace: Pace::default() }.run());
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
        let Some(admitted) = self.admission.admit(bytes) else { return Ok(Proposed::Overloaded) };
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
    /// Takes one in, unless its caller has given up: what nobody waits for is not worth a place in the log.
    fn push(&mut self, waiting: Waiting) {
        if !waiting.answer.is_closed() {
            self.bytes += waiting.encoded.len();
            self.commands.push(waiting);
        }
    }

    fn is_full(&self) -> bool {
        self.bytes >= PACK_MAX
    }

    fn size(&self) -> Gathering {
        Gathering { commands: self.commands.len(), bytes: self.bytes }
    }

    /// The commands strung together behind a stamp, and whom to answer; without those whose callers left meanwhile.
    fn pack(mut self, stamp: Millis) -> (Vec<u8>, Answers, Vec<OwnedSemaphorePermit>) {
        sequence::by_number(&mut self.commands, |waiting| waiting.place);
        let mut pack = Vec::with_capacity(self.bytes + STAMP_MAX);
        stamp.write(1, &mut pack);
        let (mut answers, mut admitted) =
            (Vec::with_capacity(self.commands.len()), Vec::with_capacity(self.commands.len()));
        for waiting in self.commands.into_iter().filter(|waiting| !waiting.answer.is_closed()) {
            pack.extend_from_slice(&waiting.encoded);
            answers.push(waiting.answer);
            admitted.push(waiting.admitted);
        }
        (pack, answers, admitted)
    }

    fn settle(self, outcome: impl Fn() -> Result<Proposed, Lost>) {
        settle(self.commands.into_iter().map(|waiting| waiting.answer), outcome);
    }
}

struct Worker<S: openraft::storage::RaftStateMachine<TypeConfig>> {
    raft: Raft<S>,
    clock: HybridClock,
    waiting: mpsc::Receiver<Waiting>,
    in_flight: FuturesUnordered<InFlight>,
    pace: Pace,
}

impl<S: openraft::storage::RaftStateMachine<TypeConfig>> Worker<S> {
    async fn run(mut self) {
        let mut gathered = Gathered::default();
        let mut role = self.raft.server_metrics();
        let mut patience = pin!(tokio::time::sleep(Duration::ZERO));
        let mut waits = false;
        loop {
            tokio::select! {
                Some(()) = self.in_flight.next() => {
                    self.pace.answered(gathered.commands.len() + self.waiting.len(), Instant::now());
                }
                () = &mut patience, if waits => {}
                // What was gathered behind a pack that is stuck must not wait for it once another node leads.
                changed = role.changed() => if changed.is_err() { break },
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
            let advice = self.pace.advise(gathered.size(), Instant::now());
            waits = false;
            if let Advice::WaitUntil(until) = advice {
                if patience.deadline() != until.into() {
                    patience.as_mut().reset(until.into());
                }
                waits = true;
            }
            if advice == Advice::Go || (!gathered.commands.is_empty() && !role.borrow_watched().state.is_leader()) {
                self.propose(std::mem::take(&mut gathered)).await;
            }
        }
        // Nobody is left who could be answered late, or the core has ended and took none of these.
        gathered.settle(|| Ok(Proposed::NotLeader(None)));
        while self.in_flight.next().await.is_some() {}
    }

    /// Hands a pack to consensus.
    async fn propose(&mut self, gathered: Gathered) {
        let this = *self.raft.node_id();
        if !self.raft.is_leader() {
            let leader = self.raft.current_leader().await;
            return gathered.settle(|| Ok(not_leader(leader, this)));
        }
        let Some(stamp) = self.clock.stamp() else {
            // Whoever is next has a clock that others share; this node is about to hand over.
            return gathered.settle(|| Ok(not_leader(None, this)));
        };
        let (pack, answers, admitted) = gathered.pack(stamp);
        if answers.is_empty() {
            return;
        }
        let (responder, done) = ProgressResponder::complete_only();
        let commands = answers.len();
        match self.raft.client_write_ff(PackBytes(pack.into()), Some(responder)).await {
            Ok(()) => {
                self.pace.left(commands);
                self.in_flight.push(Box::pin(finish(done, answers, admitted, this)));
            }
            Err(fatal) => settle(answers, || Err(Lost(fatal.to_string()))),
        }
    }
}

async fn finish(
    done: OneshotReceiverOf<TypeConfig, ClientWriteResult<TypeConfig>>,
    answers: Answers,
    _admitted: Vec<OwnedSemaphorePermit>,
    this: u64,
) {
    match done.await {
        Ok(Ok(response)) => distribute(answers, response.data),
        // Said before anything is appended, and never after.
        Ok(Err(ClientWriteError::ForwardToLeader(forward))) => {
            settle(answers, || Ok(not_leader(forward.leader_id, this)));
        }
        // Leadership went while the entry was in flight (`LogEntryDiscarded`): another leader may have committed it.
        Ok(Err(other)) => settle(answers, || Err(Lost(other.to_string()))),
        Err(_) => settle(answers, || Err(Lost("the group stopped".into()))),
    }
}

/// A leader that is about to go, or whose lease ran out, may still name itself: that helps nobody.
fn not_leader(leader: Option<u64>, this: u64) -> Proposed {
    Proposed::NotLeader(leader.filter(|leader| *leader != this).map(NodeId))
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

fn settle(
    answers: impl IntoIterator<Item = oneshot::Sender<Result<Proposed, Lost>>>,
    outcome: impl Fn() -> Result<Proposed, Lost>,
) {
    for answer in answers {
        let _ = answer.send(outcome());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn waiting(admission: &Admission, bytes: usize) -> (Waiting, oneshot::Receiver<Result<Proposed, Lost>>) {
        let (answer, answered) = oneshot::channel();
        (
            Waiting { encoded: vec![7; bytes], place: None, answer, admitted: admission.admit(bytes as u32).unwrap() },
            answered,
        )
    }

    #[test]
    fn commands_whose_callers_left_are_not_packed() {
        let admission = Admission::new(100);
        let mut gathered = Gathered::default();
        let (stays, _answer) = waiting(&admission, 3);
        let (leaves_later, late) = waiting(&admission, 5);
        let (has_left, left) = waiting(&admission, 9);
        drop(left);
        for each in [stays, leaves_later, has_left] {
            gathered.push(each);
        }
        assert_eq!((gathered.commands.len(), gathered.bytes), (2, 8));
        drop(late);
        let stamp = Millis(1);
        let mut expected = Vec::new();
        stamp.write(1, &mut expected);
        expected.extend([7; 3]);
        let (pack, answers, admitted) = gathered.pack(stamp);
        assert_eq!((&pack, answers.len(), admitted.len()), (&expected, 1, 1));
        drop(admitted);
        assert!(admission.admit(100).is_some(), "what was left out is not counted any more");
    }

    #[test]
    fn nothing_is_admitted_while_storage_is_at_its_limits() {
        let admission = Admission::new(100);
        admission.shed(true);
        assert!(admission.clone().admit(1).is_none());
        admission.shed(false);
        assert!(admission.admit(100).is_some() && admission.admit(101).is_none());
    }

    #[test]
    fn a_device_s_sends_that_wait_together_leave_in_order_of_their_numbers() {
        let admission = Admission::new(1 << 20);
        let mut gathered = Gathered::default();
        let mut answers = Vec::new();
        for number in [3_u8, 1, 2] {
            let (mut waiting, answered) = waiting(&admission, 1);
            waiting.encoded = vec![number];
            waiting.place = Some(Place::of_number(number.into()));
            gathered.push(waiting);
            answers.push(answered);
        }
        let stamp_bytes = gathered_pack_of_nothing().len();
        let (pack, ..) = gathered.pack(Millis(1));
        assert_eq!(pack[stamp_bytes..], [1, 2, 3]);
    }

    fn gathered_pack_of_nothing() -> Vec<u8> {
        Gathered::default().pack(Millis(1)).0
    }
}
