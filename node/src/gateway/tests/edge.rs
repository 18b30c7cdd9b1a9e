//! What holds for every request, and serving over real sockets.

use super::harness::{Fault, START, admission, serving, world, world_with};
use crate::auth::Scopes;
use crate::gateway::serve::{ServeLimits, serve};
use crate::gateway::{AdmissionLimits, HEADERS_MAX};
use crate::readiness::Phase;
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;

const UNKNOWN: &str = "/v1/threads/00000000-0000-4000-8000-000000000000";

#[tokio::test]
async fn every_row_wants_a_token_with_its_scope() {
    let world = world();
    let id = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let reads = [
        "/v1/threads".into(),
        UNKNOWN.into(),
        format!("{UNKNOWN}/messages"),
        format!("/v1/messages/{id}"),
        format!("/v1/messages/{id}/recipients"),
        "/v1/users/bob/devices".into(),
        "/v1/users/bob/prekeys".into(),
        "/v1/users/me/devices/phone/prekeys".into(),
    ];
    let posts = [
        "/v1/threads".into(),
        format!("{UNKNOWN}/messages"),
        format!("{UNKNOWN}/participants"),
        format!("{UNKNOWN}/read"),
    ];
    let rows = reads.iter().map(|path| (Method::GET, path, true));
    let rows = rows.chain(posts.iter().map(|path| (Method::POST, path, false)));
    let member = format!("{UNKNOWN}/participants/bob");
    let (other, keys) = ("/v1/users/me/devices/other".into(), "/v1/users/me/devices/phone/prekeys".into());
    let rows = rows.chain([(Method::DELETE, &member, false), (Method::DELETE, &other, false)]);
    let rows = rows.chain([(Method::PUT, &keys, false)]);
    let (nobody, reader) = (world.bearing(""), world.client_with("alice", "phone", Scopes::parse("chat.read")));
    let writer = world.client_with("alice", "phone", Scopes::parse("chat.write"));
    for (method, path, is_read) in rows {
        let request = Request::builder().method(method.clone()).uri(path).body(Body::empty()).unwrap();
        let answer = world.request(request).await;
        assert_eq!(answer.header("www-authenticate"), Some("Bearer realm=\"messenger\""));
        answer.problem(401, "unauthenticated");
        nobody.request(method.clone(), path, &[], Body::empty()).await.problem(401, "unauthenticated");
        let wrong = if is_read { &writer } else { &reader };
        let answer = wrong.request(method.clone(), path, &[], Body::empty()).await;
        let challenge = answer.header("www-authenticate").unwrap();
        assert!(challenge.contains("insufficient_scope") && challenge.contains("chat."), "{challenge}");
        answer.problem(403, "missing_scope");
        let right = if is_read { &reader } else { &writer };
        let status = right.request(method.clone(), path, &[], Body::empty()).await.status;
        assert!(!matches!(status.as_u16(), 401 | 403), "{method} {path}: {status}");
    }
}

#[tokio::test]
async fn forged_and_expired_tokens_are_401() {
    let world = world();
    let alice = world.client("alice");
    let token = alice.token().to_owned();
    alice.get("/v1/threads").await.expect(200);
    let (head, signature) = token.rsplit_once('.').unwrap();
    let payload = head.split_once('.').unwrap().1;
    // {"alg":"none","kid":"test"}
    let unsigned = format!("eyJhbGciOiJub25lIiwia2lkIjoidGVzdCJ9.{payload}.");
    let forged = format!("{head}.{}", signature.chars().rev().collect::<String>());
    for bad in [unsigned.as_str(), forged.as_str(), "x", "a.b.c"] {
        let answer = world.bearing(bad).get("/v1/threads").await;
        assert!(answer.header("www-authenticate").unwrap().contains("error=\"invalid_token\""));
        answer.problem(401, "unauthenticated");
    }
    for header in ["", "Bearer", "Basic YTpi", &token] {
        let answer = alice.request(Method::GET, "/v1/threads", &[("authorization", header)], Body::empty()).await;
        answer.problem(401, "unauthenticated");
    }
    let both = [("authorization", "Bearer x"), ("authorization", "Bearer y")];
    alice.request(Method::GET, "/v1/threads", &both, Body::empty()).await.problem(401, "unauthenticated");
    world.bearing("").get(&format!("/v1/threads?access_token={token}")).await.problem(401, "unauthenticated");
    world.advance(3_611_000);
    let answer = alice.get("/v1/threads").await;
    assert!(answer.header("www-authenticate").unwrap().contains("expired"));
    answer.problem(401, "token_expired");
}

