//! The shape of the tree, as rules over its sources.
//!
//! Owns: which crate may import which, what pure code must not name, what a file opens with and how long it may be.
//! Must not know: what the code does, or where the tree lies.
//! Invariants: a rule looks at one file at a time and says every breach it finds; comments, strings and test modules
//! never count as code.

pub mod modules;

use std::fmt;
use std::path::{Path, PathBuf};

/// Lines a source file may have at most, its test modules not counted.
pub const LINES_MAX: usize = 450;

/// Lines a file of tests may have at most.
pub const TEST_LINES_MAX: usize = 600;

/// One breach of a rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Breach {
    /// The file, relative to the tree.
    pub file: String,
    /// What is wrong there.
    pub what: String,
}

impl fmt::Display for Breach {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.file, self.what)
    }
}

impl Source {
    fn is_rust(&self) -> bool {
        Path::new(&self.path).extension().is_some_and(|extension| extension == "rs")
    }
}

/// A file of the tree.
#[derive(Debug, Clone)]
pub struct Source {
    /// Relative to the tree, with `/`.
    pub path: String,
    /// All of it.
    pub text: String,
}

/// The crates of the workspace: folder, name in code, and the ones of ours it may import.
const CRATES: [(&str, &str, &[&str]); 7] = [
    ("proto", "messenger_proto", &[]),
    ("client", "messenger_client", &["messenger_proto"]),
    ("router", "messenger_router", &["messenger_proto"]),
    ("raft", "messenger_raft", &["messenger_proto"]),
    ("node", "messenger_node", &["messenger_proto", "messenger_client", "messenger_router", "messenger_raft"]),
    ("tests", "messenger_tests", &["messenger_proto", "messenger_client", "messenger_node"]),
    (
        "chaos",
        "messenger_chaos",
        &[
            "messenger_proto",
            "messenger_client",
            "messenger_router",
            "messenger_raft",
            "messenger_node",
            "messenger_tests",
        ],
    ),
];

/// Libraries that only one crate may name, so that a change of mind about them stays in it.
const KEPT_IN: [(&str, &str); 6] = [
    ("openraft", "raft"),
    ("rocksdb", "raft"),
    ("hashring", "router"),
    ("axum", "node"),
    ("vodozemac", "client"),
    ("redb", "client"),
];

/// Where the rules of the domain live: decided by their arguments alone.
const PURE: [&str; 13] = [
    "raft/src/machine/",
    "raft/src/group/balance.rs",
    "raft/src/group/council.rs",
    "raft/src/group/members.rs",
    "raft/src/group/rules.rs",
    "router/src/ring.rs",
    "router/src/placement/",
    "router/src/pause.rs",
    "node/src/realtime/session/",
    "node/src/realtime/presence/board.rs",
    "node/src/realtime/ephemeral/parted.rs",
    "node/src/rates/bucket.rs",
    "chaos/src/oracle/",
];

/// Rules of one node's memory: told what time it is, and never asking. No other node has to come to the same, so a map
/// may be in any order.
const TOLD_THE_TIME: [&str; 12] = [
    "router/src/effort.rs",
    "router/src/interest.rs",
    "node/src/audit/senders.rs",
    "node/src/chat/pending.rs",
    "node/src/chat/typing.rs",
    "node/src/chat/view.rs",
    "node/src/realtime/ack/book.rs",
    "node/src/realtime/ephemeral/gate.rs",
    "node/src/realtime/hub/reads.rs",
    "node/src/realtime/presence/book.rs",
    "node/src/realtime/presence/rumours.rs",
    "node/src/realtime/registry/book.rs",
];

/// What pure code has no business with: I/O, tasks, clocks, chance, and maps whose order differs between runs.
const IMPURE: [&str; 24] = [
    "tokio",
    "rocksdb",
    "openraft",
    "tonic",
    "axum",
    "hyper",
    "rand",
    "Instant",
    "SystemTime",
    "HashMap",
    "HashSet",
    "RandomState",
    "async",
    "await",
    "thread_local",
    "new_v4",
    "std::fs",
    "std::net",
    "std::io",
    "std::env",
    "std::thread",
    "std::process",
    "std::sync::Mutex",
    "metrics",
];

/// What such code may name all the same: a moment, which is a value.
const TOLD: [&str; 3] = ["Instant", "HashMap", "HashSet"];

/// How it would ask for the time itself.
const ASKING: [&str; 3] = ["Instant::now", "elapsed", "sleep"];

/// What even the vocabulary has no business with, though it defines the service and its bounds.
const IMPURE_FOR_PROTO: [&str; 8] =
    ["tokio", "rand", "Instant", "SystemTime", "std::fs", "std::net", "std::thread", "std::env"];

