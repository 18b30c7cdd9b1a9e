//! Appends from one peer, in order and without waiting for each other.
//!
//! Owns: per group, the session that feeds the replica's append stream and answers in the same order.
//! Must not know: how appends arrive or what is in them.
//! Invariants: within a session, appends reach the replica in the order they came; the first rejection ends it, and
//! what was behind is refused, since the sender starts anew; a newer session replaces an older one.

use super::codec::{Append, encode_append_result};
use super::inbound::Answers;
use super::port::RaftPort;
use crate::types::GroupId;
use futures_util::StreamExt;
use std::collections::HashMap;
use tokio::sync::{OwnedSemaphorePermit, mpsc};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

/// Appends a session holds that the replica has not taken yet; more than a sender's window.
const WAITING: usize = 512;
/// Appends without an answer: those, and what the replica holds.
const UNANSWERED: usize = 2 * WAITING;

/// The call that brought an append, and what is given back once it is answered.
type Ticket = (u64, OwnedSemaphorePermit);

struct Session {
    id: u64,
    /// `None` once something was refused: what follows must not overtake it.
    feed: Option<Feed>,
}

struct Feed {
    appends: mpsc::Sender<Append>,
    tickets: mpsc::Sender<Ticket>,
}

impl Feed {
    fn push(&self, append: Append, ticket: Ticket) -> Result<(), String> {
        match (self.tickets.try_reserve(), self.appends.try_reserve()) {
            (Ok(ticket_slot), Ok(append_slot)) => {
                // The ticket goes first: an answer may come as soon as the append is taken.
                ticket_slot.send(ticket);
                append_slot.send(append);
                Ok(())
            }
            _ => Err("the append session has ended or is overrun".into()),
        }
    }
}

/// The sessions of one incoming lane; dropping them ends them.
pub(crate) struct Sessions<P> {
    by_group: HashMap<GroupId, Session>,
    answers: Answers,
    port: std::marker::PhantomData<fn() -> P>,
}

impl<P: RaftPort> Sessions<P> {
    pub(crate) fn new(answers: Answers) -> Self {
        Self { by_group: HashMap::new(), answers, port: std::marker::PhantomData }
    }

    /// Feeds an append to its session; `port` is asked when it is the session's first.
    ///
    /// # Errors
    /// Why the append is refused.
    pub(crate) fn feed(
        &mut self,
        group: GroupId,
        session: u64,
        append: Append,
        ticket: Ticket,
        port: impl FnOnce() -> Option<P>,
    ) -> Result<(), String> {
        if self.by_group.get(&group).is_none_or(|current| current.id != session) {
            let port = port().ok_or_else(|| format!("group {group} is not hosted here"))?;
            let opened = self.open(session, port);
            self.by_group.insert(group, opened);
        }
        let Some(current) = self.by_group.get_mut(&group) else { return Err("the session is gone".into()) };
        let pushed = match &current.feed {
            Some(feed) => feed.push(append, ticket),
            None => Err("the append session has ended".into()),
        };
        if pushed.is_err() {
            current.feed = None;
        }
        pushed
    }

    fn open(&self, id: u64, port: P) -> Session {
        let (appends, input) = mpsc::channel(WAITING);
        let (tickets, unanswered) = mpsc::channel(UNANSWERED);
        tokio::spawn(drive(port, input, unanswered, self.answers.clone()));
        Session { id, feed: Some(Feed { appends, tickets }) }
    }
}

async fn drive<P: RaftPort>(
    port: P,
    input: mpsc::Receiver<Append>,
    mut unanswered: mpsc::Receiver<Ticket>,
    answers: Answers,
) {
    // The replica reads its input in a task of its own, which must not outlive the session.
    let ended = CancellationToken::new();
    let _end = ended.clone().drop_guard();
    let mut results = port.append_stream(ReceiverStream::new(input).take_until(ended.cancelled_owned()));
    let mut failure = "the append session has ended".to_owned();
    while let Some(result) = results.next().await {
        let Some((call, permit)) = unanswered.recv().await else { return };
        match result {
            Ok(result) => {
                let rejected = result.is_err();
                answers.send(call, Ok(encode_append_result(&result))).await;
                drop(permit);
                if rejected {
                    break;
                }
            }
            Err(error) => {
                answers.send(call, Err(error.clone().into())).await;
                failure = error;
                break;
            }
        }
    }
    drop(results);
    unanswered.close();
    while let Some((call, _permit)) = unanswered.recv().await {
        answers.send(call, Err(failure.clone().into())).await;
    }
}
