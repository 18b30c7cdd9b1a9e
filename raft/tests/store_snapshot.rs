//! Snapshots from one replica to another, and what a crash amid installing one leaves.
//!
//! Owns: checks of the whole way, of damage under way, and of every step's crash.
//! Must not know: the inside of the store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use bytes::Bytes;
use futures_util::poll;
use messenger_raft::snapshot::SnapshotError;
use messenger_raft::store::{LocalSnapshot, Moment, Observer, ReceivedSnapshot, SnapshotData, Store, StoreOptions};
use messenger_raft::types::{GroupId, TypeConfig};
use openraft::StorageHelper;
use openraft::storage::{RaftLogReader, RaftLogStorage, RaftSnapshotBuilder, RaftStateMachine};
use openraft::type_config::alias::LeaderIdOf;
use openraft::vote::RaftLeaderId;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::atomic::Ordering;
use std::sync::{Arc, Mutex};
use std::task::Poll;
use store_support::{Rig, Rows, at, blank, copy_dir, membership, open, options, pack, scratch, vote};
use tempfile::TempDir;

const GROUP: GroupId = GroupId(3);

fn leader(term: u64) -> LeaderIdOf<TypeConfig> {
    LeaderIdOf::<TypeConfig>::new(term, 1)
}

/// Small frames and files, so that there are several of each.
fn small() -> StoreOptions {
    StoreOptions { snapshot_frame_bytes: 512, snapshot_file_bytes: 2 << 10, ..options() }
}

/// A leader's replica that has applied and purged up to 40.
async fn a_leader() -> (TempDir, Rig) {
    let directory = scratch();
    let store = Store::open(directory.path(), small()).unwrap();
    let mut rig = Rig::new(&store, GROUP);
    rig.vote(2).await;
    let mut entries = vec![membership(1, 0, &[1, 2, 3])];
    entries.extend((1..40).map(|index| pack(1, index, &format!("key{:02}={}", index % 30, "v".repeat(200)))));
    entries.push(membership(2, 40, &[1, 2]));
    rig.append(entries.clone()).await;
    rig.apply(entries).await;
    rig.log.purge(at(2, 40)).await.unwrap();
    (directory, rig)
}

/// A follower with older rows, a log that is too short, and an uncommitted tail.
async fn a_follower(options: StoreOptions) -> (TempDir, Rig) {
    let directory = scratch();
    let store = Store::open(directory.path(), options).unwrap();
    let mut rig = Rig::new(&store, GROUP);
    rig.vote(2).await;
    let entries = vec![membership(1, 0, &[1, 2, 3]), pack(1, 1, "old=1;key01=old"), pack(1, 2, "b=2")];
    rig.append(entries.clone()).await;
    rig.apply(entries[..2].to_vec()).await;
    (directory, rig)
}

async fn local(rig: &mut Rig) -> LocalSnapshot {
    rig.machine.get_snapshot_builder().await.build_snapshot().await.unwrap();
    match rig.machine.get_current_snapshot().await.unwrap().unwrap().snapshot {
        SnapshotData::Local(local) => local,
        SnapshotData::Received(_) => panic!("built here"),
    }
}

async fn frames(rig: &mut Rig) -> Vec<Bytes> {
    let mut source = local(rig).await.open(leader(2)).await.unwrap();
    let mut frames = Vec::new();
    while let Some(frame) = source.next().await.unwrap() {
        frames.push(frame);
    }
    frames
}

async fn receive(store: &Store, frames: &[Bytes]) -> Result<ReceivedSnapshot, SnapshotError> {
    let mut sink = store.receive_snapshot(GROUP).await?;
    for frame in frames {
        sink.write(frame.clone()).await?;
    }
    sink.finish().await
}

