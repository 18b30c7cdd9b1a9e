//! A cluster in memory: one node, a few shards, each the real state machine behind a lock.

use crate::audit::Audit;
use crate::auth::{Authenticator, Grant, Scopes, SigningKey};
use crate::config::{LimitsConfig, ProxiesConfig, RateLimitsConfig};
use crate::gateway::cors::Origins;
use crate::gateway::openapi;
use crate::gateway::serve::ServeLimits;
use crate::gateway::{AdmissionLimits, GatewayParts, GatewayState, Revocations, router_with};
use crate::rates::Rates;
use crate::readiness::Phase;
use crate::testing::{MemoryShard, SHARDS, cluster_state, deliver, keys, plain, shard_of};
use axum::body::Body;
use axum::http::{HeaderMap, Method, Request, StatusCode, header};
use bytes::Bytes;
use http_body_util::BodyExt;
use messenger_proto::command::{Command, CommandResult, IndexMembership, Op};
use messenger_proto::ephemeral::PresenceAnswer;
use messenger_proto::ids::{DeviceId, Millis, NodeId, Seq, ShardId, Term, ThreadId, UserId};
use messenger_proto::limits::USER_THREADS_MAX;
use messenger_proto::moderation::Suspend;
use messenger_proto::rpc::{SessionOutcome, ShardCall, ShardOutcome, ShardRequest};
use messenger_proto::slot::Slot;
use messenger_router::{CallError, Router, ShardStream, ShardTransport};
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::sync::watch;
use tokio::time::Instant;
use tower::ServiceExt;

/// 2026-05-30T17:42:11.000Z
pub(super) const START: u64 = 1_780_162_931_000;

/// The one origin whose pages may use the API.
pub(super) const ORIGIN: &str = "https://chat.example";

/// What becomes of the next calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Fault {
    None,
    /// No call reaches a shard.
    NotSent,
    /// Calls are carried out, and their answers lost.
    Lost,
    /// Calls wait until the fault is over.
    Held,
}

/// The shards, and the transport to them.
pub(super) struct Memory {
    shards: Vec<Mutex<MemoryShard>>,
    clock: Arc<AtomicU64>,
    fault: watch::Sender<Fault>,
    commands: AtomicU64,
    held: watch::Sender<usize>,
}

impl Memory {
    /// Returns once so many calls are under way.
    pub(super) async fn held(&self, count: usize) {
        self.held.subscribe().wait_for(|held| *held == count).await.unwrap();
    }

    fn apply(&self, shard: ShardId, command: Command) -> CommandResult {
        self.commands.fetch_add(1, Ordering::SeqCst);
        let stamp = Millis(self.clock.fetch_add(1, Ordering::SeqCst));
        self.shard(shard).apply(stamp, command).0
    }

    fn shard(&self, shard: ShardId) -> MutexGuard<'_, MemoryShard> {
        self.shards[shard.0 as usize].lock().unwrap()
    }

    /// Puts a user into as many threads as there may be, less `room`.
    pub(super) fn fill(&self, user: &str, room: usize) {
        let user = UserId::new(user).unwrap();
        let shard = shard_of(Slot::of_user(&user));
        for number in room..USER_THREADS_MAX {
            let (user, thread) = (user.clone(), ThreadId((number as u128).to_be_bytes()));
            let op = Op::IndexMembership(IndexMembership { user, thread, source_seq: Seq(1), present: true });
            self.apply(shard, plain(op)).unwrap();
        }
    }

    /// Throws an operator's switch.
    pub(super) fn suspend(&self, user: &str, device: Option<&str>, suspended: bool) {
        let (user, device) = (UserId::new(user).unwrap(), device.map(|name| DeviceId::new(name).unwrap()));
        let shard = shard_of(Slot::of_user(&user));
        self.apply(shard, plain(Op::Suspend(Suspend { user, device, suspended }))).unwrap();
    }

    fn carry_out(&self, request: ShardRequest) -> ShardOutcome {
        match request.call {
            ShardCall::Command(command) => match self.apply(request.shard, command) {
                Ok(reply) => {
                    let outbox = self.shard(request.shard).outbox();
                    deliver(request.shard, outbox, |shard, command| self.apply(shard, command));
                    ShardOutcome::Reply(reply)
                }
                Err(refusal) => ShardOutcome::Refused(refusal),
            },
            ShardCall::Query(query) => match self.shard(request.shard).query(&query) {
                Ok(answer) => ShardOutcome::Answer(answer),
                Err(refusal) => ShardOutcome::Refused(refusal),
            },
            ShardCall::Presence(_) => ShardOutcome::Presence(PresenceAnswer { term: Term(1), people: Vec::new() }),
            ShardCall::Session(_) => ShardOutcome::Session(SessionOutcome { replaced: false }),
        }
    }
}

