//! The arithmetic of a token bucket.
//!
//! Owns: what a quota is, what is left of it, and when there is more.
//! Must not know: whose bucket it is, where it is kept, what the time is.
//! Invariants: all is whole numbers, so that nothing is lost by rounding: a token costs as many shares as its window has
//! milliseconds, and a bucket gets as many back each millisecond as it has tokens. In any stretch of time no more tokens
//! go out than the bucket holds and as came back meanwhile.

use crate::config::{TOKENS_MAX, WINDOW_S_MAX};
use messenger_proto::ids::Millis;

/// So many requests at once, and as many again, evenly, in each window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    tokens: u32,
    window_s: u32,
}

/// What was taken and did not come back yet. The default is a full one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Bucket {
    /// In shares.
    debt: u64,
    at: Millis,
}

/// What came of asking for a token.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Verdict {
    /// Whether it was given.
    pub granted: bool,
    /// Whole tokens left.
    pub remaining: u32,
    /// Until the bucket is full again, in milliseconds.
    pub full_in_ms: u64,
    /// Until the next token can be given, in milliseconds; 0 if one can be.
    pub wait_ms: u64,
}

impl Quota {
    /// A quota within the bounds; `None` for no tokens, which means no limit.
    #[must_use]
    pub fn new(tokens: u32, window_s: u32) -> Option<Self> {
        let tokens = tokens.min(TOKENS_MAX);
        (tokens > 0).then_some(Self { tokens, window_s: window_s.clamp(1, WINDOW_S_MAX) })
    }

    /// Tokens of a full bucket.
    #[must_use]
    pub fn tokens(self) -> u32 {
        self.tokens
    }

    /// Seconds in which an empty bucket becomes full.
    #[must_use]
    pub fn window_s(self) -> u32 {
        self.window_s
    }

    /// Shares of one token.
    fn price(self) -> u64 {
        u64::from(self.window_s) * 1_000
    }

    fn capacity(self) -> u64 {
        u64::from(self.tokens) * self.price()
    }

    /// Shares come back with time. A clock that was set back takes nothing away.
    fn settle(self, bucket: Bucket, now: Millis) -> Bucket {
        let back = now.0.saturating_sub(bucket.at.0).saturating_mul(self.tokens.into());
        Bucket { debt: bucket.debt.min(self.capacity()).saturating_sub(back), at: now }
    }

    fn verdict(self, bucket: Bucket, granted: bool) -> Verdict {
        let (room, tokens) = (self.capacity() - bucket.debt, u64::from(self.tokens));
        Verdict {
            granted,
            remaining: u32::try_from(room / self.price()).unwrap_or(u32::MAX),
            full_in_ms: bucket.debt.div_ceil(tokens),
            wait_ms: self.price().saturating_sub(room).div_ceil(tokens),
        }
    }

    /// Takes a token, if there is one.
    #[must_use]
    pub fn take(self, bucket: Bucket, now: Millis) -> (Bucket, Verdict) {
        let bucket = self.settle(bucket, now);
        let debt = bucket.debt + self.price();
        let granted = debt <= self.capacity();
        let bucket = if granted { Bucket { debt, ..bucket } } else { bucket };
        (bucket, self.verdict(bucket, granted))
    }

    /// What asking would come to, without taking anything.
    #[must_use]
    pub fn look(self, bucket: Bucket, now: Millis) -> Verdict {
        let bucket = self.settle(bucket, now);
        self.verdict(bucket, bucket.debt + self.price() <= self.capacity())
    }

