//! What is shipped to run nodes by fits the nodes: every setting, flag, port and metric that its files name.

use messenger_tests::cluster::{Cluster, Size, binary, ports, process};
use messenger_tests::http::{raw, status_of};
use messenger_tests::{wait, workspace, yaml};
use serde_json::Value;
use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

fn shipped(path: &str) -> String {
    let path = workspace::root().join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn messenger(environment: &[(String, String)], arguments: &[&str]) -> Output {
    let environment = environment.iter().map(|(name, value)| (name, value));
    Command::new(binary::messenger()).args(arguments).env_clear().envs(environment).output().expect("the binary starts")
}

/// What `config print` says of a configuration that `config check` finds good.
fn in_force(file: &Path, environment: &[(String, String)]) -> toml::Table {
    let file = file.to_str().expect("UTF-8");
    let checked = messenger(environment, &["config", "check", "--config", file]);
    assert!(checked.status.success(), "{environment:?} {checked:?}");
    let printed = messenger(environment, &["config", "print", "--config", file]);
    let text = String::from_utf8(printed.stdout).expect("it is UTF-8");
    text.parse().unwrap_or_else(|error| panic!("{error} in {text}"))
}

/// Fails unless the binary takes these arguments.
fn takes(arguments: &[&str]) {
    let arguments: Vec<&str> = arguments.iter().copied().chain(["--help"]).collect();
    let output = messenger(&[], &arguments);
    assert!(output.status.success(), "{output:?}");
}

/// The variables of the environment that a file sets for nodes are all ones that `serve` knows.
fn are_known<'a>(variables: impl IntoIterator<Item = &'a str>) {
    let help = String::from_utf8(messenger(&[], &["serve", "--help"]).stdout).expect("it is UTF-8");
    for name in variables {
        assert!(help.contains(&format!("[env: {name}=")), "{name} is no setting of a node");
    }
}

const SECRET: &str = "MDEyMzQ1Njc4OWFiY2RlZjAxMjM0NTY3ODlhYmNkZWY=";

fn strings(value: &Value) -> Vec<&str> {
    value.as_array().into_iter().flatten().filter_map(Value::as_str).collect()
}

#[test]
fn the_compose_file_makes_three_nodes_in_three_zones() {
    let text = shipped("docker-compose.yml");
    let compose = &yaml::documents(&text)[0];
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |path: &str, text: &str| {
        let path = directory.path().join(path);
        fs::create_dir_all(path.parent().expect("it lies below")).expect("it is writable");
        fs::write(&path, text).expect("it is writable");
        path
    };
    let _keys = write("keys/dev.json", &shipped("deploy/compose/keys/dev.json"));
    let _secret = write("keys/hs256.secret", SECRET);
    let config = write("node.toml", &shipped("deploy/compose/node.toml"));
    let image = shipped("Dockerfile");
    for (node, name) in (1..=3).zip(["node-1", "node-2", "node-3"]) {
        let service = &compose["services"][name];
        assert_eq!(
            (service["build"].as_str(), service["stop_grace_period"].as_str()),
            (Some("."), Some("1m")),
            "{name}"
        );
        let own = service["environment"].as_object().expect("it has an environment");
        are_known(own.keys().map(String::as_str));
        let environment: Vec<(String, String)> =
            own.iter().map(|(name, value)| (name.clone(), value.as_str().unwrap_or_default().to_owned())).collect();
        let table = in_force(&config, &[environment, vec![("MESSENGER_LISTEN_IP".into(), "0.0.0.0".into())]].concat());
        assert_eq!(table["node"]["id"].as_integer(), Some(node));
        assert_eq!(table["cluster"]["bootstrap"].as_bool(), Some(node == 1));
        let mounted = format!("{name}:/var/lib/messenger");
        assert!(strings(&service["volumes"]).contains(&mounted.as_str()), "{service}");
        for port in strings(&service["ports"]) {
            let inside = port.rsplit(':').next().expect("it names a port");
            assert!(port.starts_with("127.0.0.1:") && image.contains(inside), "{port}");
        }
    }
    // What is mounted is there.
    let services = compose["services"].as_object().expect("it has services");
    for volume in services.values().flat_map(|service| strings(&service["volumes"])) {
        let from = volume.split(':').next().expect("it has a source");
        let there = if from.starts_with("./") {
            workspace::root().join(from).exists()
        } else {
            compose["volumes"].get(from).is_some()
        };
        assert!(there, "{volume}");
    }
    // What the comments say to do is what the binary takes.
    takes(&["token", "alice", "--data", "/etc/messenger"]);
    let token = messenger(&[], &["token", "alice", "--data", directory.path().to_str().expect("UTF-8")]);
    assert!(token.status.success(), "{token:?}");
}

