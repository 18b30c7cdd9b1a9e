//! When a node takes no more commands because its storage is at its limits.
//!
//! Owns: the rule, and the look at storage every [`LOOK_EVERY`].
//! Must not know: who is refused, or who leads instead.
//! Invariants: work is refused before it is proposed, while there is still room for what consensus itself must write; a
//! failed write would end the process.

use super::proposer::Admission;
use crate::store::{Pressure, Store};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::interval;

/// Between two looks at storage.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Why no command is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Limit {
    /// Little disk is left: what is kept free is for what was admitted, for the write-ahead log and for compaction,
    /// which frees some. It lasts, so others should lead.
    Disk,
    /// The database catches up; it passes.
    Writes,
}

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Disk => "the disk is almost full",
            Self::Writes => "the database has stopped writes until it has caught up",
        })
    }
}

/// The limit that storage is at, if any; `before` is that of the last look, and `reserve` the bytes of disk to keep free.
fn limit(pressure: &Pressure, reserve: u64, before: Option<Limit>) -> Option<Limit> {
    // Once the disk was almost full it must have a little more, so that leaders do not come and go with every file.
    let enough = if before == Some(Limit::Disk) { reserve.saturating_add(reserve / 8) } else { reserve };
    if pressure.disk_free_bytes.is_some_and(|free| free < enough) {
        return Some(Limit::Disk);
    }
    pressure.write_stopped.then_some(Limit::Writes)
}

/// Follows storage and tells admission, and whether the disk is `short`; ends with its task.
pub(super) async fn follow(store: Store, reserve: u64, admission: Admission, short: Arc<AtomicBool>) {
    let mut tick = interval(LOOK_EVERY);
    let mut before = None;
    loop {
        tick.tick().await;
        let store = store.clone();
        // A disk in trouble may take its time.
        let Ok(pressure) = tokio::task::spawn_blocking(move || store.pressure()).await else { continue };
        let now = limit(&pressure, reserve, before);
        if now != before {
            tracing::warn!(
                reason = now.map_or_else(|| "none any more".to_owned(), |limit| limit.to_string()),
                "commands are refused while storage is at its limits"
            );
            admission.shed(now.is_some());
            short.store(now == Some(Limit::Disk), Ordering::Relaxed);
            before = now;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: u64 = 512 << 20;

    #[test]
    fn only_a_stop_or_a_full_disk_turns_commands_away() {
        let of = |pressure: Pressure| limit(&pressure, RESERVE, None);
        let calm = Pressure { disk_free_bytes: Some(RESERVE), ..Pressure::default() };
        assert_eq!(of(Pressure::default()), None);
        assert_eq!(of(calm), None);
        assert_eq!(of(Pressure { write_delayed: true, compaction_bytes: u64::MAX, ..calm }), None);
        assert_eq!(of(Pressure { write_stopped: true, ..calm }), Some(Limit::Writes));
        let full = Pressure { disk_free_bytes: Some(RESERVE - 1), ..calm };
        assert_eq!(of(full), Some(Limit::Disk));
        assert_eq!(of(Pressure { write_stopped: true, ..full }), Some(Limit::Disk), "the reason that lasts");
    }

    #[test]
    fn a_disk_that_was_almost_full_counts_as_such_until_it_has_a_little_more() {
        let free = |bytes| Pressure { disk_free_bytes: Some(bytes), ..Pressure::default() };
        let short = Some(Limit::Disk);
        assert_eq!(limit(&free(RESERVE), RESERVE, short), short);
        assert_eq!(limit(&free(RESERVE / 8 * 9), RESERVE, short), None);
        assert_eq!(limit(&free(1 << 40), u64::MAX, short), short);
        assert_eq!(limit(&free(0), 0, short), None, "nothing is kept free");
    }
}
