//! What the tests of storage share: a toy machine, entries, ways to drive a group without a consensus core.
//!
//! Owns: fixtures.
//! Must not know: the inside of the store.
#![allow(dead_code, unreachable_pub, reason = "each test program uses its part")]
#![allow(clippy::unwrap_used, missing_docs, reason = "a test fails by panicking")]

use bytes::Bytes;
use futures_util::stream;
use messenger_proto::event::{Event, UserEvent};
use messenger_proto::ids::{Seq, ThreadId, UserId};
use messenger_raft::entry::{Entry, LogId, log_id};
use messenger_raft::machine::tables::{Direction, Overlay, TableError, Tables};
use messenger_raft::store::{
    ApplyHook, GroupRows, LogPosition, LogStore, Machine, Outcome, StateMachine, Store, StoreOptions, Vote,
};
use messenger_raft::types::{GroupId, PackBytes, TypeConfig};
use openraft::storage::{RaftLogStorage, RaftLogStorageExt, RaftStateMachine};
use openraft::type_config::alias::LeaderIdOf;
use openraft::vote::RaftLeaderId;
use openraft::{BasicNode, EntryPayload, Membership};
use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

pub const COUNT: &[u8] = b"\xffcount";

/// A pack is `key=value` or `key` (to delete), separated by `;`. Every pack also counts itself.
pub struct Toy;

impl Machine for Toy {
    fn apply(
        &self,
        tables: &mut Overlay<'_, GroupRows<'_>>,
        position: LogPosition,
        pack: &Bytes,
    ) -> Result<Outcome, TableError> {
        let count = tables.get(COUNT)?.map_or(0, |row| u64::from_be_bytes(row[..].try_into().unwrap()));
        tables.put(COUNT.to_vec(), (count + 1).to_be_bytes().to_vec());
        for command in pack.split(|byte| *byte == b';') {
            match command.iter().position(|byte| *byte == b'=') {
                Some(at) => tables.put(command[..at].to_vec(), command[at + 1..].to_vec()),
                None => tables.delete(command.to_vec()),
            }
        }
        let event = UserEvent {
            user: UserId::new("u").unwrap(),
            thread: ThreadId([0; 16]),
            present: true,
            source_seq: Seq(position.index.0),
        };
        Ok(Outcome { results: vec![], events: vec![Event::User(event)] })
    }
}

/// Remembers the indexes of applied packs, and counts installed snapshots.
#[derive(Default)]
pub struct Heard {
    pub applied: Mutex<Vec<u64>>,
    pub calls: AtomicUsize,
    pub installed: AtomicUsize,
}

impl ApplyHook for Heard {
    fn applied(&self, events: Vec<Event>) {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let indexes = events.into_iter().map(|event| match event {
            Event::User(event) => event.source_seq.0,
            _ => unreachable!("the toy makes none"),
        });
        self.applied.lock().unwrap().extend(indexes);
    }

    fn installed(&self) {
        self.installed.fetch_add(1, Ordering::SeqCst);
    }
}

pub fn options() -> StoreOptions {
    StoreOptions { memtable_bytes: 8 << 20, block_cache_bytes: 4 << 20, ..StoreOptions::default() }
}

/// A directory that goes with its owner; in memory where there is such a place, since cutting the log stands for the
/// disk's forgetfulness and real syncs would only take time.
pub fn scratch() -> tempfile::TempDir {
    tempfile::tempdir_in("/dev/shm").unwrap_or_else(|_| tempfile::tempdir().unwrap())
}

pub fn open(path: &Path) -> Store {
    Store::open(path, options()).unwrap()
}

/// One group without a consensus core.
pub struct Rig {
    pub store: Store,
    pub group: GroupId,
    pub log: LogStore,
    pub machine: StateMachine,
    pub heard: Arc<Heard>,
}

impl Rig {
    pub fn new(store: &Store, group: GroupId) -> Self {
        let heard = Arc::new(Heard::default());
        let machine = store.state_machine(group, Arc::new(Toy), Arc::clone(&heard) as Arc<dyn ApplyHook>).unwrap();
        Self { store: store.clone(), group, log: store.log(group).unwrap(), machine, heard }
    }

    pub async fn append(&mut self, entries: impl IntoIterator<Item = Entry>) {
        self.log.blocking_append(entries.into_iter().collect::<Vec<_>>()).await.unwrap();
    }

    pub async fn apply(&mut self, entries: impl IntoIterator<Item = Entry>) {
        let entries: Vec<_> = entries.into_iter().map(|entry| Ok((entry, None))).collect();
        self.machine.apply(stream::iter(entries)).await.unwrap();
    }

    pub async fn vote(&mut self, term: u64) {
        self.log.save_vote(&vote(term)).await.unwrap();
    }

    pub async fn applied(&mut self) -> Option<LogId> {
        self.machine.applied_state().await.unwrap().0
    }

    pub fn rows(&self) -> Rows {
        rows(&self.store, self.group)
    }
}

pub type Rows = BTreeMap<Vec<u8>, Vec<u8>>;

pub fn rows(store: &Store, group: GroupId) -> Rows {
    let mut rows = Rows::new();
    let reader = store.reader(group).unwrap();
    reader
        .view()
        .scan(&[], &[0xff; 16], Direction::Forward, &mut |key, value| {
            rows.insert(key.to_vec(), value.to_vec());
            ControlFlow::Continue(())
        })
        .unwrap();
    rows
}

pub fn vote(term: u64) -> Vote {
    Vote { leader_id: LeaderIdOf::<TypeConfig>::new(term, 1), committed: true }
}

pub fn at(term: u64, index: u64) -> LogId {
    log_id(term, 1, index)
}

pub fn pack(term: u64, index: u64, pack: &str) -> Entry {
    Entry { log_id: at(term, index), payload: EntryPayload::Normal(PackBytes(pack.to_owned().into())) }
}

pub fn blank(term: u64, index: u64) -> Entry {
    Entry { log_id: at(term, index), payload: EntryPayload::Blank }
}

pub fn membership(term: u64, index: u64, members: &[u64]) -> Entry {
    let nodes: BTreeMap<u64, BasicNode> = members.iter().map(|id| (*id, BasicNode::new(format!("n{id}")))).collect();
    let voters: BTreeSet<u64> = members.iter().copied().collect();
    let payload = EntryPayload::Membership(Membership::new(vec![voters], nodes).unwrap());
    Entry { log_id: at(term, index), payload }
}

/// Copies a data directory as it is at this moment, open or not.
pub fn copy_dir(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_dir(&entry.path(), &target);
        } else if let Err(error) = std::fs::copy(entry.path(), &target) {
            // A file that the database just dropped is not part of the state.
            assert_eq!(error.kind(), std::io::ErrorKind::NotFound, "{}", entry.path().display());
        }
    }
}
