//! Who carries the rows.
//!
//! Owns: the passes over the outbox, what is under way, and the removal of what arrived.
//! Must not know: how often a shard that fails is tried (see [`super::rest`]).
//! Invariants: no row is under way twice; a shard that does not answer holds back only its own rows, and takes one of a
//! few places apart from the others'; what is held in memory is bounded, however many rows there are.

use super::rest::{PAUSE_MAX, PAUSE_MIN, Rests, Target, Turn};
use super::{CrossShard, NotArrived, Outbox};
use crate::group::outcome::Proposed;
use crate::group::proposer::Proposer;
use crate::machine;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use futures_util::stream::{FuturesUnordered, StreamExt};
use messenger_proto::command::{Command, IndexMembership, Op, OutboxDelivered, OutboxKey, Retention};
use messenger_proto::ids::{CommandId, Seq, ThreadId, UserId};
use messenger_proto::profile::{NewMember, Profile};
use std::collections::{HashSet, VecDeque};
use std::time::Duration;
use tokio::time::{Instant, sleep_until};

/// Rows read or removed at once.
const BATCH: usize = 256;
/// Rows under way at once to shards that answer.
const CONCURRENCY: usize = 32;
/// Rows under way at once to shards that did not.
const PROBES: usize = 8;
/// Devices and blocked users that removals carry at most, in all they answer with: some 256 KiB.
const NAMES: usize = 4_096;
/// Removals under way at once.
const REMOVALS: usize = 4;

type Name = (ThreadId, Seq, UserId);

fn name(key: &OutboxKey) -> Name {
    (key.thread, key.seq, key.user.clone())
}

/// A row that may go.
struct Parcel {
    key: OutboxKey,
    change: IndexMembership,
    target: Target,
    probe: bool,
}

/// How a row's delivery ended.
struct Delivery {
    key: OutboxKey,
    target: Target,
    probe: bool,
    result: Result<Option<Profile>, NotArrived>,
}

/// One walk over the rows, from the first to the last.
#[derive(Default)]
struct Pass {
    after: Option<OutboxKey>,
    page: VecDeque<(OutboxKey, IndexMembership)>,
    all_read: bool,
    passed_over: usize,
    /// Targets that rest and have rows.
    resting: HashSet<Target>,
}

/// Carries rows while its replica leads.
pub(super) struct Courier<'a> {
    outbox: &'a Outbox,
    proposer: &'a Proposer,
    cross: &'a dyn CrossShard,
    rests: Rests,
    pass: Option<Pass>,
    /// There may be rows that the pass under way, or the last one, has not seen.
    again: bool,
    /// No new pass before.
    not_before: Instant,
    /// Grows while storage or the log take nothing.
    pause: Duration,
    under_way: HashSet<Name>,
    plain: usize,
    probes: usize,
    /// Arrived, and not yet being removed, with what was answered.
    arrived: Vec<(OutboxKey, Option<Profile>)>,
}

impl<'a> Courier<'a> {
    pub(super) fn new(outbox: &'a Outbox, proposer: &'a Proposer, cross: &'a dyn CrossShard) -> Self {
        Self {
            outbox,
            proposer,
            cross,
            rests: Rests::default(),
            pass: None,
            again: true,
            not_before: Instant::now(),
            pause: PAUSE_MIN,
            under_way: HashSet::new(),
            plain: 0,
            probes: 0,
            arrived: Vec::new(),
        }
    }

    /// Never ends.
    pub(super) async fn run(mut self, leads: &impl Fn() -> bool) {
        let mut deliveries: FuturesUnordered<BoxFuture<'a, Delivery>> = FuturesUnordered::new();
        let mut removals: FuturesUnordered<BoxFuture<'a, (Vec<OutboxKey>, bool)>> = FuturesUnordered::new();
        loop {
            let leading = leads();
            if !leading {
                self.pass = None;
                self.again = true;
            }
            while leading && let Some(parcel) = self.next_parcel() {
                deliveries.push(self.dispatch(parcel));
            }
            while !self.arrived.is_empty() && removals.len() < REMOVALS {
                let some = self.batch();
                removals.push(remove(self.proposer, self.arrived.drain(..some).collect()).boxed());
            }
            let look = if leading { self.next_look() } else { None };
            tokio::select! {
                Some(delivery) = deliveries.next() => {
                    self.note(delivery);
                    // What arrived together is removed together.
                    while let Some(Some(delivery)) = deliveries.next().now_or_never() {
                        self.note(delivery);
                    }
                }
                Some((rows, done)) = removals.next() => self.removed(&rows, done),
                () = self.outbox.couriers_wake().notified() => self.again = true,
                () = at(look) => self.again = true,
            }
        }
    }

    /// How many of those that arrived are removed together.
    fn batch(&self) -> usize {
        let mut names = 0;
        let fits = |(_, profile): &&(OutboxKey, Option<Profile>)| {
            names += profile.as_ref().map_or(0, |profile| profile.devices.len() + profile.blocks.len());
            names <= NAMES
        };
        self.arrived.iter().take(BATCH).take_while(fits).count().max(1)
    }

