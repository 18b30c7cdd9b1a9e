//! Opening a data directory, and what is refused.
//!
//! Owns: one check per way in which a directory can be wrong.
//! Must not know: the inside of the store, but for the names of its files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use messenger_proto::ids::{ClusterId, NodeId};
use messenger_raft::store::{FORMAT_VERSION, OpenError, Store, StoreError};
use messenger_raft::types::GroupId;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftStateMachine};
use std::fs;
use std::path::Path;
use store_support::{COUNT, Rig, blank, copy_dir, open, options, pack, scratch, vote};

fn refusal(path: &Path) -> OpenError {
    match Store::open(path, options()) {
        Ok(_) => panic!("{} was opened", path.display()),
        Err(error) => error,
    }
}

#[test]
fn an_identity_is_for_good() {
    let directory = scratch();
    let store = open(directory.path());
    assert_eq!(store.identity().unwrap(), None);
    let identity = store.create_identity(ClusterId([7; 16]), NodeId(3)).unwrap();
    assert_eq!((identity.cluster, identity.node), (ClusterId([7; 16]), NodeId(3)));
    assert!(matches!(store.create_identity(ClusterId([8; 16]), NodeId(4)), Err(StoreError::Misuse(_))));
    drop(store);
    assert_eq!(open(directory.path()).identity().unwrap(), Some(identity));
    let other = scratch();
    let another = open(other.path()).create_identity(ClusterId([7; 16]), NodeId(3)).unwrap();
    assert_ne!(another.store, identity.store);
}

#[test]
fn a_directory_has_its_own_id_before_it_is_anyones() {
    let directory = scratch();
    let drawn = open(directory.path()).draw_id().unwrap();
    let store = open(directory.path());
    assert_eq!((store.draw_id().unwrap(), store.identity().unwrap()), (drawn, None), "it was on disk");
    assert_eq!(store.create_identity(ClusterId([7; 16]), NodeId(4)).unwrap().store, drawn);
    assert_eq!(store.draw_id().unwrap(), drawn);
    assert_ne!(open(scratch().path()).draw_id().unwrap(), drawn);
}

#[test]
fn a_directory_has_one_owner() {
    let directory = scratch();
    let store = open(directory.path());
    assert!(matches!(refusal(directory.path()), OpenError::Locked(_)));
    drop(store);
    open(directory.path());
}

#[test]
fn another_format_is_refused_and_left_alone() {
    let directory = scratch();
    drop(open(directory.path()));
    let (newer, older) = (FORMAT_VERSION + 1, FORMAT_VERSION - 1);
    fs::write(directory.path().join("format"), newer.to_string()).unwrap();
    match refusal(directory.path()) {
        OpenError::NewerFormat { found, supported, .. } => assert_eq!((found, supported), (newer, FORMAT_VERSION)),
        other => panic!("{other}"),
    }
    fs::write(directory.path().join("format"), older.to_string()).unwrap();
    let refusal = refusal(directory.path());
    let said = refusal.to_string();
    assert!(said.contains(&format!("has format {older}, and this program reads {FORMAT_VERSION}")), "{said}");
    assert!(matches!(refusal, OpenError::OlderFormat { .. }) && !said.contains('\n'), "{said}");
}

#[test]
fn damage_is_named() {
    type Harm = fn(&Path);
    let harms: [(&str, Harm); 4] = [
        ("the pointer to the manifest is gone", |db| fs::remove_file(db.join("CURRENT")).unwrap()),
        ("the pointer to the manifest is garbage", |db| fs::write(db.join("CURRENT"), "garbage").unwrap()),
        ("the database is gone", |db| fs::remove_dir_all(db).unwrap()),
        ("the format file is garbage", |db| fs::write(db.parent().unwrap().join("format"), b"\xff\xfe").unwrap()),
    ];
    for (what, harm) in harms {
        let directory = scratch();
        open(directory.path()).create_identity(ClusterId([7; 16]), NodeId(3)).unwrap();
        harm(&directory.path().join("db"));
        match refusal(directory.path()) {
            OpenError::Corrupt { .. } => {}
            other => panic!("{what}: {other:?}"),
        }
    }
}

