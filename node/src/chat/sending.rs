//! What was typed, on its way.
//!
//! Owns: which message is sent next and when it is tried again, one at a time; what is shown of those that wait.
//! Must not know: how a message is encrypted or travels.
//! Invariants: messages are sent in the order they were typed, each once the one before is in; what waits is kept in the
//! vault, and there is never more of it under way than [`PENDING_MAX`](super::pending::PENDING_MAX).

use super::conversation::{ChatError, Conversation};
use super::pending::Pending;
use futures_util::future::BoxFuture;
use messenger_client::Message;
use messenger_client::e2e::{CourierError, Outgoing, SealError};
use messenger_proto::ids::{ClientSeq, UserId};
use std::collections::{BTreeSet, VecDeque};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Before what could not be sent is tried again; the longest after several times.
const RETRY_FIRST: Duration = Duration::from_millis(200);
const RETRY_LONGEST: Duration = Duration::from_secs(15);

pub(super) type Done = (ClientSeq, Result<Option<Message>, CourierError>);

/// Messages that wait for their turn, and the one whose turn it is.
#[derive(Default)]
pub(super) struct Queue {
    numbers: VecDeque<ClientSeq>,
    pending: Pending,
    under_way: Option<BoxFuture<'static, Done>>,
    not_before: Option<Instant>,
    failures: u32,
    /// Nobody else has a device: it may take days.
    pub(super) nobody: bool,
    /// Who was said to have no device.
    without: BTreeSet<UserId>,
}

impl Queue {
    pub(super) fn of(waiting: Vec<Outgoing>) -> Self {
        let mut queue = Self::default();
        for waiting in waiting {
            queue.push(waiting.number, waiting.text);
        }
        queue
    }

    pub(super) fn has_room(&self) -> bool {
        self.pending.has_room()
    }

    fn push(&mut self, number: ClientSeq, text: String) {
        self.numbers.push_back(number);
        self.pending.push(text, Instant::now());
    }

    /// Whether waiting a little may get something sent.
    pub(super) fn is_moving(&self) -> bool {
        !self.numbers.is_empty() && !self.nobody
    }

    /// What has failed is tried at once.
    pub(super) fn hurry(&mut self) {
        self.not_before = None;
        self.failures = 0;
    }

    pub(super) fn next_due(&self) -> Option<Instant> {
        self.pending.next_due()
    }

    /// Comes back when the message under way has its answer, or when it is time to try again; may be cancelled.
    pub(super) async fn done(&mut self) -> Option<Done> {
        if let Some(sending) = &mut self.under_way {
            let done = sending.await;
            self.under_way = None;
            return Some(done);
        }
        match self.not_before {
            Some(at) => {
                sleep_until(at).await;
                self.not_before = None;
                None
            }
            None => std::future::pending().await,
        }
    }
}

impl Conversation {
    /// Begins to send the next message, if it is time.
    pub(super) fn send_next(&mut self) {
        let due = self.queue.not_before.is_none_or(|at| at <= Instant::now());
        let Some(number) = self.queue.numbers.front().copied().filter(|_| due && self.queue.under_way.is_none()) else {
            return;
        };
        self.queue.not_before = None;
        let members = self.thread.participants.iter().map(|member| member.user_id.clone()).collect::<Vec<_>>();
        let (courier, sender, thread) = (self.courier.clone(), self.live.sender(), self.thread.id);
        self.queue.under_way =
            Some(Box::pin(async move { (number, courier.deliver(&sender, thread, number, members).await) }));
    }

    pub(super) fn send(&mut self, text: String) -> Result<(), ChatError> {
        match self.vault.queue(self.thread.id, &text) {
            Ok(number) => {
                self.queue.push(number, text);
                if self.broken || self.queue.nobody {
                    self.show_waiting(true);
                }
            }
            Err(SealError::Store(error)) => return Err(error.into()),
            Err(error) => self.unsent(&text, false, &error.to_string()),
        }
        Ok(())
    }

    pub(super) fn delivered(
        &mut self,
        number: ClientSeq,
        done: Result<Option<Message>, CourierError>,
    ) -> Result<(), ChatError> {
        let error = match done {
            Ok(message) => {
                self.queue.numbers.retain(|waiting| *waiting != number);
                self.queue.pending.pop();
                self.queue.hurry();
                self.queue.nobody = false;
                self.tell_who_cannot_read();
                // The thread shows it, after what came before it; it may have already.
                if let Some(message) = message.filter(|message| Some(message.id) > self.shown_to) {
                    self.unshown.insert(message.id);
                }
                return Ok(());
            }
            Err(CourierError::Seal(SealError::Store(error))) => return Err(error.into()),
            Err(error) => error,
        };
        if error.passes() {
            self.wait_after(&error);
            return Ok(());
        }
        self.queue.numbers.retain(|waiting| *waiting != number);
        let text = self.queue.pending.pop().unwrap_or_default();
        self.vault.give_up(number)?;
        self.unsent(&text, error.may_have_had_effects(), &error.to_string());
        Ok(())
    }

    /// Of a group's members, those who have no device get nothing, and it is said once.
    fn tell_who_cannot_read(&mut self) {
        let members: Vec<UserId> = self.thread.participants.iter().map(|member| member.user_id.clone()).collect();
        for user in self.courier.without_devices(&members) {
            if self.queue.without.insert(user.clone()) {
                self.notice(&format!("{user} has no device yet, and cannot read what is written until there is one"));
            }
        }
    }

    fn wait_after(&mut self, error: &CourierError) {
        let pause = RETRY_FIRST.saturating_mul(1 << self.queue.failures.min(10)).min(RETRY_LONGEST);
        self.queue.failures = self.queue.failures.saturating_add(1);
        self.queue.not_before = Some(Instant::now() + pause);
        let nobody = matches!(error, CourierError::Nobody);
        if nobody && !self.queue.nobody {
            self.notice("nobody else here has a device yet: what you write is sent, encrypted, once somebody has");
            self.show_waiting(true);
        }
        self.queue.nobody = nobody;
    }

    /// Shows what has waited for long, or all that waits.
    pub(super) fn show_waiting(&mut self, all: bool) {
        for text in self.queue.pending.due(Instant::now(), all) {
            let shown = self.view.waiting(&text);
            self.console.screen.show(&shown);
        }
    }

    fn unsent(&mut self, text: &str, perhaps: bool, why: &str) {
        let shown = self.view.unsent(text, perhaps, why);
        self.console.screen.show(&shown);
    }

    /// What is left at the end stays in the vault.
    pub(super) fn show_left(&mut self) {
        for text in std::mem::take(&mut self.queue.pending).into_texts() {
            let shown = self.view.kept(&text);
            self.console.screen.show(&shown);
        }
    }
}
