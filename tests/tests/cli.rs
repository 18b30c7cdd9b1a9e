//! The commands an operator or a newcomer types, against a running cluster.

use messenger_tests::cluster::{Cluster, binary, process};
use messenger_tests::device::{Device, unique};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Output, Stdio};

fn said(output: &Output) -> String {
    String::from_utf8(output.stdout.clone()).expect("commands print UTF-8")
}

#[tokio::test]
async fn a_printed_token_works() {
    let cluster = Cluster::shared();
    let data = cluster.data();
    let user = unique("alice");
    let output = cluster.messenger(&["token", &user, "--device", "phone", "--data", data.to_str().expect("UTF-8")]);
    assert!(output.status.success(), "{output:?}");
    let printed = said(&output);
    assert_eq!(printed.lines().count(), 1, "the token stands alone on its line: {printed:?}");
    let device = Device::new(cluster.client_addr(2), &user, "phone", printed.trim().to_owned());
    let thread = device.one_to_one(&unique("bob")).await;
    let _message = device.send(&thread, "hello").await;

    let read_only = ["token", &user, "--scope", "chat.read", "--ttl", "1h", "--data", data.to_str().expect("UTF-8")];
    let reader =
        Device::new(cluster.client_addr(3), &user, "any", said(&cluster.messenger(&read_only)).trim().to_owned());
    let refused = reader.try_send(&thread, &unique("key"), 1, "x").await.expect("an answer");
    refused.expect_problem(403, "missing_scope");
}

#[tokio::test]
async fn every_node_tells_the_same_status() {
    let cluster = Cluster::shared();
    let status = cluster.status(1);
    let nodes = status["nodes"].as_array().expect("nodes are a list");
    let ids: Vec<u64> = nodes.iter().filter_map(|node| node["id"].as_u64()).collect();
    assert_eq!(ids, cluster.nodes().map(u64::from).collect::<Vec<_>>());
    for (number, node) in cluster.nodes().zip(nodes) {
        assert_eq!(node["client_addr"], cluster.client_addr(number).to_string());
        assert_eq!(node["peer_addr"], cluster.peer_addr(number).to_string());
        assert_eq!(node["admin_addr"], cluster.admin_addr(number).to_string());
        assert_eq!(node["state"], "active");
    }
    let shards = status["shards"].as_array().expect("shards are a list");
    assert_eq!(shards.len(), cluster.size().shards as usize);
    let mut slots = 0;
    for shard in shards {
        let (first, last) = (shard["slots"][0].as_u64(), shard["slots"][1].as_u64());
        assert_eq!(first, Some(slots), "slots are split without gap or overlap: {shard}");
        slots = last.expect("a shard has slots") + 1;
        assert_eq!(shard["replicas"].as_array().map(Vec::len), Some(3));
    }
    assert_eq!(slots, 16_384);

    // Leaders are spread: no node leads more than its share, rounded up.
    let share = shards.len().div_ceil(nodes.len());
    messenger_tests::wait::until("leaders are balanced", messenger_tests::wait::PATIENCE, || {
        let status = cluster.status(2);
        let mut led: BTreeMap<u64, usize> = BTreeMap::new();
        for shard in status["shards"].as_array()? {
            *led.entry(shard["leader"].as_u64()?).or_default() += 1;
        }
        led.values().all(|led| *led <= share).then_some(())
    });
    let table =
        said(&cluster.messenger(&["cluster", "status", "--admin", &format!("http://{}", cluster.admin_addr(3))]));
    for node in cluster.nodes() {
        assert!(table.contains(&cluster.client_addr(node).to_string()), "{table}");
    }
}

#[tokio::test]
async fn what_dev_prints_names_every_node_and_how_to_try() {
    let cluster = Cluster::shared();
    let printed = messenger_tests::wait::until("dev prints how to try it", messenger_tests::wait::PATIENCE, || {
        let printed = cluster.dev_output();
        printed.contains(" chat ").then_some(printed)
    });
    for node in cluster.nodes() {
        assert!(printed.contains(&format!("http://{}", cluster.client_addr(node))), "{printed}");
    }
    assert!(printed.contains("curl"), "{printed}");
    assert!(printed.matches(" chat ").count() >= 2, "{printed}");
}

