//! A device that calls one node after another, and knows of each operation how it ended.
//!
//! Owns: single attempts through random nodes, insisting on one operation, and what its end may mean.
//! Must not know: faults, or what is asked for.
//! Invariants: an operation counts as without effect only when every attempt surely was; every wait ends.

use crate::history::{Clock, Fate, Tick};
use messenger_client::{
    ClientError, HistoryQuery, Message, Pause, Problem, Rest, RestConfig, Servers, ThreadSummary, TokenSource,
};
use messenger_proto::ids::ThreadId;
use messenger_tests::cluster::Cluster;
use rand::RngExt;
use rand::rngs::StdRng;
use std::time::Duration;

/// How long a caller insists on one operation.
const INSIST: Duration = Duration::from_secs(90);
/// How long one attempt may take.
const ATTEMPT: Duration = Duration::from_secs(10);
/// Between two attempts.
const PAUSE: Duration = Duration::from_millis(25);
/// Longer than any attempt, so that the client itself never makes a second one: each is to be known by itself.
const NEVER: Duration = Duration::from_hours(1);
/// How long a question after the run may take.
const AFTERWARDS: Duration = Duration::from_mins(1);

/// How an operation ended.
#[derive(Debug)]
pub enum End<T> {
    /// It was acknowledged.
    Done(T),
    /// The cluster said no, for good.
    Refused(Box<Problem>),
    /// The caller gave up.
    GivenUp,
}

/// An operation and all its attempts.
#[derive(Debug)]
pub struct Insisted<T> {
    /// Before the first attempt.
    pub began: Tick,
    /// After the last answer.
    pub ended: Tick,
    /// Whether the outcome of some attempt before the last is unknown: it may still come into force later.
    pub doubted: bool,
    /// How it ended.
    pub end: End<T>,
}

impl<T> Insisted<T> {
    /// What that means for what is there afterwards.
    #[must_use]
    pub fn fate(&self) -> Fate {
        match &self.end {
            End::Done(_) => Fate::Acknowledged,
            _ if self.doubted => Fate::Unknown,
            End::Refused(problem) => Fate::Refused(problem.code.clone()),
            End::GivenUp => Fate::Refused("unavailable".into()),
        }
    }
}

/// A user's device.
pub struct Caller {
    /// Its user.
    pub user: String,
    clock: Clock,
    nodes: Vec<Rest>,
}

impl Caller {
    /// A device of `user`.
    #[must_use]
    pub fn new(cluster: &Cluster, user: &str, device: &str, clock: Clock) -> Self {
        Self { user: user.to_owned(), clock, nodes: clients(cluster, user, device, ATTEMPT, NEVER) }
    }

    /// Tries an operation through one node after another, beginning with a random one, until it has come to an end; the
    /// faint-hearted give up at the first doubt.
    ///
    /// # Panics
    /// When an answer is not what the contract says.
    pub async fn insist<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        random: &mut StdRng,
        faint_hearted: f64,
        attempt: impl Fn(Rest) -> F,
    ) -> Insisted<T> {
        let mut at = random.random_range(0..self.nodes.len());
        let faint_hearted = random.random_bool(faint_hearted);
        let began = self.clock.now();
        let deadline = tokio::time::Instant::now() + INSIST;
        let mut doubted = false;
        let end = loop {
            match attempt(self.nodes[at].clone()).await {
                Ok(done) => break End::Done(done),
                Err(error) if error.retryable() => doubted |= error.may_have_had_effects(),
                Err(ClientError::Refused(problem)) => break End::Refused(problem),
                Err(error) => panic!("{}: {error}", self.user),
            }
            if (doubted && faint_hearted) || tokio::time::Instant::now() > deadline {
                break End::GivenUp;
            }
            at = (at + 1) % self.nodes.len();
            tokio::time::sleep(PAUSE).await;
        };
        Insisted { began, ended: self.clock.now(), doubted, end }
    }

    /// One attempt of a question through a random node, with when it was asked and answered; `None` without an answer.
    pub async fn ask<T, F: Future<Output = Result<T, ClientError>>>(
        &self,
        random: &mut StdRng,
        question: impl Fn(Rest) -> F,
    ) -> Option<(Tick, T, Tick)> {
        let at = random.random_range(0..self.nodes.len());
        let began = self.clock.now();
        let answer = question(self.nodes[at].clone()).await.ok()?;
        Some((began, answer, self.clock.now()))
    }
}

/// One client per node, for questions after the run, when every node is up: each insists on its node's answer.
#[must_use]
pub fn afterwards(cluster: &Cluster, user: &str, device: &str) -> Vec<(u16, Rest)> {
    cluster.nodes().zip(clients(cluster, user, device, AFTERWARDS, PAUSE)).collect()
}

fn clients(cluster: &Cluster, user: &str, device: &str, deadline: Duration, pause: Duration) -> Vec<Rest> {
    let token = TokenSource::fixed(&cluster.key().token(user, device));
    let client = |node| {
        let url = cluster.client_addr(node).to_string().parse().expect("a node listens at an address");
        let servers = Servers::new(vec![url]).expect("one is enough");
        let pause = Pause { first: pause, ceiling: pause };
        Rest::new(RestConfig { deadline, attempt: ATTEMPT, pause, ..RestConfig::new(servers, token.clone()) })
    };
    cluster.nodes().map(client).collect()
}

/// A thread's id as the client has it.
#[must_use]
pub fn thread_id(thread: &str) -> ThreadId {
    thread.parse().expect("a thread id is a UUID")
}

/// A thread's whole history, oldest first, page by page, as a node tells it.
///
/// # Panics
/// When the node does not answer.
pub async fn history(rest: &Rest, thread: &str) -> Vec<Message> {
    let mut newest_first = Vec::new();
    let mut query = HistoryQuery { page_size: Some(100), ..HistoryQuery::default() };
    loop {
        let page = rest.messages(thread_id(thread), &query).await.expect("a node answers after the run");
        newest_first.extend(page.messages);
        query.cursor = page.next_cursor;
        if query.cursor.is_none() {
            break;
        }
    }
    newest_first.reverse();
    newest_first
}

/// All threads of a client's user, page by page, as a node tells it.
///
/// # Panics
/// When the node does not answer.
pub async fn threads(rest: &Rest) -> Vec<ThreadSummary> {
    let mut all = Vec::new();
    let mut cursor = None;
    loop {
        let page = rest.threads(Some(100), cursor.as_deref()).await.expect("a node answers after the run");
        all.extend(page.threads);
        cursor = page.next_cursor;
        if cursor.is_none() {
            return all;
        }
    }
}
