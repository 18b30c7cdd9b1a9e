//! What an operator has to run a node by: its configuration checked and shown, shell completions, manual pages, systemd.

use messenger_tests::cluster::{Cluster, Size, binary};
use messenger_tests::{wait, workspace};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::net::UnixDatagram;
use std::path::Path;
use std::process::{Command, Output};

/// Stands in every place of a configuration where a secret may.
const CANARIES: [&str; 2] =
    ["Y2FuYXJ5LWluLXRoZS1rZXktZmlsZS0xMjM0NTY3ODkw", "Y2FuYXJ5LWluLWl0cy1vd24tZmlsZS0xMjM0NTY3ODkw"];

fn messenger(directory: &Path, environment: &[(&str, &str)], arguments: &[&str]) -> Output {
    Command::new(binary::messenger())
        .args(arguments)
        .current_dir(directory)
        .env_clear()
        .envs(environment.iter().copied())
        .output()
        .expect("the binary starts")
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).expect("commands print UTF-8")
}

/// A directory with a node's configuration, whose keys have secrets in either place.
fn configured() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let write = |name: &str, text: &str| fs::write(directory.path().join(name), text).expect("it is writable");
    let keys = format!(
        r#"{{"issuer":"i","audience":"a","keys":[{{"kid":"one","algorithm":"HS256","secret":"{}"}},
            {{"kid":"two","algorithm":"HS256","secret_file":"two.secret"}}]}}"#,
        CANARIES[0]
    );
    write("keys.json", &keys);
    write("two.secret", CANARIES[1]);
    let node = "[node]\ndata_dir = \"data\"\nlisten_ip = \"127.0.0.1\"\n[cluster]\nid = \"000102030405060708090a0b0c0d0e0f\"\n\
                bootstrap = true\nnodes = [\n\
                { id = 1, zone = \"a\", client_addr = \"m-0.m:7401\", peer_addr = \"m-0.m:7501\", admin_addr = \"m-0.m:7601\" },\n\
                { id = 2, zone = \"b\", client_addr = \"m-1.m:7401\", peer_addr = \"m-1.m:7501\", admin_addr = \"m-1.m:7601\" },\n\
                { id = 3, zone = \"c\", client_addr = \"m-2.m:7401\", peer_addr = \"m-2.m:7501\", admin_addr = \"m-2.m:7601\" },\n\
                ]\n[auth]\nkeys = \"keys.json\"\n";
    write("node.toml", node);
    directory
}

#[test]
fn what_is_printed_is_in_force_anywhere_and_holds_no_secret() {
    let directory = configured();
    let environment = [("MESSENGER_HOST", "m-1.m"), ("MESSENGER_LOG", "warn"), ("MESSENGER_DATA", "elsewhere")];
    let printed = messenger(directory.path(), &environment, &["config", "print", "--config", "node.toml"]);
    assert!(printed.status.success(), "{printed:?}");
    let shown = text(&printed.stdout);
    for canary in CANARIES {
        assert!(!shown.contains(canary) && !text(&printed.stderr).contains(canary), "{shown}");
    }
    let table: toml::Table = shown.parse().expect("it is TOML");
    assert_eq!(table["node"]["id"].as_integer(), Some(2));
    assert_eq!(table["log"]["filter"].as_str(), Some("warn"));
    assert!(
        table["node"]["data_dir"].as_str().is_some_and(|path| path.starts_with('/') && path.ends_with("/elsewhere"))
    );
    assert!(table["limits"]["moves"].is_integer() && table["audit"]["keep_days"].is_integer(), "defaults: {shown}");

    // From another directory, without the environment, and again.
    let other = tempfile::tempdir().expect("a temporary directory");
    fs::write(other.path().join("all.toml"), &shown).expect("it is writable");
    let again = messenger(other.path(), &[], &["config", "print", "--config", "all.toml"]);
    assert_eq!(text(&again.stdout), shown);
    let checked = messenger(other.path(), &[], &["config", "check", "--config", "all.toml"]);
    assert!(checked.status.success(), "{checked:?}");
}