#[test]
fn every_command_explains_itself_and_wrong_usage_has_its_own_status() {
    let cluster = Cluster::shared();
    let commands: [&[&str]; 7] =
        [&[], &["dev"], &["serve"], &["token"], &["cluster", "status"], &["chat"], &["bench", "send"]];
    for command in commands {
        let output = cluster.messenger(&[command, &["--help"]].concat());
        assert!(output.status.success(), "{command:?}: {output:?}");
        let help = said(&output);
        assert!(command.is_empty() || help.contains("Examples:"), "{command:?} shows no example: {help}");
        assert!(help.contains("Exit status:"), "{command:?} shows no exit status: {help}");
    }
    let no_unit = ["token", "alice", "--ttl", "5"];
    for wrong in [&["dance"][..], &["serve", "--loudly"], &["token"], &no_unit, &["dev", "--nodes", "0"]] {
        let output = cluster.messenger(wrong);
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {output:?}");
    }
    let nobody = cluster.messenger(&["cluster", "status", "--output", "json", "--admin", "http://127.0.0.1:1"]);
    assert_eq!(nobody.status.code(), Some(8), "{nobody:?}");
    assert!(serde_json::from_slice::<Value>(&nobody.stdout).is_err(), "nothing is made up");

    let several = cluster.messenger(&["cluster", "status", "--admin", "http://127.0.0.1:1,http://127.0.0.1:2"]);
    let why = String::from_utf8_lossy(&several.stderr).into_owned();
    for named in ["http://127.0.0.1:1 ", "http://127.0.0.1:2 ", "messenger dev", "--admin"] {
        assert!(why.contains(named) && why.lines().count() == 1, "{why}");
    }
    let bounds: [(&[&str], &str, &str); 4] = [
        (&["senders", "--limit", "201"], "--limit", "200"),
        (&["audit", "--limit", "0"], "--limit", "1.."),
        (&["reports", "--limit", "0"], "--limit", "1.."),
        (&["audit", "--status", "abc"], "--status", "100 to 599"),
    ];
    for (wrong, named, expected) in bounds {
        let output = cluster.messenger(wrong);
        let why = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(2), "{wrong:?}: {why}");
        assert!(why.contains(named) && why.contains(expected), "{wrong:?}: {why}");
    }

    let clients = format!("http://{}", cluster.client_addr(1));
    let mistaken = cluster.messenger(&["cluster", "status", "--admin", &clients]);
    let why = String::from_utf8_lossy(&mistaken.stderr).into_owned();
    assert_eq!(mistaken.status.code(), Some(2), "{why}");
    assert!(why.contains(&clients) && why.contains("admin_addr") && why.lines().count() == 1, "{why}");
}

#[tokio::test]
async fn listen_shows_frames_as_they_come_and_says_what_is_typed() {
    let cluster = Cluster::shared();
    let (alice, bob) = (cluster.device(1, &unique("alice"), "phone"), unique("bob"));
    let thread = alice.one_to_one(&bob).await;
    let mut child = Command::new(binary::messenger())
        .args(["listen", "--as", &bob, "--server", &format!("http://{}", cluster.client_addr(3)), "--data"])
        .arg(cluster.data())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let (mut keys, shown) = (child.stdin.take().expect("a pipe"), child.stdout.take().expect("a pipe"));
    let mut frames = BufReader::new(shown).lines().map_while(Result::ok);
    let mut until = |kind: &str| -> Value {
        let parsed = frames.by_ref().map(|line| serde_json::from_str::<Value>(&line).expect("a frame a line"));
        parsed.into_iter().find(|frame| frame["t"] == kind).expect("it comes")
    };
    until("caught_up");
    let sent = alice.send(&thread, "hello").await;
    let frame = until("msg");
    assert_eq!(frame["thread_id"], Value::from(thread.clone()));
    writeln!(keys, r#"{{"t":"client_ack","frame_seq":{}}}"#, frame["frame_seq"]).expect("it reads");
    writeln!(keys, r#"{{"t":"dance","request_id":7}}"#).expect("it reads");
    assert_eq!(until("error")["request_id"], 7);
    drop(sent);
    // Ctrl-C says goodbye.
    process::signal(Pid::from_raw(child.id().cast_signed()), Signal::SIGINT);
    assert_eq!(child.wait().expect("it ends").code(), Some(0));
}
