//! Reads in large threads, told once a second.
//!
//! Owns: which reads are held back, and what of them is told when.
//! Must not know: tokio, sessions, streams.
//! Invariants: of one member's reads in a large thread one is told per [`INTERVAL`], the latest; every read that was
//! held back is told, or a later one of the same member, within [`INTERVAL`].

use crate::realtime::event::{EventKind, LateReads, SharedEvent};
use messenger_proto::ids::{ThreadId, UserId};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Members of a thread above which reads are held back.
pub(super) const LARGE: u32 = 32;
/// Between two tellings in one thread.
pub(super) const INTERVAL: Duration = Duration::from_secs(1);

#[derive(Debug)]
struct Held {
    due: Instant,
    latest: BTreeMap<UserId, Arc<SharedEvent>>,
}

/// The reads a shard's hub holds back.
#[derive(Debug, Default)]
pub(super) struct HeldReads {
    threads: BTreeMap<ThreadId, Held>,
}

impl HeldReads {
    /// Holds back a read that is marked as deferred.
    pub(super) fn hold(&mut self, event: &Arc<SharedEvent>, now: Instant) {
        let EventKind::Read { by, deferred: true } = &event.kind else { return };
        let fresh = || Held { due: now + INTERVAL, latest: BTreeMap::new() };
        let held = self.threads.entry(event.thread).or_insert_with(fresh);
        let latest = held.latest.entry(by.clone()).or_insert_with(|| Arc::clone(event));
        if event.rev > latest.rev {
            *latest = Arc::clone(event);
        }
    }

    /// When something is to be told next.
    pub(super) fn due(&self) -> Option<Instant> {
        self.threads.values().map(|held| held.due).min()
    }

    /// What is to be told now.
    pub(super) fn take(&mut self, now: Instant) -> Vec<LateReads> {
        let due = self.threads.extract_if(.., |_, held| held.due <= now);
        due.map(|(thread, held)| {
            let mut reads: Vec<_> = held.latest.into_values().collect();
            reads.sort_by_key(|read| read.rev);
            LateReads { thread, reads }
        })
        .collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use bytes::Bytes;
    use messenger_proto::ids::Rev;

    fn read(thread: u8, by: &str, rev: u64) -> Arc<SharedEvent> {
        let kind = EventKind::Read { by: UserId::new(by).unwrap(), deferred: true };
        let (body, for_sender) = (Bytes::new(), Bytes::new());
        Arc::new(SharedEvent {
            thread: ThreadId([thread; 16]),
            rev: Rev(rev),
            seq: None,
            kind,
            body,
            for_sender,
            for_device: Bytes::new(),
        })
    }

    #[test]
    fn the_latest_read_of_each_member_is_told_once_a_second() {
        let (mut held, now) = (HeldReads::default(), Instant::now());
        assert_eq!(held.due(), None);
        for (at, read) in [(0, read(1, "a", 3)), (300, read(1, "b", 5)), (600, read(1, "a", 9)), (700, read(2, "a", 4))]
        {
            held.hold(&read, now + Duration::from_millis(at));
        }
        held.hold(&read(1, "a", 8), now + Duration::from_millis(800));
        assert_eq!(held.due(), Some(now + INTERVAL));
        assert!(held.take(now + Duration::from_millis(999)).is_empty());
        let late = held.take(now + INTERVAL);
        assert_eq!(late, [LateReads { thread: ThreadId([1; 16]), reads: vec![read(1, "b", 5), read(1, "a", 9)] }]);
        assert_eq!(held.due(), Some(now + Duration::from_millis(1_700)));
        assert_eq!(held.take(now + INTERVAL * 2).len(), 1);
        assert_eq!(held.due(), None);
    }
}
