//! Tokens of devices that were deleted, and of users and devices that are suspended.
//!
//! Owns: what this node knows of deletions and suspensions, and when it asks again.
//! Must not know: what either is; the user's shard does.
//! Invariants: a device that is known to be deleted stays so; that one is not, or that one is suspended, is believed for
//! [`FRESH`] and then asked anew. The node that carries a change out tells the others before it answers, but waits no longer
//! than [`TELLING`]: one that was not reached has it in force within [`FRESH`] and one question. What is remembered is
//! bounded. While a user's shard does not answer, its devices go on as they were: what they write needs some shard all the
//! same, and one without a leader is to stop nobody else's work.

use crate::auth::{AuthError, Identity};
use lru::LruCache;
use messenger_proto::ids::{DeviceId, Millis, UserId};
use messenger_proto::keys::DeviceStatusQuery;
use messenger_proto::query::{Answer, Query};
use messenger_proto::rpc::{ForgetDevice, ForgetUser};
use messenger_proto::slot::Slot;
use messenger_router::Router;
use std::num::NonZeroUsize;
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::time::Instant;

/// How long an answer is believed.
const FRESH: Duration = Duration::from_secs(1);
/// How long one question may take.
const DEADLINE: Duration = Duration::from_millis(300);
/// How long telling the other nodes may take.
const TELLING: Duration = Duration::from_millis(300);
/// Devices remembered at most.
const REMEMBERED: NonZeroUsize = NonZeroUsize::new(16_384).expect("not zero");

#[derive(Debug, Clone, Copy)]
struct Known {
    asked: Instant,
    revoked_at: Option<Millis>,
    suspended: bool,
}

#[derive(Debug)]
struct Devices {
    known: LruCache<(UserId, DeviceId), Known>,
    /// How often something was forgotten: an answer that was under way then is not kept.
    forgotten: u64,
}

/// What a node knows of deleted and suspended devices; a cheap handle to clone.
#[derive(Clone)]
pub struct Revocations(Arc<Inner>);

/// The other nodes of the cluster.
pub trait Peers: Send + Sync + 'static {
    /// Has them ask again whether a device was deleted; returns once they know, or can't be reached.
    fn forget_device(&self, device: ForgetDevice) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
    /// Has them ask again how any device of a user stands; returns once they know, or can't be reached.
    fn forget_user(&self, user: ForgetUser) -> Pin<Box<dyn Future<Output = ()> + Send + '_>>;
}

struct Inner {
    router: Router,
    peers: Option<Arc<dyn Peers>>,
    known: Mutex<Devices>,
}

impl Revocations {
    /// Knows nothing yet, and asks by this way.
    #[must_use]
    pub fn new(router: Router) -> Self {
        Self::of(router, None)
    }

    /// The same, knowing nothing, and telling other nodes of deletions.
    #[must_use]
    pub fn with_peers(self, peers: Arc<dyn Peers>) -> Self {
        Self::of(self.0.router.clone(), Some(peers))
    }

    fn of(router: Router, peers: Option<Arc<dyn Peers>>) -> Self {
        let devices = Devices { known: LruCache::new(REMEMBERED), forgotten: 0 };
        Self(Arc::new(Inner { router, peers, known: Mutex::new(devices) }))
    }

    fn lock(&self) -> MutexGuard<'_, Devices> {
        self.0.known.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a verified token still counts.
    ///
    /// # Errors
    /// [`AuthError::Revoked`] when its device was deleted since it was issued, [`AuthError::Suspended`] while it or its user
    /// is suspended.
    pub async fn check(&self, identity: &Identity) -> Result<(), AuthError> {
        let key = (identity.user.clone(), identity.device.clone());
        let now = Instant::now();
        let (known, forgotten) = {
            let mut devices = self.lock();
            let known = devices.known.get_mut(&key).map(|known| {
                let before = *known;
                // One of many requests asks, the others go by what is known.
                if now.duration_since(before.asked) >= FRESH {
                    known.asked = now;
                }
                before
            });
            (known, devices.forgotten)
        };
        if let Some(known) = known {
            refuse_if(known.revoked_at, identity)?;
            if now.duration_since(known.asked) < FRESH {
                return allow_unless(known.suspended);
            }
        }
        let query = DeviceStatusQuery { user: identity.user.clone(), device: identity.device.clone() };
        let slot = Slot::of_user(&identity.user);
        let before = known.map_or((None, false), |known| (known.revoked_at, known.suspended));
        let (revoked_at, suspended) = match self.0.router.query(slot, Query::DeviceStatus(query), now + DEADLINE).await
        {
            Ok(Answer::DeviceStatus(status)) => (before.0.max(status.revoked_at), status.suspended),
            other => {
                tracing::debug!(?other, "it is not known how a device stands");
                before
            }
        };
        self.note(key, Known { asked: now, revoked_at, suspended }, forgotten);
        refuse_if(revoked_at, identity)?;
        allow_unless(suspended)
    }

