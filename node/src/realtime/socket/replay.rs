//! Reading what a session lacks from the shards.
//!
//! Owns: the user's index, listening, and resuming: what is asked when, what is asked together, and when to try again.
//! Must not know: sockets and frames; what an answer means is the session's matter.
//! Invariants: a session asks storage for one batch at a time, of bounded size, and only when it has nothing left to
//! send; a thread is resumed only after its shard's stream carries it; a failure is tried again, later each time.

use super::work::{Done, Work};
use crate::realtime::mailbox::{Losses, Mailbox};
use crate::realtime::session::{Resumed, Session};
use crate::realtime::{Realtime, encode};
use messenger_proto::ids::{DeviceId, MessageId, ShardId, ThreadId, UserId};
use messenger_proto::query::{Answer, Query, QueryResult, ResumeFrom, ResumeQuery, ResumedThread, UserThreadsQuery};
use messenger_proto::slot::Slot;
use messenger_router::Topic;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Threads asked for together.
const THREADS: usize = 64;
/// Bytes of events asked for together, over all shards.
const BYTES: usize = 192 * 1024;
/// Bytes asked of one shard at least.
const SHARD_BYTES: usize = 16 * 1024;
/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between the first failure and the next try; doubled up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What was asked of one shard, and what it said.
pub(super) type Answered = (Vec<ThreadId>, QueryResult);

/// What a session has under way with the shards.
#[derive(Debug)]
pub(super) struct Replay {
    user: UserId,
    device: DeviceId,
    last_seen: Option<MessageId>,
    index: Asking,
    resuming: bool,
    /// Threads whose storage could not be asked, until it is tried again.
    parked: Vec<ThreadId>,
    retry: Option<Instant>,
    failures: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Asking {
    Wanted,
    UnderWay,
    /// Under way, and out of date already.
    Again,
    Known,
    Failed,
}

impl Replay {
    pub(super) fn new(user: UserId, device: DeviceId, last_seen: Option<MessageId>) -> Self {
        let (index, resuming) = (Asking::Wanted, false);
        Self { user, device, last_seen, index, resuming, parked: Vec::new(), retry: None, failures: 0 }
    }

    /// When something is to be tried again.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.retry
    }

    /// Tries again what failed, if it is time.
    pub(super) fn retry(&mut self, session: &mut Session, now: Instant) {
        if self.retry.is_some_and(|retry| retry <= now) {
            self.retry = None;
            for thread in std::mem::take(&mut self.parked) {
                session.unresumed(thread);
            }
            if self.index == Asking::Failed {
                self.index = Asking::Wanted;
            }
        }
    }

    /// Makes good what did not reach the mailbox.
    pub(super) fn make_good(&mut self, node: &Realtime, session: &mut Session, losses: &Losses) {
        if losses.is_empty() {
            return;
        }
        for thread in &losses.threads {
            session.lost(*thread);
        }
        if !losses.shards.is_empty() {
            session.lost_where(|thread| losses.shards.contains(&node.shard_of_thread(thread)));
        }
        if losses.index || losses.shards.contains(&node.shard_of_user(&self.user)) {
            self.index = match self.index {
                Asking::UnderWay | Asking::Again => Asking::Again,
                Asking::Failed => Asking::Failed,
                Asking::Wanted | Asking::Known => Asking::Wanted,
            };
        }
    }

    /// Begins what is to be asked now; `idle` says that the session has nothing left to send.
    pub(super) fn start(
        &mut self,
        node: &Realtime,
        session: &mut Session,
        mailbox: &Arc<Mailbox>,
        idle: bool,
        work: &mut Work,
    ) {
        if self.index == Asking::Wanted {
            self.index = Asking::UnderWay;
            work.push(Box::pin(ask_index(node.clone(), self.user.clone(), Arc::clone(mailbox))));
        }
        for (shard, threads) in by_shard(node, session.take_listen(), |thread| *thread) {
            work.push(Box::pin(listen(node.clone(), shard, threads, Arc::clone(mailbox))));
        }
        for (shard, threads) in by_shard(node, session.take_forget(), |thread| *thread) {
            let topics: Vec<_> = threads.into_iter().map(Topic::Thread).collect();
            node.hub().forget(shard, &topics, mailbox);
        }
        if idle && !self.resuming && session.is_behind() {
            let asked = session.take_behind(THREADS);
            if !asked.is_empty() {
                self.resuming = true;
                work.push(Box::pin(resume(node.clone(), self.queries(node, asked))));
            }
        }
    }

