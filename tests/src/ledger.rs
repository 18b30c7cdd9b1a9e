//! What a run has seen of the API, held against all that there is.
//!
//! Owns: noting each answer, frame and close code of the clients it watches, and what of the served documents is missing.
//! Must not know: which requests make an answer come about.
//! Invariants: every answer and frame that it notes is as the documents describe it; what came from the node that leads
//! the shard in question is not noted, so a row counts only once it was reached through another node.

use crate::described::{Described, Operation, Way};
use crate::http::Answer;
use crate::workspace;
use http::Method;
use messenger_proto::ids::{MessageId, ThreadId, UserId};
use messenger_proto::slot::{Slot, SlotMap};
use serde_json::Value;
use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Headers that tell a client of a limited route where it stands.
const LIMIT_HEADERS: [&str; 6] = [
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-window",
];
/// Refusals that are given before it is known which route is asked for.
const BEFORE_ROUTING: [&str; 4] = ["headers_too_large", "body_too_large", "overloaded", "unavailable"];

/// Refusals that have nothing to do with what is asked for: seen once they are seen at all.
const OF_ANY_ROW: [&str; 9] = [
    "token_expired",
    "device_revoked",
    "suspended",
    "rate_limited",
    "headers_too_large",
    "internal",
    "overloaded",
    "unavailable",
    "outcome_unknown",
];

/// One thing of the API.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Item {
    /// A row, by its method and path, and a status of success.
    Row(String, u16),
    /// An error's code, whatever was asked for.
    Code(String),
    /// A row, and the code of one of its problems.
    Problem(String, String),
    /// A frame of a node's.
    Shown(String),
    /// A frame of a client's.
    Said(String),
    /// A close code.
    Closed(u16),
}

/// What another test sees, and why this run doesn't.
#[derive(Debug, Clone, Copy)]
pub struct Elsewhere {
    /// Makes the thing.
    pub item: fn() -> Item,
    /// Why it cannot come about in a run of seconds.
    pub why: &'static str,
    /// The test's file, from the workspace's root.
    pub file: &'static str,
    /// The test.
    pub test: &'static str,
}

impl Elsewhere {
    /// What is wrong with what it says, if anything is.
    fn complaint(&self) -> Option<String> {
        let path = workspace::root().join(self.file);
        let Ok(text) = std::fs::read_to_string(&path) else { return Some(format!("there is no {}", self.file)) };
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let named = format!("fn {}()", self.test);
        let Some(at) = lines.iter().position(|line| line.contains(&named)) else {
            return Some(format!("{} holds no {named}", self.file));
        };
        let mut above = lines[..at].iter().rev().take_while(|line| line.starts_with("#["));
        let is_test = above.any(|line| line.starts_with("#[test]") || line.starts_with("#[tokio::test"));
        (!is_test).then(|| format!("{named} in {} is no test", self.file))
    }
}

/// What was seen.
#[derive(Debug)]
pub struct Ledger {
    described: Described,
    map: SlotMap,
    /// The client address of each shard's leader.
    leaders: Vec<SocketAddr>,
    seen: Mutex<BTreeSet<Item>>,
}

/// One client of which a ledger is kept.
#[derive(Debug, Clone)]
pub struct Watch {
    ledger: Arc<Ledger>,
    addr: SocketAddr,
    user: Arc<str>,
}

impl Ledger {
    /// An empty ledger of a cluster whose shards these nodes lead.
    ///
    /// # Panics
    /// When there is no shard.
    #[must_use]
    pub fn new(described: Described, leaders: Vec<SocketAddr>) -> Arc<Self> {
        let shards = u32::try_from(leaders.len()).expect("there are few shards");
        let map = SlotMap::new(shards).expect("there are shards");
        Arc::new(Self { described, map, leaders, seen: Mutex::default() })
    }

    /// What the nodes serve.
    #[must_use]
    pub fn described(&self) -> &Described {
        &self.described
    }

    /// Watches a user's client of the node at `addr`.
    #[must_use]
    pub fn watch(self: &Arc<Self>, addr: SocketAddr, user: &str) -> Watch {
        Watch { ledger: Arc::clone(self), addr, user: user.into() }
    }

    /// The leader of a slot's shard.
    #[must_use]
    pub fn leader(&self, slot: Slot) -> SocketAddr {
        self.leaders[self.map.shard_of(slot).0 as usize]
    }

