//! What a power cut leaves: the write-ahead log, cut at every completed sync, between them, and within a record.
//!
//! `kill -9` keeps what the kernel was given, so it proves nothing about syncs; these tests throw away what was not
//! synced.
//!
//! Owns: a driver that records what must survive each sync, and the checks of what is found after a cut.
//! Must not know: the inside of the store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use futures_util::{poll, stream};
use messenger_raft::entry::{Entry, LogId};
use messenger_raft::store::{LogStore, Moment, Observer, Store, StoreOptions, Vote};
use messenger_raft::types::{GroupId, TypeConfig};
use openraft::EntryPayload;
use openraft::StorageHelper;
use openraft::storage::{IOFlushed, RaftLogReader, RaftLogStorage, RaftStateMachine};
use openraft::type_config::TypeConfigExt;
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::{Arc, Condvar, Mutex};
use store_support::{COUNT, Rig, Rows, at, blank, copy_dir, membership, options, pack, scratch, vote};

/// The file that says how much of the log was synced: no power loss takes what it spoke of, so a cut sets it back.
const NOTE: &str = "synced";

/// Where the write-ahead log ends: its live file and that file's length.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct WalEnd {
    file: String,
    length: u64,
}

fn wal_end(root: &Path) -> WalEnd {
    let files = fs::read_dir(root.join("db")).unwrap().map(|entry| entry.unwrap());
    let mut logs: Vec<_> = files
        .filter_map(|entry| entry.file_name().into_string().ok().filter(|name| name.strip_suffix(".log").is_some()))
        .collect();
    logs.sort();
    let file = logs.pop().expect("there is always a live log");
    let length = fs::metadata(root.join("db").join(&file)).unwrap().len();
    WalEnd { file, length }
}

/// Notes how much of the log each completed sync covers, and holds the log writer back while its gate is shut.
struct Recorder {
    root: PathBuf,
    shut: Mutex<bool>,
    opened: Condvar,
    pending: Mutex<Option<WalEnd>>,
    synced: Mutex<Vec<WalEnd>>,
    /// What the file beside the log said then.
    noted: Mutex<BTreeMap<WalEnd, Vec<u8>>>,
}

impl Observer for Recorder {
    fn at(&self, moment: Moment) -> io::Result<()> {
        match moment {
            Moment::Writing => {
                let shut = self.shut.lock().unwrap();
                drop(self.opened.wait_while(shut, |shut| *shut).unwrap());
            }
            Moment::Written => *self.pending.lock().unwrap() = Some(wal_end(&self.root)),
            Moment::Synced => {
                let Some(end) = self.pending.lock().unwrap().take() else { return Ok(()) };
                // While the directory is made the file is not there yet.
                let noted = fs::read(self.root.join(NOTE)).ok();
                self.noted.lock().unwrap().extend(noted.map(|noted| (end.clone(), noted)));
                self.synced.lock().unwrap().push(end);
            }
            _ => {}
        }
        Ok(())
    }
}

impl Recorder {
    fn shut(&self, shut: bool) {
        *self.shut.lock().unwrap() = shut;
        self.opened.notify_all();
    }
}

/// What one group must still know.
#[derive(Debug, Clone, Default, PartialEq)]
struct Promise {
    vote: Option<Vote>,
    /// Entries whose append was reported as flushed, and not truncated since.
    flushed: BTreeMap<u64, Entry>,
    /// Purged up to here, at most: what was purged need not be there.
    purged: Option<u64>,
}

/// A store being driven, with what was promised at each point of its log.
struct Drive {
    directory: tempfile::TempDir,
    recorder: Arc<Recorder>,
    rigs: Vec<Rig>,
    promises: Vec<Promise>,
    /// After each step: how far the log was synced, how far it was written, and the promises.
    marks: Vec<(Option<WalEnd>, WalEnd, Vec<Promise>)>,
    /// All entries ever appended: what a replica may have applied.
    history: Vec<BTreeMap<LogId, Entry>>,
}

impl Drive {
    fn new(groups: u32, bounds: &StoreOptions) -> Self {
        let directory = scratch();
        let root = directory.path().to_owned();
        let recorder = Arc::new(Recorder {
            root,
            shut: Mutex::new(false),
            opened: Condvar::new(),
            pending: Mutex::default(),
            synced: Mutex::default(),
            noted: Mutex::default(),
        });
        let observer: Arc<dyn Observer> = Arc::clone(&recorder) as _;
        let store = Store::open(directory.path(), StoreOptions { observer: Some(observer), ..bounds.clone() }).unwrap();
        let start = WalEnd { file: String::new(), length: 0 };
        recorder.noted.lock().unwrap().insert(start, fs::read(directory.path().join(NOTE)).unwrap());
        let rigs = (1..=groups).map(|group| Rig::new(&store, GroupId(group))).collect();
        Self {
            directory,
            recorder,
            rigs,
            promises: vec![Promise::default(); groups as usize],
            marks: Vec::new(),
            history: vec![BTreeMap::new(); groups as usize],
        }
    }

