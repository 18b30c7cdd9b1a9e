//! What answers say about limits.
//!
//! Owns: `RateLimit` and `RateLimit-Policy` (draft-ietf-httpapi-ratelimit-headers, structured fields of RFC 9651), and the
//! older `X-RateLimit-*`.
//! Must not know: why a limit is what it is.
//! Invariants: the policy names every limit of the route's class; the rest is about the one with the least left.

use super::Rule;
use super::bucket::Verdict;
use axum::http::{HeaderMap, HeaderName, HeaderValue};
use messenger_proto::ids::Millis;
use std::fmt::Write;

static RATE_LIMIT: HeaderName = HeaderName::from_static("ratelimit");
static RATE_LIMIT_POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
static LIMIT: HeaderName = HeaderName::from_static("x-ratelimit-limit");
static REMAINING: HeaderName = HeaderName::from_static("x-ratelimit-remaining");
static RESET: HeaderName = HeaderName::from_static("x-ratelimit-reset");
static WINDOW: HeaderName = HeaderName::from_static("x-ratelimit-window");

/// Where a caller stands after a request.
#[derive(Debug, Clone)]
pub struct Standing {
    rule: Rule,
    remaining: u32,
    full_in_ms: u64,
    now: Millis,
    policy: Option<HeaderValue>,
}

impl Standing {
    pub(super) fn new(rule: Rule, verdict: Verdict, policy: Option<HeaderValue>, now: Millis) -> Self {
        let Verdict { remaining, full_in_ms, .. } = verdict;
        Self { rule, remaining, full_in_ms, now, policy }
    }

    /// The one of two of the same request that has less left.
    #[must_use]
    pub fn tighter(one: Option<Self>, other: Option<Self>) -> Option<Self> {
        match (one, other) {
            (Some(one), Some(other)) if other.remaining < one.remaining => Some(other),
            (one, other) => one.or(other),
        }
    }

    /// Says so in an answer's headers.
    pub fn set_headers(self, headers: &mut HeaderMap) {
        let (quota, reset_s) = (self.rule.quota, self.full_in_ms.div_ceil(1_000));
        let item = format!("{};r={};t={reset_s}", self.rule.item(), self.remaining);
        headers.extend(HeaderValue::try_from(item).ok().map(|item| (RATE_LIMIT.clone(), item)));
        headers.extend(self.policy.map(|policy| (RATE_LIMIT_POLICY.clone(), policy)));
        headers.insert(&LIMIT, quota.tokens().into());
        headers.insert(&REMAINING, self.remaining.into());
        headers.insert(&RESET, (self.now.0.saturating_add(self.full_in_ms)).div_ceil(1_000).into());
        headers.insert(&WINDOW, quota.window_s().into());
    }
}

impl Rule {
    /// Its name as a string of a structured field.
    fn item(&self) -> String {
        format!("\"{}-{}\"", self.class.name(), self.scope.name())
    }
}

/// What `RateLimit-Policy` says of a class's limits; nothing if there are none.
pub(super) fn policy(rules: impl Iterator<Item = Rule>) -> Option<HeaderValue> {
    let mut list = String::new();
    for rule in rules {
        let comma = if list.is_empty() { "" } else { ", " };
        // Writing to a string does not fail.
        let _ = write!(list, "{comma}{};q={};w={}", rule.item(), rule.quota.tokens(), rule.quota.window_s());
    }
    HeaderValue::try_from(list).ok().filter(|list| !list.is_empty())
}

#[cfg(test)]
mod tests {
    use super::super::bucket::Quota;
    use super::super::{Class, Scope};
    use super::*;

    fn rule(scope: Scope, tokens: u32) -> Rule {
        Rule { class: Class::KeyFetches, scope, quota: Quota::new(tokens, 60).unwrap() }
    }

    #[test]
    fn the_fields_are_spelled_as_the_draft_has_them() {
        let rules = [rule(Scope::User, 100), rule(Scope::Target, 5)];
        let policy = policy(rules.into_iter());
        let verdict = Verdict { granted: true, remaining: 4, full_in_ms: 11_001, wait_ms: 0 };
        let mut headers = HeaderMap::new();
        Standing::new(rules[1], verdict, policy, Millis(1_000_000_000)).set_headers(&mut headers);
        let expected = [
            ("ratelimit", r#""key-fetches-target";r=4;t=12"#),
            ("ratelimit-policy", r#""key-fetches-user";q=100;w=60, "key-fetches-target";q=5;w=60"#),
            ("x-ratelimit-limit", "5"),
            ("x-ratelimit-remaining", "4"),
            ("x-ratelimit-reset", "1000012"),
            ("x-ratelimit-window", "60"),
        ];
        assert_eq!(headers.len(), expected.len());
        for (name, value) in expected {
            assert_eq!(headers[name], value, "{name}");
        }
        assert_eq!(super::policy(std::iter::empty()), None);
        assert_eq!(
            [
                super::super::seconds(0),
                super::super::seconds(1),
                super::super::seconds(1_000),
                super::super::seconds(1_001)
            ],
            [1, 1, 1, 2]
        );
    }
}
