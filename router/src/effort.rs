//! What to make of the result of an attempt at a call.
//!
//! Owns: when a call is done, when it is tried again and after which pause, and what its caller is told in the end.
//! Must not know: channels, the clock, which node to try; time and jitter are passed in.
//! Invariants: a call that may have had effects never ends as `unavailable` or `overloaded`; attempts are at most
//! [`ATTEMPTS_MAX`], and but for redirects the third and later ones wait.

use crate::pause::Pauses;
use crate::route::Lesson;
use crate::transport::CallError;
use messenger_proto::error::{ErrorCode, Refusal};
use messenger_proto::rpc::{ShardCall, ShardOutcome};
use std::time::Duration;
use tokio::time::Instant;

/// Attempts at one call: its budget of retries.
pub(crate) const ATTEMPTS_MAX: u32 = 256;
/// Between attempts at one call.
const PAUSES: Pauses = Pauses { min: Duration::from_millis(10), max: Duration::from_millis(100) };
/// Redirects of one call that cost no pause.
const REDIRECTS_AT_ONCE: u32 = 3;
/// How long the first attempt may take before the node counts as lost; doubles with each one that took so long, since
/// a busy leader is not helped by repeats.
const PATIENCE: Duration = Duration::from_secs(2);

/// The result of an attempt.
pub(crate) type AttemptResult = Result<ShardOutcome, CallError>;

/// What to do after an attempt.
#[derive(Debug, PartialEq, Eq)]
#[allow(clippy::large_enum_variant)] // a value is moved once or twice, never kept in number
pub(crate) enum Verdict {
    /// The caller's answer.
    Done(Result<ShardOutcome, Refusal>),
    /// Try again; why is for metrics.
    Again(&'static str),
}

/// A call's history.
#[derive(Debug, Clone)]
pub(crate) struct Effort {
    deadline: Instant,
    has_effects: bool,
    may_have_had_effects: bool,
    attempts: u32,
    redirects: u32,
    /// Attempts that failed otherwise.
    strikes: u32,
    /// Attempts that took as long as they might.
    lost_patience: u32,
    /// Until when the attempt under way may take, and whether the caller's deadline is what ends it.
    until: Option<(Instant, bool)>,
    not_before: Option<Instant>,
    refusal: Option<Refusal>,
}

impl Effort {
    /// A call not yet tried.
    pub(crate) fn new(call: &ShardCall, deadline: Instant) -> Self {
        let has_effects = match call {
            ShardCall::Command(_) | ShardCall::Session(_) => true,
            ShardCall::Query(_) | ShardCall::Presence(_) => false,
        };
        Self {
            deadline,
            has_effects,
            may_have_had_effects: false,
            attempts: 0,
            redirects: 0,
            strikes: 0,
            lost_patience: 0,
            until: None,
            not_before: None,
            refusal: None,
        }
    }

    /// The caller's deadline.
    pub(crate) fn deadline(&self) -> Instant {
        self.deadline
    }

    /// Begins an attempt, and says until when it may take; `None` when the call has had its chances.
    pub(crate) fn begin(&mut self, now: Instant) -> Option<Instant> {
        if now >= self.deadline || self.attempts >= ATTEMPTS_MAX {
            return None;
        }
        self.attempts += 1;
        let patience = PATIENCE.saturating_mul(1 << self.lost_patience.min(8));
        let until = self.deadline.min(now + patience);
        self.until = Some((until, until < now + patience));
        Some(until)
    }

    /// When the next attempt may begin, if it has to wait.
    pub(crate) fn not_before(&self) -> Option<Instant> {
        self.not_before
    }

