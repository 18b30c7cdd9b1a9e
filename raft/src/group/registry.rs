//! The node's groups, as peers reach them.
//!
//! Owns: the map from group to replica for the transport, and how a stored snapshot becomes chunks and back.
//! Must not know: what a group is for.
//! Invariants: a snapshot is announced to consensus as covering what its rows cover, which may be more than was asked.

use super::restraint::Port;
use crate::snapshot::SnapshotError;
use crate::store::{SnapshotData, SnapshotSink, SnapshotSource, Store};
use crate::transport::{ChunkSink, ChunkSource, Groups, SnapshotStore};
use crate::types::{GroupId, SnapshotMeta, TypeConfig};
use bytes::Bytes;
use openraft::type_config::alias::LeaderIdOf;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};

/// The groups of a node; cheap to clone.
#[derive(Clone)]
pub struct Registry {
    ports: Arc<RwLock<HashMap<GroupId, Port>>>,
    snapshots: Arc<StoredSnapshots>,
}

impl Registry {
    /// A registry without groups.
    #[must_use]
    pub fn new(store: Store) -> Self {
        Self { ports: Arc::default(), snapshots: Arc::new(StoredSnapshots(store)) }
    }

    pub(super) fn insert(&self, group: GroupId, port: Port) {
        self.ports.write().unwrap_or_else(PoisonError::into_inner).insert(group, port);
    }

    pub(super) fn remove(&self, group: GroupId) {
        self.ports.write().unwrap_or_else(PoisonError::into_inner).remove(&group);
    }

    pub(super) fn stored_snapshots(&self) -> Arc<StoredSnapshots> {
        Arc::clone(&self.snapshots)
    }
}

impl Groups for Registry {
    type Port = Port;
    type Snapshots = StoredSnapshots;

    fn port(&self, group: GroupId) -> Option<Port> {
        self.ports.read().unwrap_or_else(PoisonError::into_inner).get(&group).cloned()
    }

    fn snapshots(&self) -> &StoredSnapshots {
        &self.snapshots
    }
}

/// Snapshots in this node's storage.
pub struct StoredSnapshots(Store);

impl SnapshotStore for StoredSnapshots {
    type Data = SnapshotData;
    type Source = Frames;
    type Sink = Incoming;

    async fn source(
        &self,
        _group: GroupId,
        leader: LeaderIdOf<TypeConfig>,
        data: SnapshotData,
    ) -> Result<Frames, SnapshotError> {
        match data {
            SnapshotData::Local(local) => local.open(leader).await.map(Frames),
            SnapshotData::Received(_) => Err(SnapshotError::OnItsWayIn),
        }
    }

    async fn sink(&self, group: GroupId) -> Result<Incoming, SnapshotError> {
        self.0.receive_snapshot(group).await.map(Incoming)
    }
}

/// A snapshot being read; every chunk is one frame of it.
pub struct Frames(SnapshotSource);

impl ChunkSource for Frames {
    async fn next(&mut self) -> Result<Option<Bytes>, SnapshotError> {
        self.0.next().await
    }
}

/// A snapshot being received.
pub struct Incoming(SnapshotSink);

impl ChunkSink for Incoming {
    type Data = SnapshotData;

    async fn write(&mut self, frame: Bytes) -> Result<(), SnapshotError> {
        self.0.write(frame).await
    }

    async fn finish(self) -> Result<(SnapshotMeta, SnapshotData), SnapshotError> {
        let received = self.0.finish().await?;
        Ok((received.meta().clone(), SnapshotData::Received(received)))
    }
}