#[tokio::test]
async fn a_trace_is_followed() {
    let world = world();
    let alice = world.client("alice");
    let trace = "4bf92f3577b34da6a3ce929d0e0e4736";
    let parent = format!("00-{trace}-00f067aa0ba902b7-01");
    for path in ["/v1/threads", "/v1/nothing", "/livez"] {
        let headers = [("traceparent", parent.as_str()), ("x-request-id", "mine")];
        let answer = alice.request(Method::GET, path, &headers, Body::empty()).await;
        assert_eq!(answer.header("x-request-id"), Some(trace));
    }
    let problem = alice.get("/v1/nothing?token=secret").await.problem(404, "not_found");
    assert_eq!(problem["instance"], json!("/v1/nothing"));
    assert_eq!(problem["timestamp"], json!("2026-05-30T17:42:11.000Z"));
    assert_eq!(START, 1_780_162_931_000);
}

#[tokio::test]
async fn what_is_not_there_is_404_and_what_is_not_done_405() {
    let world = world();
    let alice = world.client("alice");
    let gone = ["/", "/v1", "/v1/", "/v2/threads", "/v1/threads/", "/metrics", "/v1/nothing", "/v1/users/me/reports"];
    for path in gone {
        alice.get(path).await.problem(404, "not_found");
    }
    let rows = [
        ("/v1/threads", "GET, HEAD, POST, OPTIONS"),
        (UNKNOWN, "GET, HEAD, PATCH, OPTIONS"),
        (&format!("{UNKNOWN}/participants"), "POST, OPTIONS"),
        (&format!("{UNKNOWN}/participants/bob"), "DELETE, OPTIONS"),
        (&format!("{UNKNOWN}/messages"), "GET, HEAD, POST, OPTIONS"),
        (&format!("{UNKNOWN}/pins"), "GET, HEAD, POST, OPTIONS"),
        (&format!("{UNKNOWN}/pins/01ARZ3NDEKTSV4RRFFQ69G5FAV"), "DELETE, OPTIONS"),
        (&format!("{UNKNOWN}/read"), "POST, OPTIONS"),
        ("/v1/messages/01ARZ3NDEKTSV4RRFFQ69G5FAV", "GET, HEAD, PATCH, DELETE, OPTIONS"),
        ("/v1/messages/01ARZ3NDEKTSV4RRFFQ69G5FAV/reactions", "POST, OPTIONS"),
        ("/v1/messages/01ARZ3NDEKTSV4RRFFQ69G5FAV/reactions/x", "DELETE, OPTIONS"),
        ("/v1/messages/01ARZ3NDEKTSV4RRFFQ69G5FAV/recipients", "GET, HEAD, OPTIONS"),
        ("/livez", "GET, HEAD, OPTIONS"),
        ("/readyz", "GET, HEAD, OPTIONS"),
    ];
    for (path, allow) in rows {
        for method in ["GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "TRACE", "BREW"] {
            if allow.split(", ").any(|allowed| allowed == method) {
                continue;
            }
            let answer = alice.request(method.parse().unwrap(), path, &[], Body::empty()).await;
            assert_eq!(answer.header("allow"), Some(allow), "{method} {path}");
            if method == "HEAD" {
                assert_eq!((answer.status.as_u16(), answer.body.len()), (405, 0));
            } else {
                answer.problem(405, "method_not_allowed");
            }
        }
        let request = Request::builder().method(Method::OPTIONS).uri(path).body(Body::empty()).unwrap();
        let answer = world.request(request).await.expect_empty(204);
        assert_eq!(answer.header("allow"), Some(allow), "without a token");
    }
}

