//! The realtime connection itself: who may open one, what ends it, and what a slow or careless client does to others.

use futures_util::future::join_all;
use http::HeaderValue;
use messenger_tests::cluster::Cluster;
use messenger_tests::device::{Device, text, unique};
use messenger_tests::socket::{Next, Refused, Socket, handshake};
use messenger_tests::wait::PATIENCE;
use serde_json::json;
use std::time::Duration;
use tokio::io::AsyncWriteExt;

async fn pair(cluster: &Cluster) -> (Device, Device, String) {
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let thread = hers.one_to_one(&bob).await;
    (hers, his, thread)
}

#[tokio::test]
async fn a_newer_connection_of_a_device_replaces_the_older_whichever_node_it_is_on() {
    let cluster = Cluster::shared();
    let user = unique("alice");
    let device = cluster.device(1, &user, "phone");
    let mut laptop = cluster.device(1, &user, "laptop").connect().await;
    laptop.catch_up().await;
    let mut old = device.connect().await;
    old.catch_up().await;
    for node in [2, 3, 3, 1] {
        let mut newer = device.at(cluster.client_addr(node)).connect().await;
        newer.catch_up().await;
        assert_eq!(old.closed_within(Duration::from_secs(2)).await, Some(4409));
        old = newer;
    }
    // The user's other device is another matter.
    let thread = device.one_to_one(&unique("bob")).await;
    let sent = device.send(&thread, "still here").await;
    assert_eq!(old.next_of("msg").await["id"], sent["id"]);
    assert_eq!(laptop.next_of("msg").await["id"], sent["id"]);
}

#[tokio::test]
async fn of_many_connections_at_once_one_stays() {
    let cluster = Cluster::shared();
    let device = cluster.device(1, &unique("alice"), "phone");
    let thread = device.one_to_one(&unique("bob")).await;
    let through: Vec<_> = cluster.nodes().map(|node| device.at(cluster.client_addr(node))).collect();
    let mut sockets = join_all((0..9).map(|n| through[n % through.len()].connect())).await;
    let mut open = Vec::new();
    let ends = join_all(sockets.iter_mut().map(|socket| async {
        let closed = tokio::time::timeout(Duration::from_secs(4), socket.closed_within(PATIENCE)).await;
        closed.ok()
    }))
    .await;
    for (socket, end) in sockets.into_iter().zip(ends) {
        match end {
            None => open.push(socket),
            Some(code) => assert_eq!(code, Some(4409)),
        }
    }
    assert_eq!(open.len(), 1);
    let sent = device.send(&thread, "to the one that is left").await;
    assert_eq!(open[0].next_of("msg").await["id"], sent["id"]);
}

#[tokio::test]
async fn handshakes_that_may_not_be_are_refused_over_http() {
    let cluster = Cluster::shared();
    let addr = cluster.client_addr(1);
    let device = cluster.device(1, &unique("alice"), "phone");
    let write_only = cluster.key().token_for(&unique("carol"), "phone", "chat.write");
    let good = || handshake(addr, "device_id=phone", Some(&device.token));
    let with = |name: &'static str, value: &'static str| {
        let mut request = good();
        request.headers_mut().insert(name, HeaderValue::from_static(value));
        request
    };
    let cases = [
        (handshake(addr, "device_id=phone", Some("not.a.token")), 401, "a bad token"),
        (handshake(addr, "device_id=phone", Some(&write_only)), 403, "a token that may not read"),
        (handshake(addr, "device_id=tablet", Some(&device.token)), 403, "another device than the token's"),
        (handshake(addr, "device_id=phone&last_seen_id=yesterday", Some(&device.token)), 400, "a malformed position"),
        (handshake(addr, "device_id=phone&encoding=cbor", Some(&device.token)), 400, "an unknown encoding"),
        (with("sec-websocket-version", "8"), 426, "an old version"),
        (with("origin", "https://elsewhere.example"), 403, "a foreign origin"),
    ];
    for (request, status, what) in cases {
        match Socket::try_open(addr, request).await {
            Err(Refused::Status(got, headers)) => {
                assert_eq!(got, status, "{what}");
                assert!(status != 401 || headers.contains_key("www-authenticate"), "{what}");
                assert_eq!(headers.contains_key("sec-websocket-version"), status == 426, "{what}");
            }
            other => panic!("{what}: {other:?}"),
        }
    }
    let plain = device.get("/v1/realtime?device_id=phone").await;
    plain.expect_problem(426, "upgrade_required");
    let mut explicit = Socket::open(addr, "device_id=phone&encoding=text", &device.token).await;
    explicit.catch_up().await;
}

#[tokio::test]
async fn a_browser_authenticates_by_subprotocol() {
    let cluster = Cluster::shared();
    let device = cluster.device(2, &unique("alice"), "phone");
    let mut request = handshake(cluster.client_addr(2), "device_id=phone", None);
    let offered = format!("messenger.v1, bearer.{}", device.token);
    request.headers_mut().insert("sec-websocket-protocol", offered.parse().expect("tokens are ASCII"));
    request.headers_mut().insert("origin", HeaderValue::from_static("http://localhost:5173"));
    let mut socket = Socket::try_open(cluster.client_addr(2), request).await.expect("a connection");
    assert_eq!(text(&socket.catch_up().await[0], "user_id"), device.user);
}

