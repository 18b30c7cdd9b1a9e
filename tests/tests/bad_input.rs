//! Bad input of every kind: each gets a clear error, harms nobody else, and never ends a node.

use http::Method;
use messenger_tests::cluster::Cluster;
use messenger_tests::device::{Device, base64, text, unique};
use messenger_tests::http::{Http, raw};
use rand::{Rng, RngExt};
use serde_json::{Value, json};
use std::collections::BTreeSet;

struct Scene {
    cluster: std::sync::Arc<Cluster>,
    /// In the thread.
    hers: Device,
    his: Device,
    /// Not in the thread.
    stranger: Device,
    thread: String,
    message: String,
}

async fn scene() -> Scene {
    let cluster = Cluster::shared();
    let (alice, bob, carol) = (unique("alice"), unique("bob"), unique("carol"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let stranger = cluster.device(3, &carol, "phone");
    let thread = hers.group("private", &[&bob]).await;
    let message = text(&hers.send(&thread, "before").await, "id");
    Scene { cluster, hers, his, stranger, thread, message }
}

/// The fields a problem document complains of.
fn fields(problem: &Value) -> BTreeSet<String> {
    let errors = problem["errors"].as_array().unwrap_or_else(|| panic!("no errors in {problem}"));
    errors.iter().map(|error| text(error, "field")).collect()
}

#[tokio::test]
async fn bodies_that_are_no_json_or_not_the_right_one_are_refused() {
    let s = scene().await;
    let path = format!("/v1/threads/{}/messages", s.thread);
    let key = unique("key");
    let post = async |content_type: &str, body: Vec<u8>| {
        let headers = [("content-type", content_type), ("idempotency-key", key.as_str())];
        s.hers.try_call(Method::POST, &path, &headers, body).await.expect("an answer")
    };
    let good = format!(r#"{{"client_seq":1,"ciphertext":"{}"}}"#, base64("x"));
    for body in [
        String::new(),
        "{".to_owned(),
        "nonsense".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "7".to_owned(),
        good.replace('}', ""),
        format!("{good}{good}"),
        good.replace("client_seq", "client_sequence"),
        format!(r#"{{"client_seq":1,"client_seq":2,"ciphertext":"{}"}}"#, base64("x")),
        format!("{}{}", "[".repeat(100_000), "]".repeat(100_000)),
        format!(r#"{{"client_seq":1,"ciphertext":"eA==","attachments":{}1{}}}"#, "[".repeat(500), "]".repeat(500)),
    ] {
        let shown: String = body.chars().take(80).collect();
        let answer = post("application/json", body.into_bytes()).await;
        assert_eq!(answer.status, 400, "{shown}: {answer:?}");
        answer.expect_problem(400, "invalid_request");
    }
    post("application/json", vec![b'{', 0xff, 0xfe, b'}']).await.expect_problem(400, "invalid_request");
    post("text/plain", good.clone().into_bytes()).await.expect_problem(415, "unsupported_media_type");
    post("application/x-www-form-urlencoded", b"client_seq=1".to_vec())
        .await
        .expect_problem(415, "unsupported_media_type");
    assert_eq!(s.his.history(&s.thread).await.len(), 1, "none of it was stored");
}

#[tokio::test]
async fn every_bad_field_is_named_at_once() {
    let s = scene().await;
    let path = format!("/v1/threads/{}/messages", s.thread);
    let key = unique("key");
    let body = json!({"client_seq": -1, "ciphertext": "not base64!", "content_type": "hologram", "reply_to_msg_id": 7,
        "surprise": true});
    let problem = s.hers.post(&path, &[("idempotency-key", &key)], &body).await.expect_problem(400, "invalid_request");
    let wanted = ["client_seq", "ciphertext", "content_type", "reply_to_msg_id", "surprise"];
    assert_eq!(fields(&problem), wanted.map(str::to_owned).into(), "{problem}");

    for client_seq in [json!(1.5), json!("1"), json!(9_007_199_254_740_992_u64), json!(null)] {
        let body = json!({"client_seq": client_seq, "ciphertext": base64("x")});
        let answer = s.hers.post(&path, &[("idempotency-key", &key)], &body).await;
        assert_eq!(fields(&answer.expect_problem(400, "invalid_request")), ["client_seq".to_owned()].into());
    }
    let largest = json!({"client_seq": 9_007_199_254_740_991_u64, "ciphertext": base64("x")});
    let _message = s.hers.post(&path, &[("idempotency-key", &unique("key"))], &largest).await.expect(202);

    let body = json!({"type": "CROWD", "participants": ["ok", "not ok", 7], "title": 1, "colour": "red"});
    let problem = s.hers.post("/v1/threads", &[], &body).await.expect_problem(400, "invalid_request");
    for field in ["type", "title", "colour"] {
        assert!(fields(&problem).contains(field), "{field}: {problem}");
    }
    assert!(fields(&problem).iter().any(|field| field.starts_with("participants")), "{problem}");
}

#[tokio::test]
async fn threads_that_cannot_be_are_refused() {
    let s = scene().await;
    let crowd: Vec<String> = (0..250).map(|n| format!("member-{n}")).collect();
    let cases = [
        json!({"type": "1_TO_1", "participants": []}),
        json!({"type": "1_TO_1", "participants": [s.hers.user]}),
        json!({"type": "1_TO_1", "participants": ["one", "two"]}),
        json!({"type": "GROUP", "participants": ["me"]}),
        json!({"type": "GROUP", "participants": ["a".repeat(65)]}),
        json!({"type": "GROUP", "participants": crowd}),
        json!({"participants": ["one"]}),
        json!({"type": "GROUP"}),
    ];
    for body in cases {
        let shown: String = body.to_string().chars().take(80).collect();
        let answer = s.hers.post("/v1/threads", &[], &body).await;
        assert_eq!(answer.status, 400, "{shown}");
        assert!(!fields(&answer.json()).is_empty(), "{shown}");
    }
    // 250 in all is the most there may be; one more does not fit.
    let full = text(
        &s.hers.post("/v1/threads", &[], &json!({"type": "GROUP", "participants": crowd[1..]})).await.expect(201),
        "id",
    );
    let path = format!("/v1/threads/{full}/participants");
    let one_more = s.hers.post(&path, &[], &json!({"user_ids": ["one-more"]})).await;
    one_more.expect_problem(409, "thread_full");
    assert_eq!(s.hers.thread(&full).await["participants"].as_array().map(Vec::len), Some(250));

    let pair = s.hers.one_to_one(&s.his.user).await;
    let grown = s.hers.post(&format!("/v1/threads/{pair}/participants"), &[], &json!({"user_ids": ["third"]})).await;
    grown.expect_problem(409, "not_a_group");
    let left = s.hers.delete(&format!("/v1/threads/{pair}/participants/{}", s.hers.user)).await;
    left.expect_problem(409, "not_a_group");
}

#[tokio::test]
async fn what_is_too_large_is_refused_and_what_just_fits_is_not() {
    let s = scene().await;
    let path = format!("/v1/threads/{}/messages", s.thread);
    let send = async |bytes: usize| {
        let body = json!({"client_seq": bytes, "ciphertext": base64(&"x".repeat(bytes))});
        s.hers.post(&path, &[("idempotency-key", &unique("key"))], &body).await
    };
    send(64 * 1024 + 1).await.expect_problem(413, "ciphertext_too_large");
    let stored = send(64 * 1024).await.expect(202);
    let read = s.his.get(&format!("/v1/messages/{}", text(&stored, "id"))).await.expect(200);
    assert_eq!(read["ciphertext"], stored["ciphertext"]);
    send(1024 * 1024).await.expect_problem(413, "body_too_large");

    let long = "h".repeat(17 * 1024);
    let answer = s.hers.try_call(Method::GET, "/v1/threads", &[("x-long", &long)], "").await.expect("an answer");
    assert_eq!(answer.status, 431);
    let answer = s.hers.try_call(Method::GET, &format!("/v1/threads?cursor={long}"), &[], "").await.expect("an answer");
    assert!(matches!(answer.status.as_u16(), 400 | 414 | 431), "{answer:?}");
}

#[tokio::test]
async fn tokens_that_are_none_are_refused() {
    let s = scene().await;
    let http = Http::new(s.cluster.client_addr(1));
    let get = async |authorization: Option<String>| {
        let headers: Vec<(&str, &str)> = authorization.iter().map(|value| ("authorization", value.as_str())).collect();
        http.request(Method::GET, "/v1/threads", &headers, "").await.expect("an answer")
    };
    let parts: Vec<&str> = s.hers.token.split('.').collect();
    // {"alg":"none","typ":"JWT"}
    let none = "eyJhbGciOiJub25lIiwidHlwIjoiSldUIn0";
    let other_payload: String = s.his.token.split('.').nth(1).expect("a token has three parts").to_owned();
    let forged = [
        "nonsense".to_owned(),
        String::new(),
        format!("{none}.{}.", parts[1]),
        format!("{none}.{}.{}", parts[1], parts[2]),
        format!("{}.{other_payload}.{}", parts[0], parts[2]),
        format!("{}.{}.{}", parts[0], parts[1], parts[2].chars().rev().collect::<String>()),
        format!("{}.{}", parts[0], parts[1]),
    ];
    for token in forged {
        let answer = get(Some(format!("Bearer {token}"))).await;
        answer.expect_problem(401, "unauthenticated");
        assert!(answer.header("www-authenticate").is_some_and(|value| value.starts_with("Bearer")), "{answer:?}");
    }
    for other in [None, Some("Basic YWxpY2U6cHc=".to_owned()), Some(s.hers.token.clone())] {
        get(other).await.expect_problem(401, "unauthenticated");
    }
    let in_url = http.request(Method::GET, &format!("/v1/threads?access_token={}", s.hers.token), &[], "").await;
    assert_eq!(in_url.expect("an answer").status, 401, "no token travels in a URL");
    assert_eq!(get(Some(format!("Bearer {}", s.hers.token))).await.status, 200);
}

#[tokio::test]
async fn scopes_hold() {
    let s = scene().await;
    let scoped = |scope: &str| {
        let token = s.cluster.key().token_for(&s.hers.user, "phone", scope);
        Device::new(s.cluster.client_addr(2), &s.hers.user, "phone", token)
    };
    let (reader, writer) = (scoped("chat.read"), scoped("chat.write"));
    let refused = reader.try_send(&s.thread, &unique("key"), 77, "x").await.expect("an answer");
    refused.expect_problem(403, "missing_scope");
    let _history = reader.get(&format!("/v1/threads/{}/messages", s.thread)).await.expect(200);
    writer.get(&format!("/v1/threads/{}/messages", s.thread)).await.expect_problem(403, "missing_scope");
    let _sent = writer.try_send(&s.thread, &unique("key"), 78, "x").await.expect("an answer").expect(202);
}

#[tokio::test]
async fn signed_tokens_with_wrong_claims_are_refused() {
    let s = scene().await;
    let key = s.cluster.key();
    let http = Http::new(s.cluster.client_addr(3));
    let now = key.now();
    let with = |claim: &str, value: Value| {
        let mut claims = key.claims(&s.hers.user, "phone", "chat.read chat.write");
        claims[claim] = value;
        claims
    };
    let without = |claim: &str| {
        let mut claims = key.claims(&s.hers.user, "phone", "chat.read chat.write");
        claims.as_object_mut().expect("claims are an object").remove(claim);
        claims
    };
    let cases = [
        (key.sign(&with("exp", json!(now - 60))), "token_expired"),
        (key.sign(&with("iss", json!("another issuer"))), "unauthenticated"),
        (key.sign(&with("aud", json!("another audience"))), "unauthenticated"),
        (key.sign(&with("sub", json!("not a user id"))), "unauthenticated"),
        (key.sign(&with("did", json!("me"))), "unauthenticated"),
        (key.sign(&with("exp", json!("tomorrow"))), "unauthenticated"),
        (key.sign(&without("exp")), "unauthenticated"),
        (key.sign(&without("sub")), "unauthenticated"),
        (key.sign(&without("did")), "unauthenticated"),
        (key.sign_as("unknown-kid", &with("exp", json!(now + 60))), "unauthenticated"),
        (key.sign_with_secret(b"another secret", &with("exp", json!(now + 60))), "unauthenticated"),
    ];
    for (token, code) in cases {
        let headers = [("authorization", format!("Bearer {token}"))];
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let answer = http.request(Method::GET, "/v1/threads", &headers, "").await.expect("an answer");
        answer.expect_problem(401, code);
        assert!(answer.header("www-authenticate").is_some(), "{answer:?}");
    }
    // Clocks may differ a little: ten seconds of leeway.
    let late = key.sign(&with("exp", json!(now - 3)));
    let late = Device::new(s.cluster.client_addr(1), &s.hers.user, "phone", late);
    assert_eq!(late.get("/v1/threads").await.status, 200);
}

#[tokio::test]
async fn unknown_things_are_404_and_other_peoples_are_403() {
    let s = scene().await;
    let (thread, message) = (&s.thread, &s.message);
    let nowhere = uuid::Uuid::new_v4();
    let never = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    let cases = [
        (Method::GET, format!("/v1/threads/{thread}"), format!("/v1/threads/{nowhere}"), json!(null)),
        (Method::GET, format!("/v1/threads/{thread}/messages"), format!("/v1/threads/{nowhere}/messages"), json!(null)),
        (Method::GET, format!("/v1/messages/{message}"), format!("/v1/messages/{never}"), json!(null)),
        (
            Method::GET,
            format!("/v1/messages/{message}/recipients"),
            format!("/v1/messages/{never}/recipients"),
            json!(null),
        ),
        (
            Method::POST,
            format!("/v1/threads/{thread}/messages"),
            format!("/v1/threads/{nowhere}/messages"),
            json!({"client_seq": 1, "ciphertext": "eA=="}),
        ),
        (
            Method::POST,
            format!("/v1/threads/{thread}/read"),
            format!("/v1/threads/{nowhere}/read"),
            json!({"up_to_msg_id": message}),
        ),
        (
            Method::POST,
            format!("/v1/threads/{thread}/participants"),
            format!("/v1/threads/{nowhere}/participants"),
            json!({"user_ids": ["dave"]}),
        ),
        (
            Method::DELETE,
            format!("/v1/threads/{thread}/participants/{}", s.his.user),
            format!("/v1/threads/{nowhere}/participants/{}", s.his.user),
            json!(null),
        ),
    ];
    for (method, foreign, unknown, body) in cases {
        for (path, status, code) in [(foreign, 403, "not_a_member"), (unknown, 404, "not_found")] {
            let key = unique("key");
            let headers = [("content-type", "application/json"), ("idempotency-key", key.as_str())];
            let sent = if body.is_null() { String::new() } else { body.to_string() };
            let headers = if body.is_null() { &headers[..0] } else { &headers[..] };
            let answer = s.stranger.try_call(method.clone(), &path, headers, sent).await.expect("an answer");
            eprintln!("{method} {path}");
            answer.expect_problem(status, code);
        }
    }
    let theirs = s.stranger.get("/v1/threads").await.expect(200);
    assert_eq!(theirs["threads"], json!([]));
    assert_eq!(s.his.history(thread).await.len(), 1);

    for path in ["/v1/threads/not-a-uuid", "/v1/messages/not-a-ulid", "/v1/threads/not-a-uuid/messages"] {
        let answer = s.hers.get(path).await;
        assert!(matches!(answer.status.as_u16(), 400 | 404), "{path}: {answer:?}");
    }
    for path in ["/", "/v1", "/v2/threads", "/v1/nothing", "/metrics", "/v1/threads/../threads/"] {
        s.hers.get(path).await.expect_problem(404, "not_found");
    }
    let wrong_method = s.hers.delete("/v1/threads").await;
    wrong_method.expect_problem(405, "method_not_allowed");
    let allowed = wrong_method.header("allow").unwrap_or_default();
    assert!(["GET", "POST"].iter().all(|method| allowed.contains(method)), "{allowed}");
    let options = s.hers.try_call(Method::OPTIONS, "/v1/threads", &[], "").await.expect("an answer");
    let allowed = options.header("allow").unwrap_or_default();
    assert!(options.status.is_success() && allowed.contains("GET") && allowed.contains("POST"), "{options:?}");
    let head = s.hers.try_call(Method::HEAD, &format!("/v1/threads/{thread}"), &[], "").await.expect("an answer");
    assert!(head.status == 200 && head.body.is_empty(), "{head:?}");
}

#[tokio::test]
async fn queries_that_make_no_sense_are_refused() {
    let s = scene().await;
    let messages = format!("/v1/threads/{}/messages", s.thread);
    let page = s.hers.get("/v1/threads?page_size=1").await.expect(200);
    let _listed = page["threads"].as_array().expect("threads are a list");
    for query in ["page_size=0", "page_size=101", "page_size=x", "page_size=-1", "page_size=1.5"] {
        let problem = s.hers.get(&format!("{messages}?{query}")).await.expect_problem(400, "invalid_request");
        assert_eq!(fields(&problem), ["page_size".to_owned()].into());
        s.hers.get(&format!("/v1/threads?{query}")).await.expect_problem(400, "invalid_request");
    }
    for query in ["since=yesterday", "before=x", "changed_since=x", "changed_since=-1"] {
        s.hers.get(&format!("{messages}?{query}")).await.expect_problem(400, "invalid_request");
    }
    for _ in 0..2 {
        let _message = s.hers.send(&s.thread, "more").await;
    }
    let page = s.hers.get(&format!("{messages}?page_size=1")).await.expect(200);
    let cursor = text(&page, "next_cursor");
    let flipped: String = cursor.chars().rev().collect();
    for wrong in ["x".to_owned(), flipped, format!("{cursor}A"), cursor[1..].to_owned()] {
        s.hers.get(&format!("{messages}?cursor={wrong}")).await.expect_problem(400, "invalid_cursor");
    }
    s.hers.get(&format!("/v1/threads?cursor={cursor}")).await.expect_problem(400, "invalid_cursor");
    let other = s.hers.group("another list", &[&s.his.user]).await;
    s.hers.get(&format!("/v1/threads/{other}/messages?cursor={cursor}")).await.expect_problem(400, "invalid_cursor");
}

#[tokio::test]
async fn noise_on_any_port_ends_no_node_and_disturbs_nobody() {
    let s = scene().await;
    let mut socket = s.his.connect().await;
    socket.catch_up().await;
    let pids: Vec<_> = s.cluster.nodes().map(|node| s.cluster.pid(node)).collect();
    assert!(pids.iter().all(Option::is_some));
    let mut random = rand::rng();
    // What a client of HTTP/2 says first, then a frame that claims to be as long as a frame can be.
    let mut http2 = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".to_vec();
    http2.extend([0xff; 9]);
    for node in s.cluster.nodes() {
        for addr in [s.cluster.peer_addr(node), s.cluster.client_addr(node), s.cluster.admin_addr(node)] {
            for _ in 0..4 {
                let mut noise = vec![0; random.random_range(1..4096)];
                random.fill_bytes(&mut noise);
                let after_preface = [http2.as_slice(), &noise].concat();
                let whispers = tokio::task::spawn_blocking(move || {
                    for bytes in [noise.as_slice(), &after_preface, b"GET / HTTP/1.1\r\nhost: x\r\n", b"\r\n\r\n\0"] {
                        assert!(raw(addr, bytes).is_some(), "{addr} takes connections");
                    }
                });
                whispers.await.expect("the port answers");
            }
        }
    }
    assert_eq!(pids, s.cluster.nodes().map(|node| s.cluster.pid(node)).collect::<Vec<_>>());
    let sent = s.hers.send(&s.thread, "undisturbed").await;
    assert_eq!(socket.next_of("msg").await["id"], sent["id"]);
    assert_eq!(s.his.history(&s.thread).await.len(), 2);
}

#[tokio::test]
async fn answers_tell_nothing_of_the_inside() {
    let s = scene().await;
    let data = s.cluster.data().to_string_lossy().into_owned();
    for path in ["/v1/threads/x", "/v1/nothing", "/v1/messages/01ARZ3NDEKTSV4RRFFQ69G5FAV", "/readyz", "/livez"] {
        let body = String::from_utf8_lossy(&s.hers.get(path).await.body).to_lowercase();
        for inside in [data.as_str(), "rocksdb", "panicked", ".rs:", "src/", "openraft", "127.0.0.1"] {
            assert!(!body.contains(&inside.to_lowercase()), "{path} tells {inside}: {body}");
        }
    }
}
