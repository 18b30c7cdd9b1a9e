//! The limits as requests meet them.

use super::*;
use crate::auth::Scopes;
use crate::config::FailedAuthLimits;
use crate::testing::keys;
use messenger_proto::error::ErrorCode;
use messenger_proto::ids::{DeviceId, Millis};
use std::sync::atomic::{AtomicU64, Ordering};

struct World {
    rates: Rates,
    clock: Arc<AtomicU64>,
}

fn class(per_user: u32, per_device: u32, per_address: u32) -> ClassLimits {
    ClassLimits { window_s: 10, per_user, per_device, per_address }
}

fn unlimited() -> RateLimitsConfig {
    let none = class(0, 0, 0);
    let mut limits =
        RateLimitsConfig { sends: none, writes: none, reads: none, threads: none, ..RateLimitsConfig::never_met() };
    limits.failed_auth.per_address = 0;
    limits
}

fn world(limits: &RateLimitsConfig) -> World {
    let clock = Arc::new(AtomicU64::new(1_000_000));
    let read = Arc::clone(&clock);
    let rates = Rates::new(limits, &ProxiesConfig::default(), Arc::new(move || Millis(read.load(Ordering::SeqCst))));
    World { rates, clock }
}

fn identity(user: &str, device: &str) -> Identity {
    Identity {
        user: UserId::new(user).unwrap(),
        device: DeviceId::new(device).unwrap(),
        scopes: Scopes::ALL,
        issued_at: Millis(0),
        expires_at: Millis(u64::MAX),
    }
}

fn passes(charged: &Charged) -> bool {
    match &charged.outcome {
        Ok(()) => true,
        Err(error) => {
            assert_eq!(error.code(), ErrorCode::RateLimited);
            false
        }
    }
}

impl World {
    fn sends(&self, user: &str, device: &str) -> bool {
        passes(&self.rates.charge_identity(Class::Sends, &identity(user, device)))
    }

    fn comes(&self, address: &str) -> bool {
        passes(&self.rates.charge_address(Class::Reads, Some(address.parse().unwrap())))
    }
}

#[test]
fn users_and_devices_have_limits_of_their_own() {
    let world = world(&RateLimitsConfig { sends: class(3, 2, 0), ..unlimited() });
    assert_eq!([world.sends("a", "1"), world.sends("a", "1"), world.sends("a", "1")], [true, true, false]);
    // What the device was refused cost the user nothing; a device of the same name is another one.
    assert_eq!([world.sends("a", "2"), world.sends("a", "2")], [true, false]);
    assert!(world.sends("b", "1") && world.sends("b", "1"));
    let other = world.rates.charge_identity(Class::Writes, &identity("a", "1"));
    assert!(other.standing.is_none() && other.outcome.is_ok(), "another class, without limits");
    world.clock.fetch_add(10_000, Ordering::SeqCst);
    assert!(world.sends("a", "1"));
}

#[test]
fn addresses_are_counted_by_network() {
    let world = world(&RateLimitsConfig { reads: class(0, 0, 1), ..unlimited() });
    assert_eq!([world.comes("10.0.0.1"), world.comes("::ffff:10.0.0.1"), world.comes("10.0.0.2")], [true, false, true]);
    assert_eq!(
        [world.comes("2001:db8::1"), world.comes("2001:db8::2"), world.comes("2001:db8:0:1::1")],
        [true, false, true]
    );
    let unknown = world.rates.charge_address(Class::Reads, None);
    assert!(unknown.outcome.is_ok() && unknown.standing.is_none());
}

#[test]
fn keys_of_one_target_are_limited_for_one_requester() {
    let mut limits = unlimited();
    limits.key_fetches.per_target = 1;
    let world = world(&limits);
    let fetch = |user: &str, target: &str| {
        passes(&world.rates.charge_target(&identity(user, "1"), &UserId::new(target).unwrap()))
    };
    assert_eq!([fetch("a", "b"), fetch("a", "b"), fetch("a", "c"), fetch("b", "b")], [true, false, true, true]);
}

#[test]
fn the_tightest_limit_is_told() {
    let world = world(&RateLimitsConfig { sends: class(100, 2, 0), ..unlimited() });
    let mut headers = HeaderMap::new();
    let charged = world.rates.charge_identity(Class::Sends, &identity("a", "1"));
    charged.standing.unwrap().set_headers(&mut headers);
    assert_eq!(headers["ratelimit"], r#""sends-device";r=1;t=5"#);
    assert_eq!(headers["ratelimit-policy"], r#""sends-user";q=100;w=10, "sends-device";q=2;w=10"#);
}

#[test]
fn new_limits_are_in_force_at_once() {
    let world = world(&RateLimitsConfig { sends: class(1, 0, 0), ..unlimited() });
    assert_eq!([world.sends("a", "1"), world.sends("a", "1")], [true, false]);
    world.rates.replace(&RateLimitsConfig { sends: class(2, 0, 0), ..unlimited() }, &ProxiesConfig::default());
    assert_eq!([world.sends("a", "1"), world.sends("a", "1"), world.sends("a", "1")], [true, true, false]);
    world.rates.replace(&unlimited(), &ProxiesConfig::default());
    assert!(world.sends("a", "1"));
}

#[test]
fn an_address_may_only_fail_so_often() {
    let limits = RateLimitsConfig { failed_auth: FailedAuthLimits { window_s: 10, per_address: 2 }, ..unlimited() };
    let world = world(&limits);
    let (key, known) = keys();
    let clock = Arc::clone(&world.clock);
    let authenticator = Authenticator::new(known, Arc::new(move || Millis(clock.load(Ordering::SeqCst))));
    let token = |user: &str| {
        let grant = crate::auth::Grant {
            user: UserId::new(user).unwrap(),
            device: DeviceId::new("1").unwrap(),
            scopes: Scopes::ALL,
            lifetime: std::time::Duration::from_hours(1),
        };
        key.mint(&grant, Millis(1_000_000)).unwrap()
    };
    let (known, new) = (token("a"), token("b"));
    let ask = |token: &str, from: &str| {
        let outcome = world.rates.authenticate(&authenticator, Ok(token), Some(from.parse().unwrap()));
        outcome.map(|identity| identity.user.as_str().to_owned()).map_err(|error| error.code())
    };
    assert_eq!(ask(&known, "10.0.0.1"), Ok("a".to_owned()));
    assert_eq!(ask("forged", "10.0.0.1"), Err(ErrorCode::Unauthenticated));
    assert_eq!(ask("forged", "10.0.0.1"), Err(ErrorCode::Unauthenticated));
    for token in ["forged", &new] {
        assert_eq!(ask(token, "10.0.0.1"), Err(ErrorCode::RateLimited), "not looked at any more");
    }
    assert_eq!(ask(&known, "10.0.0.1"), Ok("a".to_owned()), "it was believed before");
    assert_eq!(ask(&new, "10.0.0.2"), Ok("b".to_owned()));
    assert_eq!(ask("forged", "10.0.0.2"), Err(ErrorCode::Unauthenticated));
    world.clock.fetch_add(5_000, Ordering::SeqCst);
    assert_eq!(ask("forged", "10.0.0.1"), Err(ErrorCode::Unauthenticated), "one came back");
    let none = world.rates.authenticate(&authenticator, Err(AuthError::Missing), Some("10.0.0.1".parse().unwrap()));
    assert_eq!(none.unwrap_err().code(), ErrorCode::Unauthenticated, "no token is no guess");
}
