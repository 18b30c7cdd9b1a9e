//! The tree keeps its shape: imports, purity, headers, lengths; and each rule is shown to catch its breach.

use messenger_tests::layout::{self, Breach, Source};
use messenger_tests::workspace;

fn source(path: &str, text: &str) -> Source {
    Source { path: path.to_owned(), text: text.to_owned() }
}

fn found(breaches: &[Breach]) -> Vec<&str> {
    breaches.iter().map(|breach| breach.what.as_str()).collect()
}

#[test]
fn the_tree_keeps_every_rule() {
    let sources = layout::sources(&workspace::root()).unwrap();
    assert!(sources.len() > 20, "the tree was not found: {} files", sources.len());
    let breaches = layout::check(&sources);
    let lines: Vec<String> = breaches.iter().map(ToString::to_string).collect();
    assert!(breaches.is_empty(), "\n{}\n", lines.join("\n"));
}

#[test]
fn an_import_against_the_layers_is_caught() {
    let bad = source("router/src/lib.rs", "use messenger_raft::types::GroupId;\n");
    assert_eq!(found(&layout::imports(&bad)), ["imports messenger_raft"]);
    let bad = source("client/src/rest.rs", "use messenger_node::gateway;\n");
    assert_eq!(found(&layout::imports(&bad)), ["imports messenger_node"]);
    let bad = source("proto/src/ids.rs", "fn f() { messenger_node::run() }\n");
    assert_eq!(found(&layout::imports(&bad)), ["imports messenger_node"]);
    let good = source("node/src/lib.rs", "use messenger_raft::x; use messenger_router::y; // messenger_chaos\n");
    assert!(layout::imports(&good).is_empty());
    let only_said = source("raft/src/lib.rs", "let text = \"messenger_router\"; // messenger_router\n");
    assert!(layout::imports(&only_said).is_empty());
}

#[test]
fn a_module_of_node_that_names_one_above_it_is_caught() {
    let cases = [
        ("node/src/rates/mod.rs", "use crate::gateway::error::ApiError;\n", "rates names gateway, and may not"),
        ("node/src/config/mod.rs", "fn f() { crate::rates::bucket::f() }\n", "config names rates, and may not"),
        (
            "node/src/rpc/meta.rs",
            "use crate::{readiness::Phase, boot::{BootError, run}};\n",
            "rpc names boot, and may not",
        ),
        ("node/src/bench/load.rs", "use crate::boot;\n", "bench names boot, and may not"),
        ("node/src/fresh.rs", "fn f() {}\n", "fresh has no place among node's modules"),
        (
            "node/src/rpc/meta.rs",
            "use super::super::boot::run;\n",
            "reaches the crate by `super`, where `crate` is to be said",
        ),
    ];
    for (path, text, what) in cases {
        assert_eq!(found(&layout::imports(&source(path, text))), [what], "{path}");
    }
    for (path, text) in [
        ("node/src/boot/mod.rs", "use crate::{rpc::{meta, cli}, readiness};\n"),
        ("node/src/boot/node.rs", "use super::cli::X; // crate::cli\n"),
        ("node/src/gateway/tests/edge.rs", "use crate::realtime::X;\n"),
        ("node/src/rates/mod.rs", "#[cfg(test)]\nmod tests {\n    use crate::gateway::X;\n}\n"),
        ("node/src/lib.rs", "pub mod cli;\n"),
    ] {
        assert!(layout::imports(&source(path, text)).is_empty(), "{path}");
    }
}

#[test]
fn the_modules_of_node_are_in_order() {
    let mut lower = Vec::new();
    for (module, allowed) in layout::modules::NODE {
        assert!(allowed.iter().all(|name| lower.contains(name)), "{module} names one that is not below it");
        lower.push(module);
    }
}

#[test]
fn a_dependency_against_the_layers_is_caught() {
    let lints = "[lints]\nworkspace = true\n";
    let bad = source("raft/Cargo.toml", &format!("[dev-dependencies]\nmessenger-router.workspace = true\n{lints}"));
    assert_eq!(found(&layout::manifests(&bad)), ["dev-dependencies hold messenger_router"]);
    let bad = source("proto/Cargo.toml", &format!("[dependencies]\nmessenger-raft = {{ path = '../raft' }}\n{lints}"));
    assert_eq!(found(&layout::manifests(&bad)), ["dependencies hold messenger_raft"]);
    let bad = source("node/Cargo.toml", "[dependencies]\nmessenger-raft.workspace = true\n");
    assert_eq!(found(&layout::manifests(&bad)), ["does not take the workspace's lints"]);
    let good = source("node/Cargo.toml", &format!("[dependencies]\nmessenger-raft.workspace = true\n{lints}"));
    assert!(layout::manifests(&good).is_empty());
}

#[test]
fn a_library_outside_its_crate_is_caught() {
    let bad = source("node/src/boot.rs", "let config = openraft::Config::default();\n");
    assert_eq!(found(&layout::kept_libraries(&bad)), ["names openraft, which only raft may"]);
    let bad = source("node/Cargo.toml", "[dependencies]\nrocksdb.workspace = true\n");
    assert_eq!(found(&layout::kept_libraries(&bad)), ["names rocksdb, which only raft may"]);
    let good = source("raft/src/store.rs", "use openraft::Vote; use rocksdb::DB;\n");
    assert!(layout::kept_libraries(&good).is_empty());
}

