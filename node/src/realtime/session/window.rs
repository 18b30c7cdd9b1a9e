//! Frames sent and not yet acknowledged.
//!
//! Owns: `frame_seq`, and what an acknowledgement of one means for each thread.
//! Must not know: threads' states, tokio, clocks, JSON.
//! Invariants: frame numbers start at 1 and have no gaps; what an acknowledgement yields is never more than the client
//! acknowledged; memory is bounded by [`WINDOW_MAX`] entries and one per thread.

use messenger_proto::ids::{Position, Seq, ThreadId};
use std::collections::{BTreeMap, VecDeque};

/// Frames remembered one by one; an acknowledgement within what is older is rounded down per thread.
pub const WINDOW_MAX: usize = 4_096;

/// A frame's number within its connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct FrameSeq(pub u64);

/// The client acknowledged a frame that was never sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("frame_seq {0} was not sent yet")]
pub struct AckBeyondEnd(pub u64);

/// What acknowledging a frame means for its thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Taken {
    /// The thread.
    pub thread: ThreadId,
    /// The last frame this speaks of.
    pub frame: FrameSeq,
    /// Messages up to here are delivered; 0 when the frame delivers none.
    pub delivered: Seq,
    /// Where the device then is; `None` when the frame does not move it.
    pub position: Option<Position>,
}

impl Taken {
    /// Takes in what a later frame of the same thread adds.
    fn absorb(&mut self, later: &Taken) {
        self.frame = self.frame.max(later.frame);
        self.delivered = self.delivered.max(later.delivered);
        self.position = later.position.or(self.position);
    }
}

/// The frames of one connection.
#[derive(Debug, Default)]
pub(super) struct Window {
    last: FrameSeq,
    acked: FrameSeq,
    unacked: VecDeque<Taken>,
    /// What fell out of `unacked`, joined per thread.
    older: BTreeMap<ThreadId, Taken>,
}

impl Window {
    /// Numbers a frame whose acknowledgement means nothing.
    pub(super) fn stamp(&mut self) -> FrameSeq {
        self.last = FrameSeq(self.last.0 + 1);
        self.last
    }

    /// Numbers a frame of a thread.
    pub(super) fn stamp_thread(&mut self, thread: ThreadId, delivered: Seq, position: Option<Position>) -> FrameSeq {
        let frame = self.stamp();
        if self.unacked.len() == WINDOW_MAX
            && let Some(oldest) = self.unacked.pop_front()
        {
            self.older.entry(oldest.thread).and_modify(|older| older.absorb(&oldest)).or_insert(oldest);
        }
        self.unacked.push_back(Taken { thread, frame, delivered, position });
        frame
    }

    /// The last frame numbered.
    #[cfg(test)]
    pub(super) fn last(&self) -> FrameSeq {
        self.last
    }

    /// Takes an acknowledgement of `frame` and all before it; what it means, once per thread.
    ///
    /// # Errors
    /// [`AckBeyondEnd`] when the frame was not sent; nothing is taken then.
    pub(super) fn ack(&mut self, frame: FrameSeq) -> Result<BTreeMap<ThreadId, Taken>, AckBeyondEnd> {
        if frame > self.last {
            return Err(AckBeyondEnd(frame.0));
        }
        if frame <= self.acked {
            return Ok(BTreeMap::new());
        }
        self.acked = frame;
        let mut taken = BTreeMap::new();
        self.older.retain(|thread, older| {
            let covered = older.frame <= frame;
            if covered {
                taken.insert(*thread, *older);
            }
            !covered
        });
        while let Some(entry) = self.unacked.pop_front_if(|entry| entry.frame <= frame) {
            taken.entry(entry.thread).and_modify(|earlier: &mut Taken| earlier.absorb(&entry)).or_insert(entry);
        }
        if self.unacked.is_empty() {
            self.unacked.shrink_to(64);
        }
        Ok(taken)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::Rev;

    const A: ThreadId = ThreadId([1; 16]);
    const B: ThreadId = ThreadId([2; 16]);

    #[allow(clippy::unnecessary_wraps)] // as it is used
    fn at(n: u64) -> Option<Position> {
        Some(Position { seq: Seq(n), rev: Rev(n) })
    }

    #[test]
    fn frames_count_from_one_and_an_ack_covers_all_before_it() {
        let mut window = Window::default();
        assert_eq!(window.stamp(), FrameSeq(1));
        assert_eq!(window.stamp_thread(A, Seq(1), at(1)), FrameSeq(2));
        assert_eq!(window.stamp_thread(B, Seq(0), at(7)), FrameSeq(3));
        assert_eq!(window.stamp_thread(A, Seq(2), at(2)), FrameSeq(4));
        let taken = window.ack(FrameSeq(3)).unwrap();
        assert_eq!((taken[&A].delivered, taken[&A].position), (Seq(1), at(1)));
        assert_eq!((taken[&B].delivered, taken[&B].position), (Seq(0), at(7)));
        assert!(window.ack(FrameSeq(3)).unwrap().is_empty(), "an ack is taken once");
        assert!(window.ack(FrameSeq(1)).unwrap().is_empty(), "an older ack means nothing new");
        assert_eq!(window.ack(FrameSeq(5)), Err(AckBeyondEnd(5)));
        assert_eq!(window.ack(FrameSeq(4)).unwrap()[&A].position, at(2));
    }

    #[test]
    fn a_frame_that_moves_nothing_keeps_the_position_before_it() {
        let mut window = Window::default();
        window.stamp_thread(A, Seq(3), at(3));
        let gap = window.stamp_thread(A, Seq(90), None);
        let taken = window.ack(gap).unwrap();
        assert_eq!((taken[&A].delivered, taken[&A].position), (Seq(90), at(3)));
    }

    #[test]
    fn beyond_the_window_an_ack_is_rounded_down_and_never_up() {
        let mut window = Window::default();
        for n in 1..=WINDOW_MAX as u64 + 10 {
            window.stamp_thread(A, Seq(n), at(n));
        }
        // The ten oldest are one by now.
        assert!(window.ack(FrameSeq(9)).unwrap().is_empty());
        assert_eq!(window.ack(FrameSeq(10)).unwrap()[&A].delivered, Seq(10));
        assert_eq!(window.ack(FrameSeq(11)).unwrap()[&A].delivered, Seq(11));
        let all = window.ack(window.last()).unwrap();
        assert_eq!(all[&A].delivered, Seq(WINDOW_MAX as u64 + 10));
        assert!(window.unacked.is_empty() && window.older.is_empty());
    }
}
