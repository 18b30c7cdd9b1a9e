//! The closed loop.
//!
//! Owns: senders that each wait for their answer, a warm-up, a measured window, progress.
//! Must not know: what is sent.
//! Invariants: all senders share one thread, so that the load takes as little as it can from the cluster beside it;
//! nothing outside the window is counted.

use super::report::Recorder;
use std::cell::RefCell;
use std::future::Future;
use std::rc::Rc;
use std::time::Duration;
use tokio::task::{JoinSet, LocalSet};
use tokio::time::{Instant, sleep, sleep_until};

/// After a failed attempt.
const ERROR_PAUSE: Duration = Duration::from_millis(50);

/// One sender. It holds one message at a time.
pub(super) trait Sender: 'static {
    /// Sends the current message, and moves on to the next one if that succeeded or is hopeless.
    fn send_one(&mut self) -> impl Future<Output = Result<(), Failure>>;
}

/// A failed attempt.
pub(super) struct Failure {
    /// For counting.
    pub(super) code: String,
    /// Whether the same message is tried again.
    pub(super) again: bool,
}

/// How long to run.
#[derive(Debug, Clone, Copy)]
pub struct Plan {
    /// Not measured.
    pub warmup: Duration,
    /// Measured.
    pub measured: Duration,
}

/// Is told how a run goes: time since its start, successes in the window so far.
pub type Progress = Box<dyn Fn(Duration, u64) + Send>;

/// What a run gave.
#[derive(Debug)]
pub struct Run {
    pub(super) recorder: Recorder,
    pub(super) measured: Duration,
    pub(super) load_cpu: Option<Duration>,
}

/// Runs work on a thread of its own, with a runtime of one thread.
///
/// # Errors
/// When the thread or the runtime cannot be had, or the work panicked.
pub async fn on_own_thread<T, F>(work: impl FnOnce() -> F + Send + 'static) -> std::io::Result<T>
where
    T: Send + 'static,
    F: Future<Output = T>,
{
    let (done, result) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("load".into()).spawn(move || {
        let outcome = tokio::runtime::Builder::new_current_thread()
            .enable_all()
            .build()
            .map(|runtime| LocalSet::new().block_on(&runtime, work()));
        // Nobody waits any more when the command was interrupted.
        let _ = done.send(outcome);
    })?;
    result.await.map_err(|_| std::io::Error::other("the load thread panicked"))?
}

/// Runs the senders side by side; must be called within [`on_own_thread`].
pub(super) async fn closed_loop<S: Sender>(senders: Vec<S>, plan: Plan, progress: Progress) -> Run {
    let began = Instant::now();
    let opens = began + plan.warmup;
    let ends = opens + plan.measured;
    let recorder = Rc::new(RefCell::new(Recorder::default()));
    let mut tasks = JoinSet::new();
    for sender in senders {
        tasks.spawn_local(send_until(sender, opens, ends, Rc::clone(&recorder)));
    }
    let so_far = Rc::clone(&recorder);
    let reporter = tokio::task::spawn_local(async move {
        loop {
            sleep(Duration::from_millis(200)).await;
            progress(began.elapsed(), so_far.borrow().acked());
        }
    });
    sleep_until(opens).await;
    let cpu_before = thread_cpu();
    sleep_until(ends).await;
    let load_cpu = cpu_before.zip(thread_cpu()).map(|(before, after)| after.saturating_sub(before));
    reporter.abort();
    // Each ends with the operation it is in, which has its own deadline.
    while tasks.join_next().await.is_some() {}
    let recorder = recorder.borrow().clone();
    Run { recorder, measured: plan.measured, load_cpu }
}

async fn send_until<S: Sender>(mut sender: S, opens: Instant, ends: Instant, recorder: Rc<RefCell<Recorder>>) {
    let mut began = Instant::now();
    while began < ends {
        let outcome = sender.send_one().await;
        let now = Instant::now();
        let counts = now >= opens && now < ends;
        match outcome {
            Ok(()) => {
                if counts {
                    recorder.borrow_mut().success(now - began);
                }
                began = now;
            }
            Err(Failure { code, again }) => {
                if counts {
                    recorder.borrow_mut().error(&code);
                }
                if now >= ends {
                    return;
                }
                sleep(ERROR_PAUSE).await;
                if !again {
                    began = Instant::now();
                }
            }
        }
    }
}

/// Processor time of the calling thread so far.
fn thread_cpu() -> Option<Duration> {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    text.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Fake {
        tries: Rc<RefCell<u64>>,
    }

    impl Sender for Fake {
        async fn send_one(&mut self) -> Result<(), Failure> {
            sleep(Duration::from_millis(2)).await;
            *self.tries.borrow_mut() += 1;
            if self.tries.borrow().is_multiple_of(5) {
                return Err(Failure { code: "odd".into(), again: true });
            }
            Ok(())
        }
    }

    #[tokio::test]
    async fn only_the_window_is_counted_and_a_retry_from_its_first_try() {
        let plan = Plan { warmup: Duration::from_millis(200), measured: Duration::from_millis(400) };
        let tries = Rc::new(RefCell::new(0));
        let senders = vec![Fake { tries: Rc::clone(&tries) }, Fake { tries: Rc::clone(&tries) }];
        let local = LocalSet::new();
        let run = local.run_until(closed_loop(senders, plan, Box::new(|_, _| ()))).await;
        let counted = run.recorder.acked() + run.recorder.errors()["odd"];
        assert!(counted > 0 && counted < *tries.borrow(), "{counted} of {tries:?}");
        let slowest = run.recorder.latencies().max_ms;
        assert!(slowest >= ERROR_PAUSE.as_secs_f64() * 1000.0, "{slowest}");
    }

    #[tokio::test]
    async fn work_runs_elsewhere_and_a_panic_is_told() {
        let here = std::thread::current().id();
        let there = on_own_thread(|| async { std::thread::current().id() }).await.unwrap();
        assert_ne!(here, there);
        let panicked = on_own_thread(move || async move { assert!(here == there, "on purpose") }).await;
        assert!(panicked.is_err());
    }
}
