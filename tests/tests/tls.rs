//! A cluster whose wires and doors are encrypted.

use messenger_client::{Call, Connection, ServerUrl, Trust};
use messenger_tests::cluster::{Cluster, Size, process};
use messenger_tests::http::raw;
use messenger_tests::wait;
use nix::sys::signal::Signal;
use std::net::SocketAddr;
use std::process::Output;
use std::time::Duration;

const LIMIT: Duration = Duration::from_secs(10);

struct Secured {
    cluster: Cluster,
    id: String,
}

fn said(output: &Output) -> String {
    let text = [&output.stdout[..], &output.stderr[..]].concat();
    String::from_utf8_lossy(&text).into_owned()
}

impl Secured {
    /// A cluster that was started plain, and now is not.
    fn start() -> Self {
        let cluster = Cluster::start(Size { nodes: 3, shards: 4 });
        let id = std::fs::read_to_string(cluster.data().join("cluster-id")).expect("dev keeps it");
        let secured = Self { cluster, id: id.trim().to_owned() };
        secured.run(&["cert", "ca", "--dir", "tls"]);
        for node in secured.cluster.nodes() {
            secured.certify("tls", node);
            let path = secured.cluster.config(node);
            let text = std::fs::read_to_string(&path).expect("it is there");
            std::fs::write(&path, text + &secured.section(node)).expect("it is writable");
        }
        // On all nodes or on none.
        secured.cluster.nodes().for_each(|node| secured.cluster.kill(node));
        secured.cluster.nodes().for_each(|node| secured.start_node(node));
        secured.cluster.nodes().for_each(|node| secured.wait_ready(node));
        secured
    }