    fn queries(&self, node: &Realtime, asked: Vec<ResumeFrom>) -> Vec<(ShardId, ResumeQuery)> {
        let shards = by_shard(node, asked, |from| from.thread);
        let share = (BYTES / shards.len().max(1)).max(SHARD_BYTES);
        let query = |threads| ResumeQuery {
            user: self.user.clone(),
            device: self.device.clone(),
            threads,
            last_seen: self.last_seen,
            max_bytes: share as u32,
        };
        shards.into_iter().map(|(shard, threads)| (shard, query(threads))).collect()
    }

    /// The index was told.
    pub(super) fn indexed(&mut self, session: &mut Session, outcome: QueryResult, now: Instant) {
        self.index = match outcome {
            Ok(Answer::UserThreads(answer)) => {
                let present: Vec<_> = answer.threads.into_iter().map(|row| (row.thread, row.source_seq)).collect();
                session.index(&present);
                if self.index == Asking::Again { Asking::Wanted } else { Asking::Known }
            }
            other => {
                self.failed(&other, now);
                Asking::Failed
            }
        };
    }

    /// Storage was asked.
    pub(super) fn resumed(&mut self, session: &mut Session, answered: Vec<Answered>, now: Instant) {
        self.resuming = false;
        for (asked, outcome) in answered {
            match outcome {
                Ok(Answer::Resume(answer)) if !answer.threads.is_empty() => {
                    self.failures = 0;
                    for thread in answer.threads {
                        session.resumed(&shared(thread));
                    }
                    // Those it had no room for.
                    for thread in asked {
                        session.unresumed(thread);
                    }
                }
                other => {
                    self.parked.extend(asked);
                    self.failed(&other, now);
                }
            }
        }
    }

    fn failed(&mut self, outcome: &QueryResult, now: Instant) {
        match outcome {
            Err(refusal) if refusal.code.retryable() => tracing::debug!(%refusal, "a session could not be resumed yet"),
            other => tracing::error!(?other, "a session's question was not answered"),
        }
        let pause = RETRY.0.saturating_mul(1 << self.failures.min(10)).min(RETRY.1);
        self.failures = self.failures.saturating_add(1);
        // Sessions that failed together do not come back together.
        let pause = pause.mul_f64(rand::random_range(0.5..1.0));
        self.retry = Some(self.retry.map_or(now + pause, |retry| retry.min(now + pause)));
    }
}

fn by_shard<T>(node: &Realtime, items: Vec<T>, thread: impl Fn(&T) -> ThreadId) -> BTreeMap<ShardId, Vec<T>> {
    let mut shards: BTreeMap<ShardId, Vec<T>> = BTreeMap::new();
    for item in items {
        shards.entry(node.shard_of_thread(thread(&item))).or_default().push(item);
    }
    shards
}

fn shared(resumed: ResumedThread) -> Resumed {
    let ResumedThread { thread, events, position, more, gap, left } = resumed;
    // What storage tells is told now, however large the thread.
    let events = events.into_iter().map(|event| Arc::new(encode::shared(event, u32::MAX))).collect();
    Resumed { thread, events, position, more, gap, left }
}

async fn ask_index(node: Realtime, user: UserId, mailbox: Arc<Mailbox>) -> Done {
    let slot = Slot::of_user(&user);
    node.hub().listen(node.shard_of_user(&user), vec![Topic::User(user.clone())], &mailbox).await;
    let query = Query::UserThreads(UserThreadsQuery { user });
    Done::Indexed(node.router().query(slot, query, deadline()).await)
}

async fn listen(node: Realtime, shard: ShardId, threads: Vec<ThreadId>, mailbox: Arc<Mailbox>) -> Done {
    let topics = threads.iter().copied().map(Topic::Thread).collect();
    node.hub().listen(shard, topics, &mailbox).await;
    Done::Listening(threads)
}

async fn resume(node: Realtime, queries: Vec<(ShardId, ResumeQuery)>) -> Done {
    // The semaphore is never closed; without it there would only be less restraint.
    let _turn = node.resumes().acquire().await;
    let asked: Vec<Vec<ThreadId>> =
        queries.iter().map(|(_, query)| query.threads.iter().map(|from| from.thread).collect()).collect();
    let queries = queries.into_iter().map(|(shard, query)| (shard, Query::Resume(query))).collect();
    let answers = node.router().scatter(queries, deadline()).await;
    Done::Resumed(asked.into_iter().zip(answers).collect())
}

fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + DEADLINE
}