#[tokio::test]
async fn head_answers_as_get_does_without_the_body() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    for path in ["/v1/threads".into(), format!("/v1/threads/{thread}"), "/livez".into(), UNKNOWN.into()] {
        let get = alice.get(&path).await;
        let head = alice.request(Method::HEAD, &path, &[], Body::empty()).await;
        assert_eq!((head.status, head.body.len()), (get.status, 0), "{path}");
        assert_eq!(head.header("content-type"), get.header("content-type"));
        assert_eq!(head.header("content-length"), Some(get.body.len().to_string().as_str()), "{path}");
    }
}

#[tokio::test]
async fn bodies_are_json_and_nothing_else() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let path = format!("/v1/threads/{thread}/messages");
    let good = r#"{"client_seq": 1, "ciphertext": "aGk="}"#;
    let post = async |headers: &[(&str, &str)], body: &str| {
        let mut all = vec![("idempotency-key", "k")];
        all.extend_from_slice(headers);
        alice.request(Method::POST, &path, &all, Body::from(body.to_owned())).await
    };
    let unsupported: [&[(&str, &str)]; 7] = [
        &[],
        &[("content-type", "text/plain")],
        &[("content-type", "application/jsonx")],
        &[("content-type", "application/x-www-form-urlencoded")],
        &[("content-type", "application/json; charset=utf-16")],
        &[("content-type", "application/json"), ("content-encoding", "gzip")],
        &[("content-type", "")],
    ];
    for headers in unsupported {
        post(headers, good).await.problem(415, "unsupported_media_type");
    }
    let json = [("content-type", "application/json")];
    let deep = format!("{{\"client_seq\": {}1{}}}", "[".repeat(50), "]".repeat(50));
    for body in ["", "{", "[]", "null", "\"x\"", "{\"client_seq\": 1,}", "\u{0}", &deep] {
        let problem = post(&json, body).await.problem(400, "invalid_request");
        assert_eq!(problem["errors"], json!([]));
    }
    let bytes = Body::from(&b"{\"client_seq\": 1, \"ciphertext\": \"\xff\"}"[..]);
    let answer = alice.request(Method::POST, &path, &[json[0], ("idempotency-key", "k")], bytes).await;
    answer.problem(400, "invalid_request");
    assert_eq!(
        post(&json, r#"{"client_seq": 1, "ciphertext": "aGk=", "client_seq": 2}"#).await.bad_fields(),
        ["client_seq"]
    );
    for kind in ["Application/JSON;charset=UTF-8", "application/json ; charset=\"utf-8\"; x=y"] {
        post(&[("content-type", kind), ("content-encoding", "identity")], good).await.expect(202);
    }
}

#[tokio::test]
async fn bodies_and_headers_are_bounded() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let path = format!("/v1/threads/{thread}/messages");
    let good = r#"{"client_seq": 1, "ciphertext": "aGk="}"#;
    let padded = |length: usize| format!("{good}{}", " ".repeat(length - good.len()));
    let headers = [("content-type", "application/json"), ("idempotency-key", "k")];
    let chunked = |body: String| {
        let chunks: Vec<_> = body.into_bytes().chunks(60_000).map(|chunk| Ok::<_, String>(chunk.to_vec())).collect();
        Body::from_stream(futures_util::stream::iter(chunks))
    };
    let max = 1024 * 1024;
    let answer = alice.request(Method::POST, &path, &headers, Body::from(padded(max + 1))).await;
    answer.problem(413, "body_too_large");
    let announced = (max + 1).to_string();
    let with_length = [headers[0], headers[1], ("content-length", announced.as_str())];
    let answer = alice.request(Method::POST, &path, &with_length, Body::from(padded(max + 1))).await;
    answer.problem(413, "body_too_large");
    let answer = alice.request(Method::POST, &path, &headers, chunked(padded(max + 1))).await;
    answer.problem(413, "body_too_large");
    alice.request(Method::POST, &path, &headers, chunked(padded(max))).await.expect(202);
    alice.request(Method::POST, &path, &headers, Body::from(padded(max))).await.expect(202);

    let long = "x".repeat(HEADERS_MAX);
    let answer = alice.request(Method::GET, "/v1/threads", &[("x-filler", &long)], Body::empty()).await;
    answer.problem(431, "headers_too_large");
    alice.get(&format!("/v1/threads?x={long}")).await.problem(431, "headers_too_large");
    let fitting = "x".repeat(HEADERS_MAX - 1_000);
    alice.request(Method::GET, "/v1/threads", &[("x-filler", &fitting)], Body::empty()).await.expect(200);
}

