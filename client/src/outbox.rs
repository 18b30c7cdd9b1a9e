//! Sends that wait for their answer.
//!
//! Owns: which sends to write, again after a reconnect or a passing refusal, and to whom each answer goes.
//! Must not know: sockets and time, but as it is told.
//! Invariants: a send is written again only as it was: same key, number and bytes; in the order they were made, and in a
//! thread not before an earlier one that is yet to be tried again; there are never more than [`SENDS_MAX`].

use crate::error::{ClientError, Problem};
use crate::frames::ClientFrame;
use crate::model::{Draft, Sent};
use messenger_proto::ids::{MessageId, ThreadId};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::time::Duration;
use tokio::sync::oneshot;
use tokio::time::Instant;

/// Sends that wait for their answer at most.
pub(super) const SENDS_MAX: usize = 1024;
/// Threads whose read mark is remembered for a reconnect.
const READS_MAX: usize = 1024;

/// Passing remarks that wait to be written; of more, the first.
const REMARKS_MAX: usize = 16;

/// Where a send's answer goes.
pub(super) type Reply = oneshot::Sender<Result<Sent, ClientError>>;

enum State {
    Waiting,
    Written,
    RetryAt(Instant),
}

struct Pending {
    thread: ThreadId,
    draft: Draft,
    reply: Reply,
    state: State,
    refusals: u32,
}

/// Sends and read marks on their way.
#[derive(Default)]
pub(super) struct Outbox {
    last_request: u64,
    sends: BTreeMap<u64, Pending>,
    reads: HashMap<ThreadId, MessageId>,
    unwritten_reads: Vec<ThreadId>,
    remarks: Vec<ClientFrame>,
}

impl Outbox {
    /// Whether another send may come.
    pub(super) fn has_room(&self) -> bool {
        self.sends.len() < SENDS_MAX
    }

    /// Takes a send.
    pub(super) fn push(&mut self, thread: ThreadId, draft: Draft, reply: Reply) {
        self.last_request += 1;
        let pending = Pending { thread, draft, reply, state: State::Waiting, refusals: 0 };
        self.sends.insert(self.last_request, pending);
    }

    /// Takes a read mark; an older one than before is dropped.
    pub(super) fn read(&mut self, thread: ThreadId, up_to: MessageId) {
        if self.reads.len() >= READS_MAX && !self.reads.contains_key(&thread) {
            // Marks only move forward, and one that was written stands: forgetting costs nothing but a repeat.
            self.reads.clear();
        }
        let mark = self.reads.entry(thread).or_default();
        if up_to > *mark {
            *mark = up_to;
            if !self.unwritten_reads.contains(&thread) {
                self.unwritten_reads.push(thread);
            }
        }
    }

    /// Takes a frame that means something now or never.
    pub(super) fn remark(&mut self, frame: ClientFrame) {
        if self.remarks.len() < REMARKS_MAX {
            self.remarks.push(frame);
        }
    }

    /// What to write now; it counts as written.
    pub(super) fn due(&mut self, now: Instant) -> Vec<ClientFrame> {
        // Callers that gave up wait for nothing any more.
        self.sends.retain(|_, pending| !pending.reply.is_closed());
        let mut frames = Vec::new();
        let mut held_up = HashSet::new();
        for (request, pending) in &mut self.sends {
            let ready = match pending.state {
                State::Written => false,
                State::Waiting => !held_up.contains(&pending.thread),
                State::RetryAt(at) => at <= now && !held_up.contains(&pending.thread),
            };
            if !ready && matches!(pending.state, State::RetryAt(_)) {
                held_up.insert(pending.thread);
            }
            if ready {
                pending.state = State::Written;
                frames.push(ClientFrame::send(request.to_string(), pending.thread, &pending.draft));
            }
        }
        for thread_id in self.unwritten_reads.drain(..) {
            if let Some(up_to) = self.reads.get(&thread_id) {
                frames.push(ClientFrame::Read { thread_id, up_to: *up_to });
            }
        }
        frames.append(&mut self.remarks);
        frames
    }

    /// When [`Outbox::due`] next has something by itself.
    pub(super) fn next_retry(&self) -> Option<Instant> {
        let at = |pending: &Pending| match pending.state {
            State::RetryAt(at) => Some(at),
            State::Waiting | State::Written => None,
        };
        self.sends.values().filter_map(at).min()
    }

    /// The connection is gone: what was written may be lost.
    pub(super) fn disconnected(&mut self) {
        for pending in self.sends.values_mut() {
            pending.state = State::Waiting;
        }
        self.unwritten_reads = self.reads.keys().copied().collect();
        self.remarks.clear();
    }

    /// An answer came.
    pub(super) fn sent(&mut self, request_id: &str, sent: Sent) {
        if let Some(pending) = self.take(request_id) {
            let _ = pending.reply.send(Ok(sent));
        }
    }

