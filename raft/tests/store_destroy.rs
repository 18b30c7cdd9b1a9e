//! A group that is destroyed: what stays of it, whenever the process dies, and what the disk gets back.
//!
//! Owns: a crash at each moment of destroying, and the size of the directory.
//! Must not know: why a group is destroyed.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use messenger_raft::store::{Moment, Observer, Store, StoreError, StoreOptions};
use messenger_raft::types::GroupId;
use openraft::storage::{RaftLogReader, RaftLogStorage};
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use store_support::{Rig, at, blank, copy_dir, membership, open, options, pack, scratch, vote};

const GROUP: GroupId = GroupId(1);
const NEIGHBOUR: GroupId = GroupId(2);

/// Keeps what `kill -9` would leave at each moment.
struct Killer {
    root: PathBuf,
    copies: tempfile::TempDir,
    armed: AtomicBool,
    made: Mutex<Vec<(Moment, PathBuf)>>,
}

impl Observer for Killer {
    fn at(&self, moment: Moment) -> io::Result<()> {
        if self.armed.load(Ordering::SeqCst) {
            let mut made = self.made.lock().unwrap();
            let copy = self.copies.path().join(made.len().to_string());
            copy_dir(&self.root, &copy);
            made.push((moment, copy));
        }
        Ok(())
    }
}

/// Some entries, applied, and two that a new leader may take back.
async fn fill(rig: &mut Rig) {
    rig.vote(5).await;
    let entries = [membership(3, 0, &[1]), pack(3, 1, "a=1"), pack(4, 2, "b=2")];
    rig.append(entries.clone()).await;
    rig.apply(entries).await;
    rig.append([blank(5, 3), blank(5, 4)]).await;
}

async fn is_whole(store: &Store, group: GroupId) {
    let mut rig = Rig::new(store, group);
    assert_eq!(rig.log.get_log_state().await.unwrap().last_log_id, Some(at(5, 4)));
    assert_eq!(rig.applied().await, Some(at(4, 2)));
    assert!(!rig.rows().is_empty());
}

/// It left its vote and where its log ended, and nothing else.
async fn is_gone(store: &Store, group: GroupId) {
    assert!(!store.groups().unwrap().contains(&group));
    assert!(store.destroyed().unwrap().contains(&group));
    let mut rig = Rig::new(store, group);
    assert_eq!(rig.log.read_vote().await.unwrap(), Some(vote(5)));
    assert_eq!(store.forgotten(group).unwrap(), Some(at(5, 4)));
    assert_eq!(rig.log.get_log_state().await.unwrap().last_log_id, None);
    assert_eq!(rig.applied().await, None);
    assert!(rig.rows().is_empty());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_any_moment_a_group_is_whole_or_gone() {
    let directory = scratch();
    let killer = Arc::new(Killer {
        root: directory.path().to_owned(),
        copies: scratch(),
        armed: AtomicBool::new(false),
        made: Mutex::default(),
    });
    let observer = Arc::clone(&killer) as Arc<dyn Observer>;
    let store = Store::open(directory.path(), StoreOptions { observer: Some(observer), ..options() }).unwrap();
    for group in [GROUP, NEIGHBOUR] {
        fill(&mut Rig::new(&store, group)).await;
    }
    killer.armed.store(true, Ordering::SeqCst);
    store.destroy_group(GROUP).await.unwrap();
    store.reclaim(&[GROUP]).unwrap();
    // As if one more thing was written after all is done.
    Rig::new(&store, NEIGHBOUR).vote(6).await;
    killer.armed.store(false, Ordering::SeqCst);
    let made = killer.made.lock().unwrap().clone();
    assert!(made.len() >= 6, "{made:?}");
    let mut gone = 0;
    for (nth, (moment, copy)) in made.iter().enumerate() {
        let store = open(copy);
        is_whole(&store, NEIGHBOUR).await;
        if store.forgotten(GROUP).unwrap().is_some() {
            is_gone(&store, GROUP).await;
            gone += 1;
        } else {
            assert!(nth < 2 && *moment != Moment::Synced, "{nth}: {moment:?}");
            assert!(!store.destroyed().unwrap().contains(&GROUP));
            is_whole(&store, GROUP).await;
        }
    }
    assert!(gone > 0 && gone < made.len(), "there is a before and an after");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_further_end_is_kept_of_a_log_that_is_destroyed_again() {
    let directory = scratch();
    let store = open(directory.path());
    fill(&mut Rig::new(&store, GROUP)).await;
    assert_eq!(store.forgotten(GROUP).unwrap(), None);
    store.destroy_group(GROUP).await.unwrap();
    is_gone(&store, GROUP).await;
    // It comes back, and goes before it got as far as it once was.
    let mut back = Rig::new(&store, GROUP);
    back.append([membership(3, 0, &[1]), pack(3, 1, "a=1")]).await;
    assert!(matches!(
        tokio::time::timeout(std::time::Duration::from_millis(50), store.destroy_group(GROUP)).await,
        Err(_) | Ok(Err(StoreError::Misuse(_)))
    ));
    drop(back);
    assert_eq!(store.groups().unwrap(), [GROUP], "not while something writes it");
    store.destroy_group(GROUP).await.unwrap();
    is_gone(&store, GROUP).await;
    // And once more, beyond it, by an entry of a newer term at a lower index.
    let mut back = Rig::new(&store, GROUP);
    back.append([membership(3, 0, &[1]), blank(6, 1)]).await;
    drop(back);
    store.destroy_group(GROUP).await.unwrap();
    drop(store);
    assert_eq!(open(directory.path()).forgotten(GROUP).unwrap(), Some(at(6, 1)));
}

fn size(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    let of = |entry: fs::DirEntry| match entry.metadata() {
        Ok(metadata) if metadata.is_dir() => size(&entry.path()),
        Ok(metadata) => metadata.len(),
        Err(_) => 0,
    };
    entries.map(of).sum()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_disk_is_given_back() {
    let directory = scratch();
    let store = open(directory.path());
    let mut rig = Rig::new(&store, GROUP);
    let mut stays = Rig::new(&store, NEIGHBOUR);
    rig.append([membership(1, 0, &[1])]).await;
    rig.apply([membership(1, 0, &[1])]).await;
    fill(&mut stays).await;
    for index in 1..=200 {
        // What does not compress.
        let noise: String = (0..30_000).map(|n| char::from(b'0' + (noise(index * 30_000 + n) % 10) as u8)).collect();
        let entry = pack(1, index, &format!("k{index}={noise}"));
        rig.append([entry.clone()]).await;
        rig.apply([entry]).await;
    }
    drop(rig);
    let before = size(directory.path());
    store.destroy_group(GROUP).await.unwrap();
    store.reclaim(&[GROUP]).unwrap();
    let after = size(directory.path());
    assert!(before > 4 << 20 && after < before / 4, "{before} -> {after}");
    drop(stays);
    is_whole(&store, NEIGHBOUR).await;
}

/// Numbers that look random.
fn noise(n: u64) -> u64 {
    let mut z = n.wrapping_add(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z ^ (z >> 31)
}