    /// Judges an attempt's result, and says what it teaches about the shard's leader.
    pub(crate) fn judge(&mut self, result: AttemptResult, now: Instant, jitter: f64) -> (Verdict, Lesson) {
        self.not_before = None;
        let (why, lesson) = match result {
            Ok(
                outcome @ (ShardOutcome::Reply(_)
                | ShardOutcome::Answer(_)
                | ShardOutcome::Session(_)
                | ShardOutcome::Presence(_)),
            ) => {
                return (Verdict::Done(Ok(outcome)), Lesson::Leads);
            }
            Ok(ShardOutcome::Refused(refusal)) => match self.weigh(refusal) {
                Ok(again) => again,
                Err((refusal, lesson)) => return (Verdict::Done(Err(refusal)), lesson),
            },
            Ok(ShardOutcome::Redirect(redirect)) => {
                if redirect.leader.is_some() && self.redirects < REDIRECTS_AT_ONCE {
                    self.redirects += 1;
                    return (Verdict::Again("redirect"), Lesson::Redirects(redirect.leader));
                }
                ("redirect", Lesson::Redirects(redirect.leader))
            }
            Err(CallError::NotSent(_)) => ("not_sent", Lesson::Unreachable),
            Err(CallError::Lost(_)) => {
                self.may_have_had_effects = true;
                let lesson = match self.until {
                    // The caller was in a hurry; the node is not to blame.
                    Some((until, true)) if now >= until => Lesson::Nothing,
                    Some((until, false)) if now >= until => {
                        self.lost_patience += 1;
                        Lesson::Unreachable
                    }
                    _ => Lesson::Unreachable,
                };
                ("lost", lesson)
            }
        };
        if let Some(nth) = self.strikes.checked_sub(1) {
            self.not_before = Some(now + PAUSES.nth(nth, jitter));
        }
        self.strikes += 1;
        (Verdict::Again(why), lesson)
    }

    /// A refusal to try again after, or one that is final.
    fn weigh(&mut self, refusal: Refusal) -> Result<(&'static str, Lesson), (Refusal, Lesson)> {
        match refusal.code {
            ErrorCode::Unavailable => {
                self.refusal = Some(refusal);
                Ok(("unavailable", Lesson::Redirects(None)))
            }
            ErrorCode::OutcomeUnknown => {
                self.may_have_had_effects = true;
                Ok(("outcome_unknown", Lesson::Nothing))
            }
            // Nothing was done this time, but perhaps before: the caller may not hear that nothing was.
            ErrorCode::Overloaded if self.has_effects && self.may_have_had_effects => {
                Ok(("overloaded", Lesson::Nothing))
            }
            ErrorCode::Overloaded | ErrorCode::Internal => Err((refusal, Lesson::Nothing)),
            // Decided by the rules of the shard, which its leader alone applies.
            _ => Err((refusal, Lesson::Leads)),
        }
    }

    /// What to tell the caller of a call without an outcome.
    pub(crate) fn give_up(self) -> Refusal {
        if self.has_effects && self.may_have_had_effects {
            return Refusal::new(ErrorCode::OutcomeUnknown, "no answer came in time; the request may have been done");
        }
        let refusal = self.refusal.filter(|refusal| refusal.code == ErrorCode::Unavailable);
        refusal.unwrap_or_else(|| Refusal::new(ErrorCode::Unavailable, "no leader took the request in time"))
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unnecessary_wraps)] // scripted outcomes have the type of real ones

    use super::*;
    use messenger_proto::command::{Command, IndexMembership, Op, Retention};
    use messenger_proto::ids::{CommandId, NodeId, Seq, ThreadId, UserId};
    use messenger_proto::query::{ClusterStateQuery, Query};
    use messenger_proto::rpc::Redirect;
    use proptest::prelude::*;

    fn command() -> ShardCall {
        ShardCall::Command(Command {
            id: CommandId([1; 16]),
            retention: Retention::Minted,
            body_hash: 0,
            op: Op::IndexMembership(IndexMembership {
                user: UserId::new("alice").unwrap(),
                thread: ThreadId([2; 16]),
                source_seq: Seq(1),
                present: true,
            }),
        })
    }

    fn query() -> ShardCall {
        ShardCall::Query(Query::ClusterState(ClusterStateQuery {}))
    }

    fn refused(code: ErrorCode) -> AttemptResult {
        Ok(ShardOutcome::Refused(Refusal::new(code, "as told")))
    }

