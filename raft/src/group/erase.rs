//! What was taken away leaves the disk.
//!
//! A row that is overwritten is still in older files of the database, and what wrote it is in the log. Left alone they
//! would go some day; this makes it a matter of minutes.
//!
//! Owns: the note of which messages were taken away or changed, and the rounds that have what they said leave the disk.
//! Must not know: what a message is, how the database does it.
//! Invariants: every replica does it for its own disk; one round at a time, and none when there is nothing to erase; what
//! a round could not do is tried in the next; the note is bounded (of more threads than [`THREADS_MAX`] of a group, all of
//! the group's messages are erased alike). A restart forgets it: what was noted by then leaves the disk with the ordinary
//! upkeep of the database, within days.

use super::registry::Registry;
use crate::machine::rows::member::SeqRange;
use crate::machine::rows::{envelopes, message};
use crate::store::{Erased, Store};
use crate::transport::Groups;
use crate::types::GroupId;
use messenger_proto::event::{Event, ThreadEventBody};
use messenger_proto::ids::{LogIndex, Seq, ThreadId};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::{Instant, MissedTickBehavior, interval, sleep};

/// Threads of a group whose messages are noted one by one.
const THREADS_MAX: usize = 1_000;
/// How long a round waits for a group's log to be cut short.
const PURGE_MAX: Duration = Duration::from_secs(30);
/// Between two looks at whether it was.
const LOOK_EVERY: Duration = Duration::from_millis(100);

/// Of a thread, from which message to which.
type Spans = BTreeMap<ThreadId, (Seq, Seq)>;

/// What one group is to erase.
#[derive(Debug, Default, PartialEq, Eq)]
struct Due {
    spans: Spans,
    /// There were too many threads to name.
    all: bool,
}

impl Due {
    fn note(&mut self, thread: ThreadId, seq: Seq) {
        self.merge(Self { spans: Spans::from([(thread, (seq, seq))]), all: false });
    }

    /// The rows of the messages.
    fn rows(&self) -> Erased {
        if self.all {
            return Erased::All;
        }
        let rows = |(thread, (first, last)): (&ThreadId, &(Seq, Seq))| {
            let span = || SeqRange { first: *first, last: *last };
            let places = [message::messages(*thread, span()), envelopes::of_messages(*thread, span())];
            places.map(|range| range.from..range.to)
        };
        Erased::Ranges(self.spans.iter().flat_map(rows).collect())
    }

    fn merge(&mut self, other: Self) {
        self.all |= other.all;
        for (thread, (first, last)) in other.spans {
            let span = self.spans.entry(thread).or_insert((first, last));
            *span = (span.0.min(first), span.1.max(last));
        }
        if self.spans.len() > THREADS_MAX {
            self.all = true;
        }
        if self.all {
            self.spans.clear();
        }
    }
}

/// What the groups of a node are to erase; cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Erasures(Arc<Mutex<BTreeMap<GroupId, Due>>>);

impl Erasures {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<GroupId, Due>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Takes note of what events took away or changed.
    pub(super) fn note(&self, group: GroupId, events: &[Event]) {
        let gone = |event: &Event| match event {
            Event::Thread(event) => match &event.body {
                ThreadEventBody::Deleted(deleted) => Some((event.thread, deleted.of.seq)),
                ThreadEventBody::Edited(edited) => Some((event.thread, edited.of.seq)),
                _ => None,
            },
            Event::User(_)
            | Event::Device(_)
            | Event::PrekeysLow(_)
            | Event::MemberDevices(_)
            | Event::Suspension(_) => None,
        };
        let mut gone = events.iter().filter_map(gone).peekable();
        if gone.peek().is_none() {
            return;
        }
        let mut groups = self.lock();
        let due = groups.entry(group).or_default();
        gone.for_each(|(thread, seq)| due.note(thread, seq));
    }
}

/// What was noted by the end of a round, and how far the group had applied then.
type Waiting = BTreeMap<GroupId, (Due, LogIndex)>;

/// Has what was noted erased, every so often; ends with its task.
///
/// What a round notes the next one erases, so that a log always holds a round's entries: a replica that was away for less
/// catches up from it.
pub(super) async fn follow(store: Store, registry: Registry, erasures: Erasures, every: Duration) {
    let mut tick = interval(every);
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waiting = Waiting::new();
    loop {
        tick.tick().await;
        if !waiting.is_empty() {
            erase(&store, &registry, &erasures, std::mem::take(&mut waiting)).await;
        }
        let noted = std::mem::take(&mut *erasures.lock());
        let applied = |group| store.applied(group).map_or(LogIndex(0), |applied| applied.index);
        waiting = noted.into_iter().map(|(group, due)| (group, (due, applied(group)))).collect();
    }
}

async fn erase(store: &Store, registry: &Registry, erasures: &Erasures, waiting: Waiting) {
    let again = |group, due| erasures.lock().entry(group).or_default().merge(due);
    let mut ready = BTreeMap::new();
    for (group, (due, upto)) in waiting {
        if cut_log(store, registry, group, upto).await {
            ready.insert(group, due);
        } else {
            again(group, due);
        }
    }
    let groups: Vec<_> = ready.iter().map(|(group, due)| (*group, due.rows())).collect();
    let store = store.clone();
    let erased = tokio::task::spawn_blocking(move || store.erase(&groups)).await;
    if !matches!(erased, Ok(Ok(()))) {
        // A failed write has stopped the node; whatever else it was, the next round tries again.
        for (group, due) in ready {
            again(group, due);
        }
    }
}

/// Has a group's log begin after an index; whether it does.
async fn cut_log(store: &Store, registry: &Registry, group: GroupId, upto: LogIndex) -> bool {
    let Some(port) = registry.port(group) else { return true };
    let raft = port.raft();
    let until = Instant::now() + PURGE_MAX;
    while store.purged(group).is_some_and(|purged| purged < upto) {
        // A note of the applied position: only what it covers can go.
        let noted = raft.trigger().snapshot().await;
        if noted.and(raft.trigger().purge_log(upto.0).await).is_err() || Instant::now() > until {
            return false;
        }
        sleep(LOOK_EVERY).await;
    }
    true
}

#[cfg(test)]
mod tests {
    use super::*;

    fn thread(n: u64) -> ThreadId {
        ThreadId(u128::from(n).to_be_bytes())
    }

    #[test]
    fn a_thread_is_noted_from_its_first_message_to_its_last() {
        let mut due = Due::default();
        for seq in [5, 3, 9] {
            due.note(thread(1), Seq(seq));
        }
        due.note(thread(2), Seq(1));
        assert_eq!(due.spans, Spans::from([(thread(1), (Seq(3), Seq(9))), (thread(2), (Seq(1), Seq(1)))]));
        assert!(!due.all);
    }

    #[test]
    fn of_too_many_threads_everything_is_noted() {
        let mut due = Due::default();
        for n in 0..=THREADS_MAX as u64 {
            assert!(!due.all);
            due.note(thread(n), Seq(1));
        }
        assert_eq!(due, Due { spans: Spans::new(), all: true });
        due.note(thread(1), Seq(1));
        assert_eq!(due, Due { spans: Spans::new(), all: true }, "and stays so");
    }
}
