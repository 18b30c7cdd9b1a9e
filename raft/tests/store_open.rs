//! Opening a data directory, and what is refused.
//!
//! Owns: one check per way in which a directory can be wrong.
//! Must not know: the inside of the store, but for the names of its files.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use messenger_proto::ids::{ClusterId, NodeId};
use messenger_raft::store::{FORMAT_VERSION, OpenError, Store, StoreError};
use messenger_raft::types::GroupId;
use std::fs;
use std::path::Path;
use store_support::{Rig, blank, open, options, scratch};

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
fn a_directory_has_one_owner() {
    let directory = scratch();
    let store = open(directory.path());
    assert!(matches!(refusal(directory.path()), OpenError::Locked(_)));
    drop(store);
    open(directory.path());
}

#[test]
fn a_newer_format_is_refused_and_left_alone() {
    let directory = scratch();
    drop(open(directory.path()));
    let newer = FORMAT_VERSION + 1;
    fs::write(directory.path().join("format"), newer.to_string()).unwrap();
    match refusal(directory.path()) {
        OpenError::NewerFormat { found, supported, .. } => assert_eq!((found, supported), (newer, FORMAT_VERSION)),
        other => panic!("{other}"),
    }
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