    /// Keeps an answer, unless something was forgotten while it was under way: then no more of it than that a device was
    /// deleted, which stays so, to be asked again at once.
    fn note(&self, key: (UserId, DeviceId), answer: Known, forgotten: u64) {
        let mut devices = self.lock();
        let is_current = devices.forgotten == forgotten;
        if !is_current && answer.revoked_at.is_none() {
            return;
        }
        let before = devices.known.get(&key).and_then(|known| known.revoked_at);
        let asked = if is_current { Some(answer.asked) } else { answer.asked.checked_sub(FRESH) };
        let known = Known { asked: asked.unwrap_or(answer.asked), revoked_at: before.max(answer.revoked_at), ..answer };
        devices.known.put(key, known);
    }

    /// What any node knows of a user's devices is out of date.
    pub async fn forget_user_everywhere(&self, user: &UserId) {
        self.forget_user(user);
        if let Some(peers) = &self.0.peers {
            let _ = tokio::time::timeout(TELLING, peers.forget_user(ForgetUser { user: user.clone() })).await;
        }
    }

    /// What is known of a user's devices may be out of date. Looks at all that is remembered: for operators' acts, which are
    /// few.
    pub fn forget_user(&self, user: &UserId) {
        let mut devices = self.lock();
        devices.forgotten = devices.forgotten.wrapping_add(1);
        let of_user = devices.known.iter().filter(|((owner, _), _)| owner == user).map(|(key, _)| key.clone());
        for key in of_user.collect::<Vec<_>>() {
            devices.known.pop(&key);
        }
    }

    /// What any node knows of the device is out of date.
    pub async fn forget_everywhere(&self, user: &UserId, device: &DeviceId) {
        self.forget(user, device);
        if let Some(peers) = &self.0.peers {
            let device = ForgetDevice { user: user.clone(), device: device.clone() };
            let _ = tokio::time::timeout(TELLING, peers.forget_device(device)).await;
        }
    }

    /// What is known of the device may be out of date.
    pub fn forget(&self, user: &UserId, device: &DeviceId) {
        let mut devices = self.lock();
        devices.forgotten = devices.forgotten.wrapping_add(1);
        devices.known.pop(&(user.clone(), device.clone()));
    }
}

fn refuse_if(revoked_at: Option<Millis>, identity: &Identity) -> Result<(), AuthError> {
    if revoked_at.is_some_and(|at| identity.issued_at <= at) { Err(AuthError::Revoked) } else { Ok(()) }
}