/// Every source and manifest of the tree, in order of path.
///
/// # Errors
/// When a folder or file cannot be read.
pub fn sources(root: &Path) -> std::io::Result<Vec<Source>> {
    let mut found = Vec::new();
    let mut folders: Vec<PathBuf> = CRATES.iter().map(|(folder, ..)| root.join(folder)).collect();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(&folder)? {
            let path = entry?.path();
            let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
            if path.is_dir() {
                if name != "target" && !name.starts_with('.') {
                    folders.push(path);
                }
            } else if path.extension().is_some_and(|ext| ext == "rs") || name == "Cargo.toml" {
                let relative = path.strip_prefix(root).unwrap_or(&path).to_string_lossy().replace('\\', "/");
                found.push(Source { path: relative, text: std::fs::read_to_string(&path)? });
            }
        }
    }
    found.sort_by(|a, b| a.path.cmp(&b.path));
    Ok(found)
}

/// Every breach of every rule.
#[must_use]
pub fn check(sources: &[Source]) -> Vec<Breach> {
    let rules = [imports, manifests, kept_libraries, purity, headers, length, marks];
    let found = sources.iter().flat_map(|source| rules.iter().flat_map(move |rule| rule(source)));
    found.chain(listed(sources)).collect()
}

/// Every path that a rule names is there: what was moved would be checked no longer.
#[must_use]
pub fn listed(sources: &[Source]) -> Vec<Breach> {
    let gone = |path: &&&str| !sources.iter().any(|source| source.path.starts_with(**path));
    let paths = PURE.iter().chain(&TOLD_THE_TIME).filter(gone);
    paths.map(|path| Breach { file: (*path).to_owned(), what: "is to be pure, and is not there".to_owned() }).collect()
}

/// The crates of ours that a source names are those its crate may import, and within `node` the modules likewise.
#[must_use]
pub fn imports(source: &Source) -> Vec<Breach> {
    let Some((_, own, allowed)) = crate_of(source) else { return Vec::new() };
    if !source.is_rust() {
        return Vec::new();
    }
    let words = Words::of(&source.text);
    CRATES
        .iter()
        .map(|(_, name, _)| *name)
        .filter(|name| name != own && !allowed.contains(name) && words.contains(name))
        .map(|name| breach(source, format!("imports {name}")))
        .chain(modules::edges(source))
        .collect()
}

/// The same for what a manifest asks for, tests included; and every crate takes the workspace's lints.
#[must_use]
pub fn manifests(source: &Source) -> Vec<Breach> {
    let Some((_, own, allowed)) = crate_of(source) else { return Vec::new() };
    if !source.path.ends_with("Cargo.toml") {
        return Vec::new();
    }
    let Ok(manifest) = source.text.parse::<toml::Table>() else {
        return vec![breach(source, "is not TOML".to_owned())];
    };
    let mut breaches = Vec::new();
    for section in ["dependencies", "dev-dependencies", "build-dependencies"] {
        let Some(dependencies) = manifest.get(section).and_then(toml::Value::as_table) else { continue };
        for name in dependencies.keys().map(|name| name.replace('-', "_")) {
            if name.starts_with("messenger_") && name != *own && !allowed.contains(&name.as_str()) {
                breaches.push(breach(source, format!("{section} hold {name}")));
            }
        }
    }
    let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")).and_then(toml::Value::as_bool);
    if lints != Some(true) {
        breaches.push(breach(source, "does not take the workspace's lints".to_owned()));
    }
    breaches
}

/// A library that one crate keeps to itself is named nowhere else.
#[must_use]
pub fn kept_libraries(source: &Source) -> Vec<Breach> {
    let Some((folder, ..)) = crate_of(source) else { return Vec::new() };
    // This file has to name them.
    if source.path.starts_with("tests/") {
        return Vec::new();
    }
    let words = Words::of(&source.text);
    KEPT_IN
        .iter()
        .filter(|(library, home)| folder != home && words.contains(library))
        .map(|(library, home)| breach(source, format!("names {library}, which only {home} may")))
        .collect()
}

/// Pure code names nothing that another run, node or moment could answer differently.
#[must_use]
pub fn purity(source: &Source) -> Vec<Breach> {
    let is_of = |paths: &[&str]| paths.iter().any(|prefix| source.path.starts_with(prefix));
    if is_test_file(&source.path) {
        return Vec::new();
    }
    let mut words = Words::of(&source.text);
    let forbidden: Vec<&str> = if is_of(&PURE) {
        IMPURE.to_vec()
    } else if is_of(&TOLD_THE_TIME) {
        words.code = words.code.replace("tokio::time::Instant", "Instant");
        IMPURE.iter().filter(|name| !TOLD.contains(name)).chain(&ASKING).copied().collect()
    } else if source.path.starts_with("proto/src/") {
        IMPURE_FOR_PROTO.to_vec()
    } else {
        return Vec::new();
    };
    let named = forbidden.iter().filter(|name| words.contains(name));
    named.map(|name| breach(source, format!("is pure, and names {name}"))).collect()
}

