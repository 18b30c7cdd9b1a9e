//! One lane of the connection to a peer, seen from the caller.
//!
//! Owns: the queue of calls that wait, the table of calls that are under way, and how each of them ends.
//! Must not know: how the connection comes about.
//! Invariants: both are bounded, by count and bytes; when the connection ends, every call ends at once; a call that
//! was never taken off the queue surely never left this node.

use super::batch::Queued;
use super::config::{FRAME_MAX, FRAME_OVERHEAD, TransportConfig};
use super::method::Method;
use crate::types::GroupId;
use bytes::Bytes;
use messenger_proto::rpc::pb::{Failure, Frame};
use std::collections::HashMap;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::time::{Instant, timeout_at};

/// How a call failed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum LinkError {
    /// It surely never left this node.
    #[error("not sent: {0}")]
    NotSent(String),
    /// It was not carried out, because too much is under way here or at the peer; the peer is well otherwise.
    #[error("too busy: {0}")]
    Busy(String),
    /// It left, and no answer came: it may have had effects.
    #[error("no answer: {0}")]
    Lost(String),
    /// The peer answered that it did not carry it out.
    #[error("refused: {0}")]
    Refused(String),
}

/// Why a peer did not carry out a call, as its answer says.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failed {
    /// Too much is under way there.
    Busy,
    /// For a reason of its own.
    Refused(String),
}

impl From<String> for Failed {
    fn from(reason: String) -> Self {
        Self::Refused(reason)
    }
}

impl From<Failed> for LinkError {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::Busy => Self::Busy("too much is under way at the peer".into()),
            Failed::Refused(reason) => Self::Refused(reason),
        }
    }
}

/// Why a call was not queued.
#[derive(Debug)]
pub(crate) enum NotQueued {
    /// The lane is at its bounds.
    Full,
    /// The connection ended, or the call can never be sent.
    Never(LinkError),
}

/// What to call.
#[derive(Debug, Clone)]
pub(crate) struct Call {
    pub(crate) method: Method,
    pub(crate) group: GroupId,
    pub(crate) body: Bytes,
    pub(crate) deadline: Instant,
}

type Reply = Result<Bytes, Failed>;

/// Where a call is, agreed between caller and sender.
#[derive(Debug, Default)]
struct Ticket(AtomicU8);

impl Ticket {
    const QUEUED: u8 = 0;
    const SENT: u8 = 1;
    const ABANDONED: u8 = 2;

    fn leave(&self, to: u8) -> bool {
        self.0.compare_exchange(Self::QUEUED, to, Ordering::AcqRel, Ordering::Acquire).is_ok()
    }

    /// The sender takes it; false when the caller gave up before.
    fn take(&self) -> bool {
        self.leave(Self::SENT)
    }

    /// The caller gives up; true when it surely was not sent.
    fn abandon(&self) -> bool {
        self.leave(Self::ABANDONED) || self.0.load(Ordering::Acquire) == Self::ABANDONED
    }
}

/// Calls under way; `None` once the connection has ended.
#[derive(Debug)]
pub(crate) struct Pending(Mutex<Option<HashMap<u64, oneshot::Sender<Reply>>>>);

impl Pending {
    fn new() -> Self {
        Self(Mutex::new(Some(HashMap::new())))
    }

    fn table(&self) -> MutexGuard<'_, Option<HashMap<u64, oneshot::Sender<Reply>>>> {
        // Every operation on the table is one insertion or removal: a panic cannot leave it half done.
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn register(&self, call: u64, reply: oneshot::Sender<Reply>) -> bool {
        match self.table().as_mut() {
            Some(table) => {
                table.insert(call, reply);
                true
            }
            None => false,
        }
    }

    fn forget(&self, call: u64) {
        let forgotten = self.table().as_mut().and_then(|table| table.remove(&call));
        drop(forgotten);
    }

    /// Hands an answer to its caller; one that nobody waits for any more is dropped.
    pub(crate) fn complete(&self, frame: Frame) {
        let reply = self.table().as_mut().and_then(|table| table.remove(&frame.call));
        if let Some(reply) = reply {
            // The caller may have left in the meantime.
            let _ = reply.send(reply_of(frame));
        }
    }

    /// Ends every call under way and any to come.
    pub(crate) fn close(&self) {
        let calls = self.table().take();
        drop(calls);
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.table().as_ref().map_or(0, HashMap::len)
    }
}

