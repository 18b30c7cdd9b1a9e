//! When a node takes no more commands because its storage is at its limits.
//!
//! Owns: the rule, and the look at storage every [`LOOK_EVERY`].
//! Must not know: who is refused, or who leads instead.
//! Invariants: work is refused before it is proposed, while there is still room for what consensus itself must write (a
//! failed write would end the process), and before the database would hold up the threads that write; the first look is
//! over before anyone is served; later ones don't run where those threads would hold them up.

use super::proposer::Admission;
use crate::store::{Pressure, Store};
use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;
use tokio::time::interval;

/// Between two looks at storage.
const LOOK_EVERY: Duration = Duration::from_millis(250);

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
            Self::Writes => "the database slows writes down until it has caught up",
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
    (pressure.write_stopped || pressure.write_delayed).then_some(Limit::Writes)
}

/// What is done about the limits of a node's storage.
pub(super) struct Shed {
    store: Store,
    reserve: u64,
    admission: Admission,
    short: Arc<AtomicBool>,
    before: Option<Limit>,
}

impl Shed {
    /// Looks for the first time; `short` says from then on whether the disk is.
    pub(super) fn new(store: Store, reserve: u64, admission: Admission, short: Arc<AtomicBool>) -> Self {
        let pressure = store.pressure();
        let mut shed = Self { store, reserve, admission, short, before: None };
        shed.take(&pressure);
        shed
    }

    /// Goes on looking; ends with its task.
    pub(super) async fn follow(mut self) {
        let mut tick = interval(LOOK_EVERY);
        loop {
            tick.tick().await;
            let store = self.store.clone();
            // A disk in trouble may take its time.
            let Ok(pressure) = tokio::task::spawn_blocking(move || store.pressure()).await else { continue };
            self.take(&pressure);
        }
    }

    fn take(&mut self, pressure: &Pressure) {
        let now = limit(pressure, self.reserve, self.before);
        if now == self.before {
            return;
        }
        if let Some(reason) = now {
            tracing::warn!(%reason, "no command is taken while storage is at its limits");
        } else {
            tracing::info!("commands are taken again");
        }
        self.admission.shed(now.is_some());
        self.short.store(now == Some(Limit::Disk), Ordering::Relaxed);
        self.before = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const RESERVE: u64 = 512 << 20;

    #[test]
    fn slowed_writes_or_a_full_disk_turn_commands_away() {
        let of = |pressure: Pressure| limit(&pressure, RESERVE, None);
        let calm = Pressure { disk_free_bytes: Some(RESERVE), ..Pressure::default() };
        assert_eq!(of(Pressure::default()), None);
        assert_eq!(of(calm), None);
        assert_eq!(of(Pressure { write_delayed: true, ..calm }), Some(Limit::Writes));
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