    fn mark(&mut self) {
        let synced = self.recorder.synced.lock().unwrap().last().cloned();
        self.marks.push((synced, wal_end(self.directory.path()), self.promises.clone()));
    }

    async fn vote(&mut self, group: usize, term: u64) {
        self.rigs[group].vote(term).await;
        self.promises[group].vote = Some(vote(term));
        self.mark();
    }

    async fn append(&mut self, group: usize, entries: Vec<Entry>) {
        self.history[group].extend(entries.iter().map(|entry| (entry.log_id, entry.clone())));
        self.rigs[group].append(entries.clone()).await;
        self.promises[group].flushed.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        self.mark();
    }

    /// Drops the tail and appends another one, and applies it while the log writer has not begun: the consensus core
    /// neither waits for a truncation nor, when a majority has the entries, for its own disk.
    async fn overwrite_and_apply(&mut self, group: usize, keep: LogId, entries: Vec<Entry>) {
        self.history[group].extend(entries.iter().map(|entry| (entry.log_id, entry.clone())));
        self.promises[group].flushed.retain(|index, _| *index <= keep.index);
        self.recorder.shut(true);
        let rig = &mut self.rigs[group];
        rig.log.truncate_after(Some(keep)).await.unwrap();
        let (flushed, done) = TypeConfig::oneshot();
        let (from, to) = (entries[0].log_id.index, entries.last().unwrap().log_id.index);
        rig.log.append(entries, IOFlushed::signal(flushed)).await.unwrap();
        let read = rig.log.try_get_log_entries(from..=to).await.unwrap();
        assert_eq!(read.len() as u64, to - from + 1, "readable before it is written");
        {
            let mut apply = pin!(rig.machine.apply(stream::iter(read.into_iter().map(|entry| Ok((entry, None))))));
            // As far as it gets without the log writer.
            let early = poll!(&mut apply);
            self.recorder.shut(false);
            if early.is_pending() {
                apply.await.unwrap();
            }
        }
        done.await.unwrap().unwrap();
        self.mark();
    }

    async fn truncate(&mut self, group: usize, keep: LogId) {
        self.rigs[group].log.truncate_after(Some(keep)).await.unwrap();
        self.promises[group].flushed.retain(|index, _| *index <= keep.index);
        self.mark();
    }

    async fn purge(&mut self, group: usize, upto: LogId) {
        self.rigs[group].log.purge(upto).await.unwrap();
        self.promises[group].purged = Some(upto.index);
        self.mark();
    }

    /// Applies what the log holds in `from..=to`.
    async fn apply(&mut self, group: usize, from: u64, to: u64) {
        let rig = &mut self.rigs[group];
        let entries = rig.log.try_get_log_entries(from..=to).await.unwrap();
        assert_eq!(entries.len() as u64, to - from + 1);
        rig.log.save_committed(Some(entries.last().unwrap().log_id)).await.unwrap();
        let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
        rig.machine.apply(stream::iter(entries)).await.unwrap();
        self.mark();
    }

    /// Closes the store and checks what is found after cutting its log at each of `cuts`.
    async fn check_cuts(self, cuts: impl IntoIterator<Item = WalEnd>) {
        let Self { directory, recorder, rigs, marks, history, .. } = self;
        let groups: Vec<GroupId> = rigs.iter().map(|rig| rig.group).collect();
        drop(rigs);
        let live = wal_end(directory.path()).file;
        let mut checked = 0;
        for cut in cuts.into_iter().filter(|cut| cut.file == live) {
            let promises = promised(&marks, &cut).unwrap_or_else(|| vec![Promise::default(); groups.len()]);
            let copy = scratch();
            copy_dir(directory.path(), copy.path());
            let log = fs::File::options().write(true).open(copy.path().join("db").join(&cut.file)).unwrap();
            log.set_len(cut.length).unwrap();
            if let Some((_, noted)) = recorder.noted.lock().unwrap().range(..=cut.clone()).next_back() {
                fs::write(copy.path().join(NOTE), noted).unwrap();
            }
            // What was found once must be found again: recovery itself changes nothing.
            for attempt in ["first", "second"].into_iter().take(1 + usize::from(checked % 8 == 0)) {
                let store = Store::open(copy.path(), options()).unwrap_or_else(|error| panic!("{cut:?}: {error}"));
                for (number, group) in groups.iter().enumerate() {
                    let context = format!("{attempt} start after {cut:?}, group {group}");
                    let rig = Rig::new(&store, *group);
                    check(rig, &promises[number], &history[number], &context).await;
                }
            }
            checked += 1;
        }
        assert!(checked > 0, "no cut was in the live log");
    }

