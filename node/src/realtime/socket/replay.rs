//! Reading what a session lacks from the shards.
//!
//! Owns: the user's index, listening, and resuming: what is asked when, what is asked together, and when to try again.
//! Must not know: sockets and frames; what an answer means is the session's matter.
//! Invariants: what a session asks of storage together is of bounded size, shard by shard, and asked only when there is
//! nothing left to send; a turn among the node's sessions is kept until it was sent; a shard that does not answer holds
//! nobody else's threads back; a thread is resumed only after its shard's stream carries it; a failure is tried again,
//! later each time.

use super::notices;
use super::work::{Done, Work};
use crate::realtime::mailbox::{Losses, Mailbox};
use crate::realtime::session::{Resumed, Session};
use crate::realtime::{Realtime, encode};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{DeviceId, MessageId, ShardId, ThreadId, UserId};
use messenger_proto::query::{Answer, Query, QueryResult, ResumeFrom, ResumeQuery, ResumedThread, UserThread};
use messenger_router::Topic;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::OwnedSemaphorePermit;

/// Threads asked for together.
const THREADS: usize = 64;
/// Bytes of events asked for together, over all shards; each may give one message more.
const BYTES: usize = 192 * 1024;
/// Bytes asked of one shard at least, which bounds how many are asked together.
const SHARD_BYTES: usize = 16 * 1024;
/// A shard that takes longer is not counted any more: it has no leader, most likely, and nothing to send.
const SLOW: Duration = Duration::from_millis(300);
/// A turn is given back after this, even if its frames are not sent yet: clients that read slowly don't stop the others.
const TURN_MAX: Duration = Duration::from_secs(5);
/// How long one question may take.
const DEADLINE: Duration = Duration::from_secs(5);
/// Between the first failure and the next try; doubled up to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(5));

/// What was asked of one shard, and what it said.
#[derive(Debug)]
pub(super) struct Answered {
    shard: ShardId,
    threads: Vec<ThreadId>,
    outcome: QueryResult,
}

/// A place among the sessions of the node that read from storage.
#[derive(Debug)]
enum Turn {
    Without,
    Awaited,
    Taken { _permit: Option<OwnedSemaphorePermit>, since: Instant },
}

/// A shard that is being asked.
#[derive(Debug)]
struct Asked {
    since: Instant,
    bytes: usize,
    /// Threads of the shard that fell behind meanwhile.
    waiting: Vec<ThreadId>,
}

