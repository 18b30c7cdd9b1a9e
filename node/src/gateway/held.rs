//! Large answers that clients have not taken yet, and how long they may.
//!
//! Owns: an answer's bytes with the room they take, and the time by which a connection's answers must be gone.
//! Must not know: what is answered, how a connection ends.
//! Invariants: an answer counts until the last of its bytes is dropped, however it is cut up on the way.

use bytes::Bytes;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;
use tokio::sync::{Notify, OwnedSemaphorePermit};
use tokio::time::Instant;

struct Held {
    bytes: Vec<u8>,
    _room: Option<OwnedSemaphorePermit>,
    _alive: Arc<()>,
}

impl AsRef<[u8]> for Held {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// Tells whether an answer is still held; goes with the response to whoever serves the connection.
#[derive(Debug, Clone)]
pub(super) struct Holding {
    alive: Weak<()>,
    bytes: usize,
}

/// The bytes of an answer, which keep `room` as long as they are there.
pub(super) fn hold(bytes: Vec<u8>, room: Option<OwnedSemaphorePermit>) -> (Bytes, Holding) {
    let alive = Arc::new(());
    let holding = Holding { alive: Arc::downgrade(&alive), bytes: bytes.len() };
    (Bytes::from_owner(Held { bytes, _room: room, _alive: alive }), holding)
}

/// How fast answers must be taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TakeLimits {
    /// For an answer of any size.
    pub time: Duration,
    /// And for each so many bytes a second more.
    pub bytes_per_second: u32,
}

impl Default for TakeLimits {
    fn default() -> Self {
        Self { time: Duration::from_secs(30), bytes_per_second: 64 * 1024 }
    }
}

/// The answers that one connection holds.
#[derive(Debug, Default)]
pub(super) struct HeldAnswers {
    /// Each with the time by which it must be gone.
    answers: Mutex<Vec<(Instant, Weak<()>)>>,
    added: Notify,
}

impl HeldAnswers {
    fn lock(&self) -> MutexGuard<'_, Vec<(Instant, Weak<()>)>> {
        self.answers.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// An answer begins to be sent.
    pub(super) fn add(&self, holding: Holding, limits: TakeLimits) {
        let more = 1_000 * holding.bytes as u64 / u64::from(limits.bytes_per_second.max(1));
        let more = Duration::from_millis(more);
        self.lock().push((Instant::now() + limits.time + more, holding.alive));
        self.added.notify_one();
    }

    /// Ready once an answer was not taken in its time.
    pub(super) async fn overdue(&self) {
        loop {
            let next = {
                let mut answers = self.lock();
                answers.retain(|(_, alive)| alive.strong_count() > 0);
                answers.iter().map(|(until, _)| *until).min()
            };
            match next {
                Some(until) if until <= Instant::now() => return,
                Some(until) => {
                    let _ = tokio::time::timeout_at(until, self.added.notified()).await;
                }
                None => self.added.notified().await,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMITS: TakeLimits = TakeLimits { time: Duration::from_secs(10), bytes_per_second: 100 };

    #[tokio::test(start_paused = true)]
    async fn an_answer_has_its_time_and_more_for_its_size() {
        let held = HeldAnswers::default();
        let (begun, (bytes, holding)) = (Instant::now(), hold(vec![1; 2_000], None));
        held.add(holding, LIMITS);
        let rest = bytes.slice(1_999..);
        drop(bytes);
        held.overdue().await;
        assert_eq!(begun.elapsed().as_secs(), 30);
        drop(rest);
        let forever = tokio::time::timeout(Duration::from_hours(1), held.overdue()).await;
        assert!(forever.is_err(), "what was taken is not overdue");
    }
}