async fn install(rig: &mut Rig, received: ReceivedSnapshot) {
    let meta = received.meta().clone();
    rig.machine.install_snapshot(&meta, SnapshotData::Received(received)).await.unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_becomes_its_leaders_equal() {
    let (_leader_dir, mut leader) = a_leader().await;
    let (follower_dir, mut follower) = a_follower(small()).await;
    let frames = frames(&mut leader).await;
    assert!(frames.len() > 5, "several frames");
    let received = receive(&follower.store, &frames).await.unwrap();
    assert_eq!(received.meta().last_log_id, Some(at(2, 40)));
    let before = follower.store.reader(GROUP).unwrap();
    let frozen = before.view();
    install(&mut follower, received).await;

    assert_eq!(follower.rows(), leader.rows());
    assert_eq!(follower.machine.applied_state().await.unwrap(), leader.machine.applied_state().await.unwrap());
    let (ours, theirs) = (follower.store.reader(GROUP).unwrap(), leader.store.reader(GROUP).unwrap());
    assert_eq!(ours.view().digest().unwrap(), theirs.view().digest().unwrap());
    assert_eq!(ours.view().full_hash().unwrap(), theirs.view().full_hash().unwrap());
    assert_eq!(follower.heard.installed.load(Ordering::SeqCst), 1);
    assert_eq!(frozen.applied().unwrap(), Some(at(1, 1)), "a view from before still sees what it saw");
    drop(frozen);
    drop(before);

    // Both go on alike, and a restart finds the same.
    let next = [pack(2, 41, "key05;new=1"), blank(2, 42)];
    for rig in [&mut leader, &mut follower] {
        rig.append(next.clone()).await;
        rig.apply(next.clone()).await;
    }
    assert_eq!(ours.view().digest().unwrap(), theirs.view().digest().unwrap());
    let rows = leader.rows();
    drop((ours, follower));
    let mut again = Rig::new(&open(follower_dir.path()), GROUP);
    assert_eq!(again.rows(), rows);
    assert_eq!(again.applied().await, Some(at(2, 42)));
    assert!(!follower_dir.path().join("incoming").join("3-2").exists(), "its files are gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_snapshot_of_no_rows_clears_the_follower() {
    let directory = scratch();
    let mut empty = Rig::new(&open(directory.path()), GROUP);
    let entries = [membership(1, 0, &[1]), blank(1, 1), blank(1, 2), blank(1, 3)];
    empty.append(entries.clone()).await;
    empty.apply(entries).await;
    let (_follower_dir, mut follower) = a_follower(small()).await;
    let received = receive(&follower.store, &frames(&mut empty).await).await.unwrap();
    install(&mut follower, received).await;
    assert!(follower.rows().is_empty());
    assert_eq!(follower.applied().await, Some(at(1, 3)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_sent_is_newer_than_what_was_built() {
    let (_leader_dir, mut leader) = a_leader().await;
    let built = local(&mut leader).await;
    let more = [pack(3, 41, "late=1")];
    leader.append(more.clone()).await;
    leader.apply(more).await;
    assert!(
        matches!(built.open(self::leader(2)).await, Err(SnapshotError::LeaderChanged)),
        "the old leader must not send what a newer one did"
    );
    let source = built.open(self::leader(3)).await.unwrap();
    assert_eq!(source.meta().last_log_id, Some(at(3, 41)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn damage_is_found_before_anything_changes() {
    let (_leader_dir, mut leader) = a_leader().await;
    let (_follower_dir, mut follower) = a_follower(small()).await;
    let rows = follower.rows();
    let good = frames(&mut leader).await;
    let mut damaged: Vec<(&str, Vec<Bytes>)> = vec![("nothing", vec![]), ("no end", good[..good.len() - 1].to_vec())];
    let mut flipped = good.clone();
    let mut bytes = flipped[2].to_vec();
    bytes[100] ^= 1;
    flipped[2] = bytes.into();
    damaged.push(("a flipped bit", flipped));
    let mut swapped = good.clone();
    swapped.swap(1, 2);
    damaged.push(("frames swapped", swapped));
    let mut missing = good.clone();
    missing.remove(2);
    damaged.push(("a frame missing", missing));
    let mut twice = good.clone();
    twice.push(good[good.len() - 1].clone());
    damaged.push(("an end twice", twice));
    for (what, frames) in damaged {
        assert!(receive(&follower.store, &frames).await.is_err(), "{what} was not found");
        assert_eq!(follower.rows(), rows);
    }
    let mut sink = follower.store.receive_snapshot(GroupId(4)).await.unwrap();
    // The refusal may come with this frame or the next.
    let _ = sink.write(good[0].clone()).await;
    assert!(matches!(sink.finish().await, Err(SnapshotError::WrongGroup)));
    // Whoever does not listen hears it again, and nothing breaks.
    let mut sink = follower.store.receive_snapshot(GROUP).await.unwrap();
    let mut refused = 0;
    while refused < 3 {
        refused += usize::from(sink.write(good[1].clone()).await.is_err());
    }
    assert!(sink.finish().await.is_err());
    // And the way is free for one that is whole.
    let received = receive(&follower.store, &good).await.unwrap();
    install(&mut follower, received).await;
    assert_eq!(follower.rows(), leader.rows());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_snapshot_at_a_time() {
    let (_leader_dir, mut leader) = a_leader().await;
    let built = local(&mut leader).await;
    let first = built.open(self::leader(2)).await.unwrap();
    let mut second = pin!(built.open(self::leader(2)));
    assert!(poll!(&mut second).is_pending());
    drop(first);
    second.await.unwrap();

    let sink = leader.store.receive_snapshot(GROUP).await.unwrap();
    let mut other = pin!(leader.store.receive_snapshot(GroupId(9)));
    assert!(matches!(poll!(&mut other), Poll::Pending));
    drop(sink);
    other.await.unwrap();
}

/// A directory as it was, and the bytes of its live log that were synced by then.
struct Copy {
    moment: Moment,
    directory: TempDir,
    synced: u64,
}

/// Copies the data directory at each step of an installation.
struct Copier {
    root: PathBuf,
    synced: Mutex<u64>,
    copies: Mutex<Vec<Copy>>,
}

impl Observer for Copier {
    fn at(&self, moment: Moment) -> io::Result<()> {
        let mut synced = self.synced.lock().unwrap();
        if moment == Moment::Synced {
            *synced = live_log(&self.root).metadata().unwrap().len();
        }
        let directory = scratch();
        copy_dir(&self.root, directory.path());
        self.copies.lock().unwrap().push(Copy { moment, directory, synced: *synced });
        Ok(())
    }
}

fn live_log(root: &Path) -> fs::File {
    let files = fs::read_dir(root.join("db")).unwrap().map(|entry| entry.unwrap().path());
    let live = files.filter(|path| path.extension().is_some_and(|extension| extension == "log")).max().unwrap();
    fs::File::options().write(true).open(live).unwrap()
}

/// Tears bytes off the end of the log that were not synced.
fn cut_tail(root: &Path, bytes: u64, synced: u64) {
    let file = live_log(root);
    let length = file.metadata().unwrap().len();
    file.set_len(length.saturating_sub(bytes).max(synced)).unwrap();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_at_any_step_leaves_one_snapshot_or_the_other() {
    let (_leader_dir, mut leader) = a_leader().await;
    let frames = frames(&mut leader).await;
    let directory = scratch();
    let camera =
        Arc::new(Copier { root: directory.path().to_owned(), synced: Mutex::default(), copies: Mutex::default() });
    let observer: Arc<dyn Observer> = Arc::clone(&camera) as _;
    let store = Store::open(directory.path(), StoreOptions { observer: Some(observer), ..small() }).unwrap();
    let mut follower = Rig::new(&store, GROUP);
    follower.vote(2).await;
    // An uncommitted tail of a leader that lost, longer than the snapshot, conflicting with it, and never truncated.
    let mut entries = vec![membership(1, 0, &[1, 2, 3]), pack(1, 1, "old=1;key01=old")];
    entries.extend((2..60).map(|index| pack(1, index, "never=1")));
    follower.append(entries.clone()).await;
    follower.apply(entries[..2].to_vec()).await;
    let old_rows = follower.rows();
    camera.copies.lock().unwrap().clear();
    let received = receive(&store, &frames).await.unwrap();
    install(&mut follower, received).await;
    follower.log.purge(at(2, 40)).await.unwrap();
    follower.append([blank(2, 41)]).await;
    let new_rows = leader.rows();
    assert_eq!(follower.rows(), new_rows);
    drop((follower, store));

    let copies = std::mem::take(&mut *camera.copies.lock().unwrap());
    let moments: Vec<Moment> = copies.iter().map(|copy| copy.moment).collect();
    for moment in
        [Moment::RowsIngested, Moment::Written, Moment::Synced, Moment::SnapshotInForce, Moment::OldRowsDropped]
    {
        assert!(moments.contains(&moment), "{moment:?} was not reached");
    }
    for (step, Copy { moment, directory, synced }) in copies.iter().enumerate() {
        // As it was, and with the last write torn.
        for torn in [0, 3] {
            let root = scratch();
            copy_dir(directory.path(), root.path());
            cut_tail(root.path(), torn, *synced);
            let context = format!("step {step}, {moment:?}, torn {torn}");
            let mut rig = Rig::new(&open(root.path()), GROUP);
            let applied = rig.applied().await;
            let (expected, installed) = match applied.map(|applied| applied.index) {
                // Applying is not synced by itself, nor even written.
                None if torn > 0 || matches!(moment, Moment::RowsIngested | Moment::Writing) => (Rows::new(), false),
                Some(1) => (old_rows.clone(), false),
                Some(40) => (new_rows.clone(), true),
                other => panic!("{context}: applied {other:?}"),
            };
            assert_eq!(rig.rows(), expected, "{context}");
            assert_eq!(rig.log.read_vote().await.unwrap(), Some(vote(2)), "{context}");
            let state = rig.log.get_log_state().await.unwrap();
            if installed {
                assert!(state.last_log_id >= applied, "{context}: {state:?}");
                let left = rig.log.try_get_log_entries(..).await.unwrap();
                assert!(left.iter().all(|entry| Some(entry.log_id) > applied), "{context}: stale tail");
            }
            let mut helper = StorageHelper::new(&mut rig.log, &mut rig.machine).with_id(1);
            helper.get_initial_state().await.unwrap_or_else(|error| panic!("{context}: {error}"));
            // Whatever was left half done does not stand in the way of the next attempt.
            if !installed {
                let received = receive(&rig.store, &frames).await.unwrap();
                install(&mut rig, received).await;
                assert_eq!(rig.rows(), new_rows, "{context}: second attempt");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_longer_than_the_snapshot_keeps_its_tail() {
    let (_leader_dir, mut leader) = a_leader().await;
    let frames = frames(&mut leader).await;
    let (_dir, mut follower) = a_follower(small()).await;
    let mut rest: Vec<_> = (3..40).map(|index| pack(1, index, "unseen=1")).collect();
    rest.extend([membership(2, 40, &[1, 2]), pack(2, 41, "tail=1")]);
    follower.append(rest).await;
    let received = receive(&follower.store, &frames).await.unwrap();
    install(&mut follower, received).await;
    let left = follower.log.try_get_log_entries(..).await.unwrap();
    assert_eq!(left, [pack(2, 41, "tail=1")]);
    follower.apply(left).await;
    assert_eq!(follower.rows().get(&b"tail"[..]), Some(&b"1".to_vec()));
}
