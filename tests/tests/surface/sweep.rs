//! What holds for every route, asked of each route that a node describes.

use crate::scene::{EMOJI, Scene, ids_of, saying};
use bytes::Bytes;
use http::Method;
use messenger_proto::ids::MessageId;
use messenger_proto::slot::{SLOT_COUNT, Slot};
use messenger_tests::described::Operation;
use messenger_tests::device::{Device, text, unique};
use messenger_tests::http::Answer;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};

const METHODS: [Method; 5] = [Method::GET, Method::POST, Method::PUT, Method::PATCH, Method::DELETE];
/// Bits of a message id below its slot.
const BELOW_SLOT: u32 = 18 + 48;

/// What paths and bodies are filled with.
#[derive(Clone)]
struct Named {
    thread: String,
    message: String,
    user: String,
}

impl Named {
    /// A path with its names filled in, one of them otherwise.
    fn path(&self, template: &str, otherwise: (&str, &str)) -> String {
        let fill = |part: &str| match part {
            part if part.starts_with('{') && part == otherwise.0 => otherwise.1.to_owned(),
            "{thread_id}" => self.thread.clone(),
            "{message_id}" => self.message.clone(),
            "{user_id}" => self.user.clone(),
            "{device_id}" => "phone".to_owned(),
            "{emoji}" => EMOJI.1.to_owned(),
            other => other.to_owned(),
        };
        template.split('/').map(fill).collect::<Vec<_>>().join("/")
    }

    /// The documented example, about what is named here.
    fn body(&self, operation: &Operation) -> Option<Value> {
        let mut body = operation.example.clone()?;
        for member in ["message_id", "up_to_msg_id"] {
            if body.get(member).is_some() {
                body[member] = json!(self.message);
            }
        }
        Some(body)
    }

    /// The same message id, but for its lowest bit: of the same thread, and never given.
    fn no_such_message(&self) -> Self {
        let id: MessageId = self.message.parse().expect("a message id");
        Self { message: MessageId(id.0 ^ 1).to_string(), ..self.clone() }
    }

    /// A thread that was never made, and a message as it might have.
    fn no_such_thread(&self, scene: &Scene) -> Self {
        let thread = scene.no_such_thread();
        let id: MessageId = self.message.parse().expect("a message id");
        let slots = u128::from(SLOT_COUNT - 1) << BELOW_SLOT;
        let id = MessageId(id.0 & !slots | u128::from(Slot::of_thread(thread).get()) << BELOW_SLOT);
        Self { thread: thread.to_string(), message: id.to_string(), ..self.clone() }
    }
}

async fn ask(device: &Device, method: &Method, path: &str, headers: &[(&str, &str)], body: impl Into<Bytes>) -> Answer {
    device.try_call(method.clone(), path, headers, body).await.expect("an answer")
}

/// A request as it is described.
async fn ask_for(device: &Device, operation: &Operation, path: &str, body: Option<Value>) -> Answer {
    let key = unique("key");
    let mut headers = vec![("idempotency-key", key.as_str())];
    if body.is_some() {
        headers.push(("content-type", "application/json"));
    }
    ask(device, &operation.method, path, &headers, body.map(|body| body.to_string()).unwrap_or_default()).await
}

fn fields(problem: &Value) -> BTreeSet<String> {
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors in {problem}"));
    errors.iter().map(|error| text(error, "field")).collect()
}

pub async fn every_route(scene: &Scene) {
    let (hers, his, thread) = scene.pair().await;
    let message = text(&hers.send(&thread, "x").await, "id");
    let named = Named { thread, message, user: his.user.clone() };
    let mut by_path: BTreeMap<&str, Vec<&Operation>> = BTreeMap::new();
    for operation in scene.ledger.described().operations() {
        by_path.entry(&operation.path).or_default().push(operation);
    }
    for (template, operations) in &by_path {
        let path = named.path(template, ("", ""));
        methods(&hers, &path, operations).await;
        heads_are_bounded_and_traces_followed(&hers, &path).await;
        for operation in operations.iter().filter(|operation| operation.scope.is_some()) {
            tokens(scene, &hers.user, operation, &path).await;
            ids(scene, &hers, &named, operation).await;
            if operation.method != Method::GET {
                let too_large = vec![b' '; 1024 * 1024 + 1];
                ask(&hers, &operation.method, &path, &[], too_large).await.expect_problem(413, "body_too_large");
            }
            if operation.example.is_some() {
                bodies(&hers, operation, &path).await;
            }
        }
    }
    assert_eq!(
        ids_of(&his.get(&format!("/v1/threads/{}/messages", named.thread)).await.expect(200), "messages").len(),
        1
    );
}