/// What a session has under way with the shards.
#[derive(Debug)]
pub(super) struct Replay {
    user: UserId,
    device: DeviceId,
    last_seen: Option<MessageId>,
    index: Asking,
    turn: Turn,
    asked: BTreeMap<ShardId, Asked>,
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
        let (index, turn, asked) = (Asking::Wanted, Turn::Without, BTreeMap::new());
        Self { user, device, last_seen, index, turn, asked, parked: Vec::new(), retry: None, failures: 0 }
    }

    /// When there is something to do without an answer.
    pub(super) fn deadline(&self, now: Instant) -> Option<Instant> {
        let slow = self.asked.values().map(|asked| asked.since + SLOW).filter(|slow| *slow > now).min();
        let turn = match &self.turn {
            Turn::Taken { since, .. } => Some(*since + TURN_MAX),
            Turn::Without | Turn::Awaited => None,
        };
        [self.retry, slow, turn].into_iter().flatten().min()
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
        let now = Instant::now();
        if self.index == Asking::Wanted {
            self.index = Asking::UnderWay;
            work.push(Box::pin(notices::ask(
                node.clone(),
                self.user.clone(),
                self.device.clone(),
                Arc::clone(mailbox),
            )));
        }
        let shard_of = |thread| node.shard_of_thread(thread);
        for (shard, threads) in by_shard(shard_of, session.take_listen(), |thread| *thread) {
            work.push(Box::pin(listen(node.clone(), shard, threads, Arc::clone(mailbox))));
        }
        for (shard, threads) in by_shard(shard_of, session.take_forget(), |thread| *thread) {
            let topics: Vec<_> = threads.into_iter().map(Topic::Thread).collect();
            node.hub().forget(shard, &topics, mailbox);
        }
        self.keep_turn(session, idle, now);
        if !idle || !session.is_behind() {
            return;
        }
        match &self.turn {
            Turn::Taken { .. } => {
                for (shard, query) in self.queries(shard_of, session, now) {
                    work.push(Box::pin(resume(node.clone(), shard, query)));
                }
            }
            Turn::Awaited => {}
            Turn::Without => {
                self.turn = Turn::Awaited;
                let turns = Arc::clone(node.resumes());
                // The semaphore is never closed; without it there would only be less restraint.
                work.push(Box::pin(async move { Done::Turn(turns.acquire_owned().await.ok()) }));
            }
        }
    }

    /// It is this session's turn to read from storage.
    pub(super) fn turn(&mut self, permit: Option<OwnedSemaphorePermit>, now: Instant) {
        self.turn = Turn::Taken { _permit: permit, since: now };
    }

    /// Gives the turn back when all that it brought is sent, or when it takes too long.
    fn keep_turn(&mut self, session: &Session, idle: bool, now: Instant) {
        if let Turn::Taken { since, .. } = &self.turn {
            let done = idle && !session.is_behind() && self.bytes(now) == 0;
            if done || now >= *since + TURN_MAX {
                self.turn = Turn::Without;
            }
        }
    }

    /// Bytes that are on their way.
    fn bytes(&self, now: Instant) -> usize {
        self.asked.values().filter(|asked| now < asked.since + SLOW).map(|asked| asked.bytes).sum()
    }

    /// What is asked now of the shards of those threads that are behind, as much as fits.
    fn queries(
        &mut self,
        shard_of: impl Fn(ThreadId) -> ShardId,
        session: &mut Session,
        now: Instant,
    ) -> Vec<(ShardId, ResumeQuery)> {
        let room = BYTES.saturating_sub(self.bytes(now));
        let mut shards: BTreeMap<ShardId, Vec<ResumeFrom>> = BTreeMap::new();
        // A shard that is being asked keeps its threads, so each round takes others.
        while room >= SHARD_BYTES && shards.is_empty() && session.is_behind() {
            for (shard, threads) in by_shard(&shard_of, session.take_behind(THREADS), |from| from.thread) {
                match self.asked.get_mut(&shard) {
                    Some(asked) => asked.waiting.extend(threads.iter().map(|from| from.thread)),
                    None if shards.len() < room / SHARD_BYTES => drop(shards.insert(shard, threads)),
                    None => threads.iter().for_each(|from| session.unresumed(from.thread)),
                }
            }
        }
        let bytes = room / shards.len().max(1);
        let (user, device, last_seen) = (&self.user, &self.device, self.last_seen);
        let queries = shards.into_iter().map(|(shard, threads)| {
            let (user, device) = (user.clone(), device.clone());
            (shard, ResumeQuery { user, device, threads, last_seen, max_bytes: bytes as u32 })
        });
        let queries: Vec<_> = queries.collect();
        let asked = |(shard, _): &(ShardId, _)| (*shard, Asked { since: now, bytes, waiting: Vec::new() });
        self.asked.extend(queries.iter().map(asked));
        queries
    }

    /// The index was told.
    pub(super) fn indexed(&mut self, session: &mut Session, outcome: QueryResult, now: Instant) {
        self.index = match outcome {
            Ok(Answer::UserThreads(answer)) => {
                let rows = |rows: Vec<UserThread>| rows.into_iter().map(|row| (row.thread, row.source_seq)).collect();
                let (present, left): (Vec<_>, Vec<_>) = (rows(answer.threads), rows(answer.left));
                session.index(&present, &left);
                if self.index == Asking::Again { Asking::Wanted } else { Asking::Known }
            }
            other => {
                self.failed(&other, now);
                Asking::Failed
            }
        };
    }

    /// Storage was asked.
    pub(super) fn resumed(&mut self, session: &mut Session, answered: Answered, now: Instant) {
        let Answered { shard, threads, outcome } = answered;
        let waiting = self.asked.remove(&shard).map(|asked| asked.waiting).unwrap_or_default();
        match outcome {
            Ok(Answer::Resume(answer)) if !answer.threads.is_empty() => {
                if self.parked.is_empty() {
                    self.failures = 0;
                }
                for thread in answer.threads {
                    session.resumed(&shared(thread));
                }
                // Those it had no room for, and those that it was not asked for yet.
                for thread in threads.into_iter().chain(waiting) {
                    session.unresumed(thread);
                }
            }
            other => {
                self.parked.extend(threads.into_iter().chain(waiting));
                self.failed(&other, now);
            }
        }
    }

    fn failed(&mut self, outcome: &QueryResult, now: Instant) {
        match outcome {
            Err(refusal) if refusal.code.retryable() => tracing::debug!(%refusal, "a session could not be resumed yet"),
            other => tracing::error!(?other, "a session's question was not answered"),
        }
        // What fails together counts once.
        if self.retry.is_some() {
            return;
        }
        let pause = RETRY.0.saturating_mul(1 << self.failures.min(10)).min(RETRY.1);
        self.failures = self.failures.saturating_add(1);
        // Sessions that failed together do not come back together.
        let pause = pause.mul_f64(rand::random_range(0.5..1.0));
        self.retry = Some(now + pause);
    }
}

