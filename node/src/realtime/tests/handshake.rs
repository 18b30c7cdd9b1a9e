//! Who may open a connection, and what becomes of those who may not, or speak badly.

use super::cluster::{Cluster, hasty};
use super::device::{Device, PATIENCE, request};
use crate::auth::Scopes;
use crate::readiness::Phase;
use crate::realtime::Tuning;
use futures_util::SinkExt;
use messenger_proto::ids::ThreadId;
use serde_json::{Value, json};
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_tungstenite::tungstenite::http::Response;
use tokio_tungstenite::tungstenite::protocol::frame::coding::{Data, OpCode};
use tokio_tungstenite::tungstenite::protocol::frame::{Frame, FrameHeader};
use tokio_tungstenite::tungstenite::{Error, Message};

async fn refused(
    cluster: &Cluster,
    params: &str,
    headers: &[(&str, &str)],
) -> (u16, String, Response<Option<Vec<u8>>>) {
    let address = cluster.addresses[0];
    match Device::open_with(address, request(address, params, headers)).await {
        Err(Error::Http(response)) => {
            let body: Value =
                serde_json::from_slice(response.body().as_deref().unwrap_or_default()).unwrap_or_default();
            let code = body["code"].as_str().unwrap_or_default().to_owned();
            (response.status().as_u16(), code, *response)
        }
        Err(other) => panic!("{other}"),
        Ok(_) => panic!("it was let in"),
    }
}

/// Parameters and headers of a request, and the status and code that refuse it.
type Case<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, &'a str);

#[tokio::test]
async fn what_can_be_refused_over_http_is() {
    let cluster = Cluster::start(1).await;
    let good = format!("Bearer {}", cluster.token("alice", "phone"));
    let writer = cluster.token_with("alice", "phone", Scopes::parse("chat.write"), Duration::from_mins(1));
    let writer = format!("Bearer {writer}");
    let auth = ("authorization", good.as_str());
    let bad_protocol = [("sec-websocket-protocol", "messenger.v1, bearer.forged")];
    let cases: [Case<'_>; 9] = [
        ("", &[("authorization", "Bearer forged")], 401, "unauthenticated"),
        ("", &[("authorization", "Basic x")], 401, "unauthenticated"),
        ("", &bad_protocol, 401, "unauthenticated"),
        ("", &[("authorization", &writer)], 403, "missing_scope"),
        ("?device_id=tablet", &[auth], 403, "forbidden"),
        ("?last_seen_id=x&encoding=text", &[auth], 400, "invalid_request"),
        ("?encoding=msgpack", &[auth], 400, "invalid_request"),
        ("", &[auth, ("origin", "https://evil.example")], 403, "forbidden"),
        ("", &[auth, ("sec-websocket-version", "12")], 426, "upgrade_required"),
    ];
    for (params, headers, status, code) in cases {
        let (seen, problem, response) = refused(&cluster, params, headers).await;
        assert_eq!((seen, problem.as_str()), (status, code), "{params} {headers:?}");
        if status == 426 {
            assert_eq!(response.headers()["sec-websocket-version"], "13");
        }
        assert_eq!(response.headers().contains_key("www-authenticate"), status == 401 || code == "missing_scope");
    }
    cluster.phase.send_replace(Phase::Draining);
    let (status, code, _) = refused(&cluster, "", &[auth]).await;
    assert_eq!((status, code.as_str()), (503, "unavailable"));
}

#[tokio::test]
async fn a_plain_request_is_told_to_upgrade() {
    let cluster = Cluster::start(1).await;
    for (method, status) in [("GET", "426"), ("HEAD", "426"), ("POST", "405"), ("OPTIONS", "204")] {
        let mut stream = TcpStream::connect(cluster.addresses[0]).await.unwrap();
        let head =
            format!("{method} /v1/realtime HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\n\r\n");
        stream.write_all(head.as_bytes()).await.unwrap();
        let mut answer = String::new();
        tokio::time::timeout(PATIENCE, stream.read_to_string(&mut answer)).await.unwrap().unwrap();
        assert!(answer.starts_with(&format!("HTTP/1.1 {status}")), "{answer}");
        assert_eq!(answer.contains("sec-websocket-version: 13"), status == "426", "{answer}");
        assert_eq!(answer.contains("allow: GET, HEAD, OPTIONS"), status != "426", "{answer}");
    }
}

