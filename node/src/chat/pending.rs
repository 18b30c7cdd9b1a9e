//! What was typed and is not yet in the thread.
//!
//! Owns: the texts under way, in order, and when it is time to show one as waiting.
//! Must not know: how a message is sent, or how anything looks.
//! Invariants: a text is shown as waiting at most once, and in the order it was typed; there are never more than
//! [`PENDING_MAX`].

use std::collections::VecDeque;
use std::time::Duration;
use tokio::time::Instant;

/// Messages under way at most: beyond, no more lines are taken.
pub(super) const PENDING_MAX: usize = 256;
/// A message is not shown as waiting before, since most have long arrived by then.
const PATIENCE: Duration = Duration::from_secs(1);

struct Waiting {
    text: String,
    since: Instant,
    shown: bool,
}

/// The messages under way.
#[derive(Default)]
pub(super) struct Pending(VecDeque<Waiting>);

impl Pending {
    pub(super) fn has_room(&self) -> bool {
        self.0.len() < PENDING_MAX
    }

    pub(super) fn push(&mut self, text: String, now: Instant) {
        self.0.push_back(Waiting { text, since: now, shown: false });
    }

    /// The oldest one has an answer.
    pub(super) fn pop(&mut self) -> Option<String> {
        self.0.pop_front().map(|waiting| waiting.text)
    }

    /// When [`Pending::due`] next has something.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.0.iter().find(|waiting| !waiting.shown).map(|waiting| waiting.since + PATIENCE)
    }

    /// Those to be shown as waiting: the old ones, or all when it is known that nobody takes them.
    pub(super) fn due(&mut self, now: Instant, broken: bool) -> Vec<String> {
        let due = |waiting: &&mut Waiting| !waiting.shown && (broken || waiting.since + PATIENCE <= now);
        self.0
            .iter_mut()
            .filter(due)
            .map(|waiting| {
                waiting.shown = true;
                waiting.text.clone()
            })
            .collect()
    }

    /// All that is left.
    pub(super) fn into_texts(self) -> impl Iterator<Item = String> {
        self.0.into_iter().map(|waiting| waiting.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_is_shown_once_and_in_order() {
        let (mut pending, now) = (Pending::default(), Instant::now());
        assert_eq!(pending.next_due(), None);
        pending.push("one".into(), now);
        pending.push("two".into(), now + PATIENCE / 2);
        assert!(pending.due(now, false).is_empty());
        assert_eq!(pending.next_due(), Some(now + PATIENCE));
        assert_eq!(pending.due(now + PATIENCE, false), ["one"]);
        assert_eq!(pending.next_due(), Some(now + PATIENCE / 2 + PATIENCE));
        assert_eq!(pending.pop().as_deref(), Some("one"));
        pending.push("three".into(), now);
        assert_eq!(pending.due(now, true), ["two", "three"], "nobody takes them");
        assert!(pending.due(now + PATIENCE * 9, true).is_empty() && pending.next_due().is_none());
        assert_eq!(pending.into_texts().collect::<Vec<_>>(), ["two", "three"]);
    }

    #[test]
    fn there_is_an_end_to_what_may_wait() {
        let mut pending = Pending::default();
        for _ in 0..PENDING_MAX {
            assert!(pending.has_room());
            pending.push(String::new(), Instant::now());
        }
        assert!(!pending.has_room());
        pending.pop();
        assert!(pending.has_room());
    }
}
