//! How much clients may ask of this node.
//!
//! Owns: the limits in force, whom a request counts for, and what is said about it in headers.
//! Must not know: routes and frames, nor where the configuration was read.
//! Invariants: each node counts for itself. A request is charged to its address before anyone is believed, and then to its
//! user and device; one that is refused for its device costs its user nothing. Whatever is configured anew is in force
//! for the next request, with full buckets, and with memory of the same bound.

pub mod address;
mod book;
pub mod bucket;
mod fields;

pub use fields::Standing;

use crate::api::error::ApiError;
use crate::auth::{AuthError, Authenticator, Clock, Identity};
use crate::config::{ClassLimits, ProxiesConfig, RateLimitsConfig};
use crate::metric_names as names;
use arc_swap::ArcSwap;
use axum::http::{HeaderMap, HeaderValue};
use book::{Book, Key};
use bucket::{Quota, Verdict};
use messenger_proto::ids::UserId;
use std::net::IpAddr;
use std::sync::Arc;
use xxhash_rust::xxh3::xxh3_128_with_seed;

/// What kind of request counts towards a limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// A message.
    Sends,
    /// Any other change.
    Writes,
    /// A request that changes nothing, or a socket.
    Reads,
    /// A thread made, or participants invited.
    Threads,
    /// A fetch of another user's keys.
    KeyFetches,
    /// Something reported to the operators.
    Reports,
}

impl Class {
    const ALL: [Self; 6] = [Self::Sends, Self::Writes, Self::Reads, Self::Threads, Self::KeyFetches, Self::Reports];

    fn name(self) -> &'static str {
        match self {
            Self::Sends => "sends",
            Self::Writes => "writes",
            Self::Reads => "reads",
            Self::Threads => "threads",
            Self::KeyFetches => "key-fetches",
            Self::Reports => "reports",
        }
    }
}

/// Whom a limit is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Scope {
    User,
    Device,
    Address,
    Target,
}

impl Scope {
    const ALL: [Self; 4] = [Self::User, Self::Device, Self::Address, Self::Target];

    fn name(self) -> &'static str {
        match self {
            Self::User => "user",
            Self::Device => "device",
            Self::Address => "address",
            Self::Target => "target",
        }
    }
}

/// One limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Rule {
    class: Class,
    scope: Scope,
    quota: Quota,
}

/// The limits in force and the buckets that go with them.
#[derive(Debug)]
struct Rules {
    /// By class, then scope.
    quotas: [[Option<Quota>; 4]; 6],
    /// What `RateLimit-Policy` says, by class.
    policies: [Option<HeaderValue>; 6],
    failed_auth: Option<Quota>,
    proxies: ProxiesConfig,
    users: Book,
    devices: Book,
    addresses: Book,
}

impl Rules {
    fn new(limits: &RateLimitsConfig, proxies: &ProxiesConfig) -> Self {
        let keys = &limits.key_fetches;
        let row = |limits: &ClassLimits, per_target: u32| {
            let ClassLimits { window_s, per_user, per_device, per_address } = *limits;
            [per_user, per_device, per_address, per_target].map(|tokens| Quota::new(tokens, window_s))
        };
        let key_row = |per_target| row(&keys.by_class(), per_target);
        let quotas = Class::ALL.map(|class| match class {
            Class::Sends => row(&limits.sends, 0),
            Class::Writes => row(&limits.writes, 0),
            Class::Reads => row(&limits.reads, 0),
            Class::Threads => row(&limits.threads, 0),
            Class::KeyFetches => key_row(keys.per_target),
            Class::Reports => row(&limits.reports, 0),
        });
        let mut rules = Self {
            quotas,
            policies: Default::default(),
            failed_auth: Quota::new(limits.failed_auth.per_address, limits.failed_auth.window_s),
            proxies: proxies.clone(),
            users: Book::new(limits.remembered_keys),
            devices: Book::new(limits.remembered_keys),
            addresses: Book::new(limits.remembered_keys),
        };
        rules.policies =
            Class::ALL.map(|class| fields::policy(Scope::ALL.into_iter().filter_map(|scope| rules.rule(class, scope))));
        rules
    }