#[test]
fn the_image_runs_a_node_that_is_not_root_and_needs_no_shell() {
    let image = shipped("Dockerfile");
    let stage = image.rsplit("\nFROM ").next().expect("it has a stage");
    assert!(stage.contains("\nUSER 10001:10001\n") && stage.contains("\nSTOPSIGNAL SIGTERM\n"), "{stage}");
    let json = |instruction: &str| -> Vec<String> {
        let list = stage.lines().find_map(|line| line.strip_prefix(instruction));
        let list = list.unwrap_or_else(|| panic!("no {instruction} in {stage}"));
        serde_json::from_str(list).unwrap_or_else(|error| panic!("{instruction} is no list: {error}"))
    };
    let (entry, command) = (json("ENTRYPOINT "), json("CMD "));
    assert_eq!(entry, ["messenger"]);
    takes(&command.iter().map(String::as_str).collect::<Vec<_>>());
    let (_, probe) =
        stage.split_once("HEALTHCHECK ").and_then(|(_, rest)| rest.split_once(" CMD ")).expect("it has a probe");
    let probe: Vec<String> = serde_json::from_str(probe.lines().next().expect("it has a line")).expect("it is a list");
    assert_eq!(probe.first().map(String::as_str), Some("messenger"));
    takes(&probe.iter().skip(1).map(String::as_str).collect::<Vec<_>>());
    are_known(["MESSENGER_CONFIG", "MESSENGER_LISTEN_IP", "MESSENGER_LOG_FORMAT"]);
}

/// The environment of a container, in a pod of this name.
fn of_pod(container: &Value, pod: &str) -> Vec<(String, String)> {
    let variables = container["env"].as_array().expect("it has an environment");
    let value = |variable: &Value| variable["value"].as_str().unwrap_or(pod).replace("$(POD_NAME)", pod);
    variables
        .iter()
        .map(|variable| (variable["name"].as_str().expect("it has a name").to_owned(), value(variable)))
        .collect()
}

#[test]
fn the_kubernetes_manifest_makes_nodes_of_pods() {
    let documents = yaml::documents(&shipped("deploy/kubernetes/messenger.yaml"));
    let one = |kind: &str| {
        let found: Vec<&Value> = documents.iter().filter(|document| document["kind"] == kind).collect();
        assert_eq!(found.len(), 1, "{kind}");
        found[0]
    };
    let directory = tempfile::tempdir().expect("a temporary directory");
    let here = |text: &str| text.replace("/etc/messenger", directory.path().to_str().expect("UTF-8"));
    let files = one("ConfigMap")["data"].as_object().expect("it has files");
    for (name, text) in files {
        fs::write(directory.path().join(name), here(text.as_str().expect("it is text"))).expect("it is writable");
    }
    let keys = PathBuf::from(here("/etc/messenger-keys"));
    fs::create_dir_all(&keys).expect("it is writable");
    fs::write(keys.join("hs256"), SECRET).expect("it is writable");

    let set = one("StatefulSet");
    let pod = &set["spec"]["template"]["spec"];
    let container = &pod["containers"][0];
    takes(&strings(&container["args"]));
    are_known(of_pod(container, "x").iter().map(|(name, _)| name.as_str()).filter(|name| *name != "POD_NAME"));
    assert_eq!(pod["enableServiceLinks"], false, "variables of services would be taken for settings");
    assert!(pod["terminationGracePeriodSeconds"].as_u64().is_some_and(|seconds| seconds >= 60));
    let listens: BTreeSet<u64> =
        container["ports"].as_array().into_iter().flatten().filter_map(|port| port["containerPort"].as_u64()).collect();
    let replicas = set["spec"]["replicas"].as_i64().expect("a number");
    assert_eq!(one("PodDisruptionBudget")["spec"]["maxUnavailable"], 1);
    let headless =
        documents.iter().find(|document| document["spec"]["clusterIP"] == "None").expect("a headless service");
    assert_eq!(
        (&headless["metadata"]["name"], &headless["spec"]["publishNotReadyAddresses"]),
        (&set["spec"]["serviceName"], &true.into())
    );
    for index in 0..=replicas {
        let environment = of_pod(container, &format!("messenger-{index}"));
        let table = in_force(&directory.path().join("node.toml"), &environment);
        let host = format!("messenger-{index}.{}:", headless["metadata"]["name"].as_str().expect("a name"));
        let own = if index < replicas {
            assert_eq!(table["node"]["id"].as_integer(), Some(index + 1));
            table["cluster"]["nodes"][usize::try_from(index).expect("it is small")].clone()
        } else {
            assert!(!table["node"].as_table().expect("a table").contains_key("id"), "one that joins");
            table["node"].clone()
        };
        let addresses = ["client_addr", "peer_addr", "admin_addr"].map(|name| own[name].as_str().expect("it is text"));
        let found = addresses.map(|address| address.strip_prefix(&host).unwrap_or_else(|| panic!("{address}")));
        assert_eq!(found.iter().map(|port| port.parse().expect("a port")).collect::<BTreeSet<u64>>(), listens);
    }
}

