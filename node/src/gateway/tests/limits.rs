//! How much a client may ask, as it sees it.

use super::harness::{Answer, START, World, world, world_limited};
use crate::api::peer::PeerAddress;
use crate::config::{ClassLimits, FailedAuthLimits, ProxiesConfig, RateLimitsConfig};
use axum::body::Body;
use axum::http::Request;
use serde_json::json;

const FIELDS: [&str; 6] = [
    "ratelimit",
    "ratelimit-policy",
    "x-ratelimit-limit",
    "x-ratelimit-remaining",
    "x-ratelimit-reset",
    "x-ratelimit-window",
];

fn class(per_user: u32, per_device: u32, per_address: u32) -> ClassLimits {
    ClassLimits { window_s: 60, per_user, per_device, per_address }
}

fn limits() -> RateLimitsConfig {
    RateLimitsConfig { sends: class(3, 2, 0), reads: class(4, 0, 5), ..RateLimitsConfig::never_met() }
}

fn fields(answer: &Answer) -> Vec<&str> {
    FIELDS.iter().filter_map(|name| answer.header(name)).collect()
}

#[tokio::test]
async fn a_client_is_told_how_much_is_left_and_when_there_is_more() {
    let world = world_limited(&limits());
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let path = format!("/v1/threads/{thread}/messages");
    let policy = r#""sends-user";q=3;w=60, "sends-device";q=2;w=60"#;
    let send = async |seq: u64| {
        let body = json!({"client_seq": seq, "ciphertext": "aGk="});
        alice.post_as(&format!("k{seq}"), &path, &body).await
    };
    // The clock stands, but for a millisecond with each command.
    let first = send(1).await;
    let reset = START / 1_000 + 31;
    let expected = [r#""sends-device";r=1;t=30"#, policy, "2", "1", &reset.to_string(), "60"].map(str::to_owned);
    assert_eq!(fields(&first), expected);
    first.expect(202);
    send(2).await.expect(202);
    let refused = send(3).await;
    assert_eq!(fields(&refused)[..4], [r#""sends-device";r=0;t=60"#, policy, "2", "0"]);
    assert_eq!(refused.header("retry-after"), Some("30"));
    let problem = refused.problem(429, "rate_limited");
    assert!(problem["detail"].as_str().unwrap().contains("30 s"), "{problem}");
    // It had no effect, and the key is free.
    world.advance(30_000);
    send(3).await.expect(202);
    // The user's other device has what the user has left, and reads are counted apart.
    let tablet = world.device("alice", "tablet");
    let body = json!({"client_seq": 1, "ciphertext": "aGk="});
    let last = tablet.post_as("t1", &path, &body).await;
    assert!(last.header("ratelimit").unwrap().starts_with(r#""sends-user";r="#), "{:?}", fields(&last));
    assert!(alice.get(&path).await.header("ratelimit").unwrap().starts_with(r#""reads-user";r="#));
}

#[tokio::test]
async fn every_limited_route_says_so_and_no_other() {
    let world = world();
    let alice = world.client("alice");
    let thread = alice.pair("bob").await;
    let message = alice.say(&thread, 1).await;
    let limited = [
        "/v1/threads".to_owned(),
        format!("/v1/threads/{thread}"),
        format!("/v1/threads/{thread}/messages"),
        format!("/v1/threads/{thread}/pins"),
        format!("/v1/messages/{message}"),
        format!("/v1/messages/{message}/recipients"),
        // Refused for other reasons, and counted all the same.
        "/v1/threads/x".to_owned(),
    ];
    for path in limited {
        assert_eq!(fields(&alice.get(&path).await).len(), FIELDS.len(), "{path}");
        let not_allowed = alice.request("BREW".parse().unwrap(), &path, &[], Body::empty()).await;
        assert_eq!((not_allowed.status.as_u16(), fields(&not_allowed).len()), (405, 0), "{path}");
    }
    let changes = [
        ("/v1/threads".to_owned(), "threads"),
        (format!("/v1/threads/{thread}/participants"), "threads"),
        (format!("/v1/threads/{thread}/messages"), "sends"),
        (format!("/v1/threads/{thread}/read"), "writes"),
        (format!("/v1/threads/{thread}/pins"), "writes"),
        (format!("/v1/messages/{message}/reactions"), "writes"),
    ];
    for (path, class) in changes {
        let answer = alice.post(&path, &json!({})).await;
        let policy = answer.header("ratelimit-policy").unwrap();
        assert!(policy.starts_with(&format!("\"{class}-user\";q=")), "{path}: {policy}");
    }
    for path in ["/livez", "/readyz", "/v1/none"] {
        assert!(fields(&alice.get(path).await).is_empty(), "{path}");
    }
}

async fn from(world: &World, peer: &str, token: &str, forwarded: &str) -> Answer {
    let request = Request::builder()
        .uri("/v1/threads")
        .header("authorization", format!("Bearer {token}"))
        .header("x-forwarded-for", forwarded)
        .extension(PeerAddress(peer.parse().unwrap()));
    world.request(request.body(Body::empty()).unwrap()).await
}

#[tokio::test]
async fn addresses_are_limited_whoever_asks_and_proxies_are_seen_through() {
    let world = world_limited(&limits());
    let tokens: Vec<String> = (0..12).map(|n| world.client(&format!("u{n}")).token().to_owned()).collect();
    for (n, token) in tokens[..6].iter().enumerate() {
        // Without a trusted proxy it does not matter what is said.
        let answer = from(&world, "10.0.0.1", token, &format!("1.1.1.{n}")).await;
        assert_eq!(answer.status.as_u16(), if n < 5 { 200 } else { 429 }, "{n}");
    }
    from(&world, "10.0.0.2", &tokens[6], "").await.expect(200);
    let trusting = ProxiesConfig { trusted: vec!["10.0.0.0/8".parse().unwrap()], ..ProxiesConfig::default() };
    world.rates.replace(&limits(), &trusting);
    for (n, token) in tokens.iter().enumerate() {
        let answer = from(&world, "10.0.0.1", token, &format!("6.6.6.6, 1.1.1.{n}, 10.0.0.9")).await;
        assert_eq!(answer.status.as_u16(), 200, "{n}");
    }
}

#[tokio::test]
async fn guessing_tokens_ends_soon() {
    let failed_auth = FailedAuthLimits { window_s: 60, per_address: 3 };
    let world = world_limited(&RateLimitsConfig { failed_auth, ..RateLimitsConfig::never_met() });
    let (alice, bob) = (world.client("alice").token().to_owned(), world.client("bob").token().to_owned());
    from(&world, "10.0.0.1", &alice, "").await.expect(200);
    for _ in 0..3 {
        from(&world, "10.0.0.1", "forged", "").await.problem(401, "unauthenticated");
    }
    for token in ["forged", &bob] {
        let refused = from(&world, "10.0.0.1", token, "").await;
        assert_eq!(refused.header("retry-after"), Some("20"));
        refused.problem(429, "rate_limited");
    }
    from(&world, "10.0.0.1", &alice, "").await.expect(200);
    from(&world, "10.0.0.2", &bob, "").await.expect(200);
}
