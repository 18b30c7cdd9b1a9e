//! One lane of a peer's connection, seen from the node that is called.
//!
//! Owns: taking messages apart, bounding the work they make, and the way of the answers back.
//! Must not know: what a call does.
//! Invariants: a call is answered at most once; work under way and answers that wait are bounded by count and bytes;
//! calls beyond the bound are refused, appends beyond it hold the lane back; nothing is done for a caller whose time
//! is up.

use super::append::Sessions;
use super::batch::{BatchLimits, Queued, batches};
use super::codec::{
    decode_append, decode_transfer, decode_vote_request, encode_append_result, encode_transfer_answer,
    encode_vote_response, lone_result,
};
use super::config::{FRAME_MAX, FRAME_OVERHEAD, TransportConfig};
use super::lane::Failed;
use super::method::Method;
use super::port::{Groups, LinkHandler, RaftPort};
use crate::clock::HybridClock;
use crate::types::GroupId;
use bytes::Bytes;
use futures_util::Stream;
use messenger_proto::ids::{Millis, NodeId};
use messenger_proto::rpc::pb::{Failure, Frame, Frames};
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::Handle;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

/// No call is worked on for longer, whatever its caller claims.
const WORK_MAX: Duration = Duration::from_mins(1);

/// An answer that waits to be sent.
#[derive(Debug)]
pub(crate) struct Answer {
    frame: Frame,
    _bytes: OwnedSemaphorePermit,
}

impl Queued for Answer {
    fn cost(&self) -> usize {
        self.frame.body.len() + FRAME_OVERHEAD
    }

    fn into_frame(self, _: Instant) -> Option<Frame> {
        Some(self.frame)
    }
}

/// The way back to the caller.
#[derive(Debug, Clone)]
pub(crate) struct Answers {
    queue: mpsc::Sender<Answer>,
    bytes: Arc<Semaphore>,
    bytes_max: usize,
}

impl Answers {
    /// The way back, and the messages that go it.
    pub(crate) fn new(
        config: &TransportConfig,
        clock: HybridClock,
    ) -> (Self, impl Stream<Item = Frames> + Send + 'static) {
        let (queue, waiting) = mpsc::channel(config.queued_frames);
        let bytes = Arc::new(Semaphore::new(config.serve_bytes));
        let answers = Self { queue, bytes, bytes_max: config.serve_bytes };
        (answers, batches(waiting, clock, BatchLimits::from(config)))
    }

    /// Queues an answer, waiting for room; in vain once the lane is gone.
    pub(crate) async fn send(&self, call: u64, result: Result<Bytes, Failed>) {
        let frame = match result {
            Ok(body) if body.len() > FRAME_MAX => refusal("the answer is too large"),
            Ok(body) => Frame { body, ..Frame::default() },
            Err(Failed::Busy) => Frame { failure: Failure::Busy.into(), ..Frame::default() },
            // An empty reason would read as success.
            Err(Failed::Refused(reason)) if reason.is_empty() => refusal("failed"),
            Err(Failed::Refused(reason)) => refusal(reason),
        };
        let frame = Frame { call, ..frame };
        let cost = (frame.body.len() + frame.error.len() + FRAME_OVERHEAD).min(self.bytes_max);
        // At most FRAME_MAX and a little.
        let Ok(bytes) = self.bytes.clone().acquire_many_owned(cost as u32).await else { return };
        // The lane may be gone, and the caller with it.
        let _ = self.queue.send(Answer { frame, _bytes: bytes }).await;
    }
}

fn refusal(reason: impl Into<String>) -> Frame {
    Frame { failure: Failure::Refused.into(), error: reason.into(), ..Frame::default() }
}

/// What serving a lane takes.
pub(crate) struct Inbound<G: Groups, H> {
    pub(crate) from: NodeId,
    pub(crate) groups: Arc<G>,
    pub(crate) handler: Arc<H>,
    pub(crate) clock: HybridClock,
    pub(crate) answers: Answers,
    /// Where the handler's calls run.
    pub(crate) runtime: Handle,
    pub(crate) work: Arc<Semaphore>,
    pub(crate) bytes: Arc<Semaphore>,
    pub(crate) bytes_max: usize,
}

impl<G: Groups, H: LinkHandler> Inbound<G, H> {
    pub(crate) fn new(
        from: NodeId,
        groups: Arc<G>,
        handler: Arc<H>,
        clock: HybridClock,
        answers: Answers,
        runtime: Handle,
        config: &TransportConfig,
    ) -> Self {
        Self {
            from,
            groups,
            handler,
            clock,
            answers,
            runtime,
            work: Arc::new(Semaphore::new(config.serve_in_flight)),
            bytes: Arc::new(Semaphore::new(config.serve_bytes)),
            bytes_max: config.serve_bytes,
        }
    }