fn by_shard<T>(
    shard_of: impl Fn(ThreadId) -> ShardId,
    items: Vec<T>,
    thread: impl Fn(&T) -> ThreadId,
) -> BTreeMap<ShardId, Vec<T>> {
    let mut shards: BTreeMap<ShardId, Vec<T>> = BTreeMap::new();
    for item in items {
        shards.entry(shard_of(thread(&item))).or_default().push(item);
    }
    shards
}

fn shared(resumed: ResumedThread) -> Resumed {
    let ResumedThread { thread, events, position, more, gap, left } = resumed;
    // What storage tells is told now, however large the thread.
    let events = events.into_iter().map(|event| Arc::new(encode::shared(event, u32::MAX))).collect();
    Resumed { thread, events, position, more, gap, left }
}

async fn listen(node: Realtime, shard: ShardId, threads: Vec<ThreadId>, mailbox: Arc<Mailbox>) -> Done {
    let topics = threads.iter().copied().map(Topic::Thread).collect();
    node.hub().listen(shard, topics, &mailbox).await;
    Done::Listening(threads)
}

async fn resume(node: Realtime, shard: ShardId, query: ResumeQuery) -> Done {
    let threads = query.threads.iter().map(|from| from.thread).collect();
    let mut answers = node.router().scatter(vec![(shard, Query::Resume(query))], deadline()).await;
    let lost = || Err(Refusal::new(ErrorCode::Internal, "a question got no answer"));
    let outcome = answers.pop().unwrap_or_else(lost);
    Done::Resumed(Answered { shard, threads, outcome })
}

pub(super) fn deadline() -> tokio::time::Instant {
    tokio::time::Instant::now() + DEADLINE
}

#[cfg(test)]
mod tests {
    use super::*;
    use messenger_proto::ids::{Position, Seq};
    use messenger_proto::query::ResumeAnswer;

    fn shard_of(thread: ThreadId) -> ShardId {
        ShardId(u32::from(thread.0[0]))
    }

    /// A session that is behind in `each` threads of every one of `shards` shards.
    fn behind(shards: u8, each: u8) -> (Session, Replay) {
        let user = UserId::new("u").unwrap();
        let thread = |shard: u8, n: u8| {
            let mut id = [n; 16];
            id[0] = shard;
            (ThreadId(id), Seq(1))
        };
        let index: Vec<_> = (0..each).flat_map(|n| (0..shards).map(move |shard| thread(shard, n))).collect();
        let mut session = Session::new(user.clone());
        session.index(&index, &[]);
        for thread in session.take_listen() {
            session.listening(thread);
        }
        (session, Replay::new(user, DeviceId::new("d").unwrap(), None))
    }