#[tokio::test]
async fn what_shards_do_not_answer_is_503_and_says_whether_it_may_have_been_done() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let path = format!("/v1/threads/{thread}/messages");
    let body = json!({"client_seq": 1, "ciphertext": "aGk="});
    world.fault(Fault::NotSent);
    alice.post_as("k", &path, &body).await.problem(503, "unavailable");
    alice.get(&path).await.problem(503, "unavailable");
    world.fault(Fault::Lost);
    alice.post_as("k", &path, &body).await.problem(503, "outcome_unknown");
    alice.get(&path).await.problem(503, "unavailable");
    world.fault(Fault::None);
    let again = alice.post_as("k", &path, &body).await;
    assert_eq!(again.header("idempotent-replayed"), Some("true"), "the lost one was carried out");
    again.expect(202);
    assert_eq!(alice.get(&path).await.expect(200)["messages"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn too_much_at_once_is_turned_away() {
    let limits = AdmissionLimits { requests: 2, request_bytes: 1_500_000, ..admission() };
    let world = world_with(limits, axum::Router::new());
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let path = format!("/v1/threads/{thread}");
    world.fault(Fault::Held);
    let mut held = [Box::pin(alice.get(&path)), Box::pin(alice.get(&path))];
    for request in &mut held {
        assert!(futures_util::poll!(request).is_pending());
    }
    alice.get(&path).await.problem(503, "overloaded");
    let probe = Request::builder().uri("/livez").body(Body::empty()).unwrap();
    assert_eq!(world.request(probe).await.status, 200, "probes are not counted");
    world.fault(Fault::None);
    for request in held {
        request.await.expect(200);
    }
    // Two bodies of unknown length could take more than there is room for.
    let slow = || Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, String>>());
    let headers = [("content-type", "application/json")];
    let mut first = Box::pin(alice.request(Method::POST, "/v1/threads", &headers, slow()));
    assert!(futures_util::poll!(&mut first).is_pending());
    alice.request(Method::POST, "/v1/threads", &headers, slow()).await.problem(503, "overloaded");
    drop(first);
    alice.pair("carol").await;
}

#[tokio::test]
async fn a_body_that_dawdles_is_given_up() {
    let limits = AdmissionLimits { body_time: Duration::from_millis(50), ..admission() };
    let world = world_with(limits, axum::Router::new());
    let alice = world.client("alice");
    let stuck = Body::from_stream(futures_util::stream::pending::<Result<Vec<u8>, String>>());
    let headers = [("content-type", "application/json")];
    let answer = alice.request(Method::POST, "/v1/threads", &headers, stuck).await;
    assert_eq!(answer.header("connection"), Some("close"));
    assert!(answer.problem(400, "invalid_request")["detail"].as_str().unwrap().contains("in time"));
    let broken = Body::from_stream(futures_util::stream::iter([Err::<Vec<u8>, _>("gone")]));
    alice.request(Method::POST, "/v1/threads", &headers, broken).await.problem(400, "invalid_request");
}

#[tokio::test]
async fn a_node_that_is_not_ready_says_so() {
    let world = world();
    let alice = world.client("alice");
    let probe = async |path: &str| world.request(Request::builder().uri(path).body(Body::empty()).unwrap()).await;
    assert_eq!(probe("/readyz").await.json(), json!({"status": "ready"}));
    for phase in [Phase::Starting, Phase::Draining] {
        world.phase.send_replace(phase);
        probe("/readyz").await.problem(503, "unavailable");
        assert_eq!(probe("/livez").await.json(), json!({"status": "alive"}));
        alice.get("/v1/threads").await.problem(503, "unavailable");
    }
    world.phase.send_replace(Phase::Ready);
    alice.get("/v1/threads").await.expect(200);
}

#[tokio::test]
async fn a_handler_that_panics_harms_nobody_else() {
    async fn broken() -> &'static str {
        panic!("a secret of ours")
    }
    let more = axum::Router::new().route("/broken", axum::routing::get(broken));
    let world = world_with(admission(), more);
    let alice = world.client("alice");
    let problem = alice.get("/broken").await.problem(500, "internal");
    assert!(!problem.to_string().contains("secret"));
    alice.get("/v1/threads").await.expect(200);
}

