//! Who is there when a device connects.
//!
//! Owns: finding out for one device, among the members of its user's threads; whether it is shown anybody's presence; and
//! whom its user keeps away.
//! Must not know: sockets, frames.
//! Invariants: nobody who hides or keeps the user away is named, and who hides is named nobody; it is tried until it is
//! known; at most [`GREETINGS`] devices of a node find out at a time, the others wait; of a user in more threads the
//! [`THREADS_MAX`] that were active last count, and of those at most [`MEMBERS_MAX`] members, in the order of threads.

use crate::realtime::Realtime;
use futures_util::future::join_all;
use messenger_proto::ephemeral::{AskPresence, Presence, PresenceCall, PresenceStatus};
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::ids::{MessageId, Millis, ShardId, ThreadId, UserId};
use messenger_proto::query::{
    ActivityQuery, Answer, BlocksAnswer, BlocksQuery, PrivacyQuery, Query, QueryResult, ThreadActivity, ThreadQuery,
};
use messenger_proto::slot::Slot;
use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;
use tokio::time::Instant;

/// Devices of a node that are greeted at a time.
pub(in crate::realtime) const GREETINGS: usize = 16;
/// Threads looked at.
const THREADS_MAX: usize = 128;
/// Threads whose members are asked for together.
const PART: usize = 16;
/// Users asked for.
pub(in crate::realtime) const MEMBERS_MAX: usize = 1_000;
/// How long one round of questions may take.
const DEADLINE: Duration = Duration::from_secs(3);
/// Between the first failure and the next try; doubled up to the second.
const PAUSE: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(30));

/// What was found out for a user.
#[derive(Debug)]
pub(in crate::realtime) struct Found {
    /// Whom the user keeps away.
    pub(in crate::realtime) away: BlocksAnswer,
    /// Those who are online or away, among the members of its threads; `None` when the user hides, and so is shown nobody's
    /// presence.
    pub(in crate::realtime) present: Option<Vec<Presence>>,
}

