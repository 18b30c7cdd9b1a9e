//! What clients are told when a node has no room, a shard no majority, or a node is about to go.

use crate::scene::{LEADS, Scene, online};
use messenger_tests::cluster::process;
use messenger_tests::http::Answer;
use messenger_tests::wait::{PATIENCE, eventually};
use nix::sys::signal::Signal;
use tokio::io::AsyncWriteExt;
use tokio::net::TcpStream;

/// Bytes of the largest body.
const BODY_MAX: usize = 1024 * 1024;
/// As many of the largest bodies as a node of `messenger dev` takes at once.
const BODIES: usize = 128;

/// A node that has promised all the room it has turns others away at once, and takes them again afterwards.
pub async fn of_room(scene: &Scene) {
    let (hers, _, thread) = scene.pair().await;
    let addr = hers.http.addr();
    let head = format!(
        "POST /v1/threads/{thread}/messages HTTP/1.1\r\nhost: {addr}\r\nauthorization: Bearer {}\r\n\
         content-type: application/json\r\ncontent-length: {BODY_MAX}\r\n\r\n",
        hers.token
    );
    let mut waiting = Vec::new();
    for _ in 0..=BODIES {
        let mut stream = TcpStream::connect(addr).await.expect("a connection");
        stream.write_all(head.as_bytes()).await.expect("the node reads");
        waiting.push(stream);
    }
    eventually("one of them is turned away", || async {
        let is_answered = |stream: &TcpStream| stream.try_read(&mut [0; 512]).is_ok_and(|bytes| bytes > 0);
        waiting.iter().any(is_answered).then_some(())
    })
    .await;
    let send = async |key: &str| hers.try_send(&thread, key, 1, "x").await.expect("an answer");
    send("first").await.expect_problem(503, "overloaded");
    let _read = hers.get("/v1/threads").await.expect(200);
    drop(waiting);
    eventually("there is room again", || async { (send("second").await.status != 503).then_some(()) }).await;
}

/// A node that is told to go tells its clients, and turns new ones away.
pub async fn of_a_node(scene: &Scene) {
    let (_, his, thread) = scene.pair().await;
    let mut socket = online(&his).await;
    scene.cluster.terminate(2);
    assert_eq!(socket.closed_within(PATIENCE).await, Some(1001));
    // Until its process has ended it says so to whoever asks.
    if let Ok(refused) = his.try_call(http::Method::GET, &format!("/v1/threads/{thread}"), &[], "").await {
        refused.expect_problem(503, "unavailable");
    }
    scene.cluster.wait_gone(2);
    let elsewhere = his.at(scene.cluster.client_addr(1));
    eventually("another node answers", || async { (elsewhere.get("/v1/threads").await.status == 200).then_some(()) })
        .await;
}

/// With one node of three gone and another frozen, nothing is promised: a read had no effect, of a send it is not known.
pub async fn of_the_majority(scene: &Scene) {
    let (hers, _, thread) = scene.pair().await;
    let _before = hers.send(&thread, "before").await;
    let path = format!("/v1/threads/{thread}");
    let leads = scene.cluster.pid(LEADS).expect("the node runs");
    process::signal(leads, Signal::SIGSTOP);
    let (read, sent) = tokio::join!(hers.get(&path), hers.try_send(&thread, "key", 77, "is it there?"));
    process::signal(leads, Signal::SIGCONT);
    read.expect_problem(503, "unavailable");
    let sent: Answer = sent.expect("an answer");
    sent.expect_problem(503, "outcome_unknown");
    // Whatever it was, the same keys bring it to its end.
    let once = eventually("it is sent", || async {
        let again = hers.try_send(&thread, "key", 77, "is it there?").await.ok()?;
        (again.status == 202).then(|| again.json()["id"].clone())
    })
    .await;
    let history = hers.history(&thread).await;
    assert_eq!(history.iter().filter(|message| message["client_seq"] == 77).count(), 1);
    assert_eq!(history.last().map(|message| message["id"].clone()), Some(once));
}