    /// A refusal came: final, or to be tried again after `pause` of the number of refusals so far.
    pub(super) fn refused(
        &mut self,
        request_id: &str,
        problem: Problem,
        now: Instant,
        pause: impl FnOnce(u32) -> Duration,
    ) {
        let Some(mut pending) = self.take(request_id) else { return };
        if !problem.retryable() {
            let _ = pending.reply.send(Err(ClientError::Refused(Box::new(problem))));
            return;
        }
        let wait = pause(pending.refusals).max(problem.retry_after.unwrap_or_default());
        pending.refusals = pending.refusals.saturating_add(1);
        pending.state = State::RetryAt(now + wait);
        if let Ok(request) = request_id.parse() {
            self.sends.insert(request, pending);
        }
    }

    /// Nothing more will be sent.
    pub(super) fn fail_all(&mut self, reason: &str) {
        for (_, pending) in std::mem::take(&mut self.sends) {
            let _ = pending.reply.send(Err(ClientError::Closed(reason.to_owned())));
        }
    }

    fn take(&mut self, request_id: &str) -> Option<Pending> {
        self.sends.remove(&request_id.parse().ok()?)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::ClientSeq;

    const THREAD: ThreadId = ThreadId([7; 16]);

    fn push(outbox: &mut Outbox, number: u64) -> oneshot::Receiver<Result<Sent, ClientError>> {
        let (reply, answer) = oneshot::channel();
        outbox.push(THREAD, Draft::new(ClientSeq(number), vec![1]), reply);
        answer
    }

    fn texts(frames: &[ClientFrame]) -> Vec<String> {
        frames.iter().map(ClientFrame::to_json).collect()
    }

    fn problem(code: &str, status: u16) -> Problem {
        let body = bytes::Bytes::from(format!(r#"{{"code":"{code}"}}"#));
        Problem::from_answer(status, None, &body)
    }

    #[test]
    fn a_send_is_written_once_and_as_it_was_after_a_reconnect() {
        let mut outbox = Outbox::default();
        let now = Instant::now();
        let (_first, _second) = (push(&mut outbox, 1), push(&mut outbox, 2));
        let written = texts(&outbox.due(now));
        assert_eq!(written.len(), 2);
        assert!(outbox.due(now).is_empty());
        outbox.disconnected();
        assert_eq!(texts(&outbox.due(now)), written);
    }

    #[tokio::test]
    async fn a_passing_refusal_is_tried_again_and_a_final_one_is_answered() {
        let mut outbox = Outbox::default();
        let now = Instant::now();
        let answer = push(&mut outbox, 1);
        let written = texts(&outbox.due(now));
        let pause = Duration::from_millis(100);
        outbox.refused("1", problem("unavailable", 503), now, |_| pause);
        assert!(outbox.due(now).is_empty());
        assert_eq!(outbox.next_retry(), Some(now + pause));
        assert_eq!(texts(&outbox.due(now + pause)), written);
        outbox.refused("1", problem("not_a_member", 403), now, |_| pause);
        assert_eq!(answer.await.unwrap().unwrap_err().code(), "not_a_member");
        assert!(outbox.sends.is_empty());
    }

    #[test]
    fn later_sends_of_a_thread_wait_for_one_that_is_tried_again() {
        let mut outbox = Outbox::default();
        let (now, pause) = (Instant::now(), Duration::from_millis(100));
        let _first = push(&mut outbox, 1);
        assert_eq!(outbox.due(now).len(), 1);
        outbox.refused("1", problem("unavailable", 503), now, |_| pause);
        let _second = push(&mut outbox, 2);
        let (reply, _elsewhere) = oneshot::channel();
        outbox.push(ThreadId([8; 16]), Draft::new(ClientSeq(1), vec![1]), reply);
        assert_eq!(outbox.due(now).len(), 1, "that of the other thread");
        assert_eq!(outbox.due(now + pause).len(), 2);
    }

    #[test]
    fn a_remark_is_made_once_or_never() {
        let mut outbox = Outbox::default();
        let typing = || ClientFrame::Typing { thread_id: THREAD, stop: false };
        outbox.remark(typing());
        assert_eq!(outbox.due(Instant::now()).len(), 1);
        assert!(outbox.due(Instant::now()).is_empty());
        (0..9 * REMARKS_MAX).for_each(|_| outbox.remark(typing()));
        assert_eq!(outbox.remarks.len(), REMARKS_MAX);
        outbox.disconnected();
        assert!(outbox.due(Instant::now()).is_empty());
    }

    #[test]
    fn who_gave_up_is_forgotten() {
        let mut outbox = Outbox::default();
        drop(push(&mut outbox, 1));
        assert!(outbox.due(Instant::now()).is_empty() && outbox.sends.is_empty());
    }

    #[test]
    fn read_marks_move_forward_and_are_written_again_after_a_reconnect() {
        let mut outbox = Outbox::default();
        let now = Instant::now();
        outbox.read(THREAD, MessageId(5));
        outbox.read(THREAD, MessageId(4));
        let written = texts(&outbox.due(now));
        assert_eq!(written.len(), 1);
        outbox.read(THREAD, MessageId(5));
        assert!(outbox.due(now).is_empty());
        outbox.disconnected();
        assert_eq!(texts(&outbox.due(now)), written);
    }
}