    fn run(&self, arguments: &[&str]) -> String {
        let output = self.cluster.messenger(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", said(&output));
        said(&output)
    }

    fn certify(&self, by: &str, node: u16) {
        let node = node.to_string();
        self.run(&["cert", "node", "--dir", by, "--cluster", &self.id, "--node", &node, "--host", "127.0.0.1"]);
    }

    fn section(&self, node: u16) -> String {
        let dir = self.cluster.directory().join("tls");
        let own = format!("cert = '{0}/node-{node}.pem'\nkey = '{0}/node-{node}.key'\n", dir.display());
        let ca = dir.join("ca.pem");
        format!("\n[tls.client]\n{own}\n[tls.admin]\n{own}\n[tls.peer]\nca = '{}'\n{own}", ca.display())
    }

    fn start_node(&self, node: u16) {
        let log = self.cluster.node_directory(node).join("log");
        std::fs::write(log, "").expect("it is writable");
        self.cluster.start_node(node);
    }

    fn wait_said(&self, node: u16, what: &str) {
        wait::until(what, wait::PATIENCE, || self.cluster.log(node).contains(what).then_some(()));
    }

    fn wait_ready(&self, node: u16) {
        self.wait_said(node, "ready node=");
    }

    fn authority(&self, dir: &str) -> Vec<u8> {
        std::fs::read(self.cluster.directory().join(dir).join("ca.pem")).expect("it was made")
    }

    /// The answer of a listener, to one who believes an authority.
    async fn ask(&self, address: SocketAddr, path: &str, ca: &[u8]) -> Option<messenger_client::Answer> {
        let server: ServerUrl = format!("https://{address}").parse().expect("an address");
        let server = server.trusting(&Trust::only(ca).expect("an authority"));
        let mut connection = Connection::open(&server, LIMIT).await.ok()?;
        connection.exchange(&Call::new(http::Method::GET, path)).await.ok()
    }
}

#[tokio::test]
async fn everything_is_said_encrypted_and_nothing_otherwise() {
    let secured = Secured::start();
    let cluster = &secured.cluster;
    let urls = |address: &dyn Fn(u16) -> SocketAddr| {
        let all: Vec<String> = cluster.nodes().map(|node| format!("https://{}", address(node))).collect();
        all.join(",")
    };
    let (clients, admins) = (urls(&|node| cluster.client_addr(node)), urls(&|node| cluster.admin_addr(node)));
    let data = cluster.data().display().to_string();

    // Over REST and sockets, through every node.
    let load = ["--rate", "60", "--pairs", "6", "--seconds", "2", "--server", &clients, "--data", &data];
    let told = secured.run(&[&["bench", "deliver", "--ca", "tls/ca.pem"][..], &load].concat());
    assert!(told.contains("missing 0, errors {}"), "{told}");
    let status = ["cluster", "status", "--admin", &admins];
    let told = secured.run(&[&status[..], &["--ca", "tls/ca.pem"]].concat());
    assert!(told.contains("node 3") || told.contains('3'), "{told}");

    // Who believes somebody else, or speaks plainly, gets nowhere.
    let output = cluster.messenger(&status);
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
    let plain = format!("http://{}", cluster.admin_addr(1));
    let output = cluster.messenger(&["cluster", "status", "--admin", &plain]);
    assert_eq!(output.status.code(), Some(8), "{}", said(&output));
    for address in [cluster.client_addr(1), cluster.peer_addr(1), cluster.admin_addr(1)] {
        let answer = raw(address, b"GET /livez HTTP/1.1\r\nHost: a\r\n\r\n").unwrap_or_default();
        assert!(!answer.starts_with(b"HTTP/"), "{address}: {}", String::from_utf8_lossy(&answer));
    }

    let ca = secured.authority("tls");
    let answer = secured.ask(cluster.client_addr(2), "/livez", &ca).await.expect("an answer");
    assert_eq!((answer.status, answer.header("strict-transport-security")), (200, Some("max-age=31536000")));
    let metrics = secured.ask(cluster.admin_addr(2), "/metrics", &ca).await.expect("an answer");
    let metrics = String::from_utf8_lossy(&metrics.body).into_owned();
    for listener in ["client", "admin", "peer"] {
        let row = format!("messenger_tls_certificate_expires_timestamp_seconds{{listener=\"{listener}\"}}");
        assert!(metrics.contains(&row), "{row}");
    }
}

#[tokio::test]
async fn certificates_are_renewed_while_it_runs_and_wrong_ones_change_nothing() {
    let secured = Secured::start();
    let cluster = &secured.cluster;
    let old = secured.authority("tls");
    let (client, pid) = (cluster.client_addr(1), cluster.pid(1).expect("it runs"));

    // What can't be used is refused whole.
    let dir = cluster.directory().join("tls");
    let good = std::fs::read(dir.join("node-1.pem")).expect("it was made");
    std::fs::copy(dir.join("node-2.pem"), dir.join("node-1.pem")).expect("it is writable");
    process::signal(pid, Signal::SIGHUP);
    secured.wait_said(1, "all stays as it was");
    assert!(secured.ask(client, "/livez", &old).await.is_some());

    // A node does not start with what is another's, and the configuration says so before.
    let checked = cluster.messenger(&["config", "check", "--config", &cluster.config(1).display().to_string()]);
    assert_eq!(checked.status.code(), Some(3));
    assert!(said(&checked).contains("node-1.pem"), "{}", said(&checked));
    cluster.kill(1);
    secured.start_node(1);
    cluster.wait_gone(1);
    assert_eq!(cluster.exit_status(1).and_then(|status| status.code()), Some(3));
    assert!(cluster.log(1).contains("node-1.pem"), "{}", cluster.log(1));
    std::fs::write(dir.join("node-1.pem"), good).expect("it is writable");
    secured.start_node(1);
    secured.wait_ready(1);

    // Another authority takes over: all believe both, then each shows the new one's.
    secured.run(&["cert", "ca", "--dir", "next"]);
    let new = secured.authority("next");
    std::fs::write(dir.join("ca.pem"), [&old[..], &new[..]].concat()).expect("it is writable");
    let renew = |node: u16| {
        let before = cluster.log(node).matches("are in force as configured now").count();
        process::signal(cluster.pid(node).expect("it runs"), Signal::SIGHUP);
        wait::until("it is in force", wait::PATIENCE, || {
            (cluster.log(node).matches("are in force as configured now").count() > before).then_some(())
        });
    };
    cluster.nodes().for_each(renew);
    for node in cluster.nodes() {
        secured.certify("next", node);
        for end in ["pem", "key"] {
            let name = format!("node-{node}.{end}");
            std::fs::copy(cluster.directory().join("next").join(&name), dir.join(&name)).expect("it is writable");
        }
        renew(node);
        assert!(
            secured.ask(cluster.client_addr(node), "/livez", &old).await.is_none(),
            "node {node} shows the old one"
        );
        assert!(secured.ask(cluster.client_addr(node), "/livez", &new).await.is_some(), "node {node}");
    }
    // Links are made anew with it.
    cluster.kill(2);
    secured.start_node(2);
    secured.wait_ready(2);
}
