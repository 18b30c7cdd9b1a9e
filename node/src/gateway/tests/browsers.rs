//! What browsers need: cross-origin answers, and small ones.

use super::harness::{Answer, Client, ORIGIN, World, world};
use crate::readiness::Phase;
use axum::body::Body;
use axum::http::{Method, Request};
use serde_json::{Value, json};

const THREAD: &str = "/v1/threads/00000000-0000-4000-8000-000000000000";

async fn preflight(world: &World, path: &str, origin: &str) -> Answer {
    let request = Request::builder()
        .method(Method::OPTIONS)
        .uri(path)
        .header("origin", origin)
        .header("access-control-request-method", "POST")
        .header("access-control-request-headers", "authorization,idempotency-key");
    world.request(request.body(Body::empty()).unwrap()).await
}

async fn get_with(client: &Client<'_>, path: &str, headers: &[(&str, &str)]) -> Answer {
    client.request(Method::GET, path, headers, Body::empty()).await
}

fn cors(answer: &Answer) -> Vec<&str> {
    let names = answer.headers.keys().map(axum::http::HeaderName::as_str);
    names.filter(|name| name.starts_with("access-control-")).collect()
}

#[tokio::test]
async fn a_preflight_is_told_what_the_path_takes() {
    let world = world();
    for phase in [Phase::Ready, Phase::Draining] {
        world.phase.send_replace(phase);
        let told = preflight(&world, THREAD, ORIGIN).await.expect_empty(204);
        assert_eq!(told.header("access-control-allow-origin"), Some(ORIGIN));
        assert_eq!(told.header("access-control-allow-methods"), Some("GET, HEAD, PATCH, OPTIONS"));
        let allowed = told.header("access-control-allow-headers").unwrap();
        for name in ["Authorization", "Content-Type", "Idempotency-Key", "If-None-Match"] {
            assert!(allowed.split(", ").any(|allowed| allowed == name), "{name} in {allowed}");
        }
        assert_eq!(told.header("access-control-max-age"), Some("3600"));
        assert_eq!(told.header("vary"), Some("Origin"));
        assert!(!told.headers.contains_key("access-control-allow-credentials"));
    }
    let like = [&format!("{ORIGIN}:8443"), &format!("{ORIGIN}.evil"), "http://chat.example", "null", "*"];
    for origin in like {
        let told = preflight(&world, THREAD, origin).await.expect_empty(204);
        assert_eq!((cors(&told), told.header("vary")), (vec![], Some("Origin")), "{origin}");
    }
}

#[tokio::test]
async fn a_page_sees_answers_and_refusals_alike() {
    let world = world();
    let alice = world.client("alice");
    let origin = [("origin", ORIGIN)];
    for (path, status) in [("/v1/threads", 200), (THREAD, 404), ("/v1/none", 404)] {
        let answer = get_with(&alice, path, &origin).await;
        assert_eq!((answer.status.as_u16(), answer.header("access-control-allow-origin")), (status, Some(ORIGIN)));
        let exposed = answer.header("access-control-expose-headers").unwrap();
        for name in ["X-Request-Id", "ETag", "Retry-After", "RateLimit", "X-RateLimit-Reset", "Idempotent-Replayed"] {
            assert!(exposed.split(", ").any(|exposed| exposed == name), "{name} in {exposed}");
        }
        assert!(cors(&get_with(&alice, path, &[("origin", "https://evil.example")]).await).is_empty());
        assert!(cors(&alice.get(path).await).is_empty());
    }
    world.phase.send_replace(Phase::Draining);
    let refused = get_with(&alice, "/v1/threads", &origin).await;
    assert_eq!(refused.header("access-control-allow-origin"), Some(ORIGIN));
    refused.problem(503, "unavailable");
}

fn varies(answer: &Answer) -> bool {
    let mut names = answer.headers.get_all("vary").iter();
    names.any(|name| name.as_bytes().eq_ignore_ascii_case(b"accept-encoding"))
}

/// Whether a body begins as one in an encoding does.
fn magic(encoding: &str, body: &[u8]) -> bool {
    match encoding {
        "gzip" => body.starts_with(&[0x1f, 0x8b]),
        "zstd" => body.starts_with(&[0x28, 0xb5, 0x2f, 0xfd]),
        // It has none.
        _ => true,
    }
}

#[tokio::test]
async fn large_answers_are_compressed_as_the_client_likes() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.group(&["bob", "carol", "dave", "erin"]).await;
    for n in 0..10 {
        alice.say(&thread, n).await;
    }
    let path = format!("/v1/threads/{thread}/messages");
    let plain = alice.get(&path).await;
    assert!(plain.body.len() > 2_000 && !plain.headers.contains_key("content-encoding"));
    assert!(varies(&plain));
    for encoding in ["gzip", "br", "zstd"] {
        let small = get_with(&alice, &path, &[("accept-encoding", encoding)]).await;
        assert_eq!((small.status.as_u16(), small.header("content-encoding")), (200, Some(encoding)));
        assert!(magic(encoding, &small.body) && small.body.len() * 2 < plain.body.len(), "{}", small.body.len());
        assert!(varies(&small));
        let head = alice.request(Method::HEAD, &path, &[("accept-encoding", encoding)], Body::empty()).await;
        assert_eq!((head.status.as_u16(), head.header("content-encoding")), (200, Some(encoding)));
        assert!(head.body.is_empty() && !head.headers.contains_key("content-length"));
    }
    for refused in ["identity;q=0", "*;q=0", "deflate", "identity, gzip;q=0"] {
        let same = get_with(&alice, &path, &[("accept-encoding", refused)]).await;
        assert_eq!(same.header("content-encoding"), None, "{refused}");
        assert_eq!(same.expect(200), plain.json(), "{refused}");
    }
    let small = get_with(&world.client("zoe"), "/v1/threads", &[("accept-encoding", "gzip")]).await;
    assert!(small.body.len() < 1024 && !small.headers.contains_key("content-encoding"));
}

#[tokio::test]
async fn large_refusals_are_compressed_too() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let (path, body) = (format!("/v1/threads/{thread}/messages"), |seq: u64| {
        json!({"client_seq": seq, "ciphertext": "a".repeat(4_000)}).to_string()
    });
    let send = async |key: &str| {
        let headers = [("idempotency-key", key), ("accept-encoding", "gzip")];
        alice.post_text(&path, &headers, &body(1)).await
    };
    let accepted = send("k1").await;
    assert_eq!((accepted.status.as_u16(), accepted.header("content-encoding")), (202, Some("gzip")));
    let duplicate = send("k2").await;
    assert_eq!((duplicate.status.as_u16(), duplicate.header("content-encoding")), (409, Some("gzip")));
    assert_eq!(duplicate.header("content-type"), Some("application/problem+json"));
    let all: Value = alice.get(&path).await.expect(200);
    assert_eq!(all["messages"].as_array().unwrap().len(), 1);
}
