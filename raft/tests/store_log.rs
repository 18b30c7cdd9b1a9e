//! The log writer, its bounds and its failures; the log against a model.
//!
//! Owns: checks through the library's storage traits.
//! Must not know: the inside of the store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use futures_util::poll;
use messenger_raft::entry::Entry;
use messenger_raft::store::{Moment, Observer, Store, StoreError, StoreOptions};
use messenger_raft::types::{GroupId, TypeConfig};
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftLogStorageExt};
use openraft::type_config::TypeConfigExt;
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::io;
use std::pin::pin;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex};
use store_support::{Rig, at, blank, membership, open, options, pack, scratch, vote};

const GROUP: GroupId = GroupId(1);

/// Holds the log writer back, counts its syncs, and lets one fail.
#[derive(Default)]
struct Disk {
    shut: Mutex<bool>,
    opened: Condvar,
    syncs: AtomicUsize,
    /// The sync that fails, counted from 1; 0 for none.
    fails: AtomicUsize,
}

impl Disk {
    fn shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }
}

impl Observer for Disk {
    fn at(&self, moment: Moment) -> io::Result<()> {
        match moment {
            Moment::Writing => {
                let shut = self.shut.lock().unwrap();
                drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
                Ok(())
            }
            Moment::Written => {
                let sync = self.syncs.fetch_add(1, Ordering::SeqCst) + 1;
                let fails = self.fails.load(Ordering::SeqCst) == sync;
                if fails { Err(io::Error::other("no space left on device")) } else { Ok(()) }
            }
            _ => Ok(()),
        }
    }
}