/// A source opens with what it owns and what it must not know; a test, with what it is about.
#[must_use]
pub fn headers(source: &Source) -> Vec<Breach> {
    if !source.is_rust() {
        return Vec::new();
    }
    let opening: Vec<&str> = source.text.lines().take_while(|line| line.starts_with("//!")).collect();
    if opening.is_empty() {
        return vec![breach(source, "does not open with `//!`".to_owned())];
    }
    let thin = source.path.ends_with("build.rs") || source.path.ends_with("src/main.rs");
    if thin || is_test_file(&source.path) {
        return Vec::new();
    }
    let opening = opening.join("\n").to_lowercase();
    ["owns", "must not know"]
        .iter()
        .filter(|said| !opening.contains(*said))
        .map(|said| breach(source, format!("does not say what it {said}")))
        .collect()
}

/// A file is one idea.
#[must_use]
pub fn length(source: &Source) -> Vec<Breach> {
    if !source.is_rust() {
        return Vec::new();
    }
    let (lines, what, most) = if is_test_file(&source.path) {
        (source.text.lines().count(), "of tests", TEST_LINES_MAX)
    } else {
        (without_tests(&source.text).lines().count(), "without its tests", LINES_MAX)
    };
    if lines <= most {
        return Vec::new();
    }
    vec![breach(source, format!("has {lines} lines {what}, over {most}"))]
}

/// Nothing is left for later, no test is switched off, and no metric is named where it is counted: names have a file.
#[must_use]
pub fn marks(source: &Source) -> Vec<Breach> {
    if !source.is_rust() {
        return Vec::new();
    }
    let code = code_of(&source.text);
    ["todo!(", "unimplemented!(", "dbg!(", "#[ignore", "counter!(\"", "gauge!(\"", "histogram!(\""]
        .iter()
        .filter(|mark| code.contains(*mark))
        .map(|mark| breach(source, format!("holds {mark}")))
        .collect()
}

fn breach(source: &Source, what: String) -> Breach {
    Breach { file: source.path.clone(), what }
}

fn crate_of(source: &Source) -> Option<&'static (&'static str, &'static str, &'static [&'static str])> {
    let folder = source.path.split('/').next()?;
    CRATES.iter().find(|(own, ..)| *own == folder)
}

/// Integration tests and test modules in files of their own.
fn is_test_file(path: &str) -> bool {
    let mut parts = path.split('/').skip(1);
    parts.any(|part| matches!(part, "tests" | "benches" | "tests.rs"))
}

/// The text without `#[cfg(test)] mod … { … }`, as rustfmt lays it out.
fn without_tests(text: &str) -> String {
    let mut kept = String::with_capacity(text.len());
    let mut lines = text.lines().peekable();
    while let Some(line) = lines.next() {
        let opens = line.trim() == "#[cfg(test)]"
            && lines.peek().is_some_and(|next| {
                next.trim_start().trim_start_matches("pub(crate) ").trim_start_matches("pub ").starts_with("mod ")
            });
        if !opens {
            kept.push_str(line);
            kept.push('\n');
            continue;
        }
        let indent = line.len() - line.trim_start().len();
        let end = format!("{}}}", " ".repeat(indent));
        if lines.next().is_some_and(|declared| declared.trim_end().ends_with('{')) {
            lines.by_ref().find(|inner| *inner == end);
        }
    }
    kept
}

/// The text without tests, comments and the contents of strings.
fn code_of(text: &str) -> String {
    let text = without_tests(text);
    let mut code = String::with_capacity(text.len());
    for line in text.lines() {
        let mut chars = line.chars().peekable();
        let mut quoted = false;
        while let Some(c) = chars.next() {
            match c {
                '\\' if quoted => {
                    chars.next();
                }
                '"' => {
                    quoted = !quoted;
                    code.push(c);
                }
                '/' if !quoted && chars.peek() == Some(&'/') => break,
                _ if quoted => {}
                _ => code.push(c),
            }
        }
        code.push('\n');
    }
    code
}

/// The identifiers and paths of some code.
struct Words {
    code: String,
}

impl Words {
    fn of(text: &str) -> Self {
        // Grouped imports of std are the only paths the rules look for: `use std::{fs, time}` reads as `std::fs`.
        let mut code = code_of(text);
        for part in ["fs", "net", "io", "env", "thread", "process"] {
            let grouped = code.lines().any(|line| {
                line.trim_start().starts_with("use std::{")
                    && line.split(['{', '}', ',', ' ', ':', ';']).any(|word| word == part)
            });
            if grouped {
                code.push_str("std::");
                code.push_str(part);
                code.push('\n');
            }
        }
        Self { code }
    }

    /// Whether `name` stands there as a word of its own.
    fn contains(&self, name: &str) -> bool {
        let is_word = |c: char| c.is_alphanumeric() || c == '_';
        self.code.match_indices(name).any(|(at, _)| {
            let before = self.code[..at].chars().next_back();
            let after = self.code[at + name.len()..].chars().next();
            !before.is_some_and(is_word) && !after.is_some_and(is_word)
        })
    }
}
