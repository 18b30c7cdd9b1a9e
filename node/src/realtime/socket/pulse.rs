//! A connection's timers.
//!
//! Owns: when to ping, and when silence, a standstill or the token's end closes the connection.
//! Must not know: the clock and the socket; it is told what happened, and asked what is due.
//! Invariants: one deadline stands for all.

use super::Tuning;
use super::wire::Close;
use std::time::Instant;

/// What is due.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    Nothing,
    Ping,
    Close(Close),
}

#[derive(Debug)]
pub(super) struct Pulse {
    next_ping: Instant,
    last_pong: Instant,
    expires: Instant,
    /// Since when the socket took nothing of what it was handed, and how much it had taken then.
    stuck: Option<(Instant, u64)>,
}

impl Pulse {
    pub(super) fn new(now: Instant, expires: Instant, tuning: &Tuning) -> Self {
        Self { next_ping: now + tuning.ping, last_pong: now, expires, stuck: None }
    }

    pub(super) fn pong(&mut self, now: Instant) {
        self.last_pong = now;
    }

    /// The socket took `written` bytes so far, and `clear` says whether that is all.
    pub(super) fn progress(&mut self, now: Instant, clear: bool, written: u64) {
        self.stuck = match self.stuck {
            _ if clear => None,
            Some((since, before)) if before == written => Some((since, before)),
            _ => Some((now, written)),
        };
    }

    /// What is due by now.
    pub(super) fn due(&mut self, now: Instant, tuning: &Tuning) -> Due {
        if now >= self.expires {
            return Due::Close(Close::EXPIRED);
        }
        if self.stuck.is_some_and(|(since, _)| now >= since + tuning.stall) {
            return Due::Close(Close::STALLED);
        }
        if now >= self.last_pong + tuning.pong_timeout {
            return Due::Close(Close::NO_PONG);
        }
        if now >= self.next_ping {
            self.next_ping = now + tuning.ping;
            return Due::Ping;
        }
        Due::Nothing
    }

    /// When [`Pulse::due`] has something next.
    pub(super) fn deadline(&self, tuning: &Tuning) -> Instant {
        let next = self.next_ping.min(self.expires).min(self.last_pong + tuning.pong_timeout);
        self.stuck.map_or(next, |(since, _)| next.min(since + tuning.stall))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    const S: Duration = Duration::from_secs(1);

    fn tuning() -> Tuning {
        Tuning::default()
    }

    #[test]
    fn pings_come_regularly_and_silence_ends_it() {
        let (now, tuning) = (Instant::now(), tuning());
        let mut pulse = Pulse::new(now, now + 1_000 * S, &tuning);
        assert_eq!(pulse.deadline(&tuning), now + 30 * S);
        assert_eq!(pulse.due(now + 29 * S, &tuning), Due::Nothing);
        assert_eq!(pulse.due(now + 30 * S, &tuning), Due::Ping);
        pulse.pong(now + 31 * S);
        assert_eq!(pulse.due(now + 60 * S, &tuning), Due::Ping);
        assert_eq!(pulse.due(now + 90 * S, &tuning), Due::Ping);
        assert_eq!(pulse.deadline(&tuning), now + 106 * S);
        assert_eq!(pulse.due(now + 105 * S, &tuning), Due::Nothing);
        assert_eq!(pulse.due(now + 106 * S, &tuning), Due::Close(Close::NO_PONG));
    }

    #[test]
    fn slowness_is_fine_and_a_standstill_is_not() {
        let (now, tuning) = (Instant::now(), tuning());
        let mut pulse = Pulse::new(now, now + 1_000 * S, &tuning);
        pulse.pong(now + 60 * S);
        pulse.progress(now, false, 5);
        pulse.progress(now + 20 * S, false, 6);
        pulse.progress(now + 40 * S, false, 6);
        pulse.due(now + 30 * S, &tuning);
        assert_eq!(pulse.due(now + 49 * S, &tuning), Due::Nothing);
        assert_eq!(pulse.deadline(&tuning), now + 50 * S);
        assert_eq!(pulse.due(now + 50 * S, &tuning), Due::Close(Close::STALLED));
        pulse.progress(now + 50 * S, true, 6);
        assert_eq!(pulse.due(now + 50 * S, &tuning), Due::Nothing);
    }

    #[test]
    fn the_token_s_end_is_the_connection_s() {
        let (now, tuning) = (Instant::now(), tuning());
        let mut pulse = Pulse::new(now, now + 7 * S, &tuning);
        assert_eq!(pulse.deadline(&tuning), now + 7 * S);
        assert_eq!(pulse.due(now + 7 * S, &tuning), Due::Close(Close::EXPIRED));
    }
}