/// The methods that a path takes, and the others.
async fn methods(device: &Device, path: &str, operations: &[&Operation]) {
    let described: BTreeSet<&str> = operations.iter().map(|operation| operation.method.as_str()).collect();
    let mut wanted: BTreeSet<&str> = described.iter().copied().chain(["OPTIONS"]).collect();
    if described.contains("GET") {
        wanted.insert("HEAD");
    }
    let allowed = |answer: &Answer| -> BTreeSet<String> {
        answer.header("allow").unwrap_or_default().split(", ").map(str::to_owned).collect()
    };
    let wanted: BTreeSet<String> = wanted.into_iter().map(str::to_owned).collect();
    let options = ask(device, &Method::OPTIONS, path, &[], "").await;
    assert_eq!((options.status.as_u16(), allowed(&options)), (204, wanted.clone()), "OPTIONS {path}");
    let brew: Method = "BREW".parse().expect("a method's name");
    for method in METHODS.iter().chain([&brew]).filter(|method| !described.contains(method.as_str())) {
        let refused = ask(device, method, path, &[], "").await;
        refused.expect_problem(405, "method_not_allowed");
        assert_eq!(allowed(&refused), wanted, "{method} {path}");
    }
    let head = ask(device, &Method::HEAD, path, &[], "").await;
    if described.contains("GET") {
        let get = device.get(path).await;
        assert_eq!(head.status, get.status, "HEAD {path}");
        assert_eq!(head.header("content-type"), get.header("content-type"), "HEAD {path}");
        assert_eq!(head.header("etag"), get.header("etag"), "HEAD {path}");
    } else {
        assert_eq!((head.status.as_u16(), allowed(&head)), (405, wanted), "HEAD {path}");
    }
}

async fn heads_are_bounded_and_traces_followed(device: &Device, path: &str) {
    let long = "h".repeat(17 * 1024);
    let refused = ask(device, &Method::GET, path, &[("x-long", &long)], "").await;
    refused.expect_problem(431, "headers_too_large");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let id = async |value: String| {
        let answer = ask(device, &Method::OPTIONS, path, &[("traceparent", &value)], "").await;
        answer.header("x-request-id").map(str::to_owned)
    };
    assert_eq!(id(format!("00-{trace}-00f067aa0ba902b7-01")).await.as_deref(), Some(trace), "{path}");
    assert_ne!(id(format!("00-{trace}-00f067aa0ba902b7")).await.as_deref(), Some(trace), "{path}");
}

async fn tokens(scene: &Scene, user: &str, operation: &Operation, path: &str) {
    let key = scene.cluster.key();
    let stranger = scene.bearing(1, user, String::new());
    let anonymous = stranger.http.request(operation.method.clone(), path, &[], "").await.expect("an answer");
    anonymous.expect_problem(401, "unauthenticated");
    let in_url = format!("{path}?access_token={}", key.token(user, "phone"));
    let in_url = stranger.http.request(operation.method.clone(), &in_url, &[], "").await.expect("an answer");
    in_url.expect_problem(401, "unauthenticated");
    let other = if operation.scope.as_deref() == Some("chat.read") { "chat.write" } else { "chat.read" };
    let lacking = scene.bearing(1, user, key.token_for(user, "phone", other));
    ask_for(&lacking, operation, path, operation.example.clone()).await.expect_problem(403, "missing_scope");
}

/// Ids that are none, that name nothing, and that are of others.
async fn ids(scene: &Scene, device: &Device, named: &Named, operation: &Operation) {
    let parts = operation.path.split('/').filter(|part| part.starts_with('{'));
    for name in parts {
        let long = "x".repeat(65);
        let wrong: &[&str] = match name {
            "{thread_id}" => &["not-a-uuid", "%00", "00000000000000000000000000000000000"],
            "{message_id}" => &["not-a-ulid", "81ARZ3NDEKTSV4RRFFQ69G5FAV", "me"],
            "{user_id}" if operation.path.contains("participants") => &["not%20an%20id", "%2E%2E", "me", &long],
            "{user_id}" => &["not%20an%20id", "%2E%2E", &long],
            "{device_id}" => &["not%20an%20id", "%2E", "me", &long],
            "{emoji}" => &["%00", &long],
            other => panic!("no wrong value is known of {other}"),
        };
        for value in wrong {
            let path = named.path(&operation.path, (name, value));
            let refused = ask_for(device, operation, &path, named.body(operation)).await;
            let problem = refused.expect_problem(400, "invalid_request");
            assert!(fields(&problem).contains(name.trim_matches(['{', '}'])), "{path}: {problem}");
        }
    }
    let is_about = |name: &str| operation.path.contains(name);
    if is_about("{thread_id}") || is_about("{message_id}") {
        let nowhere = if is_about("{thread_id}") { named.no_such_thread(scene) } else { named.no_such_message() };
        let path = nowhere.path(&operation.path, ("", ""));
        ask_for(device, operation, &path, nowhere.body(operation)).await.expect_problem(404, "not_found");
        let outsider = scene.phone(2, "eve");
        let path = named.path(&operation.path, ("", ""));
        ask_for(&outsider, operation, &path, named.body(operation)).await.expect_problem(403, "not_a_member");
    }
}

