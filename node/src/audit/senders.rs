//! Who sends how much, without what.
//!
//! Owns: counts by user over the last hour, as this node's clients make them.
//! Must not know: what is sent; files, other nodes.
//! Invariants: pure counting of records; at most [`SENDERS_MAX`] users are remembered. A new one beyond them takes the place
//! of the one of [`SAMPLE`], taken in turn, that did the least: a crowd of new users pushes out those that hardly did
//! anything, and whoever does much is counted from when it came. Counts err towards too little, never towards too much.

use super::record::{Ending, Record};
use messenger_proto::audit::{SenderCounts, SendersQuery};
use messenger_proto::ids::{Millis, UserId};
use std::collections::HashMap;

/// Users that are remembered at most.
pub const SENDERS_MAX: usize = 10_000;
/// Those looked at to find one to forget.
const SAMPLE: usize = 16;
/// Parts of an hour that are counted apart.
const PARTS: usize = 6;
/// Milliseconds of a part.
const PART_MS: u64 = 10 * 60 * 1_000;
/// Answered at most.
const ANSWERED_MAX: usize = 1_000;

#[derive(Debug, Clone, Copy, Default)]
struct Part {
    /// Which ten minutes since the epoch.
    number: u64,
    sends: u32,
    recipients: u32,
    recipients_max: u32,
    fan_out: [u32; 4],
    new_threads: u32,
    refused: u32,
}

#[derive(Debug)]
struct Sender {
    user: UserId,
    parts: [Part; PARTS],
}

/// The counts of a node.
#[derive(Debug)]
pub struct Senders {
    places: HashMap<UserId, usize>,
    kept: Vec<Sender>,
    hand: usize,
    max: usize,
}

impl Default for Senders {
    fn default() -> Self {
        Self::of(SENDERS_MAX)
    }
}

/// What a record counts as.
struct Act {
    recipients: Option<u32>,
    new_thread: bool,
    refused: bool,
}

impl Act {
    fn of(record: &Record) -> Option<Self> {
        let Ending { status, replayed, recipients, .. } = record.ending;
        if replayed {
            return None;
        }
        let new_thread = status == Some(201) && record.target.thread.is_some();
        let refused = record.ending.had_no_effect();
        (recipients.is_some() || new_thread || refused).then_some(Self { recipients, new_thread, refused })
    }
}

impl Senders {
    fn of(max: usize) -> Self {
        Self { places: HashMap::new(), kept: Vec::new(), hand: 0, max }
    }

    /// Counts a record, if it counts.
    pub fn note(&mut self, record: &Record) {
        let (Some(who), Some(act)) = (record.who.as_deref(), Act::of(record)) else { return };
        let number = record.at.0 / PART_MS;
        let place = self.place_of(&who.user, number);
        let Some(part) = self.kept.get_mut(place).map(|sender| sender.part(number)) else { return };
        if let Some(recipients) = act.recipients {
            part.sends = part.sends.saturating_add(1);
            part.recipients = part.recipients.saturating_add(recipients);
            part.recipients_max = part.recipients_max.max(recipients);
            let size = match recipients {
                0..=1 => 0,
                2..=9 => 1,
                10..=49 => 2,
                _ => 3,
            };
            part.fan_out[size] = part.fan_out[size].saturating_add(1);
        }
        part.new_threads = part.new_threads.saturating_add(act.new_thread.into());
        part.refused = part.refused.saturating_add(act.refused.into());
    }

    fn place_of(&mut self, user: &UserId, number: u64) -> usize {
        if let Some(place) = self.places.get(user) {
            return *place;
        }
        let sender = Sender { user: user.clone(), parts: [Part::default(); PARTS] };
        let place = if self.kept.len() < self.max {
            self.kept.push(sender);
            self.kept.len() - 1
        } else {
            let place = self.victim(number);
            if let Some(former) = self.kept.get_mut(place) {
                self.places.remove(&former.user);
                *former = sender;
            }
            place
        };
        self.places.insert(user.clone(), place);
        place
    }

    fn victim(&mut self, number: u64) -> usize {
        let count = self.kept.len().max(1);
        let looked_at = (0..SAMPLE.min(count)).map(|n| (self.hand + n) % count);
        let least = looked_at.min_by_key(|place| self.kept.get(*place).map_or(0, |sender| sender.activity(number)));
        self.hand = (self.hand + SAMPLE) % count;
        least.unwrap_or(0)
    }

    /// Those who did the most by now.
    #[must_use]
    pub fn top(&self, query: &SendersQuery, now: Millis) -> Vec<SenderCounts> {
        let number = now.0 / PART_MS;
        let counts = |sender: &Sender| sender.counts(number);
        let mut all: Vec<SenderCounts> = match &query.user {
            Some(user) => {
                self.places.get(user).and_then(|place| self.kept.get(*place)).map(counts).into_iter().collect()
            }
            None => self.kept.iter().map(counts).filter(|counts| counts.by(query.order) > 0).collect(),
        };
        all.sort_by(|a, b| b.by(query.order).cmp(&a.by(query.order)).then_with(|| a.user.cmp(&b.user)));
        all.truncate((query.limit as usize).min(ANSWERED_MAX));
        all
    }
}

