//! Messages that disappear: the leader keeps the time.
//!
//! Owns: looking for messages whose time has come, and having them taken away.
//! Must not know: what taking away means.
//! Invariants: only a leader acts, and what it proposes is idempotent, so a death or a change of leader only has it looked
//! for again; one command is under way at a time; a shard without such messages costs nothing.

use super::outcome::Proposed;
use super::proposer::Proposer;
use crate::clock::HybridClock;
use crate::machine;
use crate::store::GroupReader;
use messenger_proto::command::{Command, DueMessage, ExpireMessages, Op, Retention};
use messenger_proto::ids::CommandId;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::Notify;
use tokio::time::sleep;

/// Messages taken away by one command.
const BATCH: usize = 256;
/// Between two looks that find something to do.
const PAUSE: Duration = Duration::from_millis(10);
/// Before the next look when the last one came to nothing.
const PAUSE_FAILED: Duration = Duration::from_millis(250);
/// The longest sleep: wall time may be set.
const SLEEP_MAX: Duration = Duration::from_mins(1);

/// A group's timer at this replica; cheap to clone.
#[derive(Clone)]
pub struct Timer {
    reader: GroupReader,
    wake: Arc<Notify>,
}

impl Timer {
    /// A timer whose worker is yet to be started.
    #[must_use]
    pub fn new(reader: GroupReader) -> Self {
        Self { reader, wake: Arc::new(Notify::new()) }
    }

    /// Says that a message may disappear sooner than those before, or that this replica may have come to lead.
    pub fn wake(&self) {
        self.wake.notify_one();
    }

    /// Has messages taken away while `leads` holds; ends when `stopped` resolves.
    pub async fn work(
        self,
        proposer: Proposer,
        clock: HybridClock,
        leads: impl Fn() -> bool + Send,
        stopped: impl Future<Output = ()> + Send,
    ) {
        let run = async {
            loop {
                let next = if leads() { self.look(&proposer, &clock).await } else { None };
                let woken = pin!(self.wake.notified());
                match next {
                    Some(next) => tokio::select! {
                        () = woken => {}
                        () = sleep(next.min(SLEEP_MAX)) => {}
                    },
                    None => woken.await,
                }
            }
        };
        tokio::select! {
            () = run => {}
            () = stopped => {}
        }
    }

    /// Has what is due taken away; when to look again, unless it is when woken.
    async fn look(&self, proposer: &Proposer, clock: &HybridClock) -> Option<Duration> {
        let first = match machine::due_messages(&self.reader.view(), BATCH) {
            Ok(first) => first,
            Err(error) => {
                self.reader.fail("reading what disappears", &error.to_string());
                return Some(SLEEP_MAX);
            }
        };
        let now = clock.now();
        let due: Vec<DueMessage> = first.iter().filter(|message| message.at <= now).cloned().collect();
        if due.is_empty() {
            return first.first().map(|next| Duration::from_millis(next.at.0.saturating_sub(now.0)));
        }
        let op = Op::ExpireMessages(ExpireMessages { due });
        let command = Command { id: CommandId([0; 16]), retention: Retention::None, body_hash: 0, op };
        match proposer.propose(&command).await {
            Ok(Proposed::Applied(Ok(_))) => Some(PAUSE),
            Ok(Proposed::NotLeader(_)) => None,
            Ok(Proposed::Applied(Err(_)) | Proposed::Overloaded) | Err(_) => Some(PAUSE_FAILED),
        }
    }
}
