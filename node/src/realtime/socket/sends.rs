//! What a socket sends, in the order it was sent.
//!
//! Owns: the queue of each thread's sends, of which one at a time is under way.
//! Must not know: how a command is carried out, frames.
//! Invariants: within a thread a send begins only when the one before it has ended, so they commit in frame order; what
//! waits is bounded, and beyond it the socket is not read; a send's time runs from when it came.

use super::inbound::RequestId;
use crate::audit::Payload;
use messenger_proto::command::Command;
use messenger_proto::ids::ThreadId;
use std::collections::{HashMap, VecDeque};
use tokio::time::Instant;

/// Sends of one socket that wait or are under way, at most.
const SENDS_MAX: usize = 64;
/// Bytes of them, at most, and one more.
const BYTES_MAX: usize = 256 * 1024;

/// A send.
#[derive(Debug)]
pub(super) struct Send {
    pub(super) thread: ThreadId,
    pub(super) request_id: RequestId,
    pub(super) command: Command,
    /// The frame that it came in.
    pub(super) payload: Payload,
    pub(super) bytes: usize,
    /// When it must have ended.
    pub(super) until: Instant,
}

/// The sends of one socket.
#[derive(Debug, Default)]
pub(super) struct Sends {
    /// A thread is listed while one of its sends is under way.
    waiting: HashMap<ThreadId, VecDeque<Send>>,
    count: usize,
    bytes: usize,
}

impl Sends {
    /// Whether another one may come.
    pub(super) fn has_room(&self) -> bool {
        self.count < SENDS_MAX && self.bytes < BYTES_MAX
    }

    /// Takes a send in; it is given back when it is to begin at once.
    pub(super) fn enter(&mut self, send: Send) -> Option<Send> {
        self.count += 1;
        self.bytes += send.bytes;
        match self.waiting.entry(send.thread) {
            std::collections::hash_map::Entry::Occupied(mut queue) => {
                queue.get_mut().push_back(send);
                None
            }
            std::collections::hash_map::Entry::Vacant(vacant) => {
                vacant.insert(VecDeque::new());
                Some(send)
            }
        }
    }

    /// A send of `bytes` to a thread has ended; the one that begins now.
    pub(super) fn ended(&mut self, thread: ThreadId, bytes: usize) -> Option<Send> {
        self.count = self.count.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
        let next = self.waiting.get_mut(&thread).and_then(VecDeque::pop_front);
        if next.is_none() {
            self.waiting.remove(&thread);
        }
        if self.waiting.is_empty() {
            self.waiting.shrink_to(4);
        }
        next
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::command::{Acknowledge, Op, Retention};
    use messenger_proto::ids::CommandId;

    fn send(thread: u8, n: u64) -> Send {
        let op = Op::Acknowledge(Acknowledge { items: Vec::new() });
        let command = Command { id: CommandId([0; 16]), retention: Retention::None, body_hash: n, op };
        Send {
            thread: ThreadId([thread; 16]),
            request_id: None,
            command,
            payload: Payload::of(b""),
            bytes: 1_000,
            until: Instant::now(),
        }
    }

    fn hash(send: Option<Send>) -> Option<u64> {
        send.map(|send| send.command.body_hash)
    }

    #[test]
    fn sends_to_a_thread_wait_for_each_other_and_for_no_one_else() {
        let mut sends = Sends::default();
        assert_eq!(hash(sends.enter(send(1, 1))), Some(1));
        assert_eq!(hash(sends.enter(send(1, 2))), None);
        assert_eq!(hash(sends.enter(send(2, 3))), Some(3));
        assert_eq!(hash(sends.enter(send(1, 4))), None);
        assert_eq!(hash(sends.ended(ThreadId([1; 16]), 1_000)), Some(2));
        assert_eq!(hash(sends.ended(ThreadId([2; 16]), 1_000)), None);
        assert_eq!(hash(sends.ended(ThreadId([1; 16]), 1_000)), Some(4));
        assert_eq!(hash(sends.ended(ThreadId([1; 16]), 1_000)), None);
        assert_eq!((sends.count, sends.bytes, sends.waiting.len()), (0, 0, 0));
    }

    #[test]
    fn what_waits_is_bounded() {
        let mut sends = Sends::default();
        for n in 0..SENDS_MAX as u64 {
            assert!(sends.has_room());
            sends.enter(send(1, n));
        }
        assert!(!sends.has_room());
        sends.ended(ThreadId([1; 16]), 1_000);
        assert!(sends.has_room());
        sends.enter(Send { bytes: BYTES_MAX, ..send(2, 0) });
        assert!(!sends.has_room());
    }
}
