//! People hold an encrypted conversation, each on two devices, while a node is killed; and nothing of what they say is
//! ever on a node.

use messenger_tests::cluster::{Cluster, Size};
use messenger_tests::device::unique;
use messenger_tests::http::raw;
use messenger_tests::talker::Talker;
use messenger_tests::wait::{self, eventually};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Messages of each device in each part of the conversation.
const EACH: usize = 4;

/// Waits until the cluster knows so many devices of a user.
async fn has_devices(cluster: &Cluster, node: u16, user: &str, count: usize) {
    let asks = cluster.device(node, user, "asks");
    eventually("the devices' keys are published", || async {
        let listed = asks.get(&format!("/v1/users/{user}/devices")).await.json();
        (listed["devices"].as_array().map(Vec::len) == Some(count)).then_some(())
    })
    .await;
}

/// Each says some things at once; what they said.
fn talk(talkers: &mut [Talker], part: &str, canary: &str) -> Vec<String> {
    let mut said = Vec::new();
    for round in 0..EACH {
        for (at, talker) in talkers.iter_mut().enumerate() {
            let text = format!("{part} {at}.{round} {canary}");
            talker.types(&text);
            said.push(text);
        }
    }
    said
}

/// Every device shows each of them, once, and nothing that could not be read or was not encrypted.
fn all_heard(talkers: &[Talker], said: &[String]) {
    for talker in talkers {
        for text in said {
            talker.sees_at_the_end(&format!(": {text}"));
        }
        let shown = talker.shown();
        for text in said {
            let times = shown.iter().filter(|line| line.ends_with(&format!(": {text}"))).count();
            assert_eq!(times, 1, "{}'s {} shows {text:?} {times} times", talker.user, talker.device);
        }
        let wrong = |line: &&String| line.contains("cannot be decrypted") || line.contains("not encrypted)");
        assert_eq!(shown.iter().find(wrong), None, "{}'s {}", talker.user, talker.device);
    }
}

fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut left = vec![directory.to_owned()];
    while let Some(directory) = left.pop() {
        for entry in std::fs::read_dir(&directory).expect("a node's directory can be read").flatten() {
            let path = entry.path();
            if path.is_dir() { left.push(path) } else { found.push(path) }
        }
    }
    found
}

/// The files of all nodes that hold a text.
fn holding(cluster: &Cluster, text: &str) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = cluster.nodes().flat_map(|node| files(&cluster.node_directory(node))).collect();
    all.push(cluster.directory().join("dev.log"));
    all.retain(|path| {
        let bytes = std::fs::read(path).unwrap_or_default();
        bytes.windows(text.len()).any(|window| window == text.as_bytes())
    });
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn devices_talk_through_a_nodes_death_and_no_node_learns_what() {
    let cluster = Cluster::start(Size::default());
    let (alice, bob) = (unique("alice"), unique("bob"));
    // Random digits do not compress: what is stored of them is stored as it is.
    let (canary, control) = (unique("canary"), unique("control"));
    let mut talkers = vec![
        Talker::start(&cluster, 1, &alice, "phone", &bob),
        Talker::start(&cluster, 2, &alice, "laptop", &bob),
        Talker::start(&cluster, 3, &bob, "phone", &alice),
        Talker::start(&cluster, 1, &bob, "tablet", &alice),
    ];
    for talker in &talkers {
        talker.sees("end-to-end encrypted");
    }
    has_devices(&cluster, 2, &alice, 2).await;
    has_devices(&cluster, 2, &bob, 2).await;

    let mut said = talk(&mut talkers, "before", &canary);
    all_heard(&talkers, &said);
    // While some of these are on their way.
    said.extend(talk(&mut talkers, "around", &canary));
    cluster.kill(1);
    said.extend(talk(&mut talkers, "after", &canary));
    all_heard(&talkers, &said);

    // One device is killed and comes back: what it read is there, and what was said meanwhile comes once.
    talkers[2].kill();
    talkers[0].types(&format!("meanwhile {canary}"));
    said.push(format!("meanwhile {canary}"));
    talkers[3].sees("meanwhile");
    talkers[2] = Talker::start(&cluster, 3, &bob, "phone", &alice);
    talkers[2].sees_at_the_end(&format!(": meanwhile {canary}"));
    let again = said.last().into_iter().cloned().collect::<Vec<_>>();
    all_heard(&talkers, &again);

    for node in [2, 3] {
        let request =
            format!("GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", cluster.admin_addr(node));
        let metrics = raw(cluster.admin_addr(node), request.as_bytes()).expect("metrics");
        let metrics = String::from_utf8_lossy(&metrics);
        assert!(metrics.contains("# TYPE") && !metrics.contains(&canary));
    }
    talkers.iter_mut().for_each(Talker::leave);

    // The same search finds what was sent without encryption, so it would find the canary: in the write-ahead log and the
    // tables of every node that has the thread, flushed by the drain, and whatever else lies there.
    let plain = cluster.device(2, &alice, "curl");
    let thread = plain.one_to_one(&bob).await;
    plain.send(&thread, &format!("in the open {control}")).await;
    cluster.restart(1);
    wait::until("node 1 has what it missed", Duration::from_mins(1), || {
        holding(&cluster, &control).iter().any(|path| path.starts_with(cluster.node_directory(1))).then_some(())
    });
    for node in cluster.nodes() {
        cluster.terminate(node);
    }
    for node in cluster.nodes() {
        cluster.wait_gone(node);
    }
    let found = holding(&cluster, &control);
    for node in cluster.nodes() {
        let own = cluster.node_directory(node);
        assert!(
            found.iter().any(|path| path.starts_with(&own)),
            "node {node} holds what was sent in the open: {found:?}"
        );
    }
    assert_eq!(holding(&cluster, &canary), Vec::<PathBuf>::new());
}