#[test]
fn a_clock_chance_or_io_in_pure_code_is_caught() {
    let cases = [
        ("raft/src/machine/send.rs", "use std::time::Instant;\n", "Instant"),
        ("raft/src/machine/send.rs", "let now = std::time::SystemTime::now();\n", "SystemTime"),
        ("raft/src/machine/read/page.rs", "use std::collections::HashMap;\n", "HashMap"),
        ("router/src/placement/flow.rs", "let n: u8 = rand::random();\n", "rand"),
        ("router/src/ring.rs", "pub async fn f() {}\n", "async"),
        ("node/src/realtime/session/mod.rs", "use tokio::sync::mpsc;\n", "tokio"),
        ("node/src/realtime/presence/board.rs", "use std::collections::HashMap;\n", "HashMap"),
        ("node/src/realtime/presence/book.rs", "let now = tokio::time::Instant::now();\n", "Instant::now"),
        ("node/src/realtime/registry/book.rs", "use tokio::sync::mpsc;\n", "tokio"),
        ("node/src/realtime/ack/book.rs", "let late = due.elapsed();\n", "elapsed"),
        ("node/src/realtime/hub/reads.rs", "async fn f() {}\n", "async"),
        ("node/src/audit/senders.rs", "use std::fs;\n", "std::fs"),
        ("node/src/chat/view.rs", "let colour: u8 = rand::random();\n", "rand"),
        ("router/src/interest.rs", "let at = std::time::SystemTime::now();\n", "SystemTime"),
        ("node/src/realtime/session/window.rs", "use std::{fmt, fs};\n", "std::fs"),
        ("proto/src/ids.rs", "use std::time::Instant;\n", "Instant"),
    ];
    for (path, text, name) in cases {
        assert_eq!(found(&layout::purity(&source(path, text))), [format!("is pure, and names {name}")], "{path}");
    }
    let tests_may = "fn pure() {}\n\n#[cfg(test)]\nmod tests {\n    use std::collections::HashMap;\n}\n";
    assert!(layout::purity(&source("raft/src/machine/send.rs", tests_may)).is_empty());
    let after_tests = format!("{tests_may}use std::collections::HashSet;\n");
    assert_eq!(layout::purity(&source("raft/src/machine/send.rs", &after_tests)).len(), 1);
    let good = "/// Not an Instant.\nuse std::time::Duration;\nlet operand = 1;\n";
    assert!(layout::purity(&source("raft/src/machine/send.rs", good)).is_empty());
    assert!(layout::purity(&source("node/src/realtime/socket.rs", "use tokio::net;\n")).is_empty());
    let told = "use std::collections::HashMap;\nuse tokio::time::Instant;\nfn at(now: Instant) {}\n";
    assert!(layout::purity(&source("node/src/realtime/registry/book.rs", told)).is_empty());
}

#[test]
fn a_pure_file_that_was_moved_is_missed() {
    let mut sources = layout::sources(&workspace::root()).unwrap();
    assert!(layout::listed(&sources).is_empty());
    for moved in ["node/src/realtime/registry/book.rs", "chaos/src/oracle/"] {
        sources.retain(|source| !source.path.starts_with(moved));
        let missed = layout::listed(&sources).into_iter().find(|breach| breach.file == moved);
        assert_eq!(missed.unwrap().what, "is to be pure, and is not there");
    }
}

#[test]
fn a_missing_header_is_caught() {
    assert_eq!(found(&layout::headers(&source("node/src/lib.rs", "pub mod a;\n"))), ["does not open with `//!`"]);
    let half = source("node/src/lib.rs", "//! A thing.\n//!\n//! Owns: it.\n\npub mod a;\n");
    assert_eq!(found(&layout::headers(&half)), ["does not say what it must not know"]);
    let whole = source("node/src/lib.rs", "//! A thing.\n//!\n//! Owns: it.\n//! Must not know: more.\n");
    assert!(layout::headers(&whole).is_empty());
    assert!(layout::headers(&source("tests/tests/chat.rs", "//! Chat through different nodes.\n")).is_empty());
}

#[test]
fn a_long_file_is_caught() {
    let long = "// a line\n".repeat(layout::LINES_MAX + 1);
    assert_eq!(layout::length(&source("raft/src/lib.rs", &long)).len(), 1);
    let tests = format!("fn f() {{}}\n#[cfg(test)]\nmod tests {{\n{}}}\n", "    // a line\n".repeat(layout::LINES_MAX));
    assert!(layout::length(&source("raft/src/lib.rs", &tests)).is_empty());
    let long = "// a line\n".repeat(layout::TEST_LINES_MAX + 1);
    assert_eq!(layout::length(&source("node/src/chat/tests/mod.rs", &long)).len(), 1);
    assert_eq!(layout::length(&source("node/src/chat/tests.rs", &long)).len(), 1);
}

#[test]
fn unfinished_work_is_caught() {
    for mark in ["todo!(", "unimplemented!(", "dbg!("] {
        let bad = source("raft/src/lib.rs", &format!("fn f() {{ {mark}) }}\n"));
        assert_eq!(found(&layout::marks(&bad)), [format!("holds {mark}")]);
    }
    assert_eq!(layout::marks(&source("tests/tests/chat.rs", "#[ignore = \"slow\"]\n")).len(), 1);
    assert!(layout::marks(&source("raft/src/lib.rs", "// todo!() would be caught\n")).is_empty());
    assert_eq!(layout::marks(&source("node/src/a.rs", "metrics::counter!(\"x_total\").increment(1);\n")).len(), 1);
    assert!(layout::marks(&source("node/src/a.rs", "metrics::counter!(names::X).increment(1);\n")).is_empty());
}