/// Bodies that are none, or too much.
async fn bodies(device: &Device, operation: &Operation, path: &str) {
    let key = unique("key");
    let send = async |content_type: &str, body: Vec<u8>| {
        let headers = [("content-type", content_type), ("idempotency-key", key.as_str())];
        ask(device, &operation.method, path, &headers, body).await
    };
    for content_type in ["text/plain", "application/x-www-form-urlencoded", "application/json; charset=latin1"] {
        send(content_type, b"{}".to_vec()).await.expect_problem(415, "unsupported_media_type");
    }
    let packed =
        [("content-type", "application/json"), ("content-encoding", "gzip"), ("idempotency-key", key.as_str())];
    ask(device, &operation.method, path, &packed, "{}").await.expect_problem(415, "unsupported_media_type");
    let deep = |levels: usize| format!("{{\"x\":{}{}}}", "[".repeat(levels), "]".repeat(levels)).into_bytes();
    let cut = b"{\"x\":".to_vec();
    for body in
        [vec![], b"{".to_vec(), b"[]".to_vec(), b"null".to_vec(), vec![b'{', 0xff, b'}'], cut, deep(32), deep(100_000)]
    {
        send("application/json", body).await.expect_problem(400, "invalid_request");
    }
    let unknown = send("application/json", br#"{"surprise":1}"#.to_vec()).await;
    let problem = unknown.expect_problem(400, "invalid_request");
    assert!(fields(&problem).contains("surprise"), "{path}: {problem}");
    let required = operation.example.as_ref().and_then(Value::as_object).expect("a body is an object").len();
    assert!(
        required < 2 || path.ends_with("/reports") || fields(&problem).len() > 1 || operation.method == Method::PATCH,
        "every bad field is named at once: {path}: {problem}"
    );
}

/// What the queries of lists may say.
pub async fn lists(scene: &Scene) {
    let (hers, his, thread) = scene.pair().await;
    let messages = format!("/v1/threads/{thread}/messages");
    let mut sent = Vec::new();
    for said in ["one", "two", "three"] {
        sent.push(text(&hers.send(&thread, said).await, "id"));
    }
    let _another = hers.group("another", &[&his.user]).await;
    for query in ["page_size=0", "page_size=101", "page_size=x", "page_size=1&page_size=2"] {
        for list in ["/v1/threads", &messages] {
            let problem = his.get(&format!("{list}?{query}")).await.expect_problem(400, "invalid_request");
            assert_eq!(fields(&problem), ["page_size".to_owned()].into());
        }
    }
    let mixed = [format!("since={}&before={}", sent[0], sent[1]), format!("changed_since=0&since={}", sent[0])];
    for query in
        mixed.iter().map(String::as_str).chain(["changed_since=0&before=x", "since=yesterday", "changed_since=-1"])
    {
        his.get(&format!("{messages}?{query}")).await.expect_problem(400, "invalid_request");
    }
    // A page goes on through another node, and its cursor is good for nothing else.
    let elsewhere = his.at(scene.cluster.client_addr(1));
    for start in ["", "&changed_since=0", &format!("&since={}", sent[0]), &format!("&before={}", sent[2])] {
        let page = his.get(&format!("{messages}?page_size=1{start}")).await.expect(200);
        let cursor = text(&page, "next_cursor");
        let rest = elsewhere.get(&format!("{messages}?cursor={cursor}{start}")).await.expect(200);
        assert!(!ids_of(&rest, "messages").is_empty() && ids_of(&rest, "messages")[0] != ids_of(&page, "messages")[0]);
        let turned: String = cursor.chars().rev().collect();
        for wrong in [&cursor[1..], &turned, &format!("{cursor}A"), ""] {
            his.get(&format!("{messages}?cursor={wrong}")).await.expect_problem(400, "invalid_cursor");
        }
        his.get(&format!("/v1/threads?cursor={cursor}")).await.expect_problem(400, "invalid_cursor");
        hers.get(&format!("{messages}?cursor={cursor}")).await.expect_problem(400, "invalid_cursor");
        his.get(&format!("{messages}?cursor={cursor}&since={}", sent[2])).await.expect_problem(400, "invalid_cursor");
    }
    let page = his.get("/v1/threads?page_size=1").await.expect(200);
    let cursor = text(&page, "next_cursor");
    let rest = elsewhere.get(&format!("/v1/threads?cursor={cursor}")).await.expect(200);
    assert_eq!((ids_of(&rest, "threads").len(), &rest["next_cursor"]), (1, &Value::Null));
    his.get(&format!("{messages}?cursor={cursor}")).await.expect_problem(400, "invalid_cursor");
    hers.get(&format!("/v1/threads?cursor={cursor}")).await.expect_problem(400, "invalid_cursor");
    let _late = hers.post(&messages, &[("idempotency-key", "k")], &saying(99, "late")).await.expect(202);
}