    /// Every completed sync, the end of every step, and places within records.
    fn all_cuts(&self) -> Vec<WalEnd> {
        let synced = self.recorder.synced.lock().unwrap().clone();
        let mut cuts: Vec<WalEnd> = synced.into_iter().chain(self.marks.iter().map(|mark| mark.1.clone())).collect();
        cuts.sort();
        cuts.dedup();
        let torn: Vec<WalEnd> = cuts
            .windows(2)
            .filter(|pair| pair[0].file == pair[1].file)
            .flat_map(|pair| {
                let (from, to) = (pair[0].length, pair[1].length);
                let file = pair[0].file.clone();
                [from + 7, from.midpoint(to), to - 1]
                    .into_iter()
                    .filter(move |length| (from + 1..to).contains(length))
                    .map(move |length| WalEnd { file: file.clone(), length })
            })
            .collect();
        cuts.extend(torn);
        cuts.sort();
        cuts.dedup();
        cuts
    }
}

/// The promises in force when the log was synced no further than `cut`; `None` before the first.
///
/// A truncation or a purge takes promises back before it is on disk, so those of the last step whose sync the cut
/// covers hold, less what any later step took back.
fn promised(marks: &[(Option<WalEnd>, WalEnd, Vec<Promise>)], cut: &WalEnd) -> Option<Vec<Promise>> {
    let covered = |mark: &&(Option<WalEnd>, WalEnd, Vec<Promise>)| mark.0.as_ref().is_some_and(|synced| synced <= cut);
    let last = marks.iter().rposition(|mark| covered(&mark))?;
    let mut promises = marks[last].2.clone();
    for later in &marks[last..] {
        for (promise, later) in promises.iter_mut().zip(&later.2) {
            promise.purged = promise.purged.max(later.purged);
            let kept = later.flushed.clone();
            promise.flushed.retain(|index, entry| kept.get(index) == Some(entry));
        }
    }
    Some(promises)
}

async fn entries(log: &mut LogStore) -> Vec<Entry> {
    log.try_get_log_entries(..).await.unwrap()
}

async fn check(mut rig: Rig, promise: &Promise, history: &BTreeMap<LogId, Entry>, context: &str) {
    // Votes never go back.
    let found = rig.log.read_vote().await.unwrap();
    assert!(found >= promise.vote, "{context}: vote {found:?}, promised {:?}", promise.vote);

    // All that was reported as flushed is there, unless it was purged.
    let log = entries(&mut rig.log).await;
    let by_index: BTreeMap<u64, &Entry> = log.iter().map(|entry| (entry.log_id.index, entry)).collect();
    let state = rig.log.get_log_state().await.unwrap();
    for (index, entry) in &promise.flushed {
        let purged = state.last_purged_log_id.is_some_and(|purged| purged.index >= *index);
        if purged {
            assert!(promise.purged >= Some(*index), "{context}: {index} was purged by nobody");
        } else {
            assert_eq!(by_index.get(index), Some(&entry), "{context}: flushed entry {index}");
        }
    }
    // No holes, and terms never go back.
    for pair in log.windows(2) {
        assert_eq!(pair[1].log_id.index, pair[0].log_id.index + 1, "{context}: hole");
        assert!(pair[1].log_id > pair[0].log_id, "{context}: stale tail");
    }

    // The applied position is covered by the log (or by what was purged of it), with the very same entry.
    let (applied, stored) = rig.machine.applied_state().await.unwrap();
    if let Some(applied) = applied {
        assert!(Some(applied) <= state.last_log_id, "{context}: applied {applied} past the log's {state:?}");
        if let Some(entry) = by_index.get(&applied.index) {
            assert_eq!(entry.log_id, applied, "{context}: applied another entry than the log has");
        }
    }
    // Rows, position and membership are those of one moment.
    let expected = replay(history, applied);
    assert_eq!(rig.rows(), expected.0, "{context}: rows at {applied:?}");
    assert_eq!(*stored.log_id(), expected.1, "{context}: membership at {applied:?}");

    // The library itself is content, and re-applies up to what it knows to be committed.
    let mut helper = StorageHelper::new(&mut rig.log, &mut rig.machine).with_id(1);
    helper.get_initial_state().await.unwrap_or_else(|error| panic!("{context}: {error}"));
    let again = rig.applied().await;
    assert!(again >= applied, "{context}: the applied position went back");
    assert_eq!(rig.rows(), replay(history, again).0, "{context}: rows after catching up to {again:?}");
}