#[test]
fn every_problem_of_a_configuration_has_a_line() {
    let directory = configured();
    let path = directory.path().join("node.toml");
    let good = fs::read_to_string(&path).expect("it is readable");
    let check = |environment: &[(&str, &str)]| {
        let output = messenger(directory.path(), environment, &["config", "check"]);
        (output.status.code(), text(&output.stderr))
    };
    let (status, said) = check(&[("MESSENGER_HOST", "m-0.m"), ("MESSENGER_KEYS", "keys.json")]);
    assert_eq!(status, Some(0), "{said}");
    fs::write(&path, good.replace("id = \"0001", "id = \"1") + "[limits]\nrequests = 0\nmoves = 0\n")
        .expect("it is writable");
    let (status, said) = check(&[("MESSENGER_HOST", "m-0.m"), ("MESSENGER_KEYS", "nowhere.json")]);
    assert_eq!(status, Some(3), "{said}");
    for named in ["cluster.id: ", "limits.requests: ", "limits.moves: ", "auth.keys: nowhere.json"] {
        assert_eq!(said.lines().filter(|line| line.contains(named)).count(), 1, "{named} in {said}");
    }
    assert_eq!(said.lines().count(), 5, "a line for each, and how many: {said}");
    // A key file that is broken is named without what is in it.
    fs::write(&path, good).expect("it is writable");
    fs::write(directory.path().join("keys.json"), format!("{{\"secret\": \"{}\"", CANARIES[0]))
        .expect("it is writable");
    let (status, said) = check(&[("MESSENGER_HOST", "m-0.m")]);
    assert!(status == Some(3) && said.contains("keys.json") && !said.contains(CANARIES[0]), "{said}");
}

/// The commands below one, as its help lists them.
fn below(path: &[String]) -> Vec<Vec<String>> {
    let arguments: Vec<&str> = path.iter().map(String::as_str).chain(["--help"]).collect();
    let output = messenger(Path::new("/"), &[], &arguments);
    assert!(output.status.success(), "{output:?}");
    let help = text(&output.stdout);
    let listed = help.lines().skip_while(|line| *line != "Commands:").skip(1).take_while(|line| !line.is_empty());
    let names = listed.filter(|line| line.starts_with("  ") && !line.starts_with("   "));
    let names = names.filter_map(|line| line.split_whitespace().next()).filter(|name| *name != "help");
    names.map(|name| path.iter().cloned().chain([name.to_owned()]).collect()).collect()
}

fn all_commands() -> Vec<Vec<String>> {
    let (mut known, mut next) = (vec![vec![]], 0);
    while let Some(path) = known.get(next).cloned() {
        known.extend(below(&path));
        next += 1;
    }
    known
}

#[test]
fn every_command_has_its_manual_page_with_examples_and_exit_statuses() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let made = messenger(directory.path(), &[], &["man", "--dir", "pages"]);
    assert!(made.status.success(), "{made:?}");
    let commands = all_commands();
    assert!(commands.len() > 20 && commands.contains(&vec!["cluster".into(), "drain".into()]), "{commands:?}");
    for path in &commands {
        let name = ["messenger".to_owned()].iter().chain(path).cloned().collect::<Vec<_>>().join("-");
        let page = fs::read_to_string(directory.path().join("pages").join(format!("{name}.1")));
        let page = page.unwrap_or_else(|error| panic!("{name}: {error}")).replace('\\', "");
        for wanted in ["Exit status:", "  3   the configuration is wrong", "  11  a second signal"] {
            assert!(page.contains(wanted), "{name}: {wanted} in {page}");
        }
        let leaf = !commands.iter().any(|other| other.len() > path.len() && other.starts_with(path));
        assert!(!leaf || page.contains("Examples:"), "{name}: {page}");
    }
    let pages = fs::read_dir(directory.path().join("pages")).expect("it is there").count();
    assert_eq!(pages, commands.len(), "pages of commands that are none");
}

#[test]
fn shells_complete_every_command() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        let made = messenger(Path::new("/"), &[], &["completions", shell]);
        assert!(made.status.success(), "{made:?}");
        let script = text(&made.stdout);
        for name in below(&[]).concat() {
            assert!(script.contains(&name), "{shell}: {name}");
        }
        if shell == "bash" {
            let checked = Command::new("bash").args(["-n", "-c", &script]).output().expect("bash starts");
            assert!(checked.status.success(), "{checked:?}");
        }
    }
}

/// The next datagram that says so; what comes before it as well.
fn until_told(socket: &UnixDatagram, wanted: &str) -> Vec<String> {
    let mut told: Vec<String> = Vec::new();
    while !told.last().is_some_and(|last| last.lines().any(|line| line == wanted)) {
        let mut buffer = [0; 1024];
        let length = socket.recv(&mut buffer).unwrap_or_else(|error| panic!("{wanted}: {error} after {told:?}"));
        told.push(text(&buffer[..length]));
        assert!(told.len() < 5_000, "{wanted} does not come");
    }
    told
}