    /// When to look at the rows again, unless something happens before.
    fn next_look(&self) -> Option<Instant> {
        match (self.again && self.pass.is_none(), self.rests.next()) {
            (true, _) => Some(self.not_before),
            (false, next) => {
                next.filter(|_| self.pass.is_none() && self.probes < PROBES).map(|next| next.max(self.not_before))
            }
        }
    }

    fn next_parcel(&mut self) -> Option<Parcel> {
        let now = Instant::now();
        while self.plain < CONCURRENCY && self.arrived.len() < BATCH {
            if self.pass.is_none() {
                if !self.again || now < self.not_before {
                    return None;
                }
                (self.again, self.pass) = (false, Some(Pass::default()));
            }
            let pass = self.pass.as_mut()?;
            let Some((key, change)) = pass.page.pop_front() else {
                self.turn_page(now);
                continue;
            };
            if self.under_way.contains(&name(&key)) {
                continue;
            }
            let target = self.cross.shard_of(&change.user);
            let turn = self.rests.turn(target, now);
            if turn != Turn::Go {
                pass.resting.insert(target);
            }
            if turn == Turn::Wait || (turn == Turn::Probe && self.probes == PROBES) {
                pass.passed_over += 1;
                continue;
            }
            let probe = turn == Turn::Probe;
            return Some(Parcel { key, change, target, probe });
        }
        None
    }

    /// Reads more of the pass, or ends it.
    fn turn_page(&mut self, now: Instant) {
        let Some(mut pass) = self.pass.take() else { return };
        if pass.all_read {
            self.rests.keep(&pass.resting);
            // Rows that can't go are read again whenever others may: many of them not all the time.
            if pass.passed_over >= BATCH {
                self.not_before = now + PAUSE_MIN;
            }
            return;
        }
        match machine::outbox_scan(&self.outbox.reader.view(), pass.after.take(), BATCH) {
            Ok(rows) => {
                pass.all_read = rows.len() < BATCH;
                pass.after = rows.last().map(|(key, _)| key.clone());
                pass.page = rows.into();
                self.pass = Some(pass);
            }
            Err(error) => {
                self.outbox.reader.fail("reading the outbox", &error.to_string());
                self.rest(now);
            }
        }
    }

    /// Begins anew after a growing pause.
    fn rest(&mut self, now: Instant) {
        self.again = true;
        self.not_before = now + self.pause;
        self.pause = (self.pause * 2).min(PAUSE_MAX);
    }

    fn dispatch(&mut self, parcel: Parcel) -> BoxFuture<'a, Delivery> {
        let Parcel { key, change, target, probe } = parcel;
        self.under_way.insert(name(&key));
        if probe {
            self.probes += 1;
            self.rests.probing(target);
        } else {
            self.plain += 1;
        }
        let cross = self.cross;
        async move { Delivery { key, target, probe, result: cross.deliver(change).await } }.boxed()
    }

    fn note(&mut self, delivery: Delivery) {
        let Delivery { key, target, probe, result } = delivery;
        *(if probe { &mut self.probes } else { &mut self.plain }) -= 1;
        match result {
            Ok(profile) => {
                if probe {
                    // The rows that were passed over may go.
                    self.again = true;
                }
                self.rests.arrived(target);
                self.arrived.push((key, profile));
            }
            Err(error) => {
                if error.is_strange() {
                    tracing::warn!(thread = %key.thread, user = %key.user, %error, "an outbox row is refused, and tried again");
                } else {
                    tracing::debug!(thread = %key.thread, user = %key.user, %error, "outbox row not delivered yet");
                }
                self.under_way.remove(&name(&key));
                self.rests.failed(target, probe, Instant::now());
            }
        }
    }

    fn removed(&mut self, rows: &[OutboxKey], done: bool) {
        for key in rows {
            self.under_way.remove(&name(key));
        }
        if done {
            self.pause = PAUSE_MIN;
        } else {
            self.rest(Instant::now());
        }
    }
}

async fn at(time: Option<Instant>) {
    match time {
        Some(time) => sleep_until(time).await,
        None => std::future::pending().await,
    }
}

/// Takes delivered rows out of the group's rows, and what was answered into them.
async fn remove(proposer: &Proposer, arrived: Vec<(OutboxKey, Option<Profile>)>) -> (Vec<OutboxKey>, bool) {
    let (mut rows, mut members) = (Vec::with_capacity(arrived.len()), Vec::new());
    for (key, profile) in arrived {
        if let Some(profile) = profile {
            members.push(NewMember { thread: key.thread, user: key.user.clone(), profile });
        }
        rows.push(key);
    }
    let op = Op::OutboxDelivered(OutboxDelivered { rows: rows.clone(), members });
    let command = Command { id: CommandId([0; 16]), retention: Retention::None, body_hash: 0, op };
    let done = matches!(proposer.propose(&command).await, Ok(Proposed::Applied(Ok(_))));
    (rows, done)
}