fn allow_unless(suspended: bool) -> Result<(), AuthError> {
    if suspended { Err(AuthError::Suspended) } else { Ok(()) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::auth::Scopes;
    use crate::testing::cluster_state;
    use messenger_proto::ids::{NodeId, ShardId};
    use messenger_proto::keys::DeviceStatus;
    use messenger_proto::rpc::{ShardOutcome, ShardRequest};
    use messenger_router::{CallError, ShardStream, ShardTransport};
    use std::sync::atomic::{AtomicU64, Ordering};
    use tokio::sync::watch;

    /// A shard that says this of every device; nothing while it has no leader.
    struct Shard {
        says: watch::Receiver<Option<DeviceStatus>>,
        asked: Arc<AtomicU64>,
    }

    impl ShardTransport for Shard {
        fn local(&self) -> NodeId {
            NodeId(1)
        }
        async fn call(
            &self,
            _node: NodeId,
            requests: Vec<ShardRequest>,
            _deadline: Instant,
        ) -> Vec<Result<ShardOutcome, CallError>> {
            self.asked.fetch_add(1, Ordering::SeqCst);
            let mut says = self.says.clone();
            let says = says.wait_for(Option::is_some).await.unwrap().clone();
            let status = says.unwrap();
            requests.iter().map(|_| Ok(ShardOutcome::Answer(Answer::DeviceStatus(status.clone())))).collect()
        }
        async fn open(&self, _node: NodeId, _shard: ShardId) -> Result<ShardStream, CallError> {
            Err(CallError::NotSent("no streams here".into()))
        }
    }

    struct World {
        shard: watch::Sender<Option<DeviceStatus>>,
        asked: Arc<AtomicU64>,
        revocations: Revocations,
    }

    fn world() -> World {
        let (shard, says) = watch::channel(Some(DeviceStatus { revoked_at: None, low: None, suspended: false }));
        let asked = Arc::new(AtomicU64::new(0));
        let (_, record) = watch::channel(Arc::new(cluster_state()));
        let router = Router::new(Shard { says, asked: Arc::clone(&asked) }, record);
        World { shard, asked, revocations: Revocations::new(router) }
    }

    fn deleted_at(ms: u64) -> DeviceStatus {
        DeviceStatus { revoked_at: Some(Millis(ms)), low: None, suspended: false }
    }

    fn issued_at(ms: u64) -> Identity {
        Identity {
            user: UserId::new("u").unwrap(),
            device: DeviceId::new("d").unwrap(),
            scopes: Scopes::ALL,
            issued_at: Millis(ms),
            expires_at: Millis(u64::MAX),
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_deletion_is_in_force_once_what_is_known_is_old() {
        let world = world();
        let (old, new) = (issued_at(5), issued_at(6));
        assert_eq!(world.revocations.check(&old).await, Ok(()));
        world.shard.send_replace(Some(deleted_at(5)));
        assert_eq!(world.revocations.check(&old).await, Ok(()));
        assert_eq!(world.asked.load(Ordering::SeqCst), 1, "it is believed for a while");
        tokio::time::advance(FRESH).await;
        assert_eq!(world.revocations.check(&old).await, Err(AuthError::Revoked));
        assert_eq!(world.revocations.check(&new).await, Ok(()));
        world.shard.send_replace(None);
        tokio::time::advance(10 * FRESH).await;
        assert_eq!(world.revocations.check(&old).await, Err(AuthError::Revoked), "and stays, whoever can be asked");
        assert_eq!(world.asked.load(Ordering::SeqCst), 2);
    }

    /// Peers that hear of it only after a while, if at all.
    struct Slow(Duration, Arc<AtomicU64>);

    impl Peers for Slow {
        fn forget_device(&self, _: ForgetDevice) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            Box::pin(async move {
                tokio::time::sleep(self.0).await;
                self.1.fetch_add(1, Ordering::SeqCst);
            })
        }
        fn forget_user(&self, _: ForgetUser) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
            self.forget_device(ForgetDevice { user: issued_at(5).user, device: issued_at(5).device })
        }
    }

    fn suspended(suspended: bool) -> DeviceStatus {
        DeviceStatus { revoked_at: None, low: None, suspended }
    }

    #[tokio::test(start_paused = true)]
    async fn a_suspension_is_in_force_and_lifted_as_soon_as_it_is_known() {
        let world = world();
        let identity = issued_at(5);
        assert_eq!(world.revocations.check(&identity).await, Ok(()));
        world.shard.send_replace(Some(suspended(true)));
        world.revocations.forget_user_everywhere(&identity.user).await;
        assert_eq!(world.revocations.check(&identity).await, Err(AuthError::Suspended));
        world.shard.send_replace(Some(suspended(false)));
        assert_eq!(world.revocations.check(&identity).await, Err(AuthError::Suspended), "it is believed for a while");
        tokio::time::advance(FRESH).await;
        assert_eq!(world.revocations.check(&identity).await, Ok(()));
        world.shard.send_replace(Some(suspended(true)));
        tokio::time::advance(FRESH).await;
        assert_eq!(world.revocations.check(&identity).await, Err(AuthError::Suspended));
        world.shard.send_replace(None);
        tokio::time::advance(FRESH).await;
        assert_eq!(world.revocations.check(&identity).await, Err(AuthError::Suspended), "nobody says otherwise");
    }

    #[tokio::test(start_paused = true)]
    async fn telling_others_takes_its_time_and_no_longer() {
        for (time, expected) in [(TELLING / 2, 1), (TELLING * 10, 0)] {
            let told = Arc::new(AtomicU64::new(0));
            let revocations = world().revocations.with_peers(Arc::new(Slow(time, Arc::clone(&told))));
            let (device, started) = (issued_at(5), Instant::now());
            revocations.forget_everywhere(&device.user, &device.device).await;
            assert_eq!(told.load(Ordering::SeqCst), expected);
            assert!(started.elapsed() <= TELLING);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_is_forgotten_is_asked_at_once() {
        let world = world();
        let old = issued_at(5);
        assert_eq!(world.revocations.check(&old).await, Ok(()));
        world.shard.send_replace(Some(deleted_at(5)));
        world.revocations.forget(&old.user, &old.device);
        assert_eq!(world.revocations.check(&old).await, Err(AuthError::Revoked));
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_from_before_it_was_forgotten_is_not_kept() {
        let world = world();
        let old = issued_at(5);
        world.shard.send_replace(None);
        let mut check = Box::pin(world.revocations.check(&old));
        assert!(futures_util::poll!(&mut check).is_pending());
        world.revocations.forget(&old.user, &old.device);
        world.shard.send_replace(Some(DeviceStatus { revoked_at: None, low: None, suspended: false }));
        assert_eq!(check.await, Ok(()));
        world.shard.send_replace(Some(deleted_at(5)));
        assert_eq!(world.revocations.check(&old).await, Err(AuthError::Revoked));
    }

    #[tokio::test(start_paused = true)]
    async fn a_shard_that_does_not_answer_stops_nobody_and_is_not_asked_by_all() {
        let world = world();
        let identity = issued_at(5);
        world.shard.send_replace(None);
        let started = Instant::now();
        assert_eq!(world.revocations.check(&identity).await, Ok(()));
        assert!(started.elapsed() <= 2 * DEADLINE);
        let asked = world.asked.load(Ordering::SeqCst);
        for _ in 0..10 {
            assert_eq!(world.revocations.check(&identity).await, Ok(()));
        }
        assert_eq!(world.asked.load(Ordering::SeqCst), asked);
        world.shard.send_replace(Some(deleted_at(5)));
        tokio::time::advance(FRESH).await;
        for _ in 0..10 {
            assert_eq!(world.revocations.check(&identity).await, Err(AuthError::Revoked));
        }
        assert_eq!(world.asked.load(Ordering::SeqCst), asked + 1);
    }
}