impl ShardTransport for Memory {
    fn local(&self) -> NodeId {
        NodeId(1)
    }

    async fn call(
        &self,
        _node: NodeId,
        requests: Vec<ShardRequest>,
        _deadline: Instant,
    ) -> Vec<Result<ShardOutcome, CallError>> {
        self.held.send_modify(|held| *held += 1);
        let mut fault = self.fault.subscribe();
        let fault = *fault.wait_for(|fault| *fault != Fault::Held).await.unwrap();
        self.held.send_modify(|held| *held -= 1);
        let one = |request| match fault {
            Fault::NotSent => Err(CallError::NotSent("10.0.0.1:7501 refused".into())),
            Fault::Lost => {
                self.carry_out(request);
                Err(CallError::Lost("10.0.0.1:7501 broke off".into()))
            }
            Fault::None | Fault::Held => Ok(self.carry_out(request)),
        };
        requests.into_iter().map(one).collect()
    }

    async fn open(&self, _node: NodeId, _shard: ShardId) -> Result<ShardStream, CallError> {
        Err(CallError::NotSent("no streams here".into()))
    }
}

/// An HTTP answer.
#[derive(Debug)]
pub(super) struct Answer {
    pub(super) status: StatusCode,
    pub(super) headers: HeaderMap,
    pub(super) body: Bytes,
}

impl Answer {
    pub(super) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|_| panic!("not JSON: {:?}", self.body))
    }

    fn json_member(&self, name: &str) -> Option<String> {
        let value: Value = serde_json::from_slice(&self.body).ok()?;
        value[name].as_str().map(str::to_owned)
    }

    pub(super) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// Takes a success's JSON.
    pub(super) fn expect(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{:?}", self.body);
        assert_eq!(self.header("content-type"), Some("application/json"));
        assert_eq!(self.header("cache-control"), Some("private, no-cache"));
        self.json()
    }

    /// Takes a success without a body.
    pub(super) fn expect_empty(self, status: u16) -> Self {
        assert_eq!(self.status, status, "{:?}", self.body);
        assert!(self.body.is_empty());
        self
    }

    /// Takes a problem document and checks what every one holds.
    pub(super) fn problem(self, status: u16, code: &str) -> Value {
        assert_eq!(self.status, status, "{:?}", self.body);
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
        let problem = self.json();
        assert_eq!((&problem["status"], &problem["code"]), (&json!(status), &json!(code)));
        assert_eq!(problem["trace_id"].as_str(), self.header("x-request-id"));
        for member in ["type", "title", "detail", "instance", "timestamp"] {
            assert!(problem[member].as_str().is_some_and(|text| !text.is_empty()), "{member} in {problem}");
        }
        assert_eq!(self.headers.contains_key("www-authenticate"), matches!(status, 401) || code == "missing_scope");
        assert_eq!(self.headers.contains_key("retry-after"), matches!(status, 429 | 503));
        assert!(!problem.to_string().contains("10.0.0.1"), "{problem}");
        problem
    }

    /// Takes an `invalid_request` and gives the names of its bad fields, sorted.
    pub(super) fn bad_fields(self) -> Vec<String> {
        let problem = self.problem(400, "invalid_request");
        let errors = problem["errors"].as_array().unwrap().iter();
        let mut fields: Vec<String> = errors.map(|error| error["field"].as_str().unwrap().to_owned()).collect();
        fields.sort();
        fields
    }
}

/// The gateway under test.
pub(super) struct World {
    pub(super) app: axum::Router,
    pub(super) memory: Arc<Memory>,
    pub(super) phase: watch::Sender<Phase>,
    pub(super) rates: Rates,
    clock: Arc<AtomicU64>,
    key: SigningKey,
}

/// One device of a user, as a client.
pub(super) struct Client<'a> {
    world: &'a World,
    token: String,
}

pub(super) fn world() -> World {
    world_with(admission(), axum::Router::new())
}