#[tokio::test]
async fn a_browser_authenticates_by_subprotocol_or_first_frame() {
    let cluster = Cluster::start(1).await;
    let (address, token) = (cluster.addresses[0], cluster.token("alice", "phone"));
    let host = format!("http://{address}");
    let protocols = format!("messenger.v1, bearer.{token}");
    for origin in [host.as_str(), "https://chat.example"] {
        let headers = [("sec-websocket-protocol", protocols.as_str()), ("origin", origin)];
        let mut device = Device::open_with(address, request(address, "", &headers)).await.unwrap();
        assert_eq!(device.next().await["t"], "hello");
    }
    let mut device = Device::open_with(address, request(address, "?device_id=phone", &[])).await.unwrap();
    device.say(&json!({"t": "auth", "token": token})).await;
    assert_eq!(device.next().await["user_id"], "alice");
}

#[tokio::test]
async fn a_first_frame_that_does_not_authenticate_closes_with_4401() {
    let cluster = Cluster::start(1).await;
    let address = cluster.addresses[0];
    let other = json!({"t": "auth", "token": cluster.token("alice", "tablet")}).to_string();
    let frames = [r#"{"t":"auth","token":"forged"}"#, r#"{"t":"pong"}"#, "nonsense", &other];
    for frame in frames {
        let mut device = Device::open_with(address, request(address, "?device_id=phone", &[])).await.unwrap();
        device.say_text(frame).await;
        assert_eq!(device.next().await["t"], "error", "{frame}");
        assert_eq!(device.closed().await, Some(4401), "{frame}");
    }
    let mut silent = Device::open_with(address, request(address, "", &[])).await.unwrap();
    assert_eq!(silent.next().await["code"], "unauthenticated");
    assert_eq!(silent.closed().await, Some(4401));
}

#[tokio::test]
async fn bad_frames_get_an_error_and_disturb_nobody() {
    let cluster = Cluster::start(1).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let mut bob = cluster.online(1, "bob", "phone").await;
    let mut mallory = cluster.online(1, "mallory", "phone").await;
    let foreign = thread.id.to_string();
    let cases = [
        (json!({"t": "dance", "request_id": 1}), "invalid_request"),
        (json!({"t": "client_ack", "frame_seq": 99}), "invalid_request"),
        (json!({"t": "send", "thread_id": foreign, "client_seq": 1, "ciphertext": "aGk="}), "not_a_member"),
        (json!({"t": "read", "thread_id": foreign, "up_to": "01ARZ3NDEKTSV4RRFFQ69G5FAV"}), "not_a_member"),
        (json!({"t": "typing", "thread_id": foreign}), "not_a_member"),
        (json!({"t": "auth", "token": "x"}), "invalid_request"),
    ];
    for (frame, code) in cases {
        mallory.say(&frame).await;
        let error = mallory.expect("error").await;
        assert_eq!(error["code"], code, "{frame}");
        assert!(error["trace_id"].is_string() && error["title"].is_string());
    }
    let own = cluster.group("mallory", &["bob"]).await.id.to_string();
    let reply = "01ARZ3NDEKTSV4RRFFQ69G5FAV";
    mallory
        .say(&json!({"t": "send", "thread_id": own, "client_seq": 1, "ciphertext": "aGk=", "reply_to_msg_id": reply}))
        .await;
    assert_eq!(mallory.expect("error").await["errors"][0]["field"], "reply_to_msg_id");
    let large = json!({
        "t": "send", "request_id": "big", "thread_id": foreign, "client_seq": 1, "ciphertext": "A".repeat(100_000),
    });
    mallory.say(&large).await;
    let error = mallory.expect("error").await;
    assert_eq!((&error["code"], &error["request_id"]), (&json!("ciphertext_too_large"), &json!("big")));
    for _ in 0..30 {
        if mallory.socket.send(Message::text("{")).await.is_err() {
            break;
        }
    }
    assert_eq!(mallory.closed().await, Some(1008));
    cluster.say(thread.id, "alice", 1, 10).await;
    bob.expect("msg").await;
}

#[tokio::test]
async fn what_is_no_text_frame_closes_with_its_own_code() {
    let cluster = Cluster::start(1).await;
    let mut binary = cluster.online(1, "alice", "a").await;
    binary.socket.send(Message::binary(vec![1, 2, 3])).await.unwrap();
    assert_eq!(binary.closed().await, Some(1003));

    let mut broken = cluster.online(1, "alice", "b").await;
    let header = FrameHeader { opcode: OpCode::Data(Data::Text), ..FrameHeader::default() };
    broken.socket.send(Message::Frame(Frame::from_payload(header, vec![0xff, 0xfe].into()))).await.unwrap();
    assert_eq!(broken.closed().await, Some(1007));

    let mut huge = cluster.online(1, "alice", "c").await;
    huge.socket.send(Message::text("x".repeat(1024 * 1024 + 1))).await.unwrap();
    assert_eq!(huge.closed().await, Some(1009));

    // Whoever is not known yet has room for a token.
    let address = cluster.addresses[0];
    let mut stranger = Device::open_with(address, request(address, "", &[])).await.unwrap();
    stranger.say_text(&json!({"t": "auth", "token": "x".repeat(12 * 1024)}).to_string()).await;
    assert_eq!(stranger.closed().await, Some(1009));
}

#[tokio::test]
async fn a_device_may_name_as_many_threads_as_there_may_be() {
    let cluster = Cluster::start(1).await;
    let address = cluster.addresses[0];
    let threads: Vec<_> = (0..10_000_u128).map(|n| ThreadId(n.to_be_bytes()).to_string()).collect();
    let mut alice = Device::open_with(address, request(address, "", &[])).await.unwrap();
    // Nothing is waited for: what follows the token comes with it.
    alice.say(&json!({"t": "auth", "token": cluster.token("alice", "a")})).await;
    alice.say(&json!({"t": "subscribe", "request_id": 1, "thread_ids": threads})).await;
    assert_eq!(alice.expect("subscribed").await["thread_ids"].as_array().unwrap().len(), 10_000);
}

#[tokio::test]
async fn a_token_without_the_right_to_write_reads() {
    let cluster = Cluster::start(1).await;
    let thread = cluster.group("alice", &["bob"]).await;
    let token = cluster.token_with("bob", "phone", Scopes::parse("chat.read"), Duration::from_mins(1));
    let mut bob = Device::open(cluster.addresses[0], &token, "").await.unwrap();
    bob.caught_up().await;
    bob.send(thread.id, "hi").await;
    let error = bob.expect("error").await;
    assert_eq!((&error["code"], &error["request_id"]), (&json!("missing_scope"), &json!("r1")));
    cluster.say(thread.id, "alice", 1, 10).await;
    bob.expect("msg").await;
}

#[tokio::test]
async fn silence_ends_a_connection_and_pongs_keep_it() {
    let tuning = Tuning { ping: Duration::from_millis(100), pong_timeout: Duration::from_millis(450), ..hasty() };
    let cluster = Cluster::start_with(1, tuning, 10).await;
    let mut silent = cluster.online(1, "alice", "silent").await;
    let mut lively = cluster.online(1, "alice", "lively").await;
    let pongs = tokio::spawn(async move {
        for _ in 0..10 {
            lively.expect("ping").await;
            lively.say(&json!({"t": "pong"})).await;
        }
    });
    assert_eq!(silent.closed().await, Some(4408));
    pongs.await.unwrap();
}

#[tokio::test]
async fn a_node_holds_so_many_connections_and_no_more() {
    let cluster = Cluster::start_with(1, hasty(), 2).await;
    let good = format!("Bearer {}", cluster.token("alice", "c"));
    let one = cluster.online(1, "alice", "a").await;
    let _two = cluster.online(1, "alice", "b").await;
    let (status, code, _) = refused(&cluster, "", &[("authorization", &good)]).await;
    assert_eq!((status, code.as_str()), (503, "overloaded"));
    drop(one);
    // The place is given back once the connection's task has ended.
    while cluster.nodes[0].connections() > 1 {
        tokio::task::yield_now().await;
    }
    let mut again = Device::open(cluster.addresses[0], &cluster.token("alice", "c"), "").await;
    while matches!(&again, Err(Error::Http(response)) if response.status() == 503) {
        again = Device::open(cluster.addresses[0], &cluster.token("alice", "c"), "").await;
    }
    assert_eq!(again.unwrap().next().await["t"], "hello");
}

#[tokio::test]
async fn a_draining_node_sends_its_devices_away() {
    let cluster = Cluster::start(2).await;
    let mut here = [cluster.online(1, "alice", "a").await, cluster.online(1, "bob", "b").await];
    let mut there = cluster.online(2, "carol", "c").await;
    let address = cluster.addresses[0];
    let mut unknown = Device::open_with(address, request(address, "", &[])).await.unwrap();
    cluster.nodes[0].drain(Duration::from_millis(50)).await;
    for device in &mut here {
        assert_eq!(device.closed().await, Some(1001));
    }
    assert_eq!(unknown.closed().await, Some(1001), "whoever was still authenticating");
    let mut late = Device::open(address, &cluster.token("alice", "late"), "").await.unwrap();
    assert_eq!(late.closed().await, Some(1001), "whoever got past the gateway just before");
    cluster.group("carol", &["alice"]).await;
    there.expect("thread").await;
}