    fn rule(&self, class: Class, scope: Scope) -> Option<Rule> {
        let quota = self.quotas[class as usize][scope as usize]?;
        Some(Rule { class, scope, quota })
    }

    fn book(&self, scope: Scope) -> &Book {
        match scope {
            Scope::User | Scope::Target => &self.users,
            Scope::Device => &self.devices,
            Scope::Address => &self.addresses,
        }
    }
}

/// What came of charging a request.
#[derive(Debug)]
pub struct Charged {
    /// Where its caller stands, if anything limits it.
    pub standing: Option<Standing>,
    /// Whether it may go on.
    pub outcome: Result<(), ApiError>,
}

/// The limits of a node; a cheap handle to clone.
#[derive(Clone)]
pub struct Rates(Arc<Inner>);

struct Inner {
    rules: ArcSwap<Rules>,
    clock: Clock,
    /// Nobody outside can choose keys that meet.
    seed: u64,
}

impl Rates {
    /// These limits, by this clock.
    #[must_use]
    pub fn new(limits: &RateLimitsConfig, proxies: &ProxiesConfig, clock: Clock) -> Self {
        let rules = ArcSwap::from_pointee(Rules::new(limits, proxies));
        Self(Arc::new(Inner { rules, clock, seed: rand::random() }))
    }

    /// Other limits from now on, with full buckets.
    pub fn replace(&self, limits: &RateLimitsConfig, proxies: &ProxiesConfig) {
        self.0.rules.store(Arc::new(Rules::new(limits, proxies)));
    }

    /// Where a request comes from.
    #[must_use]
    pub fn client_address(&self, peer: Option<IpAddr>, headers: &HeaderMap) -> Option<IpAddr> {
        let rules = self.0.rules.load();
        peer.map(|peer| address::client_address(peer, headers, &rules.proxies))
    }

    /// Charges a request to where it comes from.
    #[must_use]
    pub fn charge_address(&self, class: Class, address: Option<IpAddr>) -> Charged {
        let rules = self.0.rules.load();
        let rule =
            address.and_then(|address| Some((rules.rule(class, Scope::Address)?, self.address_key(class, address))));
        self.charge(&rules, class, rule.into_iter())
    }

    /// Charges a request or frame to who asks.
    #[must_use]
    pub fn charge_identity(&self, class: Class, identity: &Identity) -> Charged {
        let rules = self.0.rules.load();
        let user = self.key(class, Scope::User, identity.user.as_str().as_bytes(), 0);
        let device = self.key(class, Scope::Device, identity.device.as_str().as_bytes(), user as u64);
        let pairs = [(rules.rule(class, Scope::User), user), (rules.rule(class, Scope::Device), device)];
        self.charge(&rules, class, pairs.into_iter().filter_map(|(rule, key)| Some((rule?, key))))
    }

    /// Charges a fetch of a user's keys to the pair of who asks and whose they are; beside what it costs the former.
    #[must_use]
    pub fn charge_target(&self, identity: &Identity, target: &UserId) -> Charged {
        let (rules, class) = (self.0.rules.load(), Class::KeyFetches);
        let user = self.key(class, Scope::User, identity.user.as_str().as_bytes(), 0);
        let pair = self.key(class, Scope::Target, target.as_str().as_bytes(), user as u64);
        let rule = rules.rule(class, Scope::Target).map(|rule| (rule, pair));
        self.charge(&rules, class, rule.into_iter())
    }

