//! The consensus library's own suite for storage.
//!
//! Owns: nothing but the wiring.
//! Must not know: the inside of the store.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

mod store_support;

use messenger_raft::store::{LogStore, StateMachine, Store};
use messenger_raft::types::{GroupId, TypeConfig};
use openraft::StorageError;
use openraft::testing::log::{StoreBuilder, Suite};
use std::sync::atomic::{AtomicU32, Ordering};
use store_support::{Rig, open};

/// Every test of the suite gets a group of its own, which also shows that groups don't disturb each other. Two stores
/// take turns, since the last test moves a snapshot of one group between them.
struct Groups {
    stores: [Store; 2],
    next: AtomicU32,
}

impl StoreBuilder<TypeConfig, LogStore, StateMachine> for Groups {
    async fn build(&self) -> Result<((), LogStore, StateMachine), StorageError<TypeConfig>> {
        let next = self.next.fetch_add(1, Ordering::SeqCst);
        let rig = Rig::new(&self.stores[next as usize % 2], GroupId(next / 2));
        Ok(((), rig.log, rig.machine))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_library_accepts_the_store() {
    let directories = [tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap()];
    let stores = [open(directories[0].path()), open(directories[1].path())];
    let groups = Groups { stores, next: AtomicU32::new(0) };
    Suite::test_all(groups).await.unwrap();
}
