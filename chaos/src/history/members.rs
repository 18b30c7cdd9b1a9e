//! The record of a group whose members come and go.
//!
//! Owns: the shapes of that part of the record, and who was surely a member when.
//! Must not know: how it came about, or what is right.

use super::changes::Event;
use super::{Fate, Outcome, Send, Tick};
use std::collections::BTreeMap;

/// A member added or removed. Those of one user follow one another, and none follows one of which an attempt's outcome is
/// unknown.
#[derive(Debug, Clone)]
pub struct Turn {
    /// Who.
    pub user: String,
    /// Added, not removed.
    pub add: bool,
    /// Before the first attempt.
    pub began: Tick,
    /// After the last answer.
    pub ended: Tick,
    /// How it ended.
    pub fate: Fate,
}

/// A user's look at its own list of threads during the run; no turn of that user overlaps it.
#[derive(Debug, Clone)]
pub struct Sight {
    /// Who.
    pub user: String,
    /// Before the question.
    pub began: Tick,
    /// Whether the group is listed.
    pub listed: bool,
}

/// What a node tells a user of the group after the run.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Seen {
    /// Whether it is in the user's list of threads.
    pub listed: bool,
    /// Its messages, oldest first; `None` if the user is refused as an outsider.
    pub history: Option<Vec<String>>,
}

/// All of it.
#[derive(Debug, Clone, Default)]
pub struct Members {
    /// Who comes and goes, and is there to begin with.
    pub users: Vec<String>,
    /// Who came and went.
    pub turns: Vec<Turn>,
    /// Looks at the lists during the run.
    pub sights: Vec<Sight>,
    /// Every message that was tried, by one who stays.
    pub sends: Vec<Send>,
    /// Who is a member after the run, as every node tells it.
    pub participants: BTreeMap<u16, Vec<String>>,
    /// What every node tells each user after the run.
    pub told: BTreeMap<String, BTreeMap<u16, Seen>>,
    /// What each user's device heard of the group, in the order it did.
    pub heard: BTreeMap<String, Vec<Event>>,
}

impl Members {
    /// A user's turns that may have had an effect, in their order.
    #[must_use]
    pub fn turns_of(&self, user: &str) -> impl DoubleEndedIterator<Item = &Turn> {
        self.turns.iter().filter(move |turn| turn.user == user && !matches!(turn.fate, Fate::Refused(_)))
    }

    /// Whether a user was a member when a message was accepted; `None` where that overlaps a turn.
    #[must_use]
    pub fn was_in(&self, user: &str, send: &Send) -> Option<bool> {
        let mut state = true;
        for turn in self.turns_of(user) {
            let open = turn.fate == Fate::Unknown;
            if turn.began > send.ended {
                break;
            }
            if open || turn.ended >= send.began {
                return None;
            }
            state = turn.add;
        }
        Some(state)
    }

    /// The acknowledged messages that a user's device has to have heard in the end: those of its present stay, if there
    /// is one for sure.
    pub fn due(&self, user: &str) -> impl Iterator<Item = (&str, u64)> {
        let last = self.turns_of(user).next_back();
        let stays = last.is_none_or(|turn| turn.add && turn.fate == Fate::Acknowledged);
        let since = last.map_or(Tick::default(), |turn| turn.ended);
        let due = self.sends.iter().filter(move |send| stays && send.began > since);
        due.filter_map(|send| match &send.outcome {
            Outcome::Accepted { id, seq } => Some((id.as_str(), *seq)),
            _ => None,
        })
    }
}
