//! Each device hears each of its threads in order, with nothing missing; again, at most, on a new connection.
//!
//! Owns: this one check.
//! Must not know: what other invariants ask.

use crate::history::{Heard, Record, Stored};

/// What breaks the invariant.
#[must_use]
pub fn check(record: &Record) -> Vec<String> {
    let mut broken = Vec::new();
    for ((ear, thread), heard) in &record.heard {
        let history = record.history(thread);
        for what in holes(history, heard) {
            broken.push(format!("{}/{} in {thread}: {what}", ear.user, ear.device));
        }
    }
    broken
}

fn holes(history: &[Stored], heard: &[Heard]) -> Vec<String> {
    let mut broken = Vec::new();
    let Some(first) = history.first().map(|stored| stored.seq) else {
        return heard.iter().map(|heard| format!("heard {heard:?} of an empty thread")).collect();
    };
    // The next number never heard so far, over all connections.
    let mut fresh = first;
    let mut before: Option<&Heard> = None;
    for frame in heard {
        let same_connection = before.filter(|before| before.connection == frame.connection);
        match same_connection {
            Some(before) if frame.seq != before.seq + 1 => {
                broken.push(format!("{} follows {} on one connection", frame.seq, before.seq));
            }
            None if frame.seq > fresh => {
                broken.push(format!("connection {} begins at {}, {fresh} was due", frame.connection, frame.seq));
            }
            _ => {}
        }
        let place = frame.seq.checked_sub(first).and_then(|place| usize::try_from(place).ok());
        let stored = place.and_then(|place| history.get(place));
        if stored.is_none_or(|stored| stored.id != frame.id) {
            broken.push(format!("heard {frame:?} where the history holds {stored:?}"));
        }
        fresh = fresh.max(frame.seq + 1);
        before = Some(frame);
    }
    let end = history.last().map_or(first, |stored| stored.seq + 1);
    if fresh < end {
        broken.push(format!("heard up to {}, the history goes to {}", fresh - 1, end - 1));
    }
    broken
}
