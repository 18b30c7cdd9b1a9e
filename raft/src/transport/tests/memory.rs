//! Storage of one replica in memory, for the consensus core's side of the transport.

use super::super::*;
use crate::entry::{Entry, LogId};
use crate::snapshot::SnapshotError;
use crate::types::{GroupId, PackBytes, PackResults, SnapshotMeta, TypeConfig, Vote};
use crate::wire::SnapshotMetaWire;
use bytes::Bytes;
use futures_util::{Stream, TryStreamExt};
use messenger_proto::wire::Wire;
use openraft::storage::{EntryResponder, IOFlushed, LogState, RaftLogStorage, RaftStateMachine, Snapshot};
use openraft::type_config::alias::{LeaderIdOf, SnapshotOf, StoredMembershipOf};
use openraft::{EntryPayload, RaftLogReader, RaftSnapshotBuilder};
use std::collections::BTreeMap;
use std::fmt::Debug;
use std::io;
use std::ops::RangeBounds;
use std::sync::{Arc, Mutex};
use tokio::sync::watch;

#[derive(Default)]
struct Log {
    entries: BTreeMap<u64, Entry>,
    vote: Option<Vote>,
    purged: Option<LogId>,
}

#[derive(Clone, Default)]
pub(super) struct MemoryLog(Arc<Mutex<Log>>);

impl MemoryLog {
    pub(super) fn first(&self) -> Option<u64> {
        self.0.lock().unwrap().entries.keys().next().copied()
    }
}

impl RaftLogReader<TypeConfig> for MemoryLog {
    async fn try_get_log_entries<R: RangeBounds<u64> + Clone + Debug + Send>(
        &mut self,
        range: R,
    ) -> Result<Vec<Entry>, io::Error> {
        Ok(self.0.lock().unwrap().entries.range(range).map(|(_, entry)| entry.clone()).collect())
    }

    async fn read_vote(&mut self) -> Result<Option<Vote>, io::Error> {
        Ok(self.0.lock().unwrap().vote)
    }
}

impl RaftLogStorage<TypeConfig> for MemoryLog {
    type LogReader = Self;

    async fn get_log_state(&mut self) -> Result<LogState<TypeConfig>, io::Error> {
        let log = self.0.lock().unwrap();
        let last = log.entries.values().next_back().map(|entry| entry.log_id).or(log.purged);
        Ok(LogState { last_purged_log_id: log.purged, last_log_id: last })
    }

    async fn get_log_reader(&mut self) -> Self {
        self.clone()
    }

    async fn save_vote(&mut self, vote: &Vote) -> Result<(), io::Error> {
        self.0.lock().unwrap().vote = Some(*vote);
        Ok(())
    }

    async fn append<I>(&mut self, entries: I, callback: IOFlushed<TypeConfig>) -> Result<(), io::Error>
    where
        I: IntoIterator<Item = Entry> + Send,
        I::IntoIter: Send,
    {
        self.0.lock().unwrap().entries.extend(entries.into_iter().map(|entry| (entry.log_id.index, entry)));
        callback.io_completed(Ok(()));
        Ok(())
    }

    async fn truncate_after(&mut self, last: Option<LogId>) -> Result<(), io::Error> {
        self.0.lock().unwrap().entries.split_off(&last.map_or(0, |id| id.index + 1));
        Ok(())
    }

    async fn purge(&mut self, id: LogId) -> Result<(), io::Error> {
        let mut log = self.0.lock().unwrap();
        log.entries = log.entries.split_off(&(id.index + 1));
        log.purged = Some(id);
        Ok(())
    }
}

/// What was applied: every pack, in order.
#[derive(Clone, Default)]
struct State {
    packs: Vec<Bytes>,
    meta: SnapshotMeta,
}

#[derive(Clone)]
pub(super) struct MemoryMachine {
    state: Arc<Mutex<State>>,
    snapshot: Arc<Mutex<Option<State>>>,
    pub(super) applied: watch::Sender<usize>,
}

impl Default for MemoryMachine {
    fn default() -> Self {
        Self { state: Arc::default(), snapshot: Arc::default(), applied: watch::channel(0).0 }
    }
}