/// What applying the log up to `applied` gives: of entries at one index, the one of the latest leader until then.
fn replay(history: &BTreeMap<LogId, Entry>, applied: Option<LogId>) -> (Rows, Option<LogId>) {
    let chosen: BTreeMap<u64, &Entry> = history
        .values()
        .filter(|entry| applied.is_some_and(|applied| entry.log_id <= applied && entry.log_id.index <= applied.index))
        .map(|entry| (entry.log_id.index, entry))
        .collect();
    let (mut rows, mut members, mut count) = (Rows::new(), None, 0u64);
    for entry in chosen.into_values() {
        match &entry.payload {
            EntryPayload::Blank => {}
            EntryPayload::Membership(_) => members = Some(entry.log_id),
            EntryPayload::Normal(pack) => {
                count += 1;
                rows.insert(COUNT.to_vec(), count.to_be_bytes().to_vec());
                for command in pack.0.split(|byte| *byte == b';') {
                    match command.iter().position(|byte| *byte == b'=') {
                        Some(at) => rows.insert(command[..at].to_vec(), command[at + 1..].to_vec()),
                        None => rows.remove(command),
                    };
                }
            }
        }
    }
    (rows, members)
}

/// A group's life with two changes of leader, each leaving a conflicting tail behind.
async fn a_life_with_conflicts(drive: &mut Drive) {
    drive.vote(0, 1).await;
    drive.append(0, vec![membership(1, 0, &[1, 2, 3]), blank(1, 1), pack(1, 2, "a=1")]).await;
    drive.vote(1, 7).await;
    drive.append(1, vec![membership(7, 0, &[1]), pack(7, 1, "x=1;y=2")]).await;
    drive.apply(0, 0, 2).await;
    drive.append(0, vec![pack(1, 3, "b=1"), pack(1, 4, "c=1"), pack(1, 5, "stale=1")]).await;
    drive.apply(1, 0, 1).await;
    drive.apply(0, 3, 3).await;
    // A new leader overwrites 4 and 5, and what it sends is applied before anyone waited for the disk.
    drive.vote(0, 2).await;
    drive.overwrite_and_apply(0, at(1, 3), vec![blank(2, 4), pack(2, 5, "b;c=2")]).await;
    drive.append(1, vec![pack(7, 2, "x")]).await;
    drive.append(0, vec![pack(2, 6, "d=1"), pack(2, 7, "stale=2"), pack(2, 8, "stale=3")]).await;
    drive.apply(0, 6, 6).await;
    drive.vote(0, 4).await;
    drive.truncate(0, at(2, 6)).await;
    drive.append(0, vec![blank(4, 7)]).await;
    drive.apply(0, 7, 7).await;
    drive.overwrite_and_apply(0, at(4, 7), vec![membership(4, 8, &[1, 2]), pack(4, 9, "e=1")]).await;
    drive.apply(1, 2, 2).await;
    drive.purge(0, at(2, 6)).await;
    drive.append(0, vec![pack(4, 10, "f=1")]).await;
    drive.apply(0, 10, 10).await;
    drive.append(1, vec![pack(7, 3, "z=1")]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_prefix_of_the_log_is_a_valid_state() {
    let mut drive = Drive::new(2, &options());
    a_life_with_conflicts(&mut drive).await;
    let cuts = drive.all_cuts();
    drive.check_cuts(cuts).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rows_that_left_memory_do_not_run_ahead_of_the_log() {
    // Memtables so small that each family goes to files on its own, several times, with a new log each time.
    let mut drive = Drive::new(2, &StoreOptions { memtable_bytes: 192 << 10, ..options() });
    drive.vote(0, 1).await;
    drive.append(0, vec![membership(1, 0, &[1, 2, 3])]).await;
    drive.apply(0, 0, 0).await;
    let large = "x".repeat(6 << 10);
    for index in 1..60 {
        drive.append(0, vec![pack(1, index, &format!("{}={large}", index % 7))]).await;
        if index % 5 == 0 {
            drive.apply(0, index - 4, index).await;
        }
    }
    let first = drive.recorder.synced.lock().unwrap()[0].file.clone();
    assert_ne!(wal_end(drive.directory.path()).file, first, "nothing was flushed");
    a_life_with_conflicts_on(&mut drive, 1).await;
    let cuts = drive.all_cuts();
    drive.check_cuts(cuts).await;
}

async fn a_life_with_conflicts_on(drive: &mut Drive, group: usize) {
    drive.append(group, vec![blank(1, 0), pack(1, 1, "a=1"), pack(1, 2, "stale=1")]).await;
    drive.apply(group, 0, 1).await;
    drive.vote(group, 2).await;
    drive.overwrite_and_apply(group, at(1, 1), vec![blank(2, 2), pack(2, 3, "a;b=1")]).await;
}
