//! A node that cannot start says why in one line and exits with a status of its own for each cause.

use messenger_tests::cluster::{Cluster, Size, binary, ports, process};
use messenger_tests::wait;
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use std::collections::BTreeMap;
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

const SMALL: Size = Size { nodes: 3, shards: 4 };

/// How a node that does not start ends: its status and the lines that say why.
fn start(config: &Path) -> (i32, Vec<String>) {
    let mut child = Command::new(binary::messenger())
        .args(["serve", "--config"])
        .arg(config)
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let status = wait::until("the node gives up", wait::PATIENCE, || child.try_wait().ok().flatten());
    let mut said = String::new();
    let mut stderr = child.stderr.take().expect("it is piped");
    std::io::Read::read_to_string(&mut stderr, &mut said).expect("it is UTF-8");
    let why = said.lines().filter(|line| line.starts_with("messenger: ")).map(str::to_owned).collect();
    assert!(!said.contains("panicked"), "{said}");
    (status.code().expect("it exits by itself"), why)
}

/// The files of a node's store.
fn files(directory: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    let mut folders = vec![directory.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).expect("the directory is readable").flatten() {
            if entry.path().is_dir() { folders.push(entry.path()) } else { found.push(entry.path()) }
        }
    }
    found
}

fn copy(from: &Path, to: &Path) {
    for file in files(from) {
        let target = to.join(file.strip_prefix(from).expect("it lies below"));
        fs::create_dir_all(target.parent().expect("it lies below")).expect("the directory is writable");
        fs::copy(file, target).expect("the file can be copied");
    }
}

#[test]
fn each_cause_has_one_line_and_its_own_status() {
    let cluster = Cluster::start(SMALL);
    let other = Cluster::start(SMALL);
    let node = cluster.node_directory(3);
    let config = cluster.config(3);
    let good = fs::read_to_string(&config).expect("the configuration is readable");
    let mut statuses = BTreeMap::new();
    let mut expect = |cause: &str, named: &str, (status, why): (i32, Vec<String>)| {
        assert_eq!(why.len(), 1, "{cause}: {why:?}");
        assert!(why[0].to_lowercase().contains(named), "{cause} should name {named:?}: {why:?}");
        assert!(status > 0 && status != 101, "{cause}: {status}");
        if let Some(before) = statuses.insert(status, cause.to_owned()) {
            assert_eq!(before, cause, "two causes share status {status}");
        }
    };

    cluster.kill(3);
    let broken = node.join("broken.toml");
    fs::write(&broken, "this is = = not TOML").expect("the directory is writable");
    expect("a bad configuration", "broken.toml", start(&broken));
    fs::write(&broken, format!("surprise = 1\n{good}")).expect("the directory is writable");
    expect("a bad configuration", "surprise", start(&broken));
    expect("a bad configuration", "nowhere.toml", start(&node.join("nowhere.toml")));

    for addr in [cluster.client_addr(3), cluster.peer_addr(3), cluster.admin_addr(3)] {
        let _taken = TcpListener::bind(addr).expect("the node is down");
        expect("a used port", &addr.port().to_string(), start(&config));
    }

    // Another process holds the directory: the same store at other ports, so that only its lock stands in the way.
    let moved = node.join("moved.toml");
    let addrs = [cluster.client_addr(3), cluster.peer_addr(3), cluster.admin_addr(3)];
    let text = addrs
        .into_iter()
        .fold(good, |text, addr| text.replace(&format!(":{}", addr.port()), &format!(":{}", addr.port() + 50)));
    fs::write(&moved, text).expect("the directory is writable");
    cluster.restart(3);
    expect("a data directory of others", "in use", start(&moved));
    cluster.kill(3);

    // The data of another cluster's node, then of another node, under this node's configuration.
    let data = node.join("data");
    let aside = node.join("aside");
    fs::rename(&data, &aside).expect("the directory can be renamed");
    other.kill(3);
    copy(&other.node_directory(3).join("data"), &data);
    expect("a data directory of others", "belongs to", start(&config));
    fs::remove_dir_all(&data).expect("the directory can be removed");
    cluster.kill(2);
    copy(&cluster.node_directory(2).join("data"), &data);
    expect("a data directory of others", "belongs to", start(&config));
    fs::remove_dir_all(&data).expect("the directory can be removed");

    // A corrupt one: its table of contents overwritten.
    copy(&aside, &data);
    for file in files(&data) {
        let name = file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        if name.starts_with("MANIFEST") || name == "CURRENT" {
            fs::write(file, b"\x00garbage\xff".repeat(100)).expect("the file is writable");
        }
    }
    expect("a corrupt data directory", "data directory", start(&config));
    fs::remove_dir_all(&data).expect("the directory can be removed");
    fs::rename(&aside, &data).expect("the directory can be renamed");

    // After all that, the node that was left alone starts.
    cluster.restart(2);
    cluster.restart(3);
    cluster.wait_ready();
    assert!(statuses.len() >= 4, "{statuses:?}");
}