    /// Whose token it is. An address from which too many came that were not believed is only heard with tokens that were
    /// believed before, so that it costs no more signature checks.
    ///
    /// # Errors
    /// Why it is not believed, or not looked at.
    pub fn authenticate(
        &self,
        authenticator: &Authenticator,
        token: Result<&str, AuthError>,
        address: Option<IpAddr>,
    ) -> Result<Arc<Identity>, ApiError> {
        let token = token?;
        if let Some(identity) = authenticator.recall(token) {
            return Ok(identity);
        }
        let rules = self.0.rules.load();
        let limit = rules.failed_auth.zip(address).map(|(quota, address)| (quota, self.failures_key(address)));
        let Some((quota, key)) = limit else { return Ok(authenticator.verify(token)?) };
        let now = (self.0.clock)();
        let verdict = rules.addresses.look(key, quota, now);
        if !verdict.granted {
            refused("failed-auth", Scope::Address.name());
            return Err(refusal("Too many tokens from this address were refused", verdict));
        }
        authenticator.verify(token).map_err(|error| {
            rules.addresses.take(key, quota, now);
            error.into()
        })
    }

    /// Takes a token from each bucket, or from none.
    fn charge(&self, rules: &Rules, class: Class, limits: impl Iterator<Item = (Rule, Key)>) -> Charged {
        let now = (self.0.clock)();
        let policy = || rules.policies[class as usize].clone();
        let mut tightest: Option<(Rule, Verdict)> = None;
        let mut taken: [Option<(Rule, Key)>; 2] = [None; 2];
        for (rule, key) in limits {
            let verdict = rules.book(rule.scope).take(key, rule.quota, now);
            if !verdict.granted {
                for (rule, key) in taken.into_iter().flatten() {
                    rules.book(rule.scope).give_back(key, rule.quota);
                }
                refused(class.name(), rule.scope.name());
                let what = format!("Too many {} by this {}", class.name().replace('-', " "), rule.scope.name());
                let standing = Standing::new(rule, verdict, policy(), now);
                return Charged { standing: Some(standing), outcome: Err(refusal(&what, verdict)) };
            }
            if let Some(free) = taken.iter_mut().find(|taken| taken.is_none()) {
                *free = Some((rule, key));
            }
            if tightest.is_none_or(|(_, least)| verdict.remaining < least.remaining) {
                tightest = Some((rule, verdict));
            }
        }
        let standing = tightest.map(|(rule, verdict)| Standing::new(rule, verdict, policy(), now));
        Charged { standing, outcome: Ok(()) }
    }

    fn key(&self, class: Class, scope: Scope, name: &[u8], more: u64) -> Key {
        let tag = (class as u64) << 8 | scope as u64;
        xxh3_128_with_seed(name, self.0.seed ^ more.rotate_left(16) ^ tag)
    }

    fn address_key(&self, class: Class, address: IpAddr) -> Key {
        self.key(class, Scope::Address, &network_of(address), 0)
    }

    fn failures_key(&self, address: IpAddr) -> Key {
        self.key(Class::Reads, Scope::Address, &network_of(address), u64::MAX)
    }
}

/// Counts a request that is turned away, by what there was too much of, and by whom.
fn refused(class: &'static str, scope: &'static str) {
    metrics::counter!(names::RATE_LIMITED, names::CLASS => class, names::SCOPE => scope).increment(1);
}

/// What of an address counts: of IPv6 the network, all of which one host can have.
fn network_of(address: IpAddr) -> [u8; 8] {
    match address.to_canonical() {
        IpAddr::V4(address) => u64::from(address.to_bits()).to_be_bytes(),
        IpAddr::V6(address) => ((address.to_bits() >> 64) as u64).to_be_bytes(),
    }
}

/// Whole seconds, rounded up, at least one.
fn seconds(ms: u64) -> u32 {
    u32::try_from(ms.div_ceil(1_000).max(1)).unwrap_or(u32::MAX)
}

fn refusal(what: &str, verdict: Verdict) -> ApiError {
    let wait_s = seconds(verdict.wait_ms);
    ApiError::rate_limited(format!("{what}; try again in {wait_s} s."), wait_s)
}

#[cfg(test)]
mod tests;