    /// The shard has nothing for any of the threads.
    fn answered((shard, query): (ShardId, ResumeQuery)) -> Answered {
        let empty = |thread| ResumedThread {
            thread,
            events: Vec::new(),
            position: Position::default(),
            more: false,
            gap: None,
            left: false,
        };
        let threads: Vec<_> = query.threads.iter().map(|from| from.thread).collect();
        let answer = ResumeAnswer { threads: threads.iter().map(|thread| empty(*thread)).collect() };
        Answered { shard, threads, outcome: Ok(Answer::Resume(answer)) }
    }

    fn unavailable((shard, query): (ShardId, ResumeQuery)) -> Answered {
        let threads = query.threads.iter().map(|from| from.thread).collect();
        Answered { shard, threads, outcome: Err(Refusal::new(ErrorCode::Unavailable, "no leader")) }
    }

    #[test]
    fn what_is_asked_together_is_bounded() {
        let (mut session, mut replay) = behind(64, 3);
        let now = Instant::now();
        let (mut shards, mut rounds) = (Vec::new(), 0);
        while session.is_behind() {
            let asked = replay.queries(shard_of, &mut session, now);
            assert!((1..=BYTES / SHARD_BYTES).contains(&asked.len()));
            assert!(asked.iter().map(|(_, query)| query.max_bytes as usize).sum::<usize>() <= BYTES);
            assert!(asked.iter().all(|(_, query)| query.max_bytes as usize >= SHARD_BYTES));
            assert!(replay.queries(shard_of, &mut session, now).is_empty(), "before they answered");
            for asked in asked {
                shards.push(asked.0.0);
                replay.resumed(&mut session, answered(asked), now);
            }
            rounds += 1;
        }
        shards.sort_unstable();
        shards.dedup();
        assert_eq!(shards.len(), 64);
        assert!(rounds < 30, "{rounds}");
        assert_eq!(session.next_frame().map(|frame| frame.body), Some(crate::realtime::session::FrameBody::CaughtUp));
    }

    #[test]
    fn a_shard_that_does_not_answer_holds_no_other_back_and_fails_once() {
        let (mut session, mut replay) = behind(3, 100);
        let now = Instant::now();
        let mut first = replay.queries(shard_of, &mut session, now);
        let (stuck, others) = (first.remove(0), first);
        for asked in others {
            replay.resumed(&mut session, answered(asked), now);
        }
        let late = now + SLOW;
        assert_eq!(replay.deadline(now), Some(late));
        let (mut seen, mut rounds) = (0, 0);
        while session.is_behind() {
            rounds += 1;
            assert!(rounds < 50, "the others are not asked");
            for asked in replay.queries(shard_of, &mut session, late) {
                assert_ne!(asked.0, stuck.0, "it is being asked");
                seen += asked.1.threads.len();
                replay.resumed(&mut session, answered(asked), late);
            }
        }
        assert!(seen >= 100, "{seen}");
        let again = behind(2, 1);
        let (mut other, mut both) = again;
        for asked in both.queries(shard_of, &mut other, now) {
            both.resumed(&mut other, unavailable(asked), now);
        }
        assert_eq!((both.failures, both.parked.len()), (1, 2));
        // All threads of the stuck shard are asked again.
        replay.resumed(&mut session, unavailable(stuck), late);
        replay.retry(&mut session, late + RETRY.1);
        let threads: usize = std::iter::from_fn(|| {
            let asked = replay.queries(shard_of, &mut session, late + RETRY.1);
            let count: usize = asked.iter().map(|(_, query)| query.threads.len()).sum();
            for asked in asked {
                replay.resumed(&mut session, answered(asked), late + RETRY.1);
            }
            (count > 0).then_some(count)
        })
        .sum();
        assert_eq!(threads, 100);
    }
}