    /// Serves the lane until it ends or `closed` is set.
    pub(crate) async fn run(self, mut messages: tonic::Streaming<Frames>, closed: CancellationToken) {
        let mut sessions = Sessions::<G::Port>::new(self.answers.clone());
        loop {
            let message = tokio::select! {
                () = closed.cancelled() => return,
                message = messages.message() => message,
            };
            let Ok(Some(message)) = message else { return };
            self.clock.observe(self.from, Millis(message.clock_ms), Millis(message.wall_ms));
            for frame in message.frames {
                let call = frame.call;
                if let Err(failed) = self.take(frame, &mut sessions).await {
                    self.answers.send(call, Err(failed)).await;
                }
            }
        }
    }

    async fn take(&self, frame: Frame, sessions: &mut Sessions<G::Port>) -> Result<(), Failed> {
        let group = GroupId(frame.group);
        match Method::of(frame.method) {
            Some(Method::Append) => {
                let (session, append) = decode_append(frame.body.clone()).map_err(|error| error.to_string())?;
                let bytes = self.bytes.clone().acquire_many_owned(self.cost(&frame)).await;
                let bytes = bytes.map_err(|_| "the lane is closed".to_owned())?;
                Ok(sessions.feed(group, session, append, (frame.call, bytes), || self.groups.port(group))?)
            }
            Some(method) => self.start(method, group, frame),
            None => Err(format!("unknown method {}", frame.method).into()),
        }
    }

    /// Permits of the byte bound that a frame takes.
    fn cost(&self, frame: &Frame) -> u32 {
        // At most MESSAGE_MAX.
        (frame.body.len() + FRAME_OVERHEAD).min(self.bytes_max) as u32
    }

    /// Lets a call run in a task of its own.
    fn start(&self, method: Method, group: GroupId, frame: Frame) -> Result<(), Failed> {
        let busy = |_| Failed::Busy;
        let work = self.work.clone().try_acquire_owned().map_err(busy)?;
        let bytes = self.bytes.clone().try_acquire_many_owned(self.cost(&frame)).map_err(busy)?;
        let time = match frame.deadline_ms {
            0 => WORK_MAX,
            ms => Duration::from_millis(ms.into()).min(WORK_MAX),
        };
        let deadline = Instant::now() + time;
        let (groups, handler, answers, from) =
            (self.groups.clone(), self.handler.clone(), self.answers.clone(), self.from);
        match method {
            Method::Append | Method::Heartbeat | Method::Vote | Method::PreVote | Method::TransferLeader => {
                let answer = async move {
                    let port = groups.port(group).ok_or_else(|| format!("group {group} is not hosted here"))?;
                    consensus(&port, method, frame.body).await
                };
                tokio::spawn(work_on(frame.call, answer, deadline, answers, (work, bytes)));
            }
            Method::Shard | Method::Node | Method::Admin => {
                let answer = async move { handler.handle(from, method, group, frame.body).await };
                self.runtime.spawn(work_on(frame.call, answer, deadline, answers, (work, bytes)));
            }
        }
        Ok(())
    }
}

async fn work_on(
    call: u64,
    answer: impl Future<Output = Result<Bytes, String>>,
    deadline: Instant,
    answers: Answers,
    _held: (OwnedSemaphorePermit, OwnedSemaphorePermit),
) {
    // When time is up the caller knows, and reads nothing into it.
    if let Ok(result) = timeout_at(deadline, answer).await {
        answers.send(call, result.map_err(Failed::from)).await;
    }
}

async fn consensus<P: RaftPort>(port: &P, method: Method, body: Bytes) -> Result<Bytes, String> {
    let malformed = |error: messenger_proto::wire::WireError| error.to_string();
    match method {
        Method::Vote => {
            let request = decode_vote_request(body).map_err(malformed)?;
            port.vote(request).await.map(|response| encode_vote_response(&response))
        }
        Method::PreVote => {
            let request = decode_vote_request(body).map_err(malformed)?;
            port.pre_vote(request).await.map(|response| encode_vote_response(&response))
        }
        Method::TransferLeader => {
            let request = decode_transfer(body).map_err(malformed)?;
            port.transfer_leader(request).await.map(|answer| encode_transfer_answer(&answer))
        }
        _ => {
            let (_, request) = decode_append(body).map_err(malformed)?;
            let prev = request.prev_log_id;
            let last = request.entries.last().map(|entry| entry.log_id).or(prev);
            let response = port.append(request).await?;
            lone_result(&response, prev, last).map(|result| encode_append_result(&result)).map_err(malformed)
        }
    }
}
