//! Keeping logs small.
//!
//! The consensus library purges by count; entries may be of any size, so logs are bounded by bytes as well.
//!
//! Owns: the look at all logs every [`LOOK_EVERY`].
//! Must not know: what entries hold, who leads.
//! Invariants: only what this replica has applied goes; a replica that lacks it is sent a snapshot.

use super::registry::Registry;
use crate::store::Store;
use crate::transport::Groups;
use std::time::Duration;
use tokio::time::{MissedTickBehavior, interval};

const LOOK_EVERY: Duration = Duration::from_secs(1);

/// Has logs that hold more than `keep` bytes purged to half of it; ends with its task.
pub(super) async fn follow(store: Store, registry: Registry, keep: u64) {
    let mut tick = interval(LOOK_EVERY);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        for (group, upto) in store.surplus(keep) {
            let Some(port) = registry.port(group) else { continue };
            let raft = port.raft();
            // A note of the applied position: only what it covers can go. Should it come too late, the next look finds it.
            let noted = raft.trigger().snapshot().await;
            if let Err(error) = noted.and(raft.trigger().purge_log(upto.0).await) {
                tracing::debug!(%group, %error, "a group that has ended is not trimmed");
            }
        }
    }
}