#[test]
fn a_wrong_configuration_leaves_nothing_behind() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let config = directory.path().join("node.toml");
    let base = ports::free_base(1);
    let text = format!(
        "[node]\nid = 1\ndata_dir = \"data\"\n[cluster]\nid = \"{:032x}\"\nbootstrap = true\nreplication = 1\n\
         [[cluster.nodes]]\nid = 1\nclient_addr = \"127.0.0.1:{base}\"\npeer_addr = \"127.0.0.1:{}\"\n\
         admin_addr = \"127.0.0.1:{}\"\n[auth]\nkeys = \"keys.json\"\n",
        7,
        base + ports::PEER_OFFSET,
        base + ports::ADMIN_OFFSET,
    );
    fs::write(&config, text).expect("the directory is writable");
    let keys = directory.path().join("keys.json");
    for content in [None, Some("no JSON"), Some(r#"{"issuer":"i","audience":"a","keys":[]}"#)] {
        if let Some(content) = content {
            fs::write(&keys, content).expect("the directory is writable");
        }
        let (status, why) = start(&config);
        assert_eq!(status, 3, "{why:?}");
        assert!(why.iter().any(|line| line.contains("auth.keys")), "the setting is named: {why:?}");
        assert!(why.len() == 1 && why[0].contains("keys.json"), "{why:?}");
        assert!(!directory.path().join("data").exists(), "a data directory was made: {why:?}");
    }
}

/// `messenger dev` in a directory of its own, and where its output goes.
fn dev(directory: &Path, nodes: u16, base_port: u16) -> (Child, PathBuf) {
    let path = directory.join("dev.log");
    let log = fs::File::create(&path).expect("the directory is writable");
    let child = Command::new(binary::messenger())
        .args(["dev", "--shards", "4", "--nodes", &nodes.to_string(), "--base-port", &base_port.to_string(), "--data"])
        .arg(directory.join("data"))
        .stdin(Stdio::null())
        .stdout(log.try_clone().expect("a file handle can be cloned"))
        .stderr(log)
        .spawn()
        .expect("the binary starts");
    (child, path)
}

#[test]
fn messenger_dev_does_not_take_another_process_for_its_node() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let _guard = process::Guard::over(directory.path());
    let base_port = ports::free_base(1);
    let other = TcpListener::bind((Ipv4Addr::LOCALHOST, base_port)).expect("the port is free");
    std::thread::spawn(move || {
        for mut caller in other.incoming().flatten() {
            let _ignored = caller.read(&mut [0; 1024]);
            let _ignored = caller.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n");
        }
    });
    let (mut dev, log) = dev(directory.path(), 1, base_port);
    let status = wait::until("messenger dev gives up", wait::PATIENCE, || dev.try_wait().ok().flatten());
    let said = fs::read_to_string(log).expect("it is readable");
    assert_eq!(status.code(), Some(4), "{said}");
    assert!(said.contains("cannot listen on") && said.contains("--base-port") && !said.contains("are ready"), "{said}");
}

#[test]
fn messenger_dev_goes_on_without_a_node_that_is_killed_while_it_starts() {
    let directory = tempfile::tempdir().expect("a temporary directory");
    let _guard = process::Guard::over(directory.path());
    let (mut dev, log) = dev(directory.path(), 3, ports::free_base(3));
    let config = directory.path().join("data/node-3/node.toml");
    let node = wait::until("the node runs", wait::PATIENCE, || {
        process::with_argument(&config.to_string_lossy()).first().copied()
    });
    process::signal(node, Signal::SIGKILL);
    wait::until("the others are ready", wait::PATIENCE * 2, || {
        let said = fs::read_to_string(&log).unwrap_or_default();
        assert!(dev.try_wait().is_ok_and(|ended| ended.is_none()), "{said}");
        (said.contains("node 3 was killed") && said.contains("nodes are ready")).then_some(())
    });
    process::signal(Pid::from_raw(dev.id().try_into().expect("process ids are positive")), Signal::SIGTERM);
    let status = wait::until("messenger dev ends", wait::PATIENCE, || dev.try_wait().ok().flatten());
    assert_eq!(status.code(), Some(0));
}