    /// Whether something was seen already.
    #[must_use]
    pub fn has(&self, item: &Item) -> bool {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).contains(item)
    }

    /// The client address of each shard's leader.
    #[must_use]
    pub fn leaders(&self) -> &[SocketAddr] {
        &self.leaders
    }

    fn note(&self, item: Item) {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner).insert(item);
    }

    /// All that the documents name.
    #[must_use]
    pub fn wanted(&self) -> BTreeSet<Item> {
        let described = &self.described;
        let row = |operation: &Operation| {
            let name = name_of(operation);
            let answers = operation.answers.keys().filter(|status| **status < 400);
            answers.map(|status| Item::Row(name.clone(), *status)).collect::<Vec<_>>()
        };
        let problems = |operation: &Operation| {
            let (name, codes) = (name_of(operation), operation.answers.values().flat_map(|answer| &answer.codes));
            let of_this_row = codes.filter(|code| !OF_ANY_ROW.contains(&code.as_str()));
            of_this_row.map(|code| Item::Problem(name.clone(), code.clone())).collect::<Vec<_>>()
        };
        let rows = described.operations().iter().flat_map(|operation| [row(operation), problems(operation)].concat());
        let codes = described.codes().into_iter().map(Item::Code);
        let shown = described.frames(Way::FromNode).into_keys().map(Item::Shown);
        let said = described.frames(Way::FromClient).into_keys().map(Item::Said);
        let closed = described.close_codes().into_iter().map(Item::Closed);
        rows.chain(codes).chain(shown).chain(said).chain(closed).collect()
    }

    /// Checks that everything was seen, here or by a test that is named, and nothing is named without need.
    ///
    /// # Panics
    /// When something is missing, or a test that is named.
    pub fn close(&self, elsewhere: &[Elsewhere]) {
        let complaints = self.complaints(elsewhere);
        assert!(complaints.is_empty(), "{complaints:#?}");
    }

    fn complaints(&self, elsewhere: &[Elsewhere]) -> Vec<String> {
        let (wanted, seen) = (self.wanted(), self.seen.lock().unwrap_or_else(PoisonError::into_inner).clone());
        let named: BTreeSet<Item> = elsewhere.iter().map(|other| (other.item)()).collect();
        let is_named = |item: &Item| match item {
            Item::Problem(_, code) => named.contains(&Item::Code(code.clone())),
            item => named.contains(item),
        };
        let is_known = |item: &Item| match item {
            Item::Problem(_, code) => OF_ANY_ROW.contains(&code.as_str()) || wanted.contains(item),
            item => wanted.contains(item),
        };
        let missing = wanted.iter().filter(|item| !seen.contains(item) && !is_named(item));
        let missing = missing.map(|item| format!("not seen through a node that does not lead it: {item:?}"));
        let strange = seen.iter().filter(|item| !is_known(item));
        let strange = strange.map(|item| format!("seen, and no document names it: {item:?}"));
        let idle = named.iter().filter(|item| seen.contains(item) || !wanted.contains(item));
        let idle = idle.map(|item| format!("said to be seen elsewhere, but seen here or not there at all: {item:?}"));
        missing.chain(strange).chain(idle).chain(elsewhere.iter().filter_map(Elsewhere::complaint)).collect()
    }
}

fn name_of(operation: &Operation) -> String {
    format!("{} {}", operation.method, operation.path)
}

fn slot_of_user(user: &str) -> Option<Slot> {
    user.parse::<UserId>().ok().map(|user| Slot::of_user(&user))
}

impl Watch {
    /// The same user's client of another node.
    #[must_use]
    pub fn at(&self, addr: SocketAddr) -> Self {
        Self { addr, ..self.clone() }
    }

    /// Notes a thing of a slot's, unless this node leads it.
    fn note(&self, slot: Option<Slot>, item: Item) {
        if slot.is_none_or(|slot| self.ledger.leader(slot) != self.addr) {
            self.ledger.note(item);
        }
    }

