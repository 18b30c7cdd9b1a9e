//! Who types and who is there, as seen through other nodes.

use http::Method;
use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::{Device, text, unique};
use messenger_tests::socket::{Next, Socket};
use messenger_tests::wait::eventually;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// After the last device went.
const GRACE: Duration = Duration::from_secs(10);
/// A node's death is noticed within this.
const DEATH: Duration = Duration::from_secs(15);

/// Who is there is in the memory of leaders: one that takes over knows within a renewal, which nothing here waits for.
fn settled() -> Arc<Cluster> {
    let cluster = Cluster::shared();
    let _leaders = cluster.settled_leaders();
    cluster
}

/// Reads on until a presence of the user with this status, at most for so long.
async fn until_shown(socket: &mut Socket, user: &str, status: &str, limit: Duration) -> Value {
    let deadline = Instant::now() + limit;
    loop {
        match socket.next_within(deadline.saturating_duration_since(Instant::now())).await {
            Next::Frame(frame) if frame["t"] == "presence" && frame["user_id"] == user && frame["status"] == status => {
                return frame;
            }
            Next::Frame(_) => {}
            other => panic!("waited {limit:?} for {user} to be {status}: {other:?}"),
        }
    }
}

async fn presence_of(viewer: &Device, user: &str) -> Value {
    viewer.get(&format!("/v1/users/{user}/presence")).await.expect(200)
}

async fn online(device: &Device) -> Socket {
    let mut socket = device.connect().await;
    socket.catch_up().await;
    socket
}

#[tokio::test]
async fn typing_is_seen_through_another_node() {
    let cluster = settled();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(3, &bob, "phone"));
    let thread = hers.one_to_one(&bob).await;
    let (mut hers, mut his) = (online(&hers).await, online(&his).await);
    let typing = |stop: bool| json!({"t": "typing", "thread_id": thread, "stop": stop});
    for _ in 0..10 {
        hers.say(&typing(false)).await;
    }
    let frame = his.next_of("typing").await;
    assert_eq!((text(&frame, "thread_id"), text(&frame, "user_id")), (thread.clone(), alice.clone()));
    assert_eq!(frame["ttl_s"], 5);
    hers.say(&typing(true)).await;
    assert_eq!(his.next_of("typing").await["ttl_s"], 0, "one start was passed on, and its stop at once");
    // A stranger, and one who left, are told that they may not.
    let mut eve = online(&cluster.device(2, &unique("eve"), "phone")).await;
    eve.say(&typing(false)).await;
    assert_eq!(eve.next_of("error").await["code"], "not_a_member");
}

#[tokio::test]
async fn coming_being_away_and_going_are_seen_through_another_node() {
    let cluster = settled();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let refused = hers.get(&format!("/v1/users/{bob}/presence")).await;
    refused.expect_problem(403, "forbidden");
    let _thread = hers.one_to_one(&bob).await;
    assert_eq!(presence_of(&hers, &bob).await, json!({"status": "offline", "last_seen": null}));
    let mut watching = online(&his).await;
    let mut live = online(&hers).await;
    let shown = until_shown(&mut watching, &alice, "online", Duration::from_secs(5)).await;
    assert_eq!(shown["last_seen"], Value::Null);
    until_shown(&mut live, &bob, "online", Duration::from_secs(5)).await;
    live.say(&json!({"t": "presence", "status": "away"})).await;
    until_shown(&mut watching, &alice, "away", Duration::from_secs(5)).await;
    assert_eq!(presence_of(&his.at(cluster.client_addr(3)), &alice).await["status"], "away");
    live.close().await;
    let went = Instant::now();
    let shown = until_shown(&mut watching, &alice, "offline", GRACE * 2).await;
    assert!(went.elapsed() + Duration::from_secs(1) > GRACE, "{:?}", went.elapsed());
    let last_seen = text(&shown, "last_seen");
    for node in cluster.nodes() {
        let seen = presence_of(&his.at(cluster.client_addr(node)), &alice).await;
        assert_eq!(seen, json!({"status": "offline", "last_seen": last_seen}));
    }
    let stranger = cluster.device(3, &unique("eve"), "phone");
    let refused = stranger.get(&format!("/v1/users/{alice}/presence")).await;
    refused.expect_problem(403, "forbidden");
}

#[tokio::test]
async fn who_hides_is_seen_through_no_node() {
    let cluster = settled();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let (hers, his) = (cluster.device(1, &alice, "phone"), cluster.device(2, &bob, "phone"));
    let _thread = hers.one_to_one(&bob).await;
    let (_live, mut watching) = (online(&hers).await, online(&his).await);
    until_shown(&mut watching, &alice, "online", Duration::from_secs(5)).await;
    let choose = async |presence: &str| {
        let (path, headers) = ("/v1/users/me/privacy", [("content-type", "application/json")]);
        let body = json!({"presence": presence}).to_string();
        let through = hers.at(cluster.client_addr(3));
        through.try_call(Method::PUT, path, &headers, body).await.expect("an answer").expect(200)
    };
    assert_eq!(choose("nobody").await, json!({"presence": "nobody"}));
    for node in cluster.nodes() {
        let path = |user: &str| format!("/v1/users/{user}/presence");
        let seen = his.at(cluster.client_addr(node)).get(&path(&alice)).await;
        seen.expect_problem(403, "presence_hidden");
        hers.at(cluster.client_addr(node)).get(&path(&bob)).await.expect_problem(403, "presence_hidden");
    }
    let taken_back = until_shown(&mut watching, &alice, "offline", Duration::from_secs(5)).await;
    assert_eq!(taken_back["last_seen"], Value::Null);
    choose("everyone").await;
    until_shown(&mut watching, &alice, "online", Duration::from_secs(5)).await;
}

#[tokio::test]
async fn users_of_a_dead_node_are_offline_in_time_and_those_who_come_back_never_went() {
    let cluster = Cluster::start(Size { nodes: 3, shards: 4 });
    // Enough of them that the dead node led some of their shards.
    let users: Vec<String> = (0..8).map(|n| unique(&format!("u{n}"))).collect();
    let returning = unique("returning");
    let watcher = cluster.device(2, &unique("watcher"), "phone");
    let mut others: Vec<&str> = users.iter().map(String::as_str).collect();
    others.push(&returning);
    watcher.group("all", &others).await;
    let mut watching = online(&watcher).await;
    let mut sockets = Vec::new();
    for user in users.iter().chain([&returning]) {
        sockets.push(online(&cluster.device(1, user, "phone")).await);
        until_shown(&mut watching, user, "online", Duration::from_secs(10)).await;
    }
    cluster.kill(1);
    let died = Instant::now();
    let back = cluster.device(3, &returning, "phone");
    let mut again = online(&back).await;
    let mut missing: Vec<&String> = users.iter().collect();
    while !missing.is_empty() {
        let left = (GRACE + DEATH).saturating_sub(died.elapsed());
        match watching.next_within(left).await {
            Next::Frame(frame) if frame["t"] == "presence" => {
                assert_eq!(frame["status"], "offline", "{frame}");
                assert_ne!(frame["user_id"], json!(returning), "it came back in time");
                missing.retain(|user| frame["user_id"] != json!(user));
            }
            Next::Frame(_) => {}
            other => panic!("{:?} after the node died, still shown: {missing:?}: {other:?}", died.elapsed()),
        }
    }
    eventually("a new leader knows who is there", || async {
        (presence_of(&watcher, &returning).await["status"] == "online").then_some(())
    })
    .await;
    again.say(&json!({"t": "presence", "status": "away"})).await;
    until_shown(&mut watching, &returning, "away", Duration::from_secs(10)).await;
}