/// What a node takes on unless it is configured otherwise.
pub(super) fn admission() -> AdmissionLimits {
    AdmissionLimits::of(&LimitsConfig::default())
}

/// A listener's limits with as many connections as a node takes unless it is configured otherwise.
pub(super) fn serving() -> ServeLimits {
    ServeLimits::new(LimitsConfig::default().connections as usize)
}

pub(super) fn world_with(admission: AdmissionLimits, more: axum::Router<GatewayState>) -> World {
    made(admission, more, &RateLimitsConfig::never_met(), Audit::default())
}

pub(super) fn world_limited(limits: &RateLimitsConfig) -> World {
    made(admission(), axum::Router::new(), limits, Audit::default())
}

/// A world whose writes are recorded.
pub(super) fn world_audited(audit: &Audit) -> World {
    made(admission(), axum::Router::new(), &RateLimitsConfig::never_met(), audit.clone())
}

fn made(
    admission: AdmissionLimits,
    more: axum::Router<GatewayState>,
    limits: &RateLimitsConfig,
    audit: Audit,
) -> World {
    let clock = Arc::new(AtomicU64::new(START));
    let fault = watch::Sender::new(Fault::None);
    let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
    let memory = Arc::new(Memory {
        shards,
        clock: Arc::clone(&clock),
        fault,
        commands: AtomicU64::new(0),
        held: watch::Sender::new(0),
    });
    let (cluster, cluster_watch) = watch::channel(Arc::new(cluster_state()));
    // The record never changes; the watch keeps its last value.
    drop(cluster);
    let (key, known) = keys();
    let read_clock = Arc::clone(&clock);
    let now: crate::auth::Clock = Arc::new(move || Millis(read_clock.load(Ordering::SeqCst)));
    let rates = Rates::new(limits, &ProxiesConfig::default(), Arc::clone(&now));
    let (phase, phase_watch) = watch::channel(Phase::Ready);
    let router = Router::new(Arc::clone(&memory), cluster_watch.clone());
    let parts = GatewayParts {
        tell: Arc::new(|_| {}),
        revocations: Revocations::new(router.clone()),
        router,
        authenticator: Arc::new(Authenticator::new(known, Arc::clone(&now))),
        cluster: cluster_watch,
        rates: rates.clone(),
        clock: now,
        phase: phase_watch,
        deadline: Duration::from_millis(400),
        admission,
        origins: Origins::new(&[ORIGIN.into()]),
        audit,
    };
    World { app: router_with(GatewayState::new(parts), more), memory, phase, rates, clock, key }
}

impl World {
    pub(super) fn client(&self, user: &str) -> Client<'_> {
        self.device(user, "phone")
    }

    pub(super) fn device(&self, user: &str, device: &str) -> Client<'_> {
        self.client_with(user, device, Scopes::ALL)
    }

    pub(super) fn client_with(&self, user: &str, device: &str, scopes: Scopes) -> Client<'_> {
        self.issued(user, device, scopes, START)
    }

    /// A device with a token of this moment.
    pub(super) fn device_now(&self, user: &str, device: &str) -> Client<'_> {
        self.issued(user, device, Scopes::ALL, self.clock.load(Ordering::SeqCst))
    }

    fn issued(&self, user: &str, device: &str, scopes: Scopes, at: u64) -> Client<'_> {
        let grant = Grant {
            user: UserId::new(user).unwrap(),
            device: DeviceId::new(device).unwrap(),
            scopes,
            lifetime: Duration::from_hours(1),
        };
        Client { world: self, token: self.key.mint(&grant, Millis(at)).unwrap() }
    }

    /// A client with whatever for a token.
    pub(super) fn bearing(&self, token: &str) -> Client<'_> {
        Client { world: self, token: token.to_owned() }
    }

    pub(super) fn advance(&self, ms: u64) {
        self.clock.fetch_add(ms, Ordering::SeqCst);
    }

    pub(super) fn fault(&self, fault: Fault) {
        self.memory.fault.send_replace(fault);
    }

    /// Commands that shards were given so far, their own upkeep included.
    pub(super) fn commands(&self) -> u64 {
        self.memory.commands.load(Ordering::SeqCst)
    }

    pub(super) async fn request(&self, request: Request<Body>) -> Answer {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = body.collect().await.unwrap().to_bytes();
        assert!(parts.headers.contains_key("x-request-id"), "every answer has one");
        let answer = Answer { status: parts.status, headers: parts.headers, body };
        documented(&method, &path, &answer);
        answer
    }
}

