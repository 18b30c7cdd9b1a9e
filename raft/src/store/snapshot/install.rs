//! Installing a snapshot.
//!
//! Owns: the order of steps that replaces a group's rows, and with them its position, membership and log.
//! Must not know: where the snapshot comes from.
//! Invariants: a crash between any two steps leaves either the old rows or the new ones in force, whole:
//! 1. the files are taken in under a generation that nothing refers to (the next start deletes it);
//! 2. through the log writer, behind all that the group wrote before, one batch puts the generation, the position, the
//!    membership and the end of the covered log in force, and is synced;
//! 3. the old generation is deleted (again at the next start, if need be).
//!
//! The group applies nothing meanwhile: the consensus library runs both on one task.

use super::receive::ReceivedSnapshot;
use super::{SnapshotData, SnapshotSink};
use crate::snapshot::SnapshotError;
use crate::store::SnapshotMeta;
use crate::store::apply::StateMachine;
use crate::store::codec::AppliedRow;
use crate::store::error::StoreError;
use crate::store::keys;
use crate::store::options::Moment;
use crate::store::writer::Task;
use rocksdb::IngestExternalFileOptions;
use std::sync::Arc;

pub(in crate::store) async fn install(
    machine: &StateMachine,
    meta: &SnapshotMeta,
    data: SnapshotData,
) -> Result<(), StoreError> {
    let log = &machine.log;
    let received = match data {
        SnapshotData::Received(received) => received,
        SnapshotData::Local(local) => {
            let received = async {
                let mut source = local.open_any().await?;
                let mut sink = SnapshotSink::open(&log.store, Arc::clone(&log.group)).await?;
                while let Some(frame) = source.next().await? {
                    sink.write(frame).await?;
                }
                sink.finish().await
            };
            received.await.map_err(unusable)?
        }
    };
    if received.meta() != meta {
        return Err(StoreError::Misuse("the snapshot covers something else than was announced".into()));
    }
    let Some(at) = meta.last_log_id else {
        return Err(StoreError::Misuse("the snapshot covers nothing".into()));
    };
    let ReceivedSnapshot { header, generation, files, workplace, permit: _one_at_a_time } = received;
    let group = log.group.id;
    let store = Arc::clone(&log.store);
    let ingest = move || {
        if !files.is_empty() {
            let mut options = IngestExternalFileOptions::default();
            options.set_move_files(true);
            let engine = &store.engine;
            engine.fatal.check()?;
            engine
                .db()
                .ingest_external_file_cf_opts(engine.family(keys::STATE), &options, files)
                .map_err(|error| engine.fatal.raise("taking in a snapshot", error.as_ref()))?;
        }
        drop(workplace);
        store.engine.reach(Moment::RowsIngested)
    };
    tokio::task::spawn_blocking(ingest)
        .await
        .map_err(|error| StoreError::Read(format!("the installing thread ended: {error}")))??;

    let old = log.group.machine().applied.generation;
    let applied = AppliedRow { log_id: Some(at), generation, digest: header.digest };
    let membership = meta.last_membership.clone();
    let matches = log.position(at.index).await?.is_none_or(|held| held == at);
    let writer = &log.store.writer;
    log.carry_out(|group, permit, done| {
        group.install(writer, permit, at, matches, |gone| Task::Install { applied, membership, gone, done })
    })
    .await?;
    {
        let mut state = log.group.machine();
        state.applied = applied;
        state.membership = meta.last_membership.clone();
        state.snapshot = Some(meta.clone());
    }
    machine.hook.installed();
    log.store.engine.reach(Moment::SnapshotInForce)?;
    log.store.engine.drop_generation(group, old)?;
    log.store.engine.reach(Moment::OldRowsDropped)
}

fn unusable(error: SnapshotError) -> StoreError {
    match error {
        SnapshotError::Store(error) => error,
        other => StoreError::Read(other.to_string()),
    }
}