    /// Checks and notes an answer.
    ///
    /// # Panics
    /// When it is not as described.
    pub(crate) fn answered(&self, method: &Method, path: &str, answer: &Answer) {
        let what = format!("{method} {path}: {}", answer.status);
        let status = answer.status.as_u16();
        let id = answer.header("x-request-id").unwrap_or_default();
        assert!(id.len() == 32 && id.bytes().all(|byte| byte.is_ascii_hexdigit()), "{what} has no X-Request-Id");
        assert!(answer.header("allow").is_some() || !(status == 405 || *method == Method::OPTIONS), "{what}: no Allow");
        assert_eq!(answer.header("retry-after").is_some(), matches!(status, 429 | 503), "{what}: Retry-After");
        if *method == Method::HEAD || *method == Method::OPTIONS {
            assert!(answer.body.is_empty(), "{what} has a body");
            return;
        }
        let cached = answer.header("cache-control").unwrap_or_default();
        let open = self.ledger.described.find(method, path).is_some_and(|operation| operation.is_open);
        let may_be: &[&str] =
            if open { &["public, max-age=300", "no-store"] } else { &["private, no-cache", "no-store"] };
        assert!(status >= 400 || may_be.contains(&cached), "{what}: Cache-Control is {cached:?}");
        let body = answer.json();
        let code = body["code"].as_str().filter(|_| status >= 400);
        if status >= 400 {
            answer.expect_problem(status, code.unwrap_or_default());
        }
        let challenged = status == 401 || code == Some("missing_scope");
        assert_eq!(answer.header("www-authenticate").is_some(), challenged, "{what}: WWW-Authenticate");
        let slot = self.slot_of(path, &body);
        if let Some(code) = code {
            self.note(slot, Item::Code(code.to_owned()));
        }
        let Some(operation) = self.ledger.described.find(method, path) else { return };
        let outcome = operation.answers.get(&status);
        let outcome = outcome.unwrap_or_else(|| panic!("{what} {code:?} is not described"));
        if let Some(code) = code {
            assert!(outcome.codes.contains(code), "{what}: {code} is not described");
            self.note(slot, Item::Problem(name_of(operation), code.to_owned()));
        }
        if let Some(schema) = &outcome.schema {
            let kind = if status < 400 { "application/json" } else { "application/problem+json" };
            assert_eq!(answer.header("content-type"), Some(kind), "{what}");
            self.ledger.described.check(schema, &body, &what);
        } else if status == 204 || status == 304 {
            assert!(answer.body.is_empty(), "{what} has a body");
        }
        let is_limited = !operation.is_open && operation.scope.is_some();
        if is_limited && !code.is_some_and(|code| BEFORE_ROUTING.contains(&code)) {
            let missing: Vec<_> = LIMIT_HEADERS.iter().filter(|name| answer.header(name).is_none()).collect();
            assert!(missing.is_empty(), "{what} has no {missing:?}");
        }
        if status < 400 {
            self.note(slot, Item::Row(name_of(operation), status));
        }
    }

    /// The slot that a request is about: that of the thread or message it names or makes, or of a user.
    fn slot_of(&self, path: &str, answer: &Value) -> Option<Slot> {
        let path = path.split('?').next().unwrap_or(path);
        let parts: Vec<&str> = path.trim_start_matches('/').split('/').collect();
        match parts[..] {
            ["v1", "threads"] => match answer["id"].as_str().map(str::parse::<ThreadId>) {
                Some(Ok(thread)) => Some(Slot::of_thread(thread)),
                _ => slot_of_user(&self.user),
            },
            ["v1", "threads", thread, ..] => thread.parse().ok().map(Slot::of_thread),
            ["v1", "messages", message, ..] => message.parse().ok().map(Slot::of_message),
            ["v1", "users", "me", ..] | ["v1", "reports" | "realtime"] => slot_of_user(&self.user),
            ["v1", "users", user, ..] => slot_of_user(user),
            _ => None,
        }
    }

    /// Notes an opened connection.
    pub(crate) fn connected(&self) {
        self.note(slot_of_user(&self.user), Item::Row("GET /v1/realtime".into(), 101));
    }

    /// Checks and notes a frame of the node's.
    ///
    /// # Panics
    /// When it is not as described.
    pub(crate) fn shown(&self, frame: &Value) {
        let kind = self.checked(Way::FromNode, frame);
        if let Some(code) = frame["code"].as_str().filter(|_| kind == "error") {
            self.note(slot_of_user(&self.user), Item::Code(code.to_owned()));
        }
        self.note(self.slot_of_frame(frame), Item::Shown(kind));
    }

    /// Checks and notes a frame of the client's.
    ///
    /// # Panics
    /// When it is not as described.
    pub(crate) fn said(&self, frame: &Value) {
        let kind = self.checked(Way::FromClient, frame);
        self.note(self.slot_of_frame(frame), Item::Said(kind));
    }

    fn checked(&self, way: Way, frame: &Value) -> String {
        let kind = frame["t"].as_str().unwrap_or_default().to_owned();
        let frames = self.ledger.described.frames(way);
        let schema = frames.get(&kind).unwrap_or_else(|| panic!("no such frame is described: {frame}"));
        self.ledger.described.check(schema, frame, &kind);
        kind
    }