/// Holds an answer against what the OpenAPI document says of the route.
fn documented(method: &Method, path: &str, answer: &Answer) {
    let Some(operation) = openapi::find(method.as_str(), path) else { return };
    let (status, code) = (answer.status.as_u16(), answer.json_member("code"));
    let schema = operation.answer(status);
    let schema = schema.unwrap_or_else(|| panic!("{method} {path} may not answer {status} {code:?}"));
    headers_documented(operation, method, path, answer);
    if schema.is_null() || answer.headers.contains_key("content-encoding") {
        return;
    }
    openapi::check(&schema, &answer.json());
    if let (400.., Some(code)) = (status, code) {
        assert!(operation.codes().contains(code.as_str()), "{method} {path} may not answer {code}");
    }
}

/// Holds an answer's headers against what the document says of it, both ways.
fn headers_documented(operation: &openapi::Operation, method: &Method, path: &str, answer: &Answer) {
    let status = answer.status.as_u16();
    let described = openapi::headers_of(operation, status);
    for header in &described {
        let there = answer.headers.contains_key(header.name);
        assert!(there || !header.required, "{method} {path} answers {status} without {}", header.name);
    }
    for header in openapi::known_headers().filter(|header| answer.headers.contains_key(header.name)) {
        let known = described.iter().any(|described| described.name == header.name);
        assert!(known, "{method} {path} may not answer {status} with {}", header.name);
    }
}

impl Client<'_> {
    pub(super) fn token(&self) -> &str {
        &self.token
    }

    pub(super) async fn request(&self, method: Method, path: &str, headers: &[(&str, &str)], body: Body) -> Answer {
        let mut request = Request::builder().method(method).uri(path);
        if !headers.iter().any(|(name, _)| name.eq_ignore_ascii_case("authorization")) {
            request = request.header(header::AUTHORIZATION, format!("Bearer {}", self.token));
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.world.request(request.body(body).unwrap()).await
    }

    pub(super) async fn get(&self, path: &str) -> Answer {
        self.request(Method::GET, path, &[], Body::empty()).await
    }

    pub(super) async fn delete(&self, path: &str) -> Answer {
        self.request(Method::DELETE, path, &[], Body::empty()).await
    }

    pub(super) async fn patch(&self, path: &str, body: &Value) -> Answer {
        let headers = [("content-type", "application/json")];
        self.request(Method::PATCH, path, &headers, Body::from(body.to_string())).await
    }

    /// A POST of JSON without an Idempotency-Key.
    pub(super) async fn post(&self, path: &str, body: &Value) -> Answer {
        self.post_text(path, &[], &body.to_string()).await
    }

    /// A POST of JSON with an Idempotency-Key.
    pub(super) async fn post_as(&self, key: &str, path: &str, body: &Value) -> Answer {
        self.post_text(path, &[("Idempotency-Key", key)], &body.to_string()).await
    }

    pub(super) async fn post_text(&self, path: &str, headers: &[(&str, &str)], body: &str) -> Answer {
        let mut all = vec![("content-type", "application/json")];
        all.extend_from_slice(headers);
        self.request(Method::POST, path, &all, Body::from(body.to_owned())).await
    }

    /// Makes a group and gives its id.
    pub(super) async fn group(&self, others: &[&str]) -> String {
        let body = json!({"type": "GROUP", "participants": others});
        self.post("/v1/threads", &body).await.expect(201)["id"].as_str().unwrap().to_owned()
    }

    /// Makes a pair's thread and gives its id.
    pub(super) async fn pair(&self, other: &str) -> String {
        let body = json!({"type": "1_TO_1", "participants": [other]});
        let answer = self.post("/v1/threads", &body).await;
        assert!(matches!(answer.status.as_u16(), 200 | 201));
        answer.json()["id"].as_str().unwrap().to_owned()
    }

    /// Sends a message under a number and gives its id.
    pub(super) async fn say(&self, thread: &str, client_seq: u64) -> String {
        let (key, path) = (format!("k{client_seq}"), format!("/v1/threads/{thread}/messages"));
        let body = json!({"client_seq": client_seq, "ciphertext": "aGk="});
        self.post_as(&key, &path, &body).await.expect(202)["id"].as_str().unwrap().to_owned()
    }
}