/// Bytes before the content of a record of the write-ahead log.
const HEADER: usize = 7;

/// Where a record of a log of one block begins.
fn record(log: &[u8], number: usize) -> usize {
    (0..number).fold(0, |at, _| at + HEADER + usize::from(u16::from_le_bytes([log[at + 4], log[at + 5]])))
}

/// Changes the file that holds the live write-ahead log.
fn harm_wal(root: &Path, harm: impl FnOnce(&mut Vec<u8>)) {
    let files = fs::read_dir(root.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let live = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap();
    let mut bytes = fs::read(&live).unwrap();
    harm(&mut bytes);
    fs::write(live, bytes).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_live_log_with_less_than_was_synced_is_refused() {
    type Harm = fn(&mut Vec<u8>);
    let directory = scratch();
    let store = open(directory.path());
    store.create_identity(ClusterId([7; 16]), NodeId(3)).unwrap();
    let mut rig = Rig::new(&store, GroupId(1));
    rig.append([blank(1, 0)]).await;
    rig.append([blank(1, 1)]).await;
    drop((rig, store));

    let harms: [(&str, Harm); 8] = [
        ("a record became zeroes", |log| {
            let from = record(log, 1);
            log[from..from + HEADER].fill(0);
        }),
        ("all from a record on became zeroes", |log| {
            let from = record(log, 1);
            log[from..].fill(0);
        }),
        ("a record is of a type that makes the reader spin", |log| {
            let from = record(log, 1);
            log[from + 6] |= 4;
        }),
        ("the last byte is gone", |log| log.truncate(log.len() - 1)),
        ("all of it is gone", Vec::clear),
        ("a bit of the last record is flipped", |log| *log.last_mut().unwrap() ^= 1),
        ("a bit in its midst is flipped", |log| {
            let middle = log.len() / 2;
            log[middle] ^= 1;
        }),
        ("its end is zeroes", |log| {
            let end = log.len() - 20;
            log[end..].fill(0);
        }),
    ];
    for (what, harm) in harms {
        let copy = scratch();
        copy_dir(directory.path(), copy.path());
        harm_wal(copy.path(), harm);
        for start in ["first", "second"] {
            match refusal(copy.path()) {
                OpenError::Corrupt { .. } => {}
                other => panic!("{what}, {start} start: {other:?}"),
            }
        }
    }
    let whole = scratch();
    copy_dir(directory.path(), whole.path());
    harm_wal(whole.path(), |log| log.extend([0xa5; 100]));
    let mut rig = Rig::new(&open(whole.path()), GroupId(1));
    assert_eq!(rig.log.get_log_state().await.unwrap().last_log_id.map(|id| id.index), Some(1), "a torn end is no harm");
    fs::remove_file(directory.path().join("format")).unwrap();
    assert!(matches!(refusal(directory.path()), OpenError::Corrupt { .. }), "not made anew");
}

/// Where each record of a manifest begins, and where the last one ends.
fn records(manifest: &[u8]) -> Vec<usize> {
    let mut ends = vec![0];
    while let Some(header) = manifest.get(ends[ends.len() - 1]..).and_then(|rest| rest.first_chunk::<HEADER>()) {
        ends.push(ends[ends.len() - 1] + HEADER + usize::from(u16::from_le_bytes([header[4], header[5]])));
    }
    ends
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_manifest_that_lost_its_end_is_refused_or_costs_nothing() {
    let directory = scratch();
    let packs: Vec<_> = (0..12).map(|index| pack(1, index, &format!("k{index}=v;same={index}"))).collect();
    let mut rig = Rig::new(&open(directory.path()), GroupId(1));
    for entry in &packs {
        rig.append([entry.clone()]).await;
        rig.apply([entry.clone()]).await;
    }
    rig.vote(8).await;
    let rows = rig.rows();
    drop(rig);
    // A start brings what the log holds into tables and drops that log: then only the manifest knows of them.
    drop(open(directory.path()));

    let names = fs::read_dir(directory.path().join("db")).unwrap().map(|entry| entry.unwrap().file_name());
    let name = names.filter(|name| name.to_string_lossy().starts_with("MANIFEST")).max().unwrap();
    let manifest = fs::read(directory.path().join("db").join(&name)).unwrap();
    let (mut refused, mut harmless) = (0, 0);
    let ends = records(&manifest);
    assert_eq!(ends.last(), Some(&manifest.len()));
    for cut in
        ends.iter().flat_map(|end| [*end, end + HEADER, end.saturating_sub(1)]).filter(|cut| *cut < manifest.len())
    {
        let copy = scratch();
        copy_dir(directory.path(), copy.path());
        fs::write(copy.path().join("db").join(&name), &manifest[..cut]).unwrap();
        let Ok(store) = Store::open(copy.path(), options()) else {
            refused += 1;
            continue;
        };
        harmless += 1;
        let mut rig = Rig::new(&store, GroupId(1));
        assert_eq!(rig.log.read_vote().await.unwrap(), Some(vote(8)), "cut at {cut}");
        let last = rig.log.get_log_state().await.unwrap().last_log_id;
        assert_eq!(last.map(|id| id.index), Some(11), "cut at {cut}");
        let applied = rig.applied().await.map_or(0, |id| id.index + 1);
        rig.apply(packs[usize::try_from(applied).unwrap()..].to_vec()).await;
        assert_eq!(rig.rows(), rows, "cut at {cut}");
    }
    assert!(refused > 0 && harmless > 0, "{refused} refused, {harmless} harmless");
}

/// Flips a bit of the first place in the database's tables that holds `bytes`.
fn harm_table(root: &Path, bytes: &[u8]) {
    let files = fs::read_dir(root.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let tables = files.filter(|path| path.extension().is_some_and(|extension| extension == "sst"));
    let mut harmed = 0;
    for table in tables {
        let mut content = fs::read(&table).unwrap();
        if let Some(at) = content.windows(bytes.len()).position(|window| window == bytes) {
            content[at] ^= 1;
            fs::write(table, content).unwrap();
            harmed += 1;
        }
    }
    assert!(harmed > 0, "nothing holds the bytes");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_table_that_is_first_read_while_running_is_called_corrupt_too() {
    let directory = scratch();
    let mut rig = Rig::new(&open(directory.path()), GroupId(1));
    let write = |index: u64| {
        let keys: Vec<String> = (0..500).map(|n| format!("{n:03}{index}={}", "x".repeat(100))).collect();
        pack(1, index, &keys.join(";"))
    };
    rig.append([blank(1, 0), write(1)]).await;
    rig.apply([blank(1, 0), write(1)]).await;
    drop(rig);
    // What the write-ahead log holds becomes tables.
    drop(open(directory.path()));
    harm_table(directory.path(), COUNT);

    let store = open(directory.path());
    let mut rig = Rig::new(&store, GroupId(1));
    rig.append([write(2)]).await;
    let applied = rig.machine.apply(futures_util::stream::iter([Ok((write(2), None))])).await;
    assert!(applied.is_err());
    let fatal = store.fatal().borrow().clone().expect("the node must stop");
    assert!(fatal.is_corruption(), "{fatal}");
}

#[test]
fn a_path_that_is_no_directory_is_refused() {
    let directory = scratch();
    let file = directory.path().join("file");
    fs::write(&file, "").unwrap();
    assert!(matches!(refusal(&file), OpenError::Io { .. }));
}

#[test]
fn a_crash_while_a_directory_is_made_does_not_spoil_it() {
    let directory = scratch();
    drop(open(directory.path()));
    // The database was made, the file that says so was not.
    fs::remove_file(directory.path().join("format")).unwrap();
    drop(open(directory.path()));
    assert!(directory.path().join("format").exists());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_are_found_again() {
    let directory = scratch();
    let store = open(directory.path());
    let (mut first, mut second, mut third) =
        (Rig::new(&store, GroupId(0)), Rig::new(&store, GroupId(7)), Rig::new(&store, GroupId(u32::MAX - 1)));
    first.append([blank(1, 0)]).await;
    second.apply([blank(1, 0)]).await;
    third.vote(1).await;
    drop((first, second, third, store));
    assert_eq!(open(directory.path()).groups().unwrap(), [GroupId(0), GroupId(7)], "a mere vote is no group");
}