impl MemoryMachine {
    pub(super) fn packs(&self) -> Vec<Bytes> {
        self.state.lock().unwrap().packs.clone()
    }
}

impl RaftSnapshotBuilder<TypeConfig> for MemoryMachine {
    type SnapshotData = Vec<Bytes>;

    async fn build_snapshot(&mut self) -> Result<SnapshotOf<TypeConfig, Vec<Bytes>>, io::Error> {
        let state = self.state.lock().unwrap().clone();
        *self.snapshot.lock().unwrap() = Some(state.clone());
        Ok(Snapshot { meta: state.meta, snapshot: state.packs })
    }
}

impl RaftStateMachine<TypeConfig> for MemoryMachine {
    type SnapshotData = Vec<Bytes>;
    type SnapshotBuilder = Self;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembershipOf<TypeConfig>), io::Error> {
        let meta = self.state.lock().unwrap().meta.clone();
        Ok((meta.last_log_id, meta.last_membership))
    }

    async fn apply<S>(&mut self, mut entries: S) -> Result<(), io::Error>
    where
        S: Stream<Item = Result<EntryResponder<TypeConfig>, io::Error>> + Unpin + Send,
    {
        while let Some((entry, responder)) = entries.try_next().await? {
            let mut state = self.state.lock().unwrap();
            state.meta.last_log_id = Some(entry.log_id);
            match entry.payload {
                EntryPayload::Blank => {}
                EntryPayload::Normal(PackBytes(bytes)) => state.packs.push(bytes),
                EntryPayload::Membership(members) => {
                    state.meta.last_membership = openraft::StoredMembership::new(Some(entry.log_id), members);
                }
            }
            self.applied.send_replace(state.packs.len());
            if let Some(responder) = responder {
                responder.send(PackResults::default());
            }
        }
        Ok(())
    }

    async fn get_snapshot_builder(&mut self) -> Self {
        self.clone()
    }

    async fn install_snapshot(&mut self, meta: &SnapshotMeta, packs: Vec<Bytes>) -> Result<(), io::Error> {
        self.applied.send_replace(packs.len());
        *self.state.lock().unwrap() = State { packs, meta: meta.clone() };
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<SnapshotOf<TypeConfig, Vec<Bytes>>>, io::Error> {
        let snapshot = self.snapshot.lock().unwrap().clone();
        Ok(snapshot.map(|state| Snapshot { meta: state.meta, snapshot: state.packs }))
    }
}

/// Snapshots whose first chunk is what they cover, and the others the packs.
pub(super) struct MemorySnapshots(pub(super) MemoryMachine);

pub(super) struct MemorySource(std::vec::IntoIter<Bytes>);

impl ChunkSource for MemorySource {
    async fn next(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        Ok(self.0.next())
    }
}

#[derive(Default)]
pub(super) struct MemorySink(Vec<Bytes>);

impl ChunkSink for MemorySink {
    type Data = Vec<Bytes>;

    async fn write(&mut self, chunk: Bytes) -> Result<(), SnapshotError> {
        self.0.push(chunk);
        Ok(())
    }

    async fn finish(mut self) -> Result<(SnapshotMeta, Vec<Bytes>), SnapshotError> {
        let meta = self.0.remove(0);
        Ok((SnapshotMetaWire::decode_from(meta).unwrap().try_into().unwrap(), self.0))
    }
}

impl SnapshotStore for MemorySnapshots {
    type Data = Vec<Bytes>;
    type Source = MemorySource;
    type Sink = MemorySink;

    async fn source(
        &self,
        _: GroupId,
        _: LeaderIdOf<TypeConfig>,
        mut data: Vec<Bytes>,
    ) -> Result<MemorySource, SnapshotError> {
        let snapshot = self.0.snapshot.lock().unwrap().clone().expect("it was built to be sent");
        data.insert(0, SnapshotMetaWire::from(&snapshot.meta).to_wire().into());
        Ok(MemorySource(data.into_iter()))
    }

    async fn sink(&self, _: GroupId) -> Result<MemorySink, SnapshotError> {
        Ok(MemorySink::default())
    }
}
