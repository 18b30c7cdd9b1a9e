//! The log from end to end, within one process.

use super::record::tests::record;
use super::*;
use crate::config::AuditConfig;
use messenger_proto::audit::{AuditLine, AuditPart};
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{NodeId, UserId};
use proptest::prelude::*;
use std::collections::BTreeSet;

const NOW: Millis = Millis(1_780_162_931_000);

fn parts(data: &Path) -> AuditParts {
    AuditParts { config: AuditConfig::default(), data: data.to_owned(), node: 3, disk_reserve_bytes: 0 }
}

fn everything() -> AuditQuery {
    AuditQuery {
        since: Millis(0),
        until: Millis(u64::MAX),
        user: None,
        device: None,
        thread: None,
        message: None,
        address: None,
        status: None,
        trace: None,
        writes_after: 0,
        refused_after: 0,
        limit: 200,
    }
}

fn refused(user: &str) -> Record {
    Record { ending: Ending::refused(ErrorCode::NotAMember), ..record(user) }
}

/// All pages of a query, asked of one node.
fn pages(audit: &Audit, query: &AuditQuery, limit: usize) -> Vec<AuditLine> {
    let (mut lines, mut seen) = (Vec::new(), Position::new());
    loop {
        let [writes_after, refused_after] = seen.get(&NodeId(3)).copied().unwrap_or_default();
        let asked = AuditQuery { writes_after, refused_after, limit: limit as u32, ..query.clone() };
        let parts = audit.page(&asked).unwrap().parts.into_iter().map(|part| (NodeId(3), part)).collect();
        let (page, position, more) = merge(parts, seen, limit);
        assert!(page.len() <= limit);
        lines.extend(page.into_iter().map(|(_, _, line)| line));
        seen = position;
        if !more {
            return lines;
        }
    }
}

#[test]
fn what_was_noted_is_read_back_and_nothing_else_is_in_the_files() {
    let data = tempfile::tempdir().unwrap();
    let audit = Audit::start(parts(data.path()), NOW).unwrap();
    for n in 0..500 {
        audit.note(record(&format!("u{n}")));
    }
    for n in 0..5 {
        audit.note(refused(&format!("r{n}")));
    }
    drop(Pending::new(&audit, record("gone")));
    audit.close();
    audit.note(record("late"));
    let lines = pages(&audit, &everything(), 7);
    let users: BTreeSet<String> = lines
        .iter()
        .filter_map(|line| {
            serde_json::from_str::<serde_json::Value>(&line.json).unwrap()["user"].as_str().map(str::to_owned)
        })
        .collect();
    assert_eq!((lines.len(), users.len()), (500 + 5 + 1 + 2, 506), "two segments begin");
    assert!(lines.windows(2).all(|pair| pair[0].at <= pair[1].at));
    let query = AuditQuery { user: Some(UserId::new("u7").unwrap()), ..everything() };
    assert_eq!(pages(&audit, &query, 200).len(), 1);
    assert_eq!(pages(&audit, &AuditQuery { status: Some(403), ..everything() }, 2).len(), 5);
    assert_eq!(pages(&audit, &AuditQuery { until: Millis(NOW.0 - 1), ..everything() }, 2).len(), 0);
    let found = verify::verify(&directory(data.path())).unwrap();
    assert!(found.problems.is_empty(), "{:?}", found.problems);
    let heads: Vec<_> =
        audit.page(&everything()).unwrap().parts.into_iter().map(|part| (part.head, part.chain)).collect();
    let ends: Vec<_> = found.logs.into_iter().map(|log| (log.last, log.chain)).collect();
    assert_eq!(heads, ends, "the ends that are told are those of the files");
}

#[test]
fn a_flood_of_refused_writes_is_counted_and_takes_little_room() {
    let data = tempfile::tempdir().unwrap();
    let audit = Audit::start(parts(data.path()), NOW).unwrap();
    for n in 0..20_000 {
        audit.note(refused("mallory"));
        if n % 1_000 == 0 {
            audit.note(record("alice"));
        }
    }
    audit.close();
    let lines = pages(&audit, &everything(), 200);
    let kept = lines.iter().filter(|line| line.json.contains("mallory")).count();
    let alice = lines.iter().filter(|line| line.json.contains("alice")).count();
    assert!((10..2_000).contains(&kept), "{kept}");
    assert_eq!(alice, 20, "others lose nothing by it");
}

#[test]
fn a_log_that_is_off_keeps_nothing_and_counts_senders_all_the_same() {
    let data = tempfile::tempdir().unwrap();
    let config = AuditConfig { enabled: false, ..AuditConfig::default() };
    let audit = Audit::start(AuditParts { config, ..parts(data.path()) }, NOW).unwrap();
    audit.note(refused("alice"));
    audit.close();
    assert!(!directory(data.path()).exists() && audit.page(&everything()).unwrap().parts.is_empty());
    let query = SendersQuery { user: None, order: messenger_proto::audit::SendersOrder::Refused, limit: 5 };
    assert_eq!(audit.senders(&query, NOW).len(), 1);
    Audit::default().note(record("nobody"));
}

#[test]
fn a_disk_without_room_costs_records_and_the_log_says_how_many() {
    let data = tempfile::tempdir().unwrap();
    let audit = Audit::start(AuditParts { disk_reserve_bytes: u64::MAX, ..parts(data.path()) }, NOW).unwrap();
    for _ in 0..7 {
        audit.note(record("alice"));
    }
    audit.close();
    assert_eq!(pages(&audit, &everything(), 200).len(), 2, "only that segments begin");
}

/// A node's log as a test sees it: records with their times.
fn log() -> impl Strategy<Value = Vec<u64>> {
    prop::collection::vec(0_u64..20, 0..30).prop_map(|mut times| {
        times.sort_unstable();
        times
    })
}

/// What a node answers of a log: those it looks at behind a place, with a bound that is met anywhere.
fn answer(log: &[u64], after: u64, limit: usize) -> AuditPart {
    let mut part =
        AuditPart { refused: false, lines: Vec::new(), to: after, reached: None, head: 0, chain: String::new() };
    for (n, at) in (1..).zip(log).skip(after as usize) {
        // Every third does not fit the question.
        if part.lines.len() >= limit {
            part.reached = Some(Millis(*at));
            break;
        }
        part.to = n;
        if n % 3 != 0 {
            part.lines.push(AuditLine { n, at: Millis(*at), json: String::new() });
        }
    }
    part
}

proptest! {
    #[test]
    fn pages_over_nodes_hold_every_record_once_in_order(logs in prop::collection::vec(log(), 1..5), limit in 1_usize..9) {
        let (mut seen, mut got) = (Position::new(), Vec::new());
        for _ in 0..1_000 {
            let parts = (1..).zip(&logs).map(|(node, log)| {
                let after = seen.get(&NodeId(node)).map_or(0, |place| place[0]);
                (NodeId(node), answer(log, after, limit))
            });
            let (page, position, more) = merge(parts.collect(), seen, limit);
            got.extend(page.into_iter().map(|(node, _, line)| (line.at, node, line.n)));
            seen = position;
            if !more {
                break;
            }
        }
        let mut all: Vec<_> = (1..).zip(&logs).flat_map(|(node, log)| {
            (1..).zip(log).filter(|(n, _)| n % 3 != 0).map(move |(n, at)| (Millis(*at), NodeId(node), n))
        }).collect();
        let mut sorted = got.clone();
        sorted.sort();
        all.sort();
        prop_assert!(got.windows(2).all(|pair| pair[0].0 <= pair[1].0), "in order of time");
        prop_assert_eq!(sorted, all);
    }
}