struct Served {
    address: std::net::SocketAddr,
    stop: oneshot::Sender<()>,
    done: tokio::task::JoinHandle<()>,
}

async fn served(app: axum::Router, limits: ServeLimits) -> Served {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let (stop, stopped) = oneshot::channel();
    let done = tokio::spawn(serve(listener, None, app, limits, async move {
        let _ = stopped.await;
    }));
    Served { address, stop, done }
}

/// Writes a request and reads to the end of the connection.
async fn exchange(address: std::net::SocketAddr, request: &[u8]) -> String {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    stream.read_to_end(&mut answer).await.unwrap();
    String::from_utf8_lossy(&answer).into_owned()
}

#[tokio::test]
async fn raw_requests_get_clear_answers() {
    let world = world();
    let served = served(world.app.clone(), serving()).await;
    let token = world.client("alice").token().to_owned();
    let head = |rest: &str| format!("GET /v1/threads HTTP/1.1\r\nHost: x\r\nConnection: close\r\n{rest}\r\n");
    let ok = exchange(served.address, head(&format!("Authorization: Bearer {token}\r\n")).as_bytes()).await;
    assert!(ok.starts_with("HTTP/1.1 200 ") && ok.ends_with(r#"{"threads":[],"next_cursor":null}"#), "{ok}");
    let long = head(&format!("X-Filler: {}\r\n", "x".repeat(40_000)));
    let refused = exchange(served.address, long.as_bytes()).await;
    assert!(refused.starts_with("HTTP/1.1 431 ") && refused.contains("headers_too_large"), "{refused}");
    let longer = head(&format!("X-Filler: {}\r\n", "x".repeat(300_000)));
    let mut stream = TcpStream::connect(served.address).await.unwrap();
    let _ = stream.write_all(longer.as_bytes()).await;
    let mut start = [0; 13];
    if stream.read_exact(&mut start).await.is_ok() {
        assert_eq!(&start, b"HTTP/1.1 431 ");
    }
    let garbage = exchange(served.address, b"\x16\x03\x01\x02\x00\x01\x00\r\n\r\n").await;
    assert!(garbage.is_empty() || garbage.starts_with("HTTP/1.1 400 "), "{garbage}");
    // The whole body was sent before the answer is read, and still it is heard.
    let body = vec![b' '; 3 * 1024 * 1024];
    let mut large = format!(
        "POST /v1/threads HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n",
        body.len()
    )
    .into_bytes();
    large.extend_from_slice(&body);
    let refused = exchange(served.address, &large).await;
    assert!(refused.starts_with("HTTP/1.1 413 ") && refused.contains("body_too_large"), "{refused}");
    served.stop.send(()).unwrap();
    served.done.await.unwrap();
}

#[tokio::test]
async fn what_has_no_body_has_no_length() {
    let world = world();
    let thread = world.client("alice").pair("bob").await;
    let served = served(world.app.clone(), serving()).await;
    let token = world.client("alice").token().to_owned();
    let ask = async |method: &str, headers: &str| {
        let head =
            format!("{method} /v1/threads/{thread} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n{headers}");
        // The second request is answered on the same connection.
        let both = format!("{head}\r\n{head}Connection: close\r\n\r\n");
        exchange(served.address, both.as_bytes()).await.to_lowercase()
    };
    let unchanged = ask("GET", "If-None-Match: *\r\n").await;
    assert_eq!(unchanged.matches("http/1.1 304 ").count(), 2, "{unchanged}");
    assert!(!unchanged.contains("content-length") && !unchanged.contains("transfer-encoding"), "{unchanged}");
    let head = ask("HEAD", "").await;
    assert_eq!(head.matches("http/1.1 200 ").count(), 2, "{head}");
    assert!(!head.contains("content-length: 0"), "{head}");
    served.stop.send(()).unwrap();
    served.done.await.unwrap();
}

#[tokio::test]
async fn serving_ends_when_requests_under_way_are_answered() {
    let world = world();
    let thread = world.client("alice").pair("bob").await;
    let served = served(world.app.clone(), serving()).await;
    let token = world.client("alice").token().to_owned();
    world.fault(Fault::Held);
    let mut idle = TcpStream::connect(served.address).await.unwrap();
    let mut busy = TcpStream::connect(served.address).await.unwrap();
    let request = format!("GET /v1/threads/{thread} HTTP/1.1\r\nHost: x\r\nAuthorization: Bearer {token}\r\n\r\n");
    busy.write_all(request.as_bytes()).await.unwrap();
    idle.write_all(b"GET /livez HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
    let mut start = [0; 12];
    idle.read_exact(&mut start).await.unwrap();
    assert_eq!(&start, b"HTTP/1.1 200");
    world.memory.held(1).await;
    served.stop.send(()).unwrap();
    let mut rest = Vec::new();
    idle.read_to_end(&mut rest).await.unwrap();
    assert!(!served.done.is_finished());
    world.fault(Fault::None);
    let mut answer = Vec::new();
    busy.read_to_end(&mut answer).await.unwrap();
    assert!(answer.starts_with(b"HTTP/1.1 200 "), "{}", String::from_utf8_lossy(&answer));
    served.done.await.unwrap();
    assert!(TcpStream::connect(served.address).await.is_err(), "nobody listens");
}

#[tokio::test]
async fn connections_are_bounded_and_silent_ones_end() {
    let world = world();
    let head_time = Duration::from_millis(200);
    let limits = ServeLimits { connections: 1, head_time, ..serving() };
    let served = served(world.app.clone(), limits).await;
    let request = b"GET /livez HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n";
    // The first says nothing, the second half a request, and the third is answered once they were closed.
    let _silent = TcpStream::connect(served.address).await.unwrap();
    let mut halting = TcpStream::connect(served.address).await.unwrap();
    halting.write_all(b"GET /livez HTTP/1.1\r\nHo").await.unwrap();
    assert!(exchange(served.address, request).await.starts_with("HTTP/1.1 200 "));
    served.stop.send(()).unwrap();
    served.done.await.unwrap();
}

#[tokio::test]
async fn http_2_is_spoken_to_those_who_begin_with_it() {
    let world = world();
    let served = served(world.app.clone(), serving()).await;
    let client = hyper_util::client::legacy::Client::builder(hyper_util::rt::TokioExecutor::new())
        .http2_only(true)
        .build_http::<Body>();
    let token = world.client("alice").token().to_owned();
    let requests = (0..20).map(|_| {
        let request = Request::builder()
            .uri(format!("http://{}/v1/threads", served.address))
            .header("authorization", format!("Bearer {token}"))
            .body(Body::empty())
            .unwrap();
        client.request(request)
    });
    for answer in futures_util::future::join_all(requests).await {
        let answer = answer.unwrap();
        assert_eq!((answer.status().as_u16(), answer.version()), (200, axum::http::Version::HTTP_2));
        let body = http_body_util::BodyExt::collect(answer.into_body()).await.unwrap().to_bytes();
        assert_eq!(serde_json::from_slice::<Value>(&body).unwrap()["threads"], json!([]));
    }
    drop(client);
    served.stop.send(()).unwrap();
    served.done.await.unwrap();
}