/// Finds out whom a user keeps away, and who is there in these threads of its.
pub(in crate::realtime) async fn greet(node: Realtime, user: UserId, threads: Vec<ThreadId>) -> Found {
    let mut pause = PAUSE.0;
    loop {
        {
            // The semaphore is never closed; without it there would only be less restraint.
            let _turn = node.greetings().acquire().await;
            match look(&node, &user, &threads).await {
                Ok(found) => return found,
                Err(refusal) => tracing::debug!(%refusal, "a device was not told who is there"),
            }
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(PAUSE.1);
    }
}

async fn look(node: &Realtime, user: &UserId, threads: &[ThreadId]) -> Result<Found, Refusal> {
    let own = node.shard_of_user(user);
    let away = away(node, user).await?;
    if !hidden(node, None, BTreeMap::from([(own, vec![user.clone()])])).await?.is_empty() {
        return Ok(Found { away, present: None });
    }
    let threads = latest(node, user, threads).await?;
    let mut shards: BTreeMap<ShardId, Vec<UserId>> = BTreeMap::new();
    for member in members(node, user, &threads).await? {
        shards.entry(node.shard_of_user(&member)).or_default().push(member);
    }
    let until = Instant::now() + DEADLINE;
    let ask = |(shard, users): (&ShardId, &Vec<UserId>)| {
        let (shard, call) = (*shard, PresenceCall::Ask(AskPresence { users: users.clone() }));
        async move { (shard, node.router().presence(shard, call, until).await) }
    };
    let answers = join_all(shards.iter().map(ask)).await;
    // Asked after that: whoever hid before it was asked for is not named.
    let hidden = hidden(node, Some(user), shards).await?;
    let mut present = Vec::new();
    for (shard, answer) in answers {
        let answer = answer?;
        let shown = |of: &UserId| !hidden.contains(of) && away.users.binary_search(of).is_err();
        let there = |of: &Presence| of.status != PresenceStatus::Offline && shown(&of.user);
        for presence in answer.people.into_iter().filter(there) {
            node.board().hear(shard, answer.term, &presence, true);
            present.push(presence);
        }
    }
    Ok(Found { away, present: Some(present) })
}

async fn away(node: &Realtime, user: &UserId) -> Result<BlocksAnswer, Refusal> {
    let query = Query::Blocks(BlocksQuery { user: user.clone() });
    match node.router().query(Slot::of_user(user), query, Instant::now() + DEADLINE).await? {
        Answer::Blocks(answer) => Ok(answer),
        other => Err(unexpected(&other)),
    }
}

/// Those who show their presence to nobody, or not to the viewer.
async fn hidden(
    node: &Realtime,
    viewer: Option<&UserId>,
    shards: BTreeMap<ShardId, Vec<UserId>>,
) -> Result<BTreeSet<UserId>, Refusal> {
    let query = |(shard, users)| (shard, Query::Privacy(PrivacyQuery { users, viewer: viewer.cloned() }));
    let queries = shards.into_iter().map(query).collect();
    let mut hidden = BTreeSet::new();
    for answer in node.router().scatter(queries, Instant::now() + DEADLINE).await {
        match answer? {
            Answer::Privacy(answer) => hidden.extend(answer.hidden),
            other => return Err(unexpected(&other)),
        }
    }
    Ok(hidden)
}

/// The threads that were active last, if there are too many.
async fn latest(node: &Realtime, user: &UserId, threads: &[ThreadId]) -> Result<Vec<ThreadId>, Refusal> {
    if threads.len() <= THREADS_MAX {
        return Ok(threads.to_vec());
    }
    let mut shards: BTreeMap<ShardId, Vec<ThreadId>> = BTreeMap::new();
    for thread in threads {
        shards.entry(node.shard_of_thread(*thread)).or_default().push(*thread);
    }
    let as_of = Millis(MessageId::MS_MAX);
    let query = |threads| Query::Activity(ActivityQuery { viewer: user.clone(), threads, as_of });
    let queries = shards.into_iter().map(|(shard, threads)| (shard, query(threads))).collect();
    let mut active: Vec<ThreadActivity> = Vec::new();
    for answer in node.router().scatter(queries, Instant::now() + DEADLINE).await {
        match answer? {
            Answer::Activity(answer) => active.extend(answer.threads),
            other => return Err(unexpected(&other)),
        }
    }
    active.sort_by_key(|thread| std::cmp::Reverse((thread.at, thread.thread)));
    Ok(active.into_iter().take(THREADS_MAX).map(|thread| thread.thread).collect())
}

/// The others in some threads.
async fn members(node: &Realtime, user: &UserId, threads: &[ThreadId]) -> Result<BTreeSet<UserId>, Refusal> {
    let mut members = BTreeSet::new();
    for part in threads.chunks(PART) {
        let query = |thread: &ThreadId| {
            let query = Query::Thread(ThreadQuery { thread: *thread, viewer: user.clone() });
            (node.router().shard_of(Slot::of_thread(*thread)), query)
        };
        let answers: Vec<QueryResult> =
            node.router().scatter(part.iter().map(query).collect(), Instant::now() + DEADLINE).await;
        for answer in answers {
            let thread = match answer {
                Ok(Answer::Thread(thread)) => thread,
                // It was left meanwhile.
                Err(refusal) if !refusal.code.retryable() => continue,
                Err(refusal) => return Err(refusal),
                Ok(other) => return Err(unexpected(&other)),
            };
            for member in thread.participants {
                if members.len() >= MEMBERS_MAX {
                    return Ok(members);
                }
                if member.user != *user {
                    members.insert(member.user);
                }
            }
        }
    }
    Ok(members)
}

fn unexpected(answer: &Answer) -> Refusal {
    tracing::error!(?answer, "a question got an answer of another kind");
    Refusal::new(ErrorCode::Internal, "a question got an answer of another kind")
}