/// The names of metrics in a text.
fn metrics_in(text: &str) -> BTreeSet<String> {
    let words = text.split(|c: char| !(c.is_ascii_alphanumeric() || c == '_'));
    words.filter(|word| word.starts_with("messenger_")).map(str::to_owned).collect()
}

#[test]
fn every_metric_of_rules_and_dashboards_is_one_of_a_running_node() {
    let cluster = Cluster::start(Size { nodes: 1, shards: 2 });
    let dashboard: Value =
        serde_json::from_str(&shipped("deploy/grafana/dashboards/messenger.json")).expect("it is JSON");
    let rules = shipped("deploy/prometheus/rules.yml");
    let mut wanted = metrics_in(&rules);
    for panel in dashboard["panels"].as_array().expect("it has panels") {
        for target in panel["targets"].as_array().into_iter().flatten() {
            wanted.extend(metrics_in(target["expr"].as_str().expect("a query")));
        }
    }
    assert!(wanted.len() > 10, "{wanted:?}");
    let scrape = || {
        let request = b"GET /metrics HTTP/1.1\r\nhost: node\r\nconnection: close\r\n\r\n";
        let answer = raw(cluster.admin_addr(1), request).expect("it answers");
        let answer = String::from_utf8(answer).expect("it is UTF-8");
        answer.split_once("\r\n\r\n").expect("it has a body").1.to_owned()
    };
    // Some are looked at every few seconds.
    let text = wait::until(&format!("all of {wanted:?} are there"), wait::PATIENCE, || {
        let text = scrape();
        let there: BTreeSet<&str> =
            text.lines().filter_map(|line| line.split(['{', ' ']).next()).filter(|name| *name != "#").collect();
        wanted.iter().all(|name| there.contains(name.as_str())).then_some(text)
    });
    let body = text.lines().filter(|line| line.starts_with('#') || line.starts_with("messenger_"));
    promtool(&["check", "metrics"], &(body.collect::<Vec<_>>().join("\n") + "\n"));
    let path = workspace::root().join("deploy/prometheus/rules.yml");
    promtool(&["check", "rules", path.to_str().expect("UTF-8")], "");
    for rule in yaml::documents(&rules)[0]["groups"][0]["rules"].as_array().expect("it has rules") {
        if let Some(runbook) = rule["annotations"]["runbook"].as_str() {
            assert!(workspace::root().join(runbook).is_file(), "{runbook}");
        }
    }
}

/// Asks Prometheus itself, where its tool is there.
fn promtool(arguments: &[&str], input: &str) {
    let started = Command::new("promtool")
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn();
    let Ok(mut child) = started else { return eprintln!("promtool is not here: {arguments:?} was not asked") };
    let mut stdin = child.stdin.take().expect("it is piped");
    stdin.write_all(input.as_bytes()).expect("it reads");
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    assert!(output.status.success(), "{output:?}");
}

/// Blocks of commands in a page: lines that are indented by four spaces.
fn commands(page: &str) -> Vec<Vec<String>> {
    let lines = page.lines().filter_map(|line| line.strip_prefix("    ")).map(str::trim_start);
    let lines = lines
        .filter_map(|line| line.strip_prefix("messenger ").or(line.split_once("-- messenger ").map(|(_, own)| own)));
    let lines = lines.filter_map(|line| line.split(" | ").next());
    let said = lines.map(|line| line.split("  #").next().unwrap_or(line).trim());
    said.map(|line| line.split_whitespace().take_while(|word| *word != ">").map(str::to_owned).collect()).collect()
}