/// What an answer says: a failure by its code, and whatever has a reason for it.
fn reply_of(frame: Frame) -> Reply {
    match frame.failure() {
        Failure::Busy => Err(Failed::Busy),
        Failure::Refused if frame.error.is_empty() => Ok(frame.body),
        Failure::Refused => Err(Failed::Refused(frame.error)),
    }
}

/// A call in the queue.
#[derive(Debug)]
pub(crate) struct Outgoing {
    number: u64,
    call: Call,
    ticket: Arc<Ticket>,
    _bytes: OwnedSemaphorePermit,
}

impl Queued for Outgoing {
    fn cost(&self) -> usize {
        self.call.body.len() + FRAME_OVERHEAD
    }

    /// `None` when there is nobody left to send it for.
    fn into_frame(self, now: Instant) -> Option<Frame> {
        let left = self.call.deadline.checked_duration_since(now).filter(|left| !left.is_zero())?;
        if !self.ticket.take() {
            return None;
        }
        Some(Frame {
            call: self.number,
            method: self.call.method.code(),
            group: self.call.group.0,
            body: self.call.body,
            deadline_ms: u32::try_from(left.as_millis()).unwrap_or(u32::MAX).max(1),
            ..Frame::default()
        })
    }
}

/// The caller's end of a lane.
#[derive(Debug)]
pub(crate) struct LaneSender {
    queue: mpsc::Sender<Outgoing>,
    bytes: Arc<Semaphore>,
    in_flight: Arc<Semaphore>,
    pending: Arc<Pending>,
    next: AtomicU64,
    bytes_max: usize,
}

/// A lane without a connection yet: its sender, its queue, and its calls under way.
pub(crate) fn lane(config: &TransportConfig) -> (LaneSender, mpsc::Receiver<Outgoing>, Arc<Pending>) {
    let (queue, outgoing) = mpsc::channel(config.queued_frames);
    let pending = Arc::new(Pending::new());
    let sender = LaneSender {
        queue,
        bytes: Arc::new(Semaphore::new(config.queued_bytes)),
        in_flight: Arc::new(Semaphore::new(config.in_flight)),
        pending: pending.clone(),
        next: AtomicU64::new(1),
        bytes_max: config.queued_bytes,
    };
    (sender, outgoing, pending)
}

impl LaneSender {
    /// Queues a call if there is room.
    pub(crate) fn try_submit(&self, call: Call) -> Result<Answer, NotQueued> {
        let cost = self.cost(&call).map_err(NotQueued::Never)?;
        let Ok(slot) = self.in_flight.clone().try_acquire_owned() else { return Err(NotQueued::Full) };
        let Ok(bytes) = self.bytes.clone().try_acquire_many_owned(cost) else { return Err(NotQueued::Full) };
        let (outgoing, answer) = self.prepare(call, slot, bytes).map_err(NotQueued::Never)?;
        match self.queue.try_send(outgoing) {
            Ok(()) => Ok(answer),
            Err(mpsc::error::TrySendError::Full(_)) => Err(NotQueued::Full),
            Err(mpsc::error::TrySendError::Closed(_)) => Err(NotQueued::Never(ended())),
        }
    }

    /// Queues a call, waiting for room until its deadline.
    pub(crate) async fn submit(&self, call: Call) -> Result<Answer, LinkError> {
        let cost = self.cost(&call)?;
        let deadline = call.deadline;
        let queued = async {
            let slot = self.in_flight.clone().acquire_owned().await.map_err(|_| ended())?;
            let bytes = self.bytes.clone().acquire_many_owned(cost).await.map_err(|_| ended())?;
            let (outgoing, answer) = self.prepare(call, slot, bytes)?;
            self.queue.send(outgoing).await.map_err(|_| ended())?;
            Ok(answer)
        };
        timeout_at(deadline, queued).await.unwrap_or_else(|_| Err(full()))
    }

    /// Permits of the byte bound that a call takes.
    fn cost(&self, call: &Call) -> Result<u32, LinkError> {
        if call.body.len() > FRAME_MAX {
            return Err(LinkError::NotSent(format!("{} bytes are too many for one call", call.body.len())));
        }
        // At most FRAME_MAX and a little.
        Ok((call.body.len() + FRAME_OVERHEAD).min(self.bytes_max) as u32)
    }