    fn result(kind: u8) -> AttemptResult {
        match kind {
            0 => Err(CallError::NotSent(String::new())),
            1 => Err(CallError::Lost(String::new())),
            2 => Ok(ShardOutcome::Redirect(Redirect { leader: None })),
            3 => Ok(ShardOutcome::Redirect(Redirect { leader: Some(NodeId(1)) })),
            4 => refused(ErrorCode::Unavailable),
            5 => refused(ErrorCode::OutcomeUnknown),
            _ => refused(ErrorCode::Overloaded),
        }
    }

    #[test]
    fn the_shards_own_refusals_are_final() {
        let now = Instant::now();
        for &code in ErrorCode::ALL {
            let mut effort = Effort::new(&command(), now + PATIENCE);
            let (verdict, _) = effort.judge(refused(code), now, 0.5);
            let again = matches!(code, ErrorCode::Unavailable | ErrorCode::OutcomeUnknown);
            assert_eq!(matches!(verdict, Verdict::Again(_)), again, "{code:?}");
        }
    }

    #[test]
    fn patience_grows_up_to_the_deadline() {
        let now = Instant::now();
        let mut effort = Effort::new(&query(), now + PATIENCE * 3);
        assert_eq!(effort.begin(now), Some(now + PATIENCE));
        assert_eq!(effort.judge(result(1), now + PATIENCE, 0.5).1, Lesson::Unreachable);
        assert_eq!(effort.begin(now), Some(now + PATIENCE * 2));
        effort.judge(result(1), now + PATIENCE * 2, 0.5);
        assert_eq!(effort.begin(now), Some(now + PATIENCE * 3));
        assert_eq!(effort.judge(result(1), now + PATIENCE * 3, 0.5).1, Lesson::Nothing, "cut short by the caller");
        assert_eq!(effort.begin(now + PATIENCE * 3), None);
    }

    #[test]
    fn attempts_are_bounded() {
        let now = Instant::now();
        let mut effort = Effort::new(&query(), now + PATIENCE);
        for _ in 0..ATTEMPTS_MAX {
            assert!(effort.begin(now).is_some());
            effort.judge(result(0), now, 0.5);
        }
        assert_eq!(effort.begin(now), None);
        assert_eq!(effort.give_up().code, ErrorCode::Unavailable);
    }

    proptest! {
        /// The heart of the contract: `unavailable` and `overloaded` promise that nothing was done.
        #[test]
        fn a_call_that_may_have_had_effects_is_never_said_to_have_none(kinds in prop::collection::vec(0_u8..7, 1..20)) {
            let now = Instant::now();
            let mut effort = Effort::new(&command(), now + PATIENCE);
            let mut unknown = false;
            for &kind in &kinds {
                unknown |= matches!(kind, 1 | 5);
                match effort.judge(result(kind), now, 0.5).0 {
                    Verdict::Again(_) => {}
                    Verdict::Done(done) => {
                        prop_assert_eq!(done.unwrap_err().code, ErrorCode::Overloaded);
                        prop_assert!(!unknown);
                        return Ok(());
                    }
                }
            }
            let expected = if unknown { ErrorCode::OutcomeUnknown } else { ErrorCode::Unavailable };
            prop_assert_eq!(effort.give_up().code, expected);
        }

        #[test]
        fn a_query_has_no_effects(kinds in prop::collection::vec(0_u8..6, 1..20)) {
            let now = Instant::now();
            let mut effort = Effort::new(&query(), now + PATIENCE);
            for &kind in &kinds {
                prop_assert!(matches!(effort.judge(result(kind), now, 0.5).0, Verdict::Again(_)));
            }
            prop_assert_eq!(effort.give_up().code, ErrorCode::Unavailable);
        }

        #[test]
        fn all_but_a_few_attempts_wait(kinds in prop::collection::vec(0_u8..6, 30)) {
            let now = Instant::now();
            let mut effort = Effort::new(&query(), now + PATIENCE);
            let mut at_once = 0;
            for &kind in &kinds {
                effort.judge(result(kind), now, 0.5);
                match effort.not_before() {
                    None => at_once += 1,
                    Some(then) => prop_assert!(then > now && then <= now + PAUSES.max),
                }
            }
            prop_assert!(at_once <= 1 + REDIRECTS_AT_ONCE);
        }
    }
}