#[test]
fn every_command_of_the_runbooks_is_one_of_the_binary() {
    let mut seen = 0;
    for entry in fs::read_dir(workspace::root().join("docs")).expect("it is there").flatten() {
        let page = fs::read_to_string(entry.path()).expect("it is readable");
        for command in commands(&page) {
            takes(&command.iter().map(String::as_str).collect::<Vec<_>>());
            seen += 1;
        }
        // Links lead somewhere.
        for target in page.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let file = target.split('#').next().unwrap_or(target);
            let there =
                file.is_empty() || file.starts_with("https://") || workspace::root().join("docs").join(file).exists();
            assert!(there, "{target} in {}", entry.path().display());
        }
    }
    assert!(seen > 15, "{seen} commands were found");
}

/// A node of its own configuration.
struct Node {
    child: Child,
    client: SocketAddr,
}

fn start(directory: &Path, name: &str, settings: &str, arguments: &[&str], client: u16) -> Node {
    let folder = directory.join(name);
    fs::create_dir_all(&folder).expect("it is writable");
    let text = format!("{settings}\n[auth]\nkeys = \"../keys.json\"\n");
    fs::write(folder.join("node.toml"), text).expect("it is writable");
    let log = fs::File::create(folder.join("log")).expect("it is writable");
    let child = Command::new(binary::messenger())
        .args(["serve", "--config"])
        .arg(folder.join("node.toml"))
        .args(arguments)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("the binary starts");
    Node { child, client: (Ipv4Addr::LOCALHOST, client).into() }
}

impl Node {
    fn wait_ready(&mut self, directory: &Path) {
        wait::until("a node is ready", Duration::from_mins(1), || {
            if let Ok(Some(status)) = self.child.try_wait() {
                panic!("it ended: {status}; see {}", directory.display());
            }
            (status_of(self.client, "/readyz") == Some(200)).then_some(())
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let _gone = self.child.kill();
        let _reaped = self.child.wait();
    }
}

#[test]
fn nodes_may_be_known_by_names() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let _guard = process::Guard::over(directory.path());
    let keys =
        format!(r#"{{"issuer":"i","audience":"a","keys":[{{"kid":"k","algorithm":"HS256","secret":"{SECRET}"}}]}}"#);
    fs::write(directory.path().join("keys.json"), keys).expect("it is writable");
    let base = ports::free_base(2);
    let at = |offset: u16| format!("localhost:{}", base + offset);
    let cluster = "[cluster]\nid = \"000102030405060708090a0b0c0d0e0f\"\n";
    let listed = format!(
        "[node]\ndata_dir = \"data\"\nhost = \"localhost\"\nlisten_ip = \"127.0.0.1\"\n{cluster}bootstrap = true\nshards = 2\n\
         nodes = [{{ id = 1, zone = \"a\", client_addr = \"{}\", peer_addr = \"{}\", admin_addr = \"{}\" }}]",
        at(0),
        at(100),
        at(200)
    );
    let mut first = start(directory.path(), "first", &listed, &[], base);
    first.wait_ready(directory.path());
    let newcomer = format!(
        "[node]\ndata_dir = \"data\"\nhost = \"localhost\"\nlisten_ip = \"127.0.0.1\"\nzone = \"b\"\nclient_addr = \"{}\"\npeer_addr = \
         \"{}\"\nadmin_addr = \"{}\"\n{cluster}",
        at(1),
        at(101),
        at(201)
    );
    let admin = format!("http://{}", at(200));
    let mut second = start(directory.path(), "second", &newcomer, &["--join", &admin], base + 1);
    second.wait_ready(directory.path());
    let status = messenger(&[], &["cluster", "status", "--output", "json", "--admin", &admin]);
    let status: Value = serde_json::from_slice(&status.stdout).expect("it is JSON");
    let known: Vec<&str> =
        status["nodes"].as_array().into_iter().flatten().filter_map(|node| node["peer_addr"].as_str()).collect();
    assert_eq!(known, [at(100), at(101)]);
    let ready = messenger(&[], &["health", "--url", &format!("http://{}", at(201))]);
    assert!(ready.status.success(), "{ready:?}");
}