    fn prepare(
        &self,
        call: Call,
        slot: OwnedSemaphorePermit,
        bytes: OwnedSemaphorePermit,
    ) -> Result<(Outgoing, Answer), LinkError> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let (reply, receiver) = oneshot::channel();
        if !self.pending.register(number, reply) {
            return Err(ended());
        }
        let ticket = Arc::new(Ticket::default());
        let outgoing = Outgoing { number, call, ticket: ticket.clone(), _bytes: bytes };
        Ok((outgoing, Answer { number, receiver, ticket, pending: self.pending.clone(), _slot: slot }))
    }

    /// Lets nobody wait for room any longer: the connection has ended.
    pub(crate) fn close(&self) {
        self.bytes.close();
        self.in_flight.close();
        self.pending.close();
    }
}

/// There is no room for another call.
pub(crate) fn full() -> LinkError {
    LinkError::Busy("the lane is full".into())
}

fn ended() -> LinkError {
    LinkError::NotSent("the connection has ended".into())
}

/// The answer to a queued call, to come.
#[derive(Debug)]
pub(crate) struct Answer {
    number: u64,
    receiver: oneshot::Receiver<Reply>,
    ticket: Arc<Ticket>,
    pending: Arc<Pending>,
    _slot: OwnedSemaphorePermit,
}

impl Answer {
    /// Waits for it, at most until `deadline`.
    pub(crate) async fn until(mut self, deadline: Instant) -> Result<Bytes, LinkError> {
        match timeout_at(deadline, &mut self).await {
            Ok(result) => result,
            Err(_) => Err(self.failure("the deadline has passed")),
        }
    }

    /// Gives up; the error says whether the call can have had effects.
    pub(crate) fn failure(&self, why: &str) -> LinkError {
        if self.ticket.abandon() { LinkError::NotSent(why.into()) } else { LinkError::Lost(why.into()) }
    }
}

impl Future for Answer {
    type Output = Result<Bytes, LinkError>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        Pin::new(&mut self.receiver).poll(context).map(|reply| match reply {
            Ok(Ok(body)) => Ok(body),
            Ok(Err(failed)) => Err(failed.into()),
            Err(_) => Err(self.failure("the connection has ended")),
        })
    }
}