    /// The slot that a frame is about: that of its thread, or of the user it tells of or is told to.
    fn slot_of_frame(&self, frame: &Value) -> Option<Slot> {
        let thread = frame["thread_id"].as_str().and_then(|thread| thread.parse::<ThreadId>().ok());
        let message = frame["id"].as_str().and_then(|id| id.parse::<MessageId>().ok());
        thread
            .map(Slot::of_thread)
            .or_else(|| message.map(Slot::of_message))
            .or_else(|| slot_of_user(frame["user_id"].as_str().unwrap_or(&self.user)))
    }

    /// Notes how the node closed the connection.
    pub(crate) fn closed(&self, code: u16) {
        self.note(slot_of_user(&self.user), Item::Closed(code));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use http::{HeaderMap, HeaderValue, StatusCode};
    use serde_json::json;
    use std::net::Ipv4Addr;

    const HERE: Elsewhere = Elsewhere {
        item: || Item::Closed(4408),
        why: "it takes too long",
        file: "tests/src/ledger.rs",
        test: "all_is_well_once_everything_was_seen_or_named",
    };

    fn addr(port: u16) -> SocketAddr {
        (Ipv4Addr::LOCALHOST, port).into()
    }

    /// A ledger of one row, one code, a frame each way and a close code; the node of port 1 leads everything.
    fn ledger() -> Arc<Ledger> {
        let kinds = |kind: &str| json!([{"name": kind, "payload": {"type": "object", "properties": {"t": {"const": kind}}, "required": ["t"]}}]);
        let openapi = json!({
            "paths": {"/v1/threads/{thread_id}": {"get": {
                "security": [],
                "responses": {"200": {"content": {"application/json": {"schema": {"$ref": "#/components/schemas/Row"}}}}},
            }}},
            "components": {"schemas": {
                "ErrorCode": {"enum": []},
                "Row": {"type": "object", "properties": {"id": {"type": "string"}}, "required": ["id"]},
            }},
        });
        let asyncapi = json!({
            "channels": {"realtime": {"x-close-codes": [{"code": 4408}]}},
            "operations": {"fromNode": {"messages": kinds("hello")}, "fromClient": {"messages": kinds("pong")}},
        });
        Ledger::new(Described::new(openapi, asyncapi), vec![addr(1)])
    }

    fn answer(body: &Value) -> Answer {
        let pairs = [("x-request-id", "0123456789abcdef0123456789abcdef"), ("cache-control", "no-store")];
        let mut headers = HeaderMap::new();
        for (name, value) in pairs.into_iter().chain([("content-type", "application/json")]) {
            headers.insert(name, HeaderValue::from_static(value));
        }
        Answer { status: StatusCode::OK, headers, body: Bytes::from(body.to_string()) }
    }

    fn see(ledger: &Arc<Ledger>, port: u16) {
        let watch = ledger.watch(addr(port), "alice");
        let path = format!("/v1/threads/{}", uuid::Uuid::nil());
        watch.answered(&Method::GET, &path, &answer(&json!({"id": "x"})));
        watch.shown(&json!({"t": "hello"}));
        watch.said(&json!({"t": "pong"}));
    }

    #[test]
    fn all_is_well_once_everything_was_seen_or_named() {
        let ledger = ledger();
        see(&ledger, 2);
        assert_eq!(ledger.complaints(&[HERE]), Vec::<String>::new());
    }

    #[test]
    fn what_the_leader_itself_answered_does_not_count() {
        let ledger = ledger();
        see(&ledger, 1);
        assert_eq!(ledger.complaints(&[HERE]).len(), 3);
    }

    #[test]
    fn what_is_named_must_be_there_and_be_needed() {
        let seen_here = ledger();
        see(&seen_here, 2);
        seen_here.watch(addr(2), "alice").closed(4408);
        assert_eq!(seen_here.complaints(&[HERE]).len(), 1);
        assert_eq!(seen_here.complaints(&[]), Vec::<String>::new());
        let ledger = ledger();
        see(&ledger, 2);
        for (file, test) in [("tests/src/nowhere.rs", HERE.test), (HERE.file, "no_such_test"), (HERE.file, "ledger")] {
            assert_eq!(ledger.complaints(&[Elsewhere { file, test, ..HERE }]).len(), 1, "{file} {test}");
        }
    }

    #[test]
    fn what_no_document_names_is_noticed() {
        let ledger = ledger();
        see(&ledger, 2);
        ledger.watch(addr(2), "alice").closed(1002);
        assert_eq!(ledger.complaints(&[HERE]).len(), 1);
    }

    #[test]
    #[should_panic(expected = "is not as described")]
    fn a_member_that_is_not_described_is_noticed() {
        let path = format!("/v1/threads/{}", uuid::Uuid::nil());
        ledger().watch(addr(2), "alice").answered(&Method::GET, &path, &answer(&json!({"id": "x", "more": 1})));
    }
}
