//! When a node takes no more commands because its storage is at its limits.
//!
//! Owns: the rule, and the look at storage every [`LOOK_EVERY`].
//! Must not know: who is refused.
//! Invariants: work is refused before it is proposed, while there is still room for what consensus itself must write; a
//! failed write would end the process.

use super::proposer::Admission;
use crate::store::{Pressure, Store};
use std::time::Duration;
use tokio::time::interval;

/// Between two looks at storage.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// Bytes of disk kept for what was admitted, for the write-ahead log and for compaction, which frees some.
const DISK_RESERVE: u64 = 512 * 1024 * 1024;

/// Why no command is taken, if so.
fn reason(pressure: &Pressure) -> Option<&'static str> {
    if pressure.write_stopped {
        return Some("the database has stopped writes until it has caught up");
    }
    pressure.disk_free_bytes.is_some_and(|free| free < DISK_RESERVE).then_some("the disk is almost full")
}

/// Follows storage and tells admission; ends with its task.
pub(super) async fn follow(store: Store, admission: Admission) {
    let mut tick = interval(LOOK_EVERY);
    let mut before = None;
    loop {
        tick.tick().await;
        let store = store.clone();
        // A disk in trouble may take its time.
        let Ok(pressure) = tokio::task::spawn_blocking(move || store.pressure()).await else { continue };
        let now = reason(&pressure);
        if now != before {
            tracing::warn!(
                reason = now.unwrap_or("none any more"),
                "commands are refused while storage is at its limits"
            );
            admission.shed(now.is_some());
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_stop_or_a_full_disk_turns_commands_away() {
        let calm = Pressure { disk_free_bytes: Some(DISK_RESERVE), ..Pressure::default() };
        assert_eq!(reason(&Pressure::default()), None);
        assert_eq!(reason(&calm), None);
        assert_eq!(reason(&Pressure { write_delayed: true, compaction_bytes: u64::MAX, ..calm }), None);
        assert!(reason(&Pressure { write_stopped: true, ..calm }).is_some());
        assert!(reason(&Pressure { disk_free_bytes: Some(DISK_RESERVE - 1), ..calm }).is_some());
    }
}
