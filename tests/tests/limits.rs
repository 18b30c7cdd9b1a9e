//! What clients may ask of a node: its limits, how they change without a restart, what browsers are told; and what
//! operators are told in numbers.

use bytes::Bytes;
use http::Method;
use messenger_tests::cluster::{Cluster, Size, process};
use messenger_tests::device::unique;
use messenger_tests::http::{Answer, Http};
use messenger_tests::wait;
use nix::sys::signal::Signal;
use std::collections::BTreeSet;
use std::fs;

const ONE: Size = Size { nodes: 1, shards: 2 };
const TIGHT: &str = "\n[rate_limits.reads]\nwindow_s = 3600\nper_user = 3\nper_device = 3\nper_address = 0\n";

/// A node's configuration with other limits in the place of its own.
fn with_limits(config: &str, limits: &str) -> String {
    let mut table: toml::Table = config.parse().expect("what dev wrote is TOML");
    let known = table.remove("rate_limits").expect("dev sets limits");
    let given: toml::Table = limits.parse().expect("it is TOML");
    let mut all = known.as_table().expect("it is a table").clone();
    all.extend(given.get("rate_limits").and_then(toml::Value::as_table).cloned().unwrap_or_default());
    table.insert("rate_limits".to_owned(), toml::Value::Table(all));
    table.to_string()
}

fn limit(answer: &Answer) -> Option<&str> {
    answer.header("x-ratelimit-limit")
}

#[tokio::test(flavor = "multi_thread")]
async fn limits_change_with_sighup_and_a_wrong_configuration_changes_nothing() {
    let cluster = Cluster::start(ONE);
    let device = cluster.device(1, &unique("alice"), "phone");
    let list = async || device.get("/v1/threads").await;
    let first = list().await;
    let _threads = first.expect(200);
    assert_eq!(limit(&first), Some("10000000"), "dev's limits are met by nobody");

    let (path, log) = (cluster.config(1), cluster.node_directory(1).join("log"));
    let known = fs::read_to_string(&path).expect("dev wrote it");
    let hang_up = |config: String, says: &str| {
        fs::write(&path, config).expect("it can be written");
        process::signal(cluster.pid(1).expect("the node runs"), Signal::SIGHUP);
        wait::until(says, wait::PATIENCE, || {
            fs::read_to_string(&log)
                .expect("the node has a log")
                .lines()
                .rev()
                .find(|line| line.contains(says))
                .map(str::to_owned)
        })
    };
    hang_up(with_limits(&known, TIGHT), "are in force");
    for _ in 0..3 {
        assert_eq!(limit(&list().await), Some("3"));
    }
    let refused = list().await;
    refused.expect_problem(429, "rate_limited");
    assert!(refused.header("retry-after").is_some());

    let line = hang_up(with_limits(&known, &TIGHT.replace("= 3600", "= 0")), "all stays as it was");
    assert!(line.contains("rate_limits.reads.window_s"), "{line}");
    list().await.expect_problem(429, "rate_limited");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_in_development_may_use_a_node_and_no_other_page() {
    let cluster = Cluster::shared();
    let device = cluster.device(1, &unique("alice"), "phone");
    for (origin, allowed) in [("http://localhost:5173", true), ("http://localhost:5174", false), ("null", false)] {
        let asks = [("origin", origin), ("access-control-request-method", "POST")];
        let told =
            device.http.request(Method::OPTIONS, "/v1/threads", &asks, Bytes::new()).await.expect("the node answers");
        assert_eq!(told.status.as_u16(), 204);
        assert_eq!(told.header("access-control-allow-origin"), Some(origin).filter(|_| allowed));
        let answer = device.try_call(Method::GET, "/v1/threads", &[("origin", origin)], Bytes::new()).await;
        let answer = answer.expect("the node answers");
        let _threads = answer.expect(200);
        assert_eq!(answer.header("access-control-allow-origin"), Some(origin).filter(|_| allowed));
        assert!(answer.header("x-request-id").is_some() && answer.header("ratelimit-policy").is_some());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_family_of_metrics_says_what_it_is() {
    let cluster = Cluster::shared();
    let device = cluster.device(1, &unique("alice"), "phone");
    let _threads = device.get("/v1/threads").await.expect(200);
    let admin = Http::new(cluster.admin_addr(1));
    let answer = admin.request(Method::GET, "/metrics", &[], Bytes::new()).await.expect("the node answers");
    let text = String::from_utf8(answer.body.to_vec()).expect("it is text");
    let named = |line: &str| line.split([' ', '{']).next().unwrap_or_default().to_owned();
    let of_kind = |kind: &str| text.lines().filter_map(|line| line.strip_prefix(kind)).map(named).collect();
    let (told, typed): (BTreeSet<String>, BTreeSet<String>) = (of_kind("# HELP "), of_kind("# TYPE "));
    for name in ["messenger_http_requests_total", "messenger_http_request_seconds", "messenger_store_sync_seconds"] {
        assert!(told.contains(name), "{name}: {text}");
    }
    for sample in text.lines().filter(|line| !line.is_empty() && !line.starts_with('#')).map(named) {
        let family = ["", "_sum", "_count", "_bucket"].iter().find_map(|part| told.get(sample.strip_suffix(part)?));
        assert!(family.is_some_and(|family| typed.contains(family)), "{sample} says nothing of itself");
    }
}