fn open_on(disk: &Arc<Disk>, directory: &tempfile::TempDir, bounds: &StoreOptions) -> Store {
    let observer: Arc<dyn Observer> = Arc::clone(disk) as _;
    Store::open(directory.path(), StoreOptions { observer: Some(observer), ..bounds.clone() }).unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn groups_that_write_together_share_a_sync() {
    let (disk, directory) = (Arc::new(Disk::default()), scratch());
    let store = open_on(&disk, &directory, &options());
    let before = disk.syncs.load(Ordering::SeqCst);
    disk.shut(true);
    let mut waiting = Vec::new();
    for group in 1..=20 {
        let mut log = store.log(GroupId(group)).unwrap();
        let (flushed, done) = TypeConfig::oneshot();
        log.append([blank(1, 0)], IOFlushed::signal(flushed)).await.unwrap();
        waiting.push(done);
    }
    disk.shut(false);
    for done in waiting {
        done.await.unwrap().unwrap();
    }
    // The first task was taken alone; the rest waited together.
    assert!(disk.syncs.load(Ordering::SeqCst) - before <= 2);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_append_waits_while_the_queue_is_full() {
    let (disk, directory) = (Arc::new(Disk::default()), scratch());
    let store = open_on(&disk, &directory, &StoreOptions { queue_bytes: 8 << 10, ..options() });
    let mut log = store.log(GROUP).unwrap();
    disk.shut(true);
    let large = "x".repeat(3 << 10);
    for index in 0..2 {
        log.append([pack(1, index, &large)], IOFlushed::noop()).await.unwrap();
    }
    assert!(store.pressure().queued_bytes > 6 << 10);
    {
        let mut third = pin!(log.append([pack(1, 2, &large)], IOFlushed::noop()));
        assert!(poll!(&mut third).is_pending());
        disk.shut(false);
        third.await.unwrap();
    }
    // Larger than the whole queue: it goes alone, and is not stuck.
    log.blocking_append([pack(1, 3, &"y".repeat(20 << 10))]).await.unwrap();
    assert_eq!(log.try_get_log_entries(..).await.unwrap().len(), 4);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_vote_is_not_answered_before_its_sync() {
    let (disk, directory) = (Arc::new(Disk::default()), scratch());
    let store = open_on(&disk, &directory, &options());
    let mut log = store.log(GROUP).unwrap();
    let mut reader = log.clone();
    disk.shut(true);
    let before = disk.syncs.load(Ordering::SeqCst);
    let (first, second) = (vote(1), vote(2));
    {
        let mut saving = pin!(log.save_vote(&first));
        assert!(poll!(&mut saving).is_pending());
        assert_eq!(reader.read_vote().await.unwrap(), None, "not saved, not seen");
        disk.shut(false);
        saving.await.unwrap();
    }
    log.save_vote(&second).await.unwrap();
    assert_eq!(disk.syncs.load(Ordering::SeqCst) - before, 2);
    assert_eq!(reader.read_vote().await.unwrap(), Some(second));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_failed_sync_is_final() {
    let (disk, directory) = (Arc::new(Disk::default()), scratch());
    let store = open_on(&disk, &directory, &options());
    let mut rig = Rig::new(&store, GROUP);
    let mut fatal = store.fatal();
    rig.append([blank(1, 0)]).await;
    assert!(fatal.borrow().is_none());
    let failing = disk.syncs.load(Ordering::SeqCst) + 1;
    disk.fails.store(failing, Ordering::SeqCst);
    assert!(rig.log.blocking_append([blank(1, 1)]).await.is_err());
    let reason = fatal.wait_for(Option::is_some).await.unwrap().clone().unwrap();
    assert!(reason.to_string().contains("no space left"), "{reason}");
    // Nothing is tried again, of any group, and nothing is applied.
    assert!(rig.log.save_vote(&vote(9)).await.is_err());
    let mut other = store.log(GroupId(2)).unwrap();
    assert!(other.blocking_append([blank(1, 0)]).await.is_err());
    let entries = futures_util::stream::iter([Ok((blank(1, 0), None))]);
    assert!(openraft::storage::RaftStateMachine::apply(&mut rig.machine, entries).await.is_err());
    assert!(matches!(store.destroy_group(GROUP).await, Err(StoreError::Stopped(_))));
    assert_eq!(disk.syncs.load(Ordering::SeqCst), failing);
    // What was answered is there after a restart.
    drop((rig, other, store));
    let log = open(directory.path()).log(GROUP).unwrap().try_get_log_entries(..).await.unwrap();
    assert_eq!(log.first(), Some(&blank(1, 0)));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_hole_is_refused() {
    let directory = scratch();
    let store = open(directory.path());
    let mut log = store.log(GROUP).unwrap();
    log.blocking_append([blank(1, 5), blank(1, 6)]).await.unwrap();
    for entry in [blank(1, 8), blank(1, 6), blank(1, 1)] {
        assert!(log.append([entry], IOFlushed::noop()).await.is_err());
    }
    // Purging what was never there changes nothing else.
    log.purge(at(1, 2)).await.unwrap();
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), [blank(1, 5), blank(1, 6)]);
    drop((log, store));
    let mut log = open(directory.path()).log(GROUP).unwrap();
    assert_eq!(log.try_get_log_entries(..).await.unwrap(), [blank(1, 5), blank(1, 6)]);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn reads_are_bounded_by_bytes_but_never_empty() {
    let directory = scratch();
    // No cache: reads come from the database as soon as entries are written.
    let bounds = StoreOptions { read_bytes: 4 << 10, log_cache_bytes: 0, ..options() };
    let store = Store::open(directory.path(), bounds).unwrap();
    for group in [GROUP, GroupId(2)] {
        let mut log = store.log(group).unwrap();
        let large = "x".repeat(1 << 10);
        log.blocking_append((0..20).map(|index| pack(1, index, &large)).collect::<Vec<_>>()).await.unwrap();
        log.blocking_append([pack(1, 20, &"y".repeat(9 << 10))]).await.unwrap();
        // Evicted after its answer, so that what follows is read from the database, mostly.
        log.blocking_append([blank(1, 21)]).await.unwrap();
        let some = log.limited_get_log_entries(3, 20).await.unwrap();
        assert!((2..=4).contains(&some.len()), "{} entries", some.len());
        assert_eq!(some[0].log_id, at(1, 3));
        assert_eq!(log.limited_get_log_entries(20, 22).await.unwrap().len(), 1, "larger than the bound, alone");
        let stream = log.entries_stream(0..22).await;
        let all: Vec<Entry> = futures_util::TryStreamExt::try_collect(stream).await.unwrap();
        assert_eq!(all, log.try_get_log_entries(0..=21).await.unwrap());
        assert_eq!(all.len(), 22);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_destroyed_group_leaves_its_vote() {
    let directory = scratch();
    let store = open(directory.path());
    let mut gone = Rig::new(&store, GROUP);
    let mut stays = Rig::new(&store, GroupId(2));
    for rig in [&mut gone, &mut stays] {
        rig.vote(5).await;
        let entries = [membership(5, 0, &[1]), pack(5, 1, "a=1")];
        rig.append(entries.clone()).await;
        rig.apply(entries).await;
    }
    assert_eq!(store.groups().unwrap(), [GROUP, GroupId(2)]);
    drop(gone);
    store.destroy_group(GROUP).await.unwrap();
    let rows = stays.rows();
    drop(stays);
    let mut store = Some(store);
    for _ in ["at once", "after a restart"] {
        let open_store = store.take().unwrap_or_else(|| open(directory.path()));
        assert_eq!(open_store.groups().unwrap(), [GroupId(2)]);
        let mut gone = Rig::new(&open_store, GROUP);
        assert_eq!(gone.log.read_vote().await.unwrap(), Some(vote(5)));
        assert_eq!(gone.log.get_log_state().await.unwrap().last_log_id, None);
        assert_eq!(gone.applied().await, None);
        assert!(gone.rows().is_empty());
        assert_eq!(Rig::new(&open_store, GroupId(2)).rows(), rows);
    }
    // It can come back.
    let mut back = Rig::new(&open(directory.path()), GROUP);
    back.append([membership(6, 0, &[1])]).await;
    back.apply([membership(6, 0, &[1])]).await;
    assert_eq!(back.applied().await, Some(at(6, 0)));
}

#[derive(Debug, Clone)]
enum Step {
    Append { entries: u8, bytes: u16 },
    Truncate { back: u8 },
    Purge { up: u8 },
    Vote,
    Reopen,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let step = prop_oneof![
        6 => (1u8..6, 0u16..2000).prop_map(|(entries, bytes)| Step::Append { entries, bytes }),
        2 => (0u8..8).prop_map(|back| Step::Truncate { back }),
        2 => (0u8..8).prop_map(|up| Step::Purge { up }),
        1 => Just(Step::Vote),
        1 => Just(Step::Reopen),
    ];
    proptest::collection::vec(step, 1..40)
}

/// What the log must look like.
#[derive(Default)]
struct Model {
    entries: BTreeMap<u64, Entry>,
    next: u64,
    purged: Option<messenger_raft::entry::LogId>,
    vote: Option<messenger_raft::store::Vote>,
}

async fn behaves_like_the_model(steps: Vec<Step>) {
    let directory = scratch();
    // A cache of a few entries, so that reads go to memory, to the database, and across both.
    let bounds = || StoreOptions { log_cache_bytes: 3 << 10, read_bytes: 2 << 10, ..options() };
    let mut store = Store::open(directory.path(), bounds()).unwrap();
    let mut model = Model { next: 1, ..Model::default() };
    for (term, step) in (1u64..).zip(steps) {
        let mut log = store.log(GROUP).unwrap();
        let purged = model.purged.map_or(0, |purged| purged.index);
        match step {
            Step::Append { entries, bytes } => {
                let text = "z".repeat(bytes.into());
                let entries: Vec<Entry> = (0..u64::from(entries)).map(|n| pack(term, model.next + n, &text)).collect();
                model.next += entries.len() as u64;
                model.entries.extend(entries.iter().map(|entry| (entry.log_id.index, entry.clone())));
                if bytes % 2 == 0 {
                    log.blocking_append(entries).await.unwrap();
                } else {
                    log.append(entries, IOFlushed::noop()).await.unwrap();
                }
            }
            Step::Truncate { back } => {
                let keep = (model.next - 1).saturating_sub(back.into()).max(purged);
                let keep_id = model.entries.get(&keep).map(|entry| entry.log_id).or(model.purged);
                log.truncate_after(keep_id).await.unwrap();
                model.entries.retain(|index, _| *index <= keep);
                model.next = keep + 1;
            }
            Step::Purge { up } => {
                let upto = (purged + u64::from(up)).min(model.next - 1);
                if let Some(entry) = model.entries.get(&upto) {
                    model.purged = Some(entry.log_id);
                    log.purge(entry.log_id).await.unwrap();
                    model.entries.retain(|index, _| *index > upto);
                }
            }
            Step::Vote => {
                log.save_vote(&vote(term)).await.unwrap();
                model.vote = Some(vote(term));
            }
            Step::Reopen => {
                drop((log, store));
                store = Store::open(directory.path(), bounds()).unwrap();
            }
        }
        let mut log = store.log(GROUP).unwrap();
        let expected: Vec<Entry> = model.entries.values().cloned().collect();
        assert_eq!(log.try_get_log_entries(..).await.unwrap(), expected);
        let middle = purged.midpoint(model.next);
        let expected: Vec<Entry> = model.entries.range(middle..).map(|(_, entry)| entry.clone()).collect();
        let limited = log.limited_get_log_entries(middle, model.next).await.unwrap();
        assert_eq!(limited[..], expected[..limited.len()]);
        assert_eq!(limited.is_empty(), expected.is_empty());
        let state = log.get_log_state().await.unwrap();
        assert_eq!(state.last_purged_log_id, model.purged);
        assert_eq!(state.last_log_id, model.entries.values().next_back().map(|entry| entry.log_id).or(model.purged));
        assert_eq!(log.read_vote().await.unwrap(), model.vote);
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn the_log_behaves_like_its_model(steps in steps()) {
        let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).build().unwrap();
        runtime.block_on(behaves_like_the_model(steps));
    }
}