#[tokio::test]
async fn a_first_frame_authenticates_and_without_one_the_connection_ends() {
    let cluster = Cluster::shared();
    let addr = cluster.client_addr(3);
    let device = cluster.device(3, &unique("alice"), "phone");
    let open = || Socket::try_open(addr, handshake(addr, "device_id=phone", None));

    let mut socket = open().await.expect("a connection");
    socket.say(&json!({"t": "auth", "token": device.token})).await;
    assert_eq!(text(&socket.catch_up().await[0], "user_id"), device.user);

    let mut forged = open().await.expect("a connection");
    forged.say(&json!({"t": "auth", "token": "not.a.token"})).await;
    assert_eq!(forged.next_of("error").await["status"], 401);
    assert_eq!(forged.closed_within(PATIENCE).await, Some(4401));

    let mut silent = open().await.expect("a connection");
    assert_eq!(silent.next_of("error").await["status"], 401);
    assert_eq!(silent.closed_within(PATIENCE).await, Some(4401));
}

#[tokio::test]
async fn broken_frames_end_or_answer_their_own_connection_only() {
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let mut bystander = his.at(cluster.client_addr(1)).connect().await;
    bystander.catch_up().await;
    let carol = cluster.device(1, &unique("carol"), "phone");

    let mut socket = carol.connect().await;
    socket.catch_up().await;
    for broken in [
        "",
        "nonsense",
        "[]",
        "null",
        "{}",
        r#"{"t":7}"#,
        r#"{"t":"no such frame"}"#,
        r#"{"t":"client_ack"}"#,
        r#"{"t":"client_ack","frame_seq":-1}"#,
        r#"{"t":"client_ack","frame_seq":"1"}"#,
        r#"{"t":"send"}"#,
        r#"{"t":"send","request_id":"r","thread_id":"x","client_seq":1.5,"ciphertext":"***"}"#,
        r#"{"t":"read","thread_id":"x","up_to":"y"}"#,
    ] {
        socket.say_text(broken).await;
        let error = socket.next().await;
        assert_eq!((&error["t"], &error["status"]), (&json!("error"), &json!(400)), "{broken}: {error}");
    }
    let stranger = json!({"t": "send", "request_id": "r", "thread_id": thread, "client_seq": 1, "ciphertext": "eA=="});
    socket.say(&stranger).await;
    let error = socket.next_of("error").await;
    assert_eq!((&error["request_id"], &error["code"]), (&json!("r"), &json!("not_a_member")));

    socket.say_binary(b"\x00\x01\x02").await;
    assert_eq!(socket.closed_within(PATIENCE).await, Some(1003));

    let mut socket = carol.connect().await;
    socket.catch_up().await;
    // A masked text frame (mask 0) of two bytes that are no UTF-8.
    socket.tcp().write_all(&[0x81, 0x82, 0, 0, 0, 0, 0xff, 0xfe]).await.expect("the connection is open");
    assert_eq!(socket.closed_within(PATIENCE).await, Some(1007));

    let mut socket = carol.connect().await;
    socket.catch_up().await;
    // A frame with a reserved opcode and reserved bits, then noise.
    socket.tcp().write_all(&[0xff; 512]).await.expect("the connection is open");
    let _code = socket.closed_within(PATIENCE).await;

    let sent = hers.send(&thread, "undisturbed").await;
    assert_eq!(bystander.next_of("msg").await["id"], sent["id"]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_slow_reader_misses_nothing_and_slows_nobody() {
    const COUNT: usize = 600;
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let mut slow = his.connect().await;
    slow.catch_up().await;
    let mut quick = cluster.device(2, &his.user, "quick").connect().await;
    quick.catch_up().await;
    // More than the kernel's buffers hold: the server has to keep it back, or to read it again.
    let long = "x".repeat(48 * 1024);
    let mut sent = Vec::new();
    for _ in 0..COUNT {
        sent.push(text(&hers.send(&thread, &long).await, "id"));
        let heard = quick.next_of("msg").await;
        assert_eq!(heard["id"], json!(sent.last()));
    }
    let mut heard = Vec::new();
    let mut connections = 1;
    while heard.len() < COUNT {
        match slow.next_within(PATIENCE).await {
            Next::Frame(frame) if frame["t"] == "msg" => {
                let id = text(&frame, "id");
                // Delivery is at least once: what a new connection replays is recognised by its id.
                if !heard.contains(&id) {
                    heard.push(id);
                }
            }
            Next::Frame(_) => {}
            Next::Closed(code) => {
                assert_eq!(code, Some(4429), "a stalled reader is told so");
                connections += 1;
                assert!(connections < 10, "a reader that reads is not closed again and again");
                slow = his.connect_from(heard.last().map(String::as_str)).await;
            }
            Next::Silence => panic!("{} of {COUNT} came", heard.len()),
        }
    }
    assert_eq!(heard, sent);
}

#[tokio::test]
async fn a_device_that_vanishes_without_a_word_finds_what_it_missed() {
    let cluster = Cluster::shared();
    let (hers, his, thread) = pair(&cluster).await;
    let socket = his.connect().await;
    // Gone without a word, as phones go.
    drop(socket);
    let sent = hers.send(&thread, "hello?").await;
    let mut back = his.connect().await;
    let frames = back.catch_up().await;
    assert!(frames.iter().any(|frame| frame["id"] == sent["id"]));
}
