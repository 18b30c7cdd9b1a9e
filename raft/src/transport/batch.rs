//! What waits is sent together.
//!
//! Owns: draining a queue into messages of many frames, without lingering for more.
//! Must not know: whether the frames are calls or answers.
//! Invariants: frames keep their order; a message is bounded by count and bytes, but for a single larger frame.

use super::config::TransportConfig;
use crate::clock::HybridClock;
use futures_util::{Stream, stream};
use messenger_proto::rpc::pb::{Frame, Frames};
use tokio::sync::mpsc;
use tokio::time::Instant;

/// A frame that waits, with what must be given back when it goes.
pub(crate) trait Queued: Send + 'static {
    /// Its bytes, about.
    fn cost(&self) -> usize;
    /// The frame, or `None` when it need not be sent any more.
    fn into_frame(self, now: Instant) -> Option<Frame>;
}

/// The bounds of a message.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BatchLimits {
    pub(crate) frames: usize,
    pub(crate) bytes: usize,
}

impl From<&TransportConfig> for BatchLimits {
    fn from(config: &TransportConfig) -> Self {
        Self { frames: config.batch_frames, bytes: config.batch_bytes }
    }
}

/// Messages of what waits in `queue`; ends with it.
pub(crate) fn batches<T: Queued>(
    queue: mpsc::Receiver<T>,
    clock: HybridClock,
    limits: BatchLimits,
) -> impl Stream<Item = Frames> + Send + 'static {
    stream::unfold((queue, clock), move |(mut queue, clock)| async move {
        loop {
            let first = queue.recv().await?;
            let frames = drain(first, &mut queue, limits);
            if !frames.is_empty() {
                let message = Frames { clock_ms: clock.now().0, wall_ms: clock.wall().0, frames };
                return Some((message, (queue, clock)));
            }
        }
    })
}

fn drain<T: Queued>(first: T, queue: &mut mpsc::Receiver<T>, limits: BatchLimits) -> Vec<Frame> {
    let now = Instant::now();
    let mut bytes = first.cost();
    let mut frames: Vec<Frame> = first.into_frame(now).into_iter().collect();
    while frames.len() < limits.frames && bytes < limits.bytes {
        let Ok(next) = queue.try_recv() else { break };
        let cost = next.cost();
        if let Some(frame) = next.into_frame(now) {
            bytes += cost;
            frames.push(frame);
        }
    }
    frames
}

#[cfg(test)]
mod tests {
    use super::*;
    use futures_util::StreamExt;

    struct Item(u64, usize, bool);

    impl Queued for Item {
        fn cost(&self) -> usize {
            self.1
        }
        fn into_frame(self, _: Instant) -> Option<Frame> {
            self.2.then(|| Frame { call: self.0, ..Frame::default() })
        }
    }

    async fn messages(items: Vec<Item>) -> Vec<Vec<u64>> {
        let (sender, queue) = mpsc::channel(100);
        for item in items {
            sender.send(item).await.unwrap_or_else(|_| unreachable!("the queue is held"));
        }
        drop(sender);
        let limits = BatchLimits { frames: 4, bytes: 100 };
        batches(queue, HybridClock::system(), limits)
            .map(|message| message.frames.iter().map(|frame| frame.call).collect())
            .collect()
            .await
    }

    #[tokio::test]
    async fn what_waits_goes_together_in_order_and_within_bounds() {
        let by_count = (0..9).map(|number| Item(number, 1, true)).collect();
        assert_eq!(messages(by_count).await, [vec![0, 1, 2, 3], vec![4, 5, 6, 7], vec![8]]);
        let by_bytes = (0..4).map(|number| Item(number, 60, true)).collect();
        assert_eq!(messages(by_bytes).await, [[0, 1], [2, 3]]);
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_passed_over() {
        let items = vec![Item(0, 1, false), Item(1, 1, true), Item(2, 500, false), Item(3, 1, true)];
        assert_eq!(messages(items).await, [[1, 3]]);
        assert!(messages(vec![Item(0, 1, false)]).await.is_empty());
    }
}