impl Drop for Answer {
    fn drop(&mut self) {
        self.ticket.abandon();
        self.pending.forget(self.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn call(bytes: usize) -> Call {
        let deadline = Instant::now() + Duration::from_hours(1);
        Call { method: Method::Shard, group: GroupId(0), body: vec![7; bytes].into(), deadline }
    }

    fn small() -> TransportConfig {
        TransportConfig { queued_frames: 3, queued_bytes: 1_000, in_flight: 5, ..TransportConfig::default() }
    }

    fn is_full(result: &Result<Answer, NotQueued>) -> bool {
        matches!(result, Err(NotQueued::Full))
    }

    #[tokio::test]
    async fn the_queue_is_bounded_by_count() {
        let (sender, mut queue, _) = lane(&small());
        let waiting: Vec<_> = (0..3).map(|_| sender.try_submit(call(1)).unwrap()).collect();
        assert!(is_full(&sender.try_submit(call(1))));
        queue.recv().await.unwrap().into_frame(Instant::now()).unwrap();
        sender.try_submit(call(1)).unwrap();
        drop(waiting);
    }

    #[tokio::test]
    async fn the_queue_is_bounded_by_bytes() {
        let (sender, mut queue, _) = lane(&small());
        let first = sender.try_submit(call(900)).unwrap();
        assert!(is_full(&sender.try_submit(call(900))));
        let frame = queue.recv().await.unwrap().into_frame(Instant::now()).unwrap();
        assert_eq!(frame.body.len(), 900);
        sender.try_submit(call(900)).unwrap();
        drop(first);
    }

    #[tokio::test]
    async fn calls_under_way_are_bounded_until_they_are_answered_or_given_up() {
        let (sender, mut queue, pending) = lane(&small());
        let mut answers = Vec::new();
        let mut numbers = Vec::new();
        for _ in 0..5 {
            answers.push(sender.try_submit(call(1)).unwrap());
            numbers.push(queue.recv().await.unwrap().into_frame(Instant::now()).unwrap().call);
        }
        assert!(is_full(&sender.try_submit(call(1))));
        pending.complete(Frame { call: numbers[0], body: Bytes::from_static(b"yes"), ..Frame::default() });
        assert_eq!(answers.remove(0).await.unwrap(), "yes");
        answers.push(sender.try_submit(call(1)).unwrap());
        answers.clear();
        assert_eq!(pending.len(), 0, "given up calls are forgotten");
    }

    #[tokio::test]
    async fn an_oversized_call_is_refused_outright() {
        let (sender, _queue, _) = lane(&TransportConfig::default());
        assert!(matches!(sender.try_submit(call(FRAME_MAX + 1)), Err(NotQueued::Never(LinkError::NotSent(_)))));
    }

    #[tokio::test]
    async fn a_call_given_up_in_the_queue_never_leaves() {
        let (sender, mut queue, _) = lane(&small());
        let answer = sender.try_submit(call(1)).unwrap();
        assert!(matches!(answer.until(Instant::now()).await, Err(LinkError::NotSent(_))));
        assert!(queue.recv().await.unwrap().into_frame(Instant::now()).is_none());
    }

    #[tokio::test]
    async fn a_call_given_up_on_its_way_may_have_had_effects() {
        let (sender, mut queue, _) = lane(&small());
        let answer = sender.try_submit(call(1)).unwrap();
        queue.recv().await.unwrap().into_frame(Instant::now()).unwrap();
        assert!(matches!(answer.until(Instant::now()).await, Err(LinkError::Lost(_))));
    }

    #[tokio::test]
    async fn the_end_of_the_connection_ends_every_call_at_once() {
        let (sender, mut queue, pending) = lane(&small());
        let sent = sender.try_submit(call(1)).unwrap();
        let queued = sender.try_submit(call(1)).unwrap();
        queue.recv().await.unwrap().into_frame(Instant::now()).unwrap();
        pending.close();
        assert!(matches!(sent.await, Err(LinkError::Lost(_))));
        assert!(matches!(queued.await, Err(LinkError::NotSent(_))));
        assert!(matches!(sender.try_submit(call(1)), Err(NotQueued::Never(LinkError::NotSent(_)))));
    }

    #[tokio::test]
    async fn waiting_for_room_ends_with_room_or_with_the_connection() {
        let (sender, mut queue, _) = lane(&small());
        let held: Vec<_> = (0..3).map(|_| sender.try_submit(call(1)).unwrap()).collect();
        let waiter = sender.submit(call(1));
        tokio::pin!(waiter);
        assert!(futures_util::poll!(&mut waiter).is_pending());
        queue.recv().await.unwrap();
        waiter.await.unwrap();
        let waiter = sender.submit(call(900));
        tokio::pin!(waiter);
        assert!(futures_util::poll!(&mut waiter).is_pending());
        sender.close();
        assert!(matches!(waiter.await, Err(LinkError::NotSent(_))));
        drop(held);
    }

    #[tokio::test]
    async fn refusals_and_stray_answers() {
        let (sender, mut queue, pending) = lane(&small());
        let answer = sender.try_submit(call(1)).unwrap();
        let number = queue.recv().await.unwrap().into_frame(Instant::now()).unwrap().call;
        pending.complete(Frame { call: 99, ..Frame::default() });
        pending.complete(Frame { call: number, error: "no".into(), ..Frame::default() });
        pending.complete(Frame { call: number, ..Frame::default() });
        assert_eq!(answer.await, Err(LinkError::Refused("no".into())));
        let answer = sender.try_submit(call(1)).unwrap();
        let number = queue.recv().await.unwrap().into_frame(Instant::now()).unwrap().call;
        pending.complete(Frame { call: number, failure: Failure::Busy.into(), ..Frame::default() });
        assert_eq!(answer.await, Err(Failed::Busy.into()));
    }

    /// A handler's own words stay words, whatever they are.
    #[test]
    fn busy_is_told_by_its_code_and_never_by_a_text() {
        let reply = |failure: i32, error: &str| reply_of(Frame { failure, error: error.into(), ..Frame::default() });
        assert_eq!(reply(Failure::Busy.into(), ""), Err(Failed::Busy));
        assert_eq!(reply(Failure::Busy.into(), "for now"), Err(Failed::Busy));
        assert_eq!(reply(Failure::Refused.into(), "overloaded"), Err(Failed::Refused("overloaded".into())));
        assert_eq!(reply(99, "of a later version"), Err(Failed::Refused("of a later version".into())));
        assert_eq!(reply(Failure::Refused.into(), ""), Ok(Bytes::new()));
    }
}