    /// Gives back a token that was taken and not used.
    #[must_use]
    pub fn give_back(self, bucket: Bucket) -> Bucket {
        Bucket { debt: bucket.debt.saturating_sub(self.price()), ..bucket }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn quota() -> impl Strategy<Value = Quota> {
        let tokens = prop_oneof![1_u32..20, 1..=TOKENS_MAX];
        let window = prop_oneof![1_u32..100, 1..=WINDOW_S_MAX];
        (tokens, window).prop_map(|(tokens, window_s)| Quota::new(tokens, window_s).unwrap())
    }

    /// A bucket from which some were taken, and when.
    fn used(quota: Quota, takes: u32, start: u64) -> Bucket {
        let mut bucket = Bucket::default();
        for _ in 0..takes {
            bucket = quota.take(bucket, Millis(start)).0;
        }
        bucket
    }

    #[test]
    fn bounds_hold_whatever_is_asked_for() {
        assert_eq!(Quota::new(0, 60), None);
        let most = Quota::new(u32::MAX, u32::MAX).unwrap();
        assert_eq!((most.tokens(), most.window_s()), (TOKENS_MAX, WINDOW_S_MAX));
        assert_eq!(Quota::new(1, 0).unwrap().window_s(), 1);
        let (_, verdict) = most.take(Bucket { debt: u64::MAX, at: Millis(0) }, Millis(0));
        assert_eq!((verdict.granted, verdict.remaining), (false, 0));
    }

    proptest! {
        #[test]
        fn no_stretch_of_time_gives_more_than_it_should(
            quota in (1_u32..30, 1_u32..10).prop_map(|(tokens, window)| Quota::new(tokens, window).unwrap()),
            pauses in proptest::collection::vec(0_u64..2_000, 1..100),
        ) {
            let (mut bucket, mut now, mut given) = (Bucket::default(), 1_000, Vec::new());
            for pause in pauses {
                now += pause;
                let (next, verdict) = quota.take(bucket, Millis(now));
                bucket = next;
                given.extend(verdict.granted.then_some(now));
            }
            for (first, from) in given.iter().enumerate() {
                for (count, until) in (1_u64..).zip(&given[first..]) {
                    let most = quota.capacity() + (until - from) * u64::from(quota.tokens);
                    prop_assert!(count * quota.price() <= most, "{count} in {} ms", until - from);
                }
            }
        }

        #[test]
        fn whoever_keeps_the_pace_is_never_refused(quota in quota(), more in 0_u64..3, count in 1_u32..50) {
            let pace = quota.price().div_ceil(quota.tokens.into()) + more;
            let (mut bucket, mut now) = (used(quota, quota.tokens.min(40), 0), 0);
            for _ in 0..count {
                now += pace;
                let (next, verdict) = quota.take(bucket, Millis(now));
                prop_assert!(verdict.granted);
                bucket = next;
            }
        }

        #[test]
        fn what_is_said_to_remain_can_be_taken_and_no_more(tokens in 1_u32..50, window in 1_u32..100, takes in 0_u32..60, later in 0_u64..5_000) {
            let quota = Quota::new(tokens, window).unwrap();
            let (mut bucket, now) = (used(quota, takes, 0), Millis(later));
            let left = quota.look(bucket, now).remaining;
            for n in (0..left).rev() {
                let (next, verdict) = quota.take(bucket, now);
                prop_assert!(verdict.granted);
                prop_assert_eq!(verdict.remaining, n);
                bucket = next;
            }
            prop_assert!(!quota.take(bucket, now).1.granted);
        }

        #[test]
        fn the_waits_are_exact(tokens in 1_u32..50, window in 1_u32..100, takes in 1_u32..80) {
            let quota = Quota::new(tokens, window).unwrap();
            let bucket = used(quota, takes, 0);
            let verdict = quota.look(bucket, Millis(0));
            let at = |ms: u64| quota.look(bucket, Millis(ms));
            prop_assert_eq!(verdict.wait_ms == 0, verdict.granted);
            prop_assert!(at(verdict.wait_ms).granted);
            prop_assert!(verdict.wait_ms == 0 || !at(verdict.wait_ms - 1).granted);
            prop_assert_eq!(at(verdict.full_in_ms).full_in_ms, 0);
            prop_assert!(at(verdict.full_in_ms - 1).full_in_ms > 0);
            prop_assert_eq!(at(verdict.full_in_ms).remaining, tokens);
        }

        #[test]
        fn a_token_given_back_is_there_again(quota in quota(), takes in 0_u32..10) {
            let bucket = used(quota, takes, 5);
            let (taken, verdict) = quota.take(bucket, Millis(5));
            prop_assume!(verdict.granted);
            prop_assert_eq!(quota.look(quota.give_back(taken), Millis(5)), quota.look(bucket, Millis(5)));
        }

        #[test]
        fn a_clock_set_back_neither_gives_nor_takes(quota in quota(), takes in 1_u32..10, back in 1_u64..1_000_000) {
            let bucket = used(quota, takes, 2_000_000);
            let here = quota.look(bucket, Millis(2_000_000));
            prop_assert_eq!(here, quota.look(bucket, Millis(2_000_000 - back)));
        }
    }
}
