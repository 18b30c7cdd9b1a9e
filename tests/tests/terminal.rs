//! A person at a terminal: whatever is typed into a chat is sent, also ahead of its prompt.

use messenger_tests::cluster::{Cluster, binary};
use messenger_tests::device::unique;
use messenger_tests::talker::Talker;
use messenger_tests::wait;
use nix::pty::openpty;
use std::fs::File;
use std::io::{Read, Write};
use std::process::{Command, Stdio};

#[test]
fn what_is_typed_ahead_of_the_prompt_is_sent() {
    let cluster = Cluster::shared();
    let (alice, bob) = (unique("alice"), unique("bob"));
    let terminal = openpty(None, None).expect("there are terminals");
    let mut keys = File::from(terminal.master);
    let mut screen = keys.try_clone().expect("a file handle can be cloned");
    keys.write_all(b"one\rtwo\rthree\r").expect("a terminal takes keys before anybody reads them");
    let side = || Stdio::from(terminal.slave.try_clone().expect("a file handle can be cloned"));
    let mut chat = Command::new(binary::messenger())
        .args(["chat", "--as", &alice, "--with", &bob, "--server", &format!("http://{}", cluster.client_addr(1))])
        .arg("--data")
        .arg(cluster.data())
        .env("TERM", "xterm")
        .stdin(side())
        .stdout(side())
        .stderr(side())
        .spawn()
        .expect("the binary starts");
    // Somebody looks: a screen that is full would stop the chat.
    std::thread::spawn(move || while matches!(screen.read(&mut [0; 1024]), Ok(1..)) {});

    let his = Talker::start(&cluster, 2, &bob, "phone", &alice);
    let says = |expected: &[&str]| {
        his.sees(expected.last().expect("something is said"));
        let from_her = |line: String| line.split_once(": ").map(|(_, text)| text.to_owned());
        let heard: Vec<String> =
            his.shown().into_iter().filter(|line| line.contains(&format!(" {alice}: "))).filter_map(from_her).collect();
        assert_eq!(heard, expected);
    };
    says(&["one", "two", "three"]);
    // The prompt stands by now; several lines come at once, as from a clipboard.
    keys.write_all(b"four\rfive\r").expect("the chat runs");
    says(&["one", "two", "three", "four", "five"]);
    // A line that is not sent yet is no secret, what it says is.
    let typing = format!("{alice} is typing");
    let told = || his.shown().iter().filter(|line| line.contains(&typing)).count();
    let before = told();
    keys.write_all(b"six").expect("the chat runs");
    wait::until("word of typing", wait::PATIENCE, || (told() > before).then_some(()));
    assert!(!his.shown().iter().any(|line| line.contains("six")));
    keys.write_all(b"\x15/quit\r").expect("the chat runs");
    let status = wait::until("the chat ends", wait::PATIENCE, || chat.try_wait().ok().flatten());
    assert_eq!(status.code(), Some(0));
}