#[test]
fn the_service_manager_is_told_how_a_node_is() {
    let mut socket = None;
    let cluster = Cluster::start_with(Size { nodes: 1, shards: 2 }, |directory| {
        let path = directory.join("notify");
        socket = Some(UnixDatagram::bind(&path).expect("the directory is writable"));
        // Nobody reads until the cluster is up: pulses fill the socket, and the news must come all the same.
        vec![("NOTIFY_SOCKET", path.into()), ("WATCHDOG_USEC", "30000".into())]
    });
    let socket = socket.expect("it was bound");
    socket.set_read_timeout(Some(wait::PATIENCE)).expect("sockets have timeouts");
    let starting = until_told(&socket, "READY=1");
    assert!(starting.iter().any(|told| told.starts_with("STATUS=starting: ")), "{starting:?}");
    assert!(!starting.iter().any(|told| told.contains("STOPPING")), "{starting:?}");
    // It lives on, and says so for as long as it does.
    let _first = until_told(&socket, "WATCHDOG=1");
    let _second = until_told(&socket, "WATCHDOG=1");
    cluster.terminate(1);
    let stopping = until_told(&socket, "STOPPING=1");
    assert!(stopping.iter().all(|told| !told.contains("READY=1")), "{stopping:?}");
    cluster.wait_gone(1);
}

/// The values of a unit's directive, in order.
fn directives<'a>(unit: &'a str, name: &str) -> Vec<&'a str> {
    let values = unit.lines().filter_map(|line| line.split_once('=')).filter(|(key, _)| *key == name);
    values.map(|(_, value)| value).collect()
}

#[test]
fn the_systemd_unit_fits_the_binary() {
    let unit = fs::read_to_string(workspace::root().join("deploy/systemd/messenger.service")).expect("it is there");
    assert_eq!(directives(&unit, "Type"), ["notify"]);
    assert_eq!(directives(&unit, "ExecStart"), ["/usr/local/bin/messenger serve --config /etc/messenger/node.toml"]);
    let help = text(&messenger(Path::new("/"), &[], &["serve", "--help"]).stdout);
    assert!(help.contains("--config <FILE>"), "{help}");
    // A restart does not help where what is wrong stays as it is: the help says which statuses those are.
    let prevented: BTreeSet<&str> =
        directives(&unit, "RestartPreventExitStatus").into_iter().flat_map(str::split_whitespace).collect();
    let lasting = [
        "the command line is wrong",
        "the configuration is wrong",
        "the data directory belongs to another",
        "the data directory is corrupt",
        "the cluster refused",
    ];
    let statuses: BTreeSet<&str> = lasting
        .iter()
        .map(|meaning| {
            let line =
                help.lines().find(|line| line.contains(meaning)).unwrap_or_else(|| panic!("{meaning} in {help}"));
            line.split_whitespace().next().expect("the line has words")
        })
        .collect();
    assert_eq!(prevented, statuses);
    let stop: u64 = directives(&unit, "TimeoutStopSec").concat().parse().expect("seconds");
    assert!(stop >= 60, "a drain, with all that it waits for, fits into it");
    for variable in ["MESSENGER_HOST", "MESSENGER_ZONE", "MESSENGER_JOIN", "MESSENGER_LOG"] {
        assert!(unit.contains(variable) && help.contains(variable), "{variable}");
    }
    verify_unit(&unit);
}

/// Asks systemd itself, where it is there. The program is one that is there, too; manual pages may not be installed.
fn verify_unit(unit: &str) {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let path = directory.path().join("messenger.service");
    let installed = unit.replace("/usr/local/bin/messenger", &binary::messenger().display().to_string());
    let lines: Vec<&str> = installed.lines().filter(|line| !line.starts_with("Documentation=")).collect();
    fs::write(&path, lines.join("\n") + "\n").expect("it is writable");
    match Command::new("systemd-analyze").arg("verify").arg(&path).output() {
        Ok(verified) => assert!(verified.status.success() && verified.stderr.is_empty(), "{verified:?}"),
        Err(_) => eprintln!("systemd-analyze is not here: the unit was not verified by it"),
    }
}