impl Sender {
    fn part(&mut self, number: u64) -> &mut Part {
        let part = &mut self.parts[(number % PARTS as u64) as usize];
        if part.number < number {
            *part = Part { number, ..Part::default() };
        }
        part
    }

    fn recent(&self, number: u64) -> impl Iterator<Item = &Part> {
        self.parts.iter().filter(move |part| part.number + PARTS as u64 > number)
    }

    fn activity(&self, number: u64) -> u64 {
        self.recent(number)
            .map(|part| u64::from(part.sends) + u64::from(part.new_threads) + u64::from(part.refused))
            .sum()
    }

    fn counts(&self, number: u64) -> SenderCounts {
        let sum = |of: fn(&Part) -> u32| self.recent(number).map(|part| u64::from(of(part))).sum();
        let most = |of: fn(&Part) -> u32| self.recent(number).map(of).max().unwrap_or(0);
        let size = |n: usize| self.recent(number).map(|part| u64::from(part.fan_out[n])).sum();
        SenderCounts {
            user: self.user.clone(),
            sends: sum(|part| part.sends),
            peak_sends: most(|part| part.sends).into(),
            recipients: sum(|part| part.recipients),
            recipients_max: most(|part| part.recipients_max),
            fan_out: (0..4).map(size).collect(),
            new_threads: sum(|part| part.new_threads),
            refused: sum(|part| part.refused),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::record::tests::record;
    use super::*;
    use messenger_proto::audit::SendersOrder;
    use messenger_proto::error::ErrorCode;
    use messenger_proto::ids::ThreadId;
    use proptest::prelude::*;

    fn sent(user: &str, at: u64, recipients: u32) -> Record {
        let ending = Ending { recipients: Some(recipients), ..Ending::done(202) };
        Record { at: Millis(at), ending, ..record(user) }
    }

    fn top(senders: &Senders, order: SendersOrder, now: u64) -> Vec<SenderCounts> {
        senders.top(&SendersQuery { user: None, order, limit: 10 }, Millis(now))
    }

    const NOW: u64 = 1_780_162_931_000;

    #[test]
    fn what_a_user_does_is_counted_for_an_hour() {
        let mut senders = Senders::default();
        for recipients in [1, 1, 3, 249] {
            senders.note(&sent("ann", NOW, recipients));
        }
        let mut made = record("ann");
        made.target.thread = Some(ThreadId([1; 16]));
        senders.note(&made);
        senders.note(&Record { ending: Ending::refused(ErrorCode::RateLimited), ..record("ann") });
        senders.note(&Record { ending: Ending { replayed: true, ..sent("ann", NOW, 5).ending }, ..record("ann") });
        senders.note(&sent("bob", NOW, 1));
        let [ann, bob] = top(&senders, SendersOrder::Sends, NOW).try_into().unwrap();
        assert_eq!((ann.user.as_str(), ann.sends, ann.recipients, ann.recipients_max), ("ann", 4, 254, 249));
        assert_eq!((ann.fan_out.as_slice(), ann.new_threads, ann.refused), ([2, 1, 0, 1].as_slice(), 1, 1));
        assert_eq!(bob.sends, 1);
        assert_eq!(top(&senders, SendersOrder::Refused, NOW).len(), 1, "those who did none of it are not listed");
        assert!(top(&senders, SendersOrder::Sends, NOW + 61 * 60 * 1_000).is_empty());
        let one = SendersQuery { user: Some(UserId::new("bob").unwrap()), order: SendersOrder::Refused, limit: 9 };
        assert_eq!(senders.top(&one, Millis(NOW)), [bob]);
    }

    #[test]
    fn a_crowd_of_new_users_does_not_push_out_who_does_much() {
        let mut senders = Senders::of(64);
        for _ in 0..50 {
            senders.note(&sent("spammer", NOW, 1));
        }
        for n in 0..10_000 {
            senders.note(&sent(&format!("u{n}"), NOW, 1));
        }
        assert_eq!(top(&senders, SendersOrder::Sends, NOW)[0].sends, 50);
        assert_eq!((senders.kept.len(), senders.places.len()), (64, 64));
    }

    proptest! {
        #[test]
        fn counts_are_never_too_high(acts in prop::collection::vec((0_usize..20, 0_u64..7_200_000), 0..200)) {
            let mut senders = Senders::of(8);
            let mut acts: Vec<_> = acts;
            acts.sort_by_key(|(_, at)| *at);
            for (user, at) in &acts {
                senders.note(&sent(&format!("u{user}"), *at, 2));
            }
            let now = acts.last().map_or(0, |(_, at)| *at);
            for counts in top(&senders, SendersOrder::Sends, now) {
                let of_user = |(user, at): &&(usize, u64)| format!("u{user}") == counts.user.as_str() && *at + 3_600_000 > now;
                prop_assert!(counts.sends <= acts.iter().filter(of_user).count() as u64);
                prop_assert_eq!(counts.recipients, 2 * counts.sends);
            }
        }
    }
}
