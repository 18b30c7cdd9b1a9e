//! News of commits that travel with the entries behind them.
//!
//! Owns: holding back an append without entries for a moment, in the hope of one with entries.
//! Must not know: links, calls, answers.
//! Invariants: appends with entries are never held; the order stays; what is dropped says nothing that the append sent
//! in its stead does not say; nothing is held for longer than the delay once it may be sent; the first append of a
//! stream, which asks where the follower is, goes at once.
//!
//! A leader tells each follower of every commit. Under load the next entries are moments away, and an append of its own
//! would cost both sides as much as one with entries. A follower only applies a little later for it.

use super::codec::Append;
use futures_util::{Stream, StreamExt};
use std::future::Future;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;
use tokio::time::{Instant, Sleep};

/// See the module.
pub(crate) struct Commits<S> {
    input: S,
    delay: Duration,
    begun: bool,
    ended: bool,
    held: Option<Append>,
    timer: Pin<Box<Sleep>>,
}

impl<S: Stream<Item = Append> + Unpin> Commits<S> {
    pub(crate) fn new(input: S, delay: Duration) -> Self {
        let timer = Box::pin(tokio::time::sleep(Duration::ZERO));
        Self { input, delay, begun: false, ended: false, held: None, timer }
    }

    fn hold(&mut self, append: Append) {
        if self.held.is_none() {
            self.timer.as_mut().reset(Instant::now() + self.delay);
        }
        self.held = Some(append);
    }
}

impl<S: Stream<Item = Append> + Unpin> Stream for Commits<S> {
    type Item = Append;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Append>> {
        while !self.ended {
            match self.input.poll_next_unpin(context) {
                Poll::Ready(Some(append)) if self.begun && append.entries.is_empty() => self.hold(append),
                Poll::Ready(Some(append)) => {
                    self.begun = true;
                    self.held = None;
                    return Poll::Ready(Some(append));
                }
                Poll::Ready(None) => self.ended = true,
                Poll::Pending if self.held.is_some() => {
                    if self.timer.as_mut().poll(context).is_pending() {
                        return Poll::Pending;
                    }
                    break;
                }
                Poll::Pending => return Poll::Pending,
            }
        }
        Poll::Ready(self.held.take())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::transport::tests::fixture::append;
    use futures_util::{FutureExt, stream};
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::ReceiverStream;

    const DELAY: Duration = Duration::from_millis(2);

    fn news(at: u64) -> Append {
        append(at, &[])
    }

    fn entry(at: u64) -> Append {
        append(at, &[10])
    }

    fn place(append: &Append) -> (Option<u64>, usize) {
        (append.prev_log_id.map(|id| id.index), append.entries.len())
    }

    fn places(appends: &[Append]) -> Vec<(Option<u64>, usize)> {
        appends.iter().map(place).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn news_goes_with_the_entries_behind_it() {
        let input = stream::iter([entry(1), news(2), entry(2), news(3), news(3)]);
        let sent: Vec<_> = Commits::new(input, DELAY).collect().await;
        assert_eq!(places(&sent), places(&[entry(1), entry(2), news(3)]), "and the last goes when the stream ends");
    }

    #[tokio::test(start_paused = true)]
    async fn the_first_append_goes_at_once() {
        let mut sent = Commits::new(stream::iter([news(4)]).chain(stream::pending()), DELAY);
        assert_eq!(sent.next().now_or_never().flatten().as_ref().map(place), Some(place(&news(4))));
    }

    #[tokio::test(start_paused = true)]
    async fn news_alone_goes_after_the_delay_however_often_it_is_renewed() {
        let (appends, input) = mpsc::channel(8);
        let mut sent = Commits::new(ReceiverStream::new(input), DELAY);
        appends.send(entry(1)).await.unwrap();
        sent.next().await.unwrap();
        appends.send(news(2)).await.unwrap();
        assert!(futures_util::poll!(sent.next()).is_pending());
        tokio::time::advance(DELAY.checked_sub(Duration::from_millis(1)).unwrap()).await;
        appends.send(news(2)).await.unwrap();
        assert!(futures_util::poll!(sent.next()).is_pending());
        tokio::time::advance(Duration::from_millis(1)).await;
        assert_eq!(sent.next().now_or_never().flatten().as_ref().map(place), Some(place(&news(2))));
        assert!(futures_util::poll!(sent.next()).is_pending());
    }
}
